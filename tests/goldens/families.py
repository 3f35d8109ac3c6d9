"""The other decoder families, in the format of the LLaMA cases: each in the variants that change the arithmetic."""

from typing import Any

from transformers import (
    BloomConfig,
    FalconConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTJConfig,
    GPTNeoConfig,
    GPTNeoXConfig,
    MistralConfig,
    MixtralConfig,
    MptConfig,
    Olmo2Config,
    OPTConfig,
    Phi3Config,
    PhiConfig,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

from common import Case

SPECIAL = dict(pad_token_id=0, bos_token_id=1, eos_token_id=None)
SIZES = SPECIAL | dict(
    vocab_size=47, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64
)
GATED = SIZES | dict(intermediate_size=22, num_key_value_heads=2)
THETA = dict(rope_parameters={"rope_type": "default", "rope_theta": 10000.0})


def neox_legacy(config: dict[str, Any]) -> None:
    """`rotary_pct` and `rotary_emb_base`, as every file on the hub has them."""
    rope = config.pop("rope_parameters")
    config["rotary_pct"] = rope["partial_rotary_factor"]
    config["rotary_emb_base"] = rope["rope_theta"]


def rope_theta(config: dict[str, Any]) -> None:
    """`rope_theta` and `rope_scaling`, as written before `rope_parameters`."""
    config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    config["rope_scaling"] = None


def gemma3_legacy(config: dict[str, Any]) -> None:
    """The keys of the hub: two thetas, a scaling of the global layers only, a period in place of the list of layers."""
    rope = config.pop("rope_parameters")
    config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
    config["rope_theta"] = rope["full_attention"].pop("rope_theta")
    config["rope_scaling"] = rope["full_attention"]
    del config["layer_types"], config["_sliding_window_pattern"]
    config["sliding_window_pattern"] = 2


def smollm3_legacy(config: dict[str, Any]) -> None:
    rope_theta(config)
    config["layer_types"] = ["full_attention"] * config["num_hidden_layers"]
    config["no_rope_layer_interval"] = 4


def mpt_legacy(config: dict[str, Any]) -> None:
    """`attn_config` without what transformers' config class adds to it."""
    keys = """alibi alibi_bias_max attn_impl attn_pdrop attn_type attn_uses_sequence_id clip_qkv prefix_lm qk_ln
        softmax_scale"""
    config["attn_config"] = {key: config["attn_config"][key] for key in keys.split()}


CASES = {
    # A window of 5 tokens, the present one included, and rows that pass it.
    "mistral-window": Case(MistralConfig(**GATED, **THETA, sliding_window=5), seed=301),
    "mixtral": Case(
        MixtralConfig(**GATED | dict(intermediate_size=12), **THETA, num_local_experts=4, num_experts_per_tok=2),
        seed=302,
        router=True,
    ),
    # Norms multiply by 1 + w, embeddings are scaled, heads * head_dim is not the hidden size; one key-value head.
    "gemma": Case(
        GemmaConfig(**GATED | dict(num_key_value_heads=1), **THETA, head_dim=6), seed=303, centred_norms=True
    ),
    # Norms before and after, two soft caps small enough to act, every other layer windowed, own query scale.
    "gemma2": Case(
        Gemma2Config(
            **GATED,
            **THETA,
            head_dim=6,
            query_pre_attn_scalar=10,
            sliding_window=5,
            final_logit_softcapping=3.0,
            attn_logit_softcapping=2.0,
        ),
        seed=304,
        centred_norms=True,
    ),
    # One key-value head, one norm for both branches.
    "falcon-7b": Case(FalconConfig(**SIZES, **THETA), seed=305),
    # Key-value groups, a norm for each branch.
    "falcon-40b": Case(FalconConfig(**SIZES, **THETA, new_decoder_architecture=True, num_kv_heads=2), seed=306),
    # ALiBi rounded to bf16 (seen beyond 256 positions), six heads, biases, sequential. The eager path of transformers
    # adds the bias twice, so this is sdpa's.
    "falcon-rw": Case(
        FalconConfig(
            **SIZES | dict(hidden_size=18, num_attention_heads=6, vocab_size=29, max_position_embeddings=512),
            alibi=True,
            multi_query=False,
            parallel_attn=False,
            bias=True,
        ),
        seed=307,
        extra_batches={"long": (270,)},
        attention="sdpa",
    ),
    "gpt-neox": Case(
        GPTNeoXConfig(
            **SIZES | dict(num_attention_heads=2),
            intermediate_size=30,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
        ),
        seed=308,
        edit_config=neox_legacy,
    ),
    "gpt-neox-sequential": Case(
        GPTNeoXConfig(
            **SIZES,
            intermediate_size=30,
            use_parallel_residual=False,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0},
        ),
        seed=309,
    ),
    "gptj": Case(
        GPTJConfig(**SPECIAL, vocab_size=47, n_embd=16, n_layer=2, n_head=2, rotary_dim=4, n_inner=30, n_positions=64),
        seed=310,
    ),
    "gpt-neo": Case(
        GPTNeoConfig(
            **SPECIAL,
            vocab_size=47,
            hidden_size=16,
            intermediate_size=30,
            num_layers=2,
            num_heads=4,
            attention_types=[[["global", "local"], 1]],
            window_size=4,
            max_position_embeddings=64,
        ),
        seed=311,
    ),
    "opt": Case(OPTConfig(**SIZES, ffn_dim=30, dropout=0.0), seed=312),
    # Norms after, embeddings narrower than the model, no final norm.
    "opt-350m": Case(
        OPTConfig(**SIZES, ffn_dim=30, dropout=0.0, word_embed_proj_dim=10, do_layer_norm_before=False), seed=313
    ),
    # Six heads: the slopes of a head count that is no power of two.
    "bloom": Case(BloomConfig(**SPECIAL, vocab_size=47, hidden_size=18, n_layer=2, n_head=6), seed=314),
    # Biases on q, k, v only; the second layer is windowed.
    "qwen2": Case(
        Qwen2Config(
            **GATED, **THETA, use_sliding_window=True, sliding_window=5, max_window_layers=1, tie_word_embeddings=True
        ),
        seed=315,
    ),
    # Norms on the heads of q and k.
    "qwen3": Case(Qwen3Config(**GATED, **THETA, head_dim=6), seed=316),
    # q, k, v and gate, up fused; half of each head rotated.
    "phi3": Case(
        Phi3Config(
            **GATED | dict(num_attention_heads=2, num_key_value_heads=1),
            original_max_position_embeddings=64,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
        ),
        seed=317,
    ),
    # Two sets of frequencies, changed at 16; rows beyond it have one length, as with dynamic rope.
    "phi3-longrope": Case(
        Phi3Config(
            **GATED,
            original_max_position_embeddings=16,
            rope_parameters={
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "short_factor": [1.0, 1.3],
                "long_factor": [1.5, 4.0],
                "original_max_position_embeddings": 16,
            },
        ),
        seed=318,
        lengths=(22, 22),
        padded_to=24,
        packed=(21, 21),
        extra_batches={"short": (13, 8)},
        prompts=(5, 18),
    ),
    # Norms after each branch only, and on the whole of q and k.
    "olmo2": Case(Olmo2Config(**GATED, **THETA), seed=319),
    # Conv1D weights [in, out].
    "gpt2": Case(
        GPT2Config(
            **SPECIAL,
            vocab_size=47,
            n_embd=16,
            n_layer=2,
            n_head=4,
            n_inner=30,
            n_positions=64,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        ),
        seed=320,
    ),
    # Odd in every size: three heads wider than the model, one key-value head, a window of 3, three files of weights.
    "mistral-odd": Case(
        MistralConfig(
            **SPECIAL,
            **THETA,
            vocab_size=31,
            hidden_size=21,
            intermediate_size=25,
            num_hidden_layers=3,
            num_attention_heads=3,
            num_key_value_heads=1,
            head_dim=10,
            sliding_window=3,
            max_position_embeddings=64,
            tie_word_embeddings=False,
        ),
        seed=321,
        shard_size="20KB",
        edit_config=rope_theta,
    ),
    # As Gemma 2 without the caps, with norms on the heads of q and k; local layers have their own theta, global ones
    # a linear scaling as well. Layers: local, global, local.
    "gemma3": Case(
        Gemma3TextConfig(
            **GATED | dict(num_hidden_layers=3, num_key_value_heads=1),
            head_dim=6,
            query_pre_attn_scalar=10,
            sliding_window=5,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
            rope_parameters={
                "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
                "full_attention": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 8.0},
            },
        ),
        seed=322,
        edit_config=gemma3_legacy,
        centred_norms=True,
    ),
    # The keys transformers writes now; a global layer first, which no period gives.
    "gemma3-layer-types": Case(
        Gemma3TextConfig(
            **GATED,
            head_dim=6,
            query_pre_attn_scalar=6,
            sliding_window=4,
            layer_types=["full_attention", "sliding_attention"],
            rope_parameters={
                "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
                "full_attention": {"rope_type": "default", "rope_theta": 10000.0},
            },
        ),
        seed=323,
        centred_norms=True,
    ),
    # A layer without positions, not where the interval in the file would put it: the list counts.
    "smollm3": Case(
        SmolLM3Config(**GATED | dict(num_hidden_layers=3), **THETA, no_rope_layers=[1, 0, 1]),
        seed=324,
        edit_config=smollm3_legacy,
    ),
    # ALiBi as BLOOM has it, steeper; norms without biases, thirds of one matrix for q, k, v.
    "mpt": Case(
        MptConfig(
            **SPECIAL,
            vocab_size=47,
            d_model=18,
            n_heads=6,
            n_layers=2,
            max_seq_len=64,
            attn_config=dict(alibi_bias_max=8),
        ),
        seed=325,
        edit_config=mpt_legacy,
    ),
    # Falcon 2: the layout of the 40B with one norm for both branches; own width of the feed-forward, untied.
    "falcon-11b": Case(
        FalconConfig(
            **SIZES,
            rope_parameters={"rope_type": "default", "rope_theta": 500042.0},
            new_decoder_architecture=True,
            num_kv_heads=2,
            num_ln_in_parallel_attn=1,
            ffn_hidden_size=38,
            tie_word_embeddings=False,
        ),
        seed=326,
        edit_config=rope_theta,
    ),
    # Scores divided by the layer's number as well.
    "gpt2-scaled": Case(
        GPT2Config(
            **SPECIAL,
            vocab_size=43,
            n_embd=15,
            n_layer=3,
            n_head=3,
            n_positions=64,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            scale_attn_by_inverse_layer_idx=True,
            reorder_and_upcast_attn=True,
        ),
        seed=327,
    ),
    "phi3-window": Case(
        Phi3Config(
            **GATED,
            sliding_window=5,
            original_max_position_embeddings=64,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},  # its own: the config class adds to it
        ),
        seed=328,
        edit_config=rope_theta,
    ),
    # No biases in attention, tied, the tanh form of GELU.
    "gpt-neox-no-bias": Case(
        GPTNeoXConfig(
            **SIZES | dict(hidden_size=24, num_attention_heads=3),
            intermediate_size=30,
            attention_bias=False,
            hidden_act="gelu_fast",
            tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
        ),
        seed=329,
        edit_config=neox_legacy,
    ),
    # No biases, norms without parameters.
    "opt-no-bias": Case(
        OPTConfig(
            **SIZES | dict(hidden_size=18, num_attention_heads=3),
            ffn_dim=30,
            dropout=0.0,
            enable_bias=False,
            layer_norm_elementwise_affine=False,
            activation_function="gelu",
        ),
        seed=330,
    ),
    # One norm for both branches, biases everywhere, on the head too; part of each head rotated.
    "phi": Case(
        PhiConfig(
            **SIZES | dict(hidden_size=24, num_attention_heads=3),
            intermediate_size=30,
            num_key_value_heads=1,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
        ),
        seed=331,
    ),
}

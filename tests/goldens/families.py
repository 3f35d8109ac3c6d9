"""The other decoder families, in the format of the LLaMA cases: each in the variants that change the arithmetic."""

from typing import Any

from transformers import (
    BloomConfig,
    FalconConfig,
    Gemma2Config,
    GemmaConfig,
    GPT2Config,
    GPTJConfig,
    GPTNeoConfig,
    GPTNeoXConfig,
    MistralConfig,
    MixtralConfig,
    Olmo2Config,
    OPTConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
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
}

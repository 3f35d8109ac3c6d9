"""Shapes of random models, each with a tiny sibling for `--smoke`. Of every shape, `config.json` is all that a side is told."""

from transformers import GPTNeoXConfig, LlamaConfig, MixtralConfig, PretrainedConfig

ROPE = {"rope_type": "default", "rope_theta": 100000.0}
SMOLLM2 = dict(
    vocab_size=49152,
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    head_dim=64,
    max_position_embeddings=8192,
    rms_norm_eps=1e-5,
    tie_word_embeddings=True,
    rope_parameters=ROPE,
)
SMOLLM2_TINY = dict(vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4)
SMOLLM2_TINY |= dict(num_key_value_heads=2, head_dim=16)

# Family, shape, and what is different in the tiny one.
SHAPES: dict[str, tuple[type[PretrainedConfig], dict, dict]] = {
    "smollm2-135m": (LlamaConfig, SMOLLM2, SMOLLM2_TINY),
    # Twice the blocks: a teacher for distillation.
    "smollm2-deep": (LlamaConfig, SMOLLM2 | dict(num_hidden_layers=60), SMOLLM2_TINY | dict(num_hidden_layers=4)),
    # LLaMA 3.2 1B: 1.24 billion parameters, of which the embedding has 263 million.
    "llama3.2-1b": (
        LlamaConfig,
        dict(
            vocab_size=128256,
            hidden_size=2048,
            intermediate_size=8192,
            num_hidden_layers=16,
            num_attention_heads=32,
            num_key_value_heads=8,
            head_dim=64,
            max_position_embeddings=131072,
            rms_norm_eps=1e-5,
            tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        ),
        SMOLLM2_TINY,
    ),
    # 162 million parameters, embedding and head apart.
    "pythia-160m": (
        GPTNeoXConfig,
        dict(
            vocab_size=50304,
            hidden_size=768,
            intermediate_size=3072,
            num_hidden_layers=12,
            num_attention_heads=12,
            max_position_embeddings=2048,
            layer_norm_eps=1e-5,
            use_parallel_residual=True,
            tie_word_embeddings=False,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
        ),
        dict(vocab_size=512, hidden_size=64, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4),
    ),
    # 0.30 billion parameters, of which the experts have 226 million and a token uses a quarter.
    "mixtral-0.3b": (
        MixtralConfig,
        dict(
            vocab_size=32000,
            hidden_size=768,
            intermediate_size=1024,
            num_hidden_layers=12,
            num_attention_heads=12,
            num_key_value_heads=4,
            head_dim=64,
            num_local_experts=8,
            num_experts_per_tok=2,
            max_position_embeddings=4096,
            rms_norm_eps=1e-5,
            sliding_window=None,
            tie_word_embeddings=False,
            rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
        ),
        dict(
            vocab_size=512,
            hidden_size=64,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            num_local_experts=4,
        ),
    ),
}


def config(name: str, smoke: bool) -> PretrainedConfig:
    """No token ends a text, so that generation goes on for as long as it is asked to."""
    family, full, tiny = SHAPES[name]
    return family(**(full | tiny if smoke else full), bos_token_id=None, eos_token_id=None, pad_token_id=None)

"""LLaMA-shaped cases: every switch of `LlamaConfig` that changes a number, in sizes that do not hide mistakes (head
width times heads is not the hidden size, sizes are odd where they may be)."""

import math
from typing import Any

from transformers import LlamaConfig

from common import Case


def base(**changes: Any) -> LlamaConfig:
    values = dict(
        vocab_size=61,
        hidden_size=20,
        intermediate_size=28,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=64,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=None,
    )
    return LlamaConfig(**(values | changes))


def without(*keys: str):
    """config.json as older writers left it: keys at their default are absent."""

    def edit(config: dict[str, Any]) -> None:
        for key in keys:
            config.pop(key)

    return edit


def legacy_spelling(scaling: dict[str, Any] | None):
    """`rope_theta` and `rope_scaling` in place of `rope_parameters`; `torch_dtype` in place of `dtype`."""

    def edit(config: dict[str, Any]) -> None:
        config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
        config["rope_scaling"] = scaling
        config["torch_dtype"] = config.pop("dtype")
        for key in ("head_dim", "attention_bias", "mlp_bias", "tie_word_embeddings"):
            config.pop(key)

    return edit


def llama3_rope() -> dict[str, Any]:
    """The wavelengths of head width 16 fall into all three branches of the scaling."""
    rope = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    lengths = [2 * math.pi * 10000.0 ** (i / 16) for i in range(0, 16, 2)]
    low, high = 64 / 1.0, 64 / 4.0
    assert lengths[0] < high < lengths[1] < low < lengths[-1]
    return rope


CASES = {
    # head_dim * heads = 60, hidden 30; tied; an end token that cuts a continuation short.
    "llama-gqa-tied": Case(
        base(
            vocab_size=97,
            hidden_size=30,
            intermediate_size=34,
            num_attention_heads=6,
            head_dim=10,
            tie_word_embeddings=True,
            eos_token_id=32,
        ),
        seed=1,
    ),
    "llama-untied-biases": Case(
        base(
            vocab_size=73,
            num_key_value_heads=4,
            head_dim=6,
            attention_bias=True,
            mlp_bias=True,
            rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        ),
        seed=2,
    ),
    "llama-rope-llama3": Case(
        base(num_attention_heads=2, num_key_value_heads=1, head_dim=16, max_position_embeddings=512, rope_parameters=llama3_rope()),
        seed=13,
        lengths=(30, 21),
        new_tokens=24,
    ),
    # num_key_value_heads absent: as many as heads.
    "llama-rope-linear": Case(
        base(
            num_key_value_heads=4,
            rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.5},
        ),
        seed=4,
        edit_config=without("num_key_value_heads"),
    ),
    # The frequencies depend on the length once it passes 16. transformers takes the longest row of a batch, so all
    # rows beyond 16 have one length here; `short` stays below, `other` has another length.
    "llama-rope-dynamic": Case(
        base(
            max_position_embeddings=16,
            rope_parameters={"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 3.0},
        ),
        seed=5,
        lengths=(22, 22),
        padded_to=24,
        packed=(21, 21),
        extra_batches={"short": (13, 8), "other": (29,)},
        prompts=(5, 18),
        new_tokens=20,
    ),
    "llama-rope-yarn": Case(
        base(
            num_attention_heads=2,
            head_dim=16,
            max_position_embeddings=128,
            rope_parameters={
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "original_max_position_embeddings": 32,
            },
        ),
        seed=6,
        lengths=(40, 21),
        prompts=(5, 28),
    ),
    # One key-value head, odd sizes, three layers, the keys of 2023 and nothing that may be left to its default.
    "llama-legacy-spelling": Case(
        base(
            vocab_size=59,
            hidden_size=18,
            intermediate_size=29,
            num_hidden_layers=3,
            num_attention_heads=3,
            num_key_value_heads=1,
            head_dim=6,
            rms_norm_eps=1e-6,
            rope_parameters={"rope_type": "linear", "rope_theta": 20000.0, "factor": 2.0},
        ),
        seed=7,
        edit_config=legacy_spelling({"type": "linear", "factor": 2.0}),
    ),
    # The proportions of Yi-6B: 8 query heads a key-value head, theta 5e6, untied.
    "yi": Case(
        base(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=40,
            num_attention_heads=8,
            num_key_value_heads=1,
            head_dim=4,
            eos_token_id=2,
            rope_parameters={"rope_type": "default", "rope_theta": 5000000.0},
        ),
        seed=8,
        edit_config=legacy_spelling(None),
    ),
}

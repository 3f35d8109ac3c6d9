"""Short trajectories of every optimiser but AdamW and SGD, and of LoRA+: LoRA on one base, in the format of `trajectory.py`.

Lion's sign, 8-bit codes and Newton-Schulz steps turn a rounding into a jump here and there; that it stays below the
tolerances of the tests is what `rounding` in expected.json says.
"""

from typing import Any

from trajectory import ADAMW, Trajectory

ADAPTER = dict(r=4, lora_alpha=8.0, target_modules="all-linear")


def short(seed: int, optimizer: dict[str, Any], **changes: Any) -> Trajectory:
    """11 rows in batches of 4, twice."""
    values = dict(batch=4, micro=2, rows=11, adapter=ADAPTER, schedule=dict(kind="cosine", warmup_steps=1))
    return Trajectory("llama-gqa-tied", seed, optimizer=optimizer, max_grad_norm=2.0, **(values | changes))


CASES = {
    # Some of the factors are above min_8bit_size, some below.
    "trajectory-adamw-8bit": short(
        501,
        dict(kind="adamw-8bit", learning_rate=5e-3, betas=[0.9, 0.999], eps=1e-8, weight_decay=0.1, min_8bit_size=160),
    ),
    "trajectory-adafactor": short(
        502,
        dict(
            kind="adafactor",
            learning_rate=2e-2,
            eps=[1e-30, 1e-3],
            clip_threshold=1.0,
            decay_rate=-0.8,
            beta1=0.9,
            weight_decay=0.1,
            scale_parameter=True,
        ),
    ),
    "trajectory-lion": short(503, dict(kind="lion", learning_rate=1e-3, betas=[0.9, 0.99], weight_decay=0.1)),
    "trajectory-muon": short(
        504,
        dict(
            kind="muon",
            learning_rate=5e-3,
            momentum=0.95,
            nesterov=True,
            weight_decay=0.1,
            ns_steps=5,
            adjust_lr_fn="match-rms-adamw",
        ),
    ),
    "trajectory-loraplus": short(505, ADAMW | dict(learning_rate=2e-3, weight_decay=0.1), loraplus_lr_ratio=8.0),
    "trajectory-loraplus-embedding": short(
        506,
        ADAMW | dict(learning_rate=2e-3, weight_decay=0.1),
        loraplus_lr_ratio=8.0,
        loraplus_lr_embedding=5e-3,
        adapter=dict(r=2, lora_alpha=3.0, target_modules=["embed_tokens", "q_proj", "down_proj"]),
    ),
}

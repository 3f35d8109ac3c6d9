"""Short trajectories of the other families: six steps each, in the format of `trajectory.py`.

A bias on k alone moves no attention weight where positions do not turn it (ALiBi, learned positions, the part of a head
that rotary positions leave out): its gradient is zero but for rounding, and AdamW divides it by its own size. Full runs
of such models go by SGD, or by AdamW with an epsilon far above that noise. The other full runs have an epsilon a little
larger than usual, for the few small gradients there are among thousands.
"""

from typing import Any

from trajectory import ADAMW, Trajectory


def adapter(**settings: Any) -> dict[str, Any]:
    return dict(r=3, lora_alpha=6.0) | settings


def short(base: str, seed: int, norm: float, **changes: Any) -> Trajectory:
    """11 rows in batches of 4, twice."""
    values = dict(
        batch=4,
        micro=2,
        rows=11,
        optimizer=ADAMW | dict(learning_rate=5e-3, weight_decay=0.05, eps=1e-8 if "adapter" in changes else 1e-5),
        schedule=dict(kind="cosine", warmup_steps=1),
    )
    return Trajectory(base, seed, max_grad_norm=norm, **(values | changes))


LINEAR = dict(kind="linear", warmup_steps=0)
CONSTANT = dict(kind="constant", warmup_steps=2)
SGD = dict(kind="sgd", learning_rate=0.05, momentum=0.9, weight_decay=0.01)
LARGE_EPSILON = dict(kind="adamw", betas=[0.9, 0.99], eps=1e-3, learning_rate=5e-3, weight_decay=0.02)

Q_V = ["q_proj", "v_proj"]
ALL = "all-linear"
CASES = {
    "trajectory-mistral-odd-lora": short("mistral-odd", 401, 6.2, adapter=adapter(target_modules=ALL)),
    "trajectory-mistral-odd-full": short("mistral-odd", 454, 5.7, schedule=LINEAR),
    "trajectory-mixtral-lora": short("mixtral", 403, 2.1, adapter=adapter(target_modules=Q_V)),
    "trajectory-mixtral-experts-lora": short(
        "mixtral",
        404,
        4.2,
        adapter=adapter(r=2, target_modules=["w1", "w2", "w3", "q_proj", "v_proj"]),
        per_expert=True,
        schedule=LINEAR,
    ),
    "trajectory-mixtral-full": short("mixtral", 405, 4.3),
    # The router is kept in balance.
    "trajectory-mixtral-router-full": short("mixtral", 406, 5.3, micro=4, router_aux_loss=0.02, schedule=LINEAR),
    "trajectory-gemma-lora": short("gemma", 407, 1.2, adapter=adapter(target_modules=Q_V), zero_b=True),
    "trajectory-gemma-full": short("gemma", 408, 3.9),
    "trajectory-gemma2-lora": short("gemma2", 409, 1.5, adapter=adapter(target_modules=ALL), schedule=CONSTANT),
    "trajectory-gemma2-full": short("gemma2", 410, 2.0, schedule=LINEAR),
    "trajectory-gemma3-lora": short("gemma3", 411, 5.3, adapter=adapter(target_modules=ALL, use_rslora=True)),
    "trajectory-gemma3-full": short("gemma3", 412, 3.7),
    "trajectory-falcon-7b-lora": short("falcon-7b", 413, 2.6, adapter=adapter(target_modules=["query_key_value"])),
    "trajectory-falcon-7b-full": short("falcon-7b", 414, 3.4),
    "trajectory-falcon-40b-full": short("falcon-40b", 415, 3.5, schedule=LINEAR),
    "trajectory-falcon-rw-lora": short("falcon-rw", 416, 4.5, adapter=adapter(target_modules=ALL), schedule=LINEAR),
    "trajectory-falcon-rw-full": short("falcon-rw", 417, 6.2, optimizer=SGD),
    "trajectory-gpt-neox-lora": short("gpt-neox", 418, 1.6, adapter=adapter(target_modules=ALL), schedule=LINEAR),
    "trajectory-gpt-neox-full": short("gpt-neox", 419, 2.3, optimizer=SGD, schedule=CONSTANT),
    "trajectory-gpt-neox-sequential-full": short("gpt-neox-sequential", 420, 2.8),
    "trajectory-gptj-lora": short("gptj", 421, 1.0, adapter=adapter(target_modules=Q_V), schedule=CONSTANT),
    "trajectory-gptj-full": short("gptj", 422, 2.6),
    "trajectory-gpt-neo-lora": short("gpt-neo", 423, 5.2, adapter=adapter(target_modules=ALL)),
    "trajectory-gpt-neo-full": short("gpt-neo", 424, 4.4, schedule=LINEAR),
    "trajectory-opt-lora": short("opt", 425, 2.1, adapter=adapter(target_modules=Q_V), schedule=LINEAR),
    "trajectory-opt-full": short("opt", 426, 3.6, optimizer=LARGE_EPSILON),
    "trajectory-opt-350m-lora": short("opt-350m", 427, 12.5, adapter=adapter(target_modules=ALL)),
    "trajectory-opt-350m-full": short("opt-350m", 428, 15.6, optimizer=SGD),
    "trajectory-bloom-lora": short("bloom", 429, 3.6, adapter=adapter(target_modules=["query_key_value", "dense"])),
    "trajectory-bloom-full": short("bloom", 430, 8.0, optimizer=SGD, schedule=LINEAR),
    "trajectory-qwen2-lora": short("qwen2", 431, 4.8, adapter=adapter(target_modules=ALL), schedule=LINEAR),
    "trajectory-qwen2-full": short("qwen2", 432, 4.5),
    "trajectory-qwen3-lora": short("qwen3", 433, 0.9, adapter=adapter(target_modules=Q_V), zero_b=True),
    "trajectory-qwen3-full": short("qwen3", 434, 3.9, schedule=CONSTANT),
    "trajectory-phi3-lora": short("phi3", 435, 4.5, adapter=adapter(target_modules=["qkv_proj", "gate_up_proj"])),
    "trajectory-phi3-full": short("phi3", 436, 4.6),
    "trajectory-olmo2-lora": short("olmo2", 437, 2.6, adapter=adapter(target_modules=ALL)),
    "trajectory-olmo2-full": short("olmo2", 438, 4.4, schedule=LINEAR),
    "trajectory-smollm3-lora": short("smollm3", 439, 7.4, adapter=adapter(target_modules=ALL), schedule=LINEAR),
    "trajectory-smollm3-full": short("smollm3", 440, 7.1),
    "trajectory-gpt2-lora": short("gpt2", 441, 1.6, adapter=adapter(target_modules=["c_attn"], fan_in_fan_out=True)),
    "trajectory-gpt2-full": short("gpt2", 442, 2.5, optimizer=SGD),
    "trajectory-phi-lora": short("phi", 455, 1.0, adapter=adapter(target_modules=Q_V), schedule=LINEAR),
    "trajectory-phi-full": short("phi", 456, 2.0, optimizer=SGD),
    # The base in few bits.
    "trajectory-qlora-nf4": short(
        "llama-gqa-tied",
        460,
        3.0,
        adapter=adapter(target_modules=ALL),
        quantization=dict(kind="nf4", block=64, double=True),
    ),
    "trajectory-qlora-nf4-fused": short(
        "falcon-40b",
        461,
        2.0,
        adapter=adapter(target_modules=["query_key_value"]),
        quantization=dict(kind="nf4", block=32, double=False),
        schedule=LINEAR,
    ),
    "trajectory-qlora-int8": short(
        "gpt2",
        462,
        0.6,
        adapter=adapter(target_modules=["c_attn"], fan_in_fan_out=True),
        quantization=dict(kind="int8", block=64),
    ),
    "trajectory-mpt-lora": short("mpt", 443, 4.6, adapter=adapter(target_modules=["Wqkv"]), schedule=LINEAR),
    "trajectory-mpt-full": short("mpt", 444, 6.3),
}

"""optimizers.json and schedules.json: what the reference optimisers and transformers' schedules give, step by step."""

import math
from typing import Any

import torch
from transformers import optimization as schedule

import optimizers as reference
from common import HERE, write_json

STEPS = 12

# Path and shape. Where a path lies outside of the layers, Muon leaves it to AdamW.
PROBLEMS = {
    "vector": ("layers.0.norm.weight", (7,)),
    "wide": ("layers.0.mlp.down.weight", (3, 8)),
    "tall": ("layers.0.mlp.up.weight", (8, 3)),
    "embedding": ("embed.tokens", (6, 4)),
    "stack": ("layers.0.experts.up", (2, 3, 4)),
    "long": ("layers.0.attention.qkv.q.weight", (10, 30)),
}

ADAMW = dict(kind="adamw", learning_rate=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
EIGHT_BIT = ADAMW | dict(kind="adamw-8bit", min_8bit_size=256)
ADAFACTOR = dict(
    kind="adafactor",
    learning_rate=0.01,
    eps=(1e-30, 1e-3),
    clip_threshold=1.0,
    decay_rate=-0.8,
    beta1=None,
    weight_decay=0.0,
    scale_parameter=False,
)
LION = dict(kind="lion", learning_rate=0.01, betas=(0.9, 0.99), weight_decay=0.0)
MUON = dict(
    kind="muon",
    learning_rate=0.02,
    momentum=0.95,
    nesterov=True,
    weight_decay=0.0,
    ns_steps=5,
    adjust_lr_fn="original",
    adamw=dict(learning_rate=0.003, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1),
)
SGD = dict(kind="sgd", learning_rate=0.05, momentum=0.0, nesterov=False, weight_decay=0.0)

OPTIMIZERS = [
    (ADAMW, ["vector"]),
    (ADAMW | dict(weight_decay=0.1), ["vector"]),
    (ADAMW | dict(learning_rate=0.003, betas=(0.8, 0.95), eps=1e-5, weight_decay=0.02), ["vector"]),
    (EIGHT_BIT, ["long", "vector"]),
    (EIGHT_BIT | dict(betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1), ["long"]),
    (ADAFACTOR, ["vector", "wide", "tall", "stack"]),
    (ADAFACTOR | dict(beta1=0.9, weight_decay=0.1, scale_parameter=True), ["vector", "wide"]),
    (ADAFACTOR | dict(clip_threshold=0.3, decay_rate=-0.5, eps=(1e-12, 1.0), scale_parameter=True), ["wide"]),
    (ADAFACTOR | dict(learning_rate="relative", scale_parameter=True), ["vector", "tall"]),
    (ADAFACTOR | dict(learning_rate="relative-with-warmup", scale_parameter=True, beta1=0.8), ["wide"]),
    (LION, ["vector"]),
    (LION | dict(betas=(0.95, 0.98), weight_decay=0.1), ["vector"]),
    (MUON, ["wide", "tall", "embedding", "vector", "stack"]),
    (MUON | dict(momentum=0.8, nesterov=False, weight_decay=0.1, adjust_lr_fn="match-rms-adamw"), ["wide", "tall"]),
    (SGD, ["vector"]),
    (SGD | dict(weight_decay=0.1), ["vector"]),
    (SGD | dict(momentum=0.9), ["vector"]),
    (SGD | dict(momentum=0.9, weight_decay=0.1), ["vector"]),
    (SGD | dict(momentum=0.9, nesterov=True, weight_decay=0.01), ["vector"]),
]


def problem(name: str, seed: int) -> dict[str, Any]:
    """Gradients that are nothing, tiny, huge and change their sign: each exercises another term."""
    path, shape = PROBLEMS[name]
    length = math.prod(shape)
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(length, generator=generator)
    gradients = torch.randn(STEPS, length, generator=generator)
    if name == "long":  # sizes over the whole range of 8-bit codes
        gradients *= 10.0 ** (-6.0 * torch.rand(length, generator=generator))
        gradients = gradients[:8]
    gradients[:, 1] = 0.0
    gradients[:, 2] *= 1e-6
    # Everything beside it in its block would round to nothing, and Newton-Schulz see one direction.
    gradients[:, 3] *= 1e4 if name in ("vector", "stack") else 10.0
    gradients[6, :] = 0.0
    return dict(path=path, shape=shape, start=start.tolist(), gradients=gradients.tolist())


def run(settings: dict[str, Any], problem: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The flat parameter after every step."""
    parameter = torch.nn.Parameter(torch.tensor(problem["start"]).reshape(problem["shape"]))
    case = dict(optimizer={key: value for key, value in settings.items() if value is not None})
    used = settings
    if settings["kind"] == "muon":
        if problem["path"].startswith("layers.") and parameter.ndim == 2:
            case["newton_schulz"] = "bf16" if more else "f32"
        else:
            used = settings["adamw"] | dict(kind="adamw")
    optimizer = reference.make([parameter], used, **more)
    scheduled = not isinstance(used["learning_rate"], str)
    # The rate changes at every step, from zero, as under a warm-up.
    factors = [min(1.0, step / 4) if scheduled else 1.0 for step in range(len(problem["gradients"]))]
    after = []
    for gradient, factor in zip(problem["gradients"], factors):
        if scheduled:
            for group in optimizer.param_groups:
                group["lr"] = used["learning_rate"] * factor
        parameter.grad = torch.tensor(gradient).reshape(problem["shape"])
        optimizer.step()
        after.append(parameter.detach().reshape(-1).tolist())
    state = optimizer.state[parameter]
    if "qmap1" in state:
        case["codes_at_the_end"] = {
            "exp_avg": state["state1"].reshape(-1).tolist(),
            "exp_avg_sq": state["state2"].reshape(-1).tolist(),
        }
    return case | dict(learning_rate_factors=factors, parameters_after_step=after)


def optimizers() -> None:
    problems = {name: problem(name, 11 + index) for index, name in enumerate(PROBLEMS)}
    cases = [dict(problem=name) | run(settings, problems[name]) for settings, names in OPTIMIZERS for name in names]
    # As torch has it, so that the distance to it is known.
    cases.append(dict(problem="wide") | run(MUON, problems["wide"], bf16=True))
    maps = {"signed": reference.dynamic_map(True), "unsigned": reference.dynamic_map(False)}
    write_json(HERE / "optimizers.json", dict(problems=problems, maps=maps, cases=cases))


def rates(make) -> list[float]:
    """The learning rate of steps 1 to 40, as the optimiser sees it: before the schedule's own step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2e-4)
    scheduler = make(optimizer)
    values = []
    for _ in range(40):
        values.append(scheduler.get_last_lr()[0])
        optimizer.step()
        # The rate after the last step is not asked for: some curves divide by zero there.
        if len(values) < 40:
            scheduler.step()
    return values


def schedules() -> None:
    cases = []

    def add(kind: str, warmup: int, total: int | None, make, **settings) -> None:
        cases.append(
            {"kind": kind, "warmup_steps": warmup, "total_steps": total, "settings": settings, "rates": rates(make)}
        )

    for warmup in (0, 7):
        add("constant", warmup, None, lambda o: schedule.get_constant_schedule_with_warmup(o, warmup))
    # Shorter than 40 too: past the end the rate stays where it is defined to.
    for warmup, total in ((0, 40), (1, 40), (10, 40), (5, 33), (40, 40)):
        add("linear", warmup, total, lambda o: schedule.get_linear_schedule_with_warmup(o, warmup, total))
        add("cosine", warmup, total, lambda o: schedule.get_cosine_schedule_with_warmup(o, warmup, total))
        for rate in (0.1, 0.5):
            add(
                "cosine_with_min_lr",
                warmup,
                total,
                lambda o: schedule.get_cosine_with_min_lr_schedule_with_warmup(o, warmup, total, min_lr_rate=rate),
                min_lr_rate=rate,
            )
    # Without warm-up, with it, runs that are all warm-up or shorter than it, and runs of a few steps.
    for warmup, total in ((0, 40), (1, 40), (10, 40), (5, 33), (40, 40), (50, 40), (0, 1), (2, 3), (4, 2)):
        for cycles in (1, 2, 3):
            add(
                "cosine_with_restarts",
                warmup,
                total,
                lambda o: schedule.get_cosine_with_hard_restarts_schedule_with_warmup(o, warmup, total, cycles),
                num_cycles=cycles,
            )
        for power, end in ((1.0, 1e-7), (2.0, 1e-5), (0.5, 0.0)):
            add(
                "polynomial",
                warmup,
                total,
                lambda o: schedule.get_polynomial_decay_schedule_with_warmup(o, warmup, total, end, power),
                power=power,
                lr_end=end,
            )
        for timescale in (None, 1, 25):
            add(
                "inverse_sqrt",
                warmup,
                total,
                lambda o: schedule.get_inverse_sqrt_schedule(o, warmup, timescale),
                timescale=timescale,
            )
        # A decay of every step that the warm-up leaves, and one that is longer.
        for decay in sorted({1, 8, max(1, total - warmup)}):
            for index, shape in enumerate(("linear", "cosine", "1-sqrt")):
                rise, least = ("1-sqrt", "linear", "cosine")[index], (0.0, 0.25, 0.1)[index]
                add(
                    "warmup_stable_decay",
                    warmup,
                    total,
                    lambda o: schedule.get_wsd_schedule(
                        o, warmup, decay, total, warmup_type=rise, decay_type=shape, min_lr_ratio=least
                    ),
                    num_decay_steps=decay,
                    decay_type=shape,
                    warmup_type=rise,
                    min_lr_ratio=least,
                )
    write_json(HERE / "schedules.json", {"learning_rate": 2e-4, "cases": cases})

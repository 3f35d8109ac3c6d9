"""optimizers.json and schedules.json: what torch's optimisers and transformers' schedules give, step by step."""

import torch
from transformers import optimization as schedule

from common import HERE, write_json

STEPS = 12
# No gradient at all, tiny, huge, a change of sign: each exercises another term.
LENGTH = 7

OPTIMIZERS = [
    ("adamw", dict(lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)),
    ("adamw", dict(lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)),
    ("adamw", dict(lr=0.003, betas=(0.8, 0.95), eps=1e-5, weight_decay=0.02)),
    ("sgd", dict(lr=0.05)),
    ("sgd", dict(lr=0.05, weight_decay=0.1)),
    ("sgd", dict(lr=0.05, momentum=0.9)),
    ("sgd", dict(lr=0.05, momentum=0.9, weight_decay=0.1)),
    ("sgd", dict(lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01)),
]
CLASSES = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


def optimizers() -> None:
    generator = torch.Generator().manual_seed(11)
    start = torch.randn(LENGTH, generator=generator)
    gradients = torch.randn(STEPS, LENGTH, generator=generator)
    gradients[:, 1] = 0.0
    gradients[:, 2] *= 1e-6
    gradients[:, 3] *= 1e4
    gradients[6, :] = 0.0
    # The rate changes at every step, from zero, as under a warm-up.
    factors = [min(1.0, step / 4) for step in range(STEPS)]
    cases = []
    for kind, settings in OPTIMIZERS:
        parameter = torch.nn.Parameter(start.clone())
        optimizer = CLASSES[kind]([parameter], **settings)
        after = []
        for gradient, factor in zip(gradients, factors):
            for group in optimizer.param_groups:
                group["lr"] = settings["lr"] * factor
            parameter.grad = gradient.clone()
            optimizer.step()
            after.append(parameter.detach().tolist())
        cases.append({"kind": kind, "settings": settings, "parameters_after_step": after})
    write_json(
        HERE / "optimizers.json",
        {
            "start": start.tolist(),
            "learning_rate_factors": factors,
            "gradients": gradients.tolist(),
            "cases": cases,
        },
    )


def rates(make) -> list[float]:
    """The learning rate of steps 1 to 40, as the optimiser sees it: before the schedule's own step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2e-4)
    scheduler = make(optimizer)
    values = []
    for _ in range(40):
        values.append(scheduler.get_last_lr()[0])
        optimizer.step()
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
    write_json(HERE / "schedules.json", {"learning_rate": 2e-4, "cases": cases})

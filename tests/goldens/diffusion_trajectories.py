"""Reference trajectories of diffusion pipelines, `diffusion/trajectory-*/`: the loss of diffusers' training scripts.

Rows are `tensors` rows of unlike shapes: `rows/rows.jsonl` names a safetensors file for each, which holds latents, noise, time
and the states of a text. The reference runs every row alone; a second pass runs rows of one shape together, and the distance
of the two is `rounding`.
"""

import shutil
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDPMScheduler
from safetensors.torch import save_file

import diffusion
import diffusion_adapters
import optimizers
from clip_trajectories import write_rows
from common import write_json
from diffusion import DIFFUSION, Tensors, run
from trajectory import ADAMW, distance, scheduler, toml

EPOCHS = 2
BATCH = 4
MICRO = 2
SIZES = ((8, 8), (8, 8), (6, 9), (6, 9), (8, 8), (5, 4), (8, 8))  # the last step of an epoch is partial
TOKENS = (5, 5, 5, 7, 5, 5, 5)


@dataclass
class Trajectory:
    base: str
    seed: int
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    max_grad_norm: float
    adapter: dict[str, Any] | None = None
    targets: Any = None  # as the recipe has them
    min_snr: float | None = None


COSINE = dict(kind="cosine", warmup_steps=2)
CASES = {
    "trajectory-sd1-full": Trajectory(
        "sd1", 431, ADAMW | dict(learning_rate=2e-3, weight_decay=0.05), COSINE, max_grad_norm=0.5
    ),
    "trajectory-sd1-lora": Trajectory(
        "sd1",
        432,
        ADAMW | dict(learning_rate=1e-2, weight_decay=0.01),
        dict(kind="linear", warmup_steps=1),
        max_grad_norm=0.3,
        adapter=dict(r=3, lora_alpha=6.0, target_modules=[*diffusion_adapters.DEFAULT, "proj_in"]),
        min_snr=5.0,
    ),
    "trajectory-sd2-full": Trajectory(
        "sd2", 443, ADAMW | dict(learning_rate=1e-3, weight_decay=0.0, eps=1e-6), COSINE, max_grad_norm=0.5, min_snr=5.0
    ),
    "trajectory-sdxl-lora": Trajectory(
        "sdxl",
        434,
        ADAMW | dict(learning_rate=1e-2, weight_decay=0.0),
        COSINE,
        max_grad_norm=0.3,
        adapter=dict(r=2, lora_alpha=2.0, target_modules=diffusion_adapters.DEFAULT),
    ),
}


def make_rows(settings: Trajectory) -> list[Tensors]:
    case = diffusion.CASES[settings.base]
    generator = torch.Generator().manual_seed(settings.seed)
    rows = []
    for size, tokens in zip(SIZES, TOKENS):
        shape = (case.unet.get("in_channels", 4), *size)
        row = {
            "latents": torch.randn(shape, generator=generator),
            "noise": torch.randn(shape, generator=generator),
            "timestep": torch.randint(0, 1000, (), generator=generator),
            "encoder_hidden_states": torch.randn(tokens, case.unet["cross_attention_dim"], generator=generator),
        }
        if case.is_xl:
            row["text_embeds"] = torch.randn(case.texts[1]["projection_dim"], generator=generator)
            row["time_ids"] = torch.tensor([*(64.0, 48.0), *(0.0, 8.0), *map(float, size)])
        rows.append(row)
    return rows


def losses(settings: Trajectory, unet, noise: DDPMScheduler, rows: list[Tensors]) -> torch.Tensor:
    """The loss of each of some rows of one shape."""
    batch = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
    times = batch["timestep"]
    batch["sample"] = noise.add_noise(batch["latents"], batch["noise"], times)
    velocity = noise.config.prediction_type == "v_prediction"
    target = noise.get_velocity(batch["latents"], batch["noise"], times) if velocity else batch["noise"]
    errors = torch.nn.functional.mse_loss(run(unet, batch).float(), target.float(), reduction="none").mean(dim=(1, 2, 3))
    if settings.min_snr is None:
        return errors
    left = noise.alphas_cumprod[times]
    ratio = (left**0.5 / (1 - left) ** 0.5) ** 2
    weights = torch.minimum(ratio, torch.full_like(ratio, settings.min_snr))
    return errors * weights / (ratio + 1 if velocity else ratio)


def loss_of_step(settings: Trajectory, unet, noise: DDPMScheduler, rows: list[Tensors], alone: bool) -> torch.Tensor:
    if alone:
        return torch.cat([losses(settings, unet, noise, [row]) for row in rows]).mean()
    alike: dict[Any, list[Tensors]] = {}
    for row in rows:
        alike.setdefault((row["latents"].shape, row["encoder_hidden_states"].shape), []).append(row)
    return torch.cat([losses(settings, unet, noise, group) for group in alike.values()]).mean()


def train(settings: Trajectory, unet, noise: DDPMScheduler, rows: list[Tensors], alone: bool) -> list[dict]:
    parameters = [p for p in unet.parameters() if p.requires_grad]
    optimizer = optimizers.make(parameters, settings.optimizer)
    windows = [rows[at : at + BATCH] for at in range(0, len(rows), BATCH)] * EPOCHS
    rates = scheduler(optimizer, settings.schedule, len(windows))
    steps = []
    for step, window in enumerate(windows, start=1):
        optimizer.zero_grad()
        loss = loss_of_step(settings, unet, noise, window, alone)
        loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm))
        answer = {"step": step, "loss": loss.item(), "learning_rate": rates.get_last_lr()[0], "grad_norm": norm}
        optimizer.step()
        rates.step()
        steps.append(answer | {"rows": len(window)})
    return steps


def trained(unet: torch.nn.Module, adapter: bool) -> Tensors:
    """Under the names of PEFT, or of the pipeline's files."""
    named = {name: parameter.detach().clone() for name, parameter in unet.named_parameters() if parameter.requires_grad}
    if adapter:
        named = {f"base_model.model.{name.replace('.default.', '.')}": tensor for name, tensor in named.items()}
    return named


def recipe(settings: Trajectory) -> str:
    lines = [f'model = "../{settings.base}"', 'output = "output"', "seed = 1", 'device = "cpu"', 'dtype = "f32"', ""]
    if settings.adapter:
        a = settings.adapter
        lines += ["[adapter]", 'kind = "lora"', f"rank = {a['r']}", f"alpha = {a['lora_alpha']}"]
        lines += [f"targets = {toml(a['target_modules'])}", 'init_from = "adapter"', ""]
    lines += ["[data]", "packing = false", "shuffle = false", ""]
    lines += ["[[data.train]]", 'path = "rows/rows.jsonl"', 'format = "tensors"', ""]
    lines += ["[objective]", 'kind = "denoise"']
    lines += [f"min_snr = {settings.min_snr}"] if settings.min_snr else []
    lines += ["", "[train]", f"epochs = {EPOCHS}", f"batch_size = {BATCH}", f"micro_batch_size = {MICRO}"]
    lines += [f"max_grad_norm = {settings.max_grad_norm}", ""]
    lines += ["[optimizer]", *(f"{key} = {toml(value)}" for key, value in settings.optimizer.items()), ""]
    lines += ["[schedule]", *(f"{key} = {toml(value)}" for key, value in settings.schedule.items()), ""]
    lines += ["[log]", "every = 1"]
    return "\n".join(lines) + "\n"


def write(name: str, settings: Trajectory) -> None:
    folder = DIFFUSION / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    rows = make_rows(settings)
    write_rows(folder / "rows", rows)
    (folder / "recipe.toml").write_text(recipe(settings))
    noise = DDPMScheduler.from_pretrained(DIFFUSION / settings.base / "scheduler")

    histories, starts, finals = [], [], []
    for alone in (True, False):
        made = diffusion_adapters.pipeline(settings.base)
        if settings.adapter:
            diffusion_adapters.fresh(made.unet, settings.adapter, settings.seed, zero_b=True)
            diffusion_adapters.write_adapter(folder / "adapter", made)
        starts.append(trained(made.unet, settings.adapter is not None))
        histories.append(train(settings, made.unet, noise, rows, alone))
        finals.append(trained(made.unet, settings.adapter is not None))

    rounding = {
        "largest_loss_difference": max(abs(a["loss"] - b["loss"]) for a, b in zip(*histories)),
        "final_distance": distance(*finals),
        "way_travelled": distance(starts[0], finals[0]),
    }
    if max(rounding[key] for key in ("largest_loss_difference", "final_distance")) > 2e-5:
        raise SystemExit(f"{name}: rounding alone gives {rounding}")
    if max(abs(a["grad_norm"] / b["grad_norm"] - 1) for a, b in zip(*histories)) > 1e-5:
        raise SystemExit(f"{name}: rounding alone moves the gradient's norm")
    clipped = sum(step["grad_norm"] > settings.max_grad_norm for step in histories[0])
    if clipped == 0:
        raise SystemExit(f"{name}: clipping never acts: {histories[0]}")
    write_json(folder / "expected.json", {"steps": histories[0], "clipped_steps": clipped, "rounding": rounding})
    save_file(finals[0], folder / "final.safetensors", metadata={"format": "pt"})

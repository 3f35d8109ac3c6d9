"""Reference trajectories of DINOv2, `images/trajectory-dinov2-*/`: transformers' image classification loss.

Rows are `tensors` rows: `rows/rows.jsonl` names a safetensors file for each, with `pixel_values` and `labels`. Rows of a step
are of several sizes; the reference runs them one by one. A second pass runs those of one size together: the distance of the two
is `rounding`.

Biases of keys have no gradient but rounding, which Adam makes steps of the learning rate of. No output sees them; so they are
left out of the distances here, and `outputs.safetensors` holds what the trained model answers.
"""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import classifiers
import dinov2
import dinov2_adapters
import optimizers
import quantized
from common import write_json
from dinov2 import ROOM, Tensors
from trajectory import ADAMW, distance, scheduler, toml, trained_tensors

EPOCHS = 2
BATCH = 4
MICRO = 2
SGD = dict(kind="sgd", learning_rate=0.05, momentum=0.9, weight_decay=0.01)


@dataclass
class Trajectory:
    base: str
    seed: int
    sizes: tuple[tuple[int, int], ...]  # of the rows; of 10, the last step of an epoch is partial
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    max_grad_norm: float
    classes: int = 5
    adapter: dict[str, Any] | None = None
    quantization: dict[str, Any] | None = None
    freeze: tuple[str, ...] = ()
    held_out: int = 4  # the last rows, evaluated and not trained on


A, B, C = (16, 16), (12, 20), (9, 13)
CASES = {
    "trajectory-dinov2-full": Trajectory(
        "dinov2",
        421,
        sizes=(A, A, B, B, A, C, A, B, A, A) + (A, C, B, A),
        optimizer=ADAMW | dict(learning_rate=5e-3, weight_decay=0.05, eps=1e-5),
        schedule=dict(kind="cosine", warmup_steps=2),
        max_grad_norm=2.0,
    ),
    # A head for a base that has none.
    "trajectory-dinov2-lora": Trajectory(
        "dinov2-bare",
        422,
        sizes=(A, B, A, A, B, B, A, C, A, A) + (A, C, B, A),
        optimizer=ADAMW | dict(learning_rate=1e-2, weight_decay=0.1),
        schedule=dict(kind="linear", warmup_steps=2),
        max_grad_norm=1.0,
        classes=dinov2_adapters.CLASSES,
        adapter=dict(r=3, lora_alpha=6.0, target_modules=["q_proj", "v_proj", "fc1"], modules_to_save=["classifier"]),
    ),
    "trajectory-dinov2-qlora": Trajectory(
        "dinov2",
        425,
        sizes=(A, B, A, A, B, B, A, C, A, A) + (A, C, B, A),
        optimizer=ADAMW | dict(learning_rate=1e-2, weight_decay=0.1),
        schedule=dict(kind="linear", warmup_steps=2),
        max_grad_norm=2.0,
        adapter=dict(r=3, lora_alpha=6.0, target_modules=["q_proj", "v_proj", "fc2"], modules_to_save=["classifier"]),
        quantization=dict(kind="nf4", block=32, double=False),
    ),
    "trajectory-dinov2-registers-lora": Trajectory(
        "dinov2-registers",
        426,
        sizes=(A, A, A, B, A, A, A, A, B, A) + (A, A, B, A),
        optimizer=ADAMW | dict(learning_rate=1e-2, weight_decay=0.1),
        schedule=dict(kind="linear", warmup_steps=2),
        max_grad_norm=2.0,
        adapter=dict(r=2, lora_alpha=3.0, target_modules=["k_proj", "v_proj", "o_proj"], modules_to_save=["classifier"]),
    ),
    # A linear probe: nothing but the head learns.
    "trajectory-dinov2-probe": Trajectory(
        "dinov2-registers",
        423,
        sizes=(A,) * 14,
        optimizer=SGD,
        schedule=dict(kind="constant", warmup_steps=1),
        max_grad_norm=4.0,
        freeze=("^dinov2_with_registers",),
    ),
    # Norms, biases and so on do not decay, and each layer has a rate of its own.
    "trajectory-dinov2-groups": Trajectory(
        "dinov2-swiglu",
        424,
        sizes=(A, A, A, B, A, A, A, A, B, A) + (A, A, A, A),
        optimizer=ADAMW | dict(learning_rate=5e-3, weight_decay=0.3, eps=1e-5, no_decay=True, layer_decay=0.6),
        schedule=dict(kind="cosine", warmup_steps=1),
        max_grad_norm=3.0,
    ),
}


def make_rows(settings: Trajectory) -> list[Tensors]:
    """What the files of the rows hold."""
    config = dinov2.CASES[settings.base].config
    of = dinov2.labels(settings.seed + 1, len(settings.sizes), settings.classes)
    return [
        {"pixel_values": dinov2.pictures(config, settings.seed + 1000 + index, (1, *size))[0], "labels": of[index].clone()}
        for index, size in enumerate(settings.sizes)
    ]


def write_rows(folder: Path, rows: list[Tensors], held_out: int) -> None:
    folder.mkdir()
    names = [f"{index:03}.safetensors" for index in range(len(rows))]
    for name, row in zip(names, rows):
        save_file(row, folder / name)
    lines = [json.dumps({"tensors": name}) + "\n" for name in names]
    (folder / "rows.jsonl").write_text("".join(lines[:-held_out]))
    (folder / "eval.jsonl").write_text("".join(lines[-held_out:]))


def parts(rows: list[Tensors], together: bool) -> list[list[Tensors]]:
    if not together:
        return [[row] for row in rows]
    shapes = {tuple(row["pixel_values"].shape): [] for row in rows}
    for row in rows:
        shapes[tuple(row["pixel_values"].shape)].append(row)
    return list(shapes.values())


def answer(model, rows: list[Tensors]):
    pixels = torch.stack([row["pixel_values"] for row in rows])
    return model(pixel_values=pixels, labels=torch.stack([row["labels"] for row in rows]))


def logits(model, rows: list[Tensors]) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([answer(model, [row]).logits for row in rows])


def train(settings: Trajectory, model, rows: list[Tensors], together: bool) -> list[dict]:
    parameters = [p for p in model.parameters() if p.requires_grad]
    grouped = settings.optimizer.get("no_decay") or "layer_decay" in settings.optimizer
    of = optimizers.groups(model, settings.optimizer) if grouped else parameters
    optimizer = optimizers.make(of, settings.optimizer)
    windows = [rows[at : at + BATCH] for at in range(0, len(rows), BATCH)] * EPOCHS
    rates = scheduler(optimizer, settings.schedule, len(windows))
    steps = []
    for step, window in enumerate(windows, start=1):
        optimizer.zero_grad()
        losses = 0.0
        answers, of = [], []
        for part in parts(window, together):
            result = answer(model, part)
            loss = result.loss * len(part) / len(window)
            loss.backward()
            losses += loss.item()
            answers.append(result.logits.detach())
            of += [int(row["labels"]) for row in part]
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm))
        steps.append(
            {"step": step, "loss": losses, "learning_rate": max(rates.get_last_lr()), "grad_norm": norm, "rows": len(window)}
            | classifiers.metrics("single", torch.cat(answers), of, settings.classes)
        )
        optimizer.step()
        rates.step()
    return steps


def recipe(settings: Trajectory) -> str:
    lines = [f'model = "../{settings.base}"', 'output = "output"', "seed = 1", 'device = "cpu"', 'dtype = "f32"', ""]
    if settings.adapter:
        a = settings.adapter
        lines += ["[adapter]", 'kind = "lora"', f"rank = {a['r']}", f"alpha = {a['lora_alpha']}"]
        lines += [f"targets = {toml(a['target_modules'])}", 'init_from = "adapter"', ""]
    if settings.quantization:
        lines += ["[quantization]", *(f"{key} = {toml(value)}" for key, value in settings.quantization.items()), ""]
    lines += ["[data]", "packing = false", "shuffle = false", ""]
    lines += ["[[data.train]]", 'path = "rows/rows.jsonl"', 'format = "tensors"', ""]
    lines += ["[[data.eval]]", 'path = "rows/eval.jsonl"', 'format = "tensors"', ""]
    lines += ["[objective]", 'kind = "classify"', ""]
    lines += ["[train]", f"epochs = {EPOCHS}", f"batch_size = {BATCH}", f"micro_batch_size = {MICRO}"]
    lines += [f"max_grad_norm = {settings.max_grad_norm}"]
    lines += [f"freeze = {toml(list(settings.freeze))}"] if settings.freeze else []
    lines += ["", "[optimizer]", *(f"{key} = {toml(value)}" for key, value in settings.optimizer.items()), ""]
    lines += ["[schedule]", *(f"{key} = {toml(value)}" for key, value in settings.schedule.items()), ""]
    lines += ["[log]", "every = 1"]
    return "\n".join(lines) + "\n"


def compared(tensors: Tensors) -> Tensors:
    """Without what rounding moves."""
    return {name: tensor for name, tensor in tensors.items() if not re.search(r"attention\.(key|k_proj)\.bias$", name)}


def start(settings: Trajectory, folder: Path):
    if settings.adapter:
        model = dinov2_adapters.Adapted(dinov2_adapters.load_adapted(folder / "adapter", settings.base))
        if settings.quantization:
            quantized.quantize_blocks(model, **settings.quantization)
        return model
    model = dinov2.load_model(ROOM / settings.base)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not any(re.search(pattern, name) for pattern in settings.freeze))
    return model


def write(name: str, settings: Trajectory) -> None:
    folder = ROOM / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if settings.adapter:
        base = f"../../{settings.base}"
        dinov2_adapters.write_adapter(folder / "adapter", settings.base, base, settings.adapter, settings.seed, zero_b=True)
    everything = make_rows(settings)
    write_rows(folder / "rows", everything, settings.held_out)
    rows, held_out = everything[: -settings.held_out], everything[-settings.held_out :]
    (folder / "recipe.toml").write_text(recipe(settings))

    histories, starts, finals, outputs, before = [], [], [], [], []
    for together in (False, True):
        model = start(settings, folder)
        scratch = folder / "scratch"
        starts.append(trained_tensors(model, scratch))
        before.append(logits(model, everything))
        histories.append(train(settings, model, rows, together))
        finals.append(trained_tensors(model, scratch))
        shutil.rmtree(scratch)
        outputs.append(logits(model, everything))

    apart = lambda one, other: float((one - other).abs().max())
    rounding = {
        "largest_loss_difference": max(abs(a["loss"] - b["loss"]) for a, b in zip(*histories)),
        "final_distance": distance(*map(compared, finals)),
        "way_travelled": distance(compared(starts[0]), compared(finals[0])),
        "largest_output_difference": apart(*outputs),
        "outputs_moved_by": apart(before[0], outputs[0]),
    }
    if max(rounding[key] for key in ("largest_loss_difference", "final_distance", "largest_output_difference")) > 2e-5:
        raise SystemExit(f"{name}: rounding alone gives {rounding}")
    if max(abs(a["grad_norm"] / b["grad_norm"] - 1) for a, b in zip(*histories)) > 1e-5:
        raise SystemExit(f"{name}: rounding alone moves the gradient's norm")
    clipped = sum(step["grad_norm"] > settings.max_grad_norm for step in histories[0])
    if clipped == 0:
        raise SystemExit(f"{name}: clipping never acts")
    ends = outputs[0][-settings.held_out :]
    of = [int(row["labels"]) for row in held_out]
    evaluated = {"loss": float(torch.nn.functional.cross_entropy(ends, torch.tensor(of)))}
    evaluated |= classifiers.metrics("single", ends, of, settings.classes)
    expected = {"steps": histories[0], "eval": evaluated, "clipped_steps": clipped, "rounding": rounding}
    write_json(folder / "expected.json", expected)
    save_file(finals[0], folder / "final.safetensors", metadata={"format": "pt"})
    save_file({"logits": outputs[0]}, folder / "outputs.safetensors")

"""Reference trajectories of CLIP, `towers/trajectory-clip-*/`: the contrastive loss over all pairs of a step.

Rows are `tensors` rows: `rows/rows.jsonl` names a safetensors file for each. The reference runs all rows of a step at once,
padded, through CLIPModel's own loss. A second pass runs every row alone through the towers, and takes the loss over the
embeddings of the whole step: the distance of the two is `rounding`.

Biases of `k_proj` have no gradient but rounding, which Adam makes steps of the learning rate of. No output sees them; so
they are left out of the distances here, and `outputs.safetensors` holds what the trained model answers.
"""

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import clip
import clip_adapters
import lora
import optimizers
from clip import TOWERS, Tensors
from common import write_json
from trajectory import ADAMW, distance, scheduler, toml, trained_tensors

LIMIT = math.log(100)  # of the temperature, which is kept in [0, ln 100]
EPOCHS = 2
BATCH = 4
MICRO = 2


@dataclass
class Trajectory:
    base: str
    seed: int
    lengths: tuple[int, ...]  # of the rows; of 10, the last step of an epoch is partial
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    max_grad_norm: float
    adapter: dict[str, Any] | None = None
    matching: bool = False  # pictures are made to match their texts
    masked: tuple[int, ...] = (2, 7)  # rows whose file has a mask
    padded: tuple[int, ...] = (7,)  # rows whose file is padded, by three tokens


CASES = {
    "trajectory-clip-full": Trajectory(
        "clip-quick-gelu",
        321,
        lengths=(9, 4, 13, 6, 16, 2, 7, 11, 5, 14),
        optimizer=ADAMW | dict(learning_rate=5e-3, weight_decay=0.05),
        schedule=dict(kind="cosine", warmup_steps=2),
        max_grad_norm=1.5,
    ),
    # The temperature is frozen. With other seeds the gradient of a number of some A is near Adam's eps, where rounding decides.
    "trajectory-clip-lora": Trajectory(
        "clip-gelu-eos",
        334,
        lengths=(8, 13, 3, 10, 1, 6, 15, 9, 4, 12),
        optimizer=ADAMW | dict(learning_rate=1e-2, weight_decay=0.1),
        schedule=dict(kind="linear", warmup_steps=2),
        max_grad_norm=2.0,
        adapter=dict(r=3, lora_alpha=6.0, target_modules="all-linear"),
    ),
    # The temperature starts above its limit; the first loss sees it as it is. Pairs match, so it rises again and again. No
    # step is partial: two pairs at this temperature leave no loss.
    "trajectory-clip-clamped": Trajectory(
        "clip-clamped",
        325,
        lengths=(5, 8, 3, 6, 7, 4, 8, 5),
        optimizer=ADAMW | dict(learning_rate=4e-4, weight_decay=0.01),
        schedule=dict(kind="constant", warmup_steps=1),
        max_grad_norm=2.0,
        matching=True,
        padded=(),
    ),
}


def matching_pictures(base: str, rows: list[list[int]], start: torch.Tensor) -> torch.Tensor:
    """Pictures that the untrained model tells apart by their texts just so well that a higher temperature lowers the loss
    of each step. Pairs that match better leave no loss at this temperature, and gradients of nothing but rounding."""
    model = clip.load_model(TOWERS / base)
    done = []
    for at in range(0, len(rows), BATCH):
        inputs = clip.pad(clip.CASES[base], rows[at : at + BATCH])
        pixels = torch.nn.Parameter(start[at : at + BATCH].clone())
        optimizer = torch.optim.Adam([pixels], lr=0.01)
        while True:
            # The temperature is a lower one for the pictures to learn at.
            model.logit_scale.data.fill_(LIMIT)
            loss = model(pixel_values=pixels, **inputs, return_loss=True).loss
            if torch.autograd.grad(loss, model.logit_scale)[0] < 0:
                break
            model.logit_scale.data.fill_(LIMIT - 0.1)
            optimizer.zero_grad()
            model(pixel_values=pixels, **inputs, return_loss=True).loss.backward()
            optimizer.step()
        done.append(pixels.detach())
    return torch.cat(done)


def make_rows(settings: Trajectory) -> list[Tensors]:
    """What the files of the rows hold."""
    case = clip.CASES[settings.base]
    ids = clip.token_rows(case, settings.seed + 1000, settings.lengths)
    pixels = clip.pictures(case, settings.seed + 2000, len(ids))
    if settings.matching:
        pixels = matching_pictures(settings.base, ids, pixels)
    rows = []
    for index, row in enumerate(ids):
        padding = 3 if index in settings.padded else 0
        tensors = {"pixel_values": pixels[index].clone(), "input_ids": torch.tensor(row + [case.pad] * padding)}
        if index in settings.masked:
            tensors["attention_mask"] = torch.tensor([1] * len(row) + [0] * padding)
        rows.append(tensors)
    return rows


def write_rows(folder: Path, rows: list[Tensors]) -> None:
    folder.mkdir()
    names = [f"{index:03}.safetensors" for index in range(len(rows))]
    for name, row in zip(names, rows):
        save_file(row, folder / name)
    (folder / "rows.jsonl").write_text("".join(json.dumps({"tensors": name}) + "\n" for name in names))


def together(case: clip.Case, rows: list[Tensors]) -> Tensors:
    """The rows as one batch."""
    columns = max(len(row["input_ids"]) for row in rows)
    ids = torch.full((len(rows), columns), case.pad)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        length = len(row["input_ids"])
        ids[index, :length] = row["input_ids"]
        mask[index, :length] = row.get("attention_mask", torch.ones_like(row["input_ids"]))
    return {"pixel_values": torch.stack([row["pixel_values"] for row in rows]), "input_ids": ids, "attention_mask": mask}


def embeddings(model, rows: list[Tensors]) -> tuple[torch.Tensor, torch.Tensor]:
    """(pictures', texts'), every row alone and as its file has it."""
    answers = [model(**{name: tensor[None] for name, tensor in row.items()}) for row in rows]
    return torch.cat([answer.image_embeds for answer in answers]), torch.cat([answer.text_embeds for answer in answers])


def loss_of_step(case: clip.Case, model, scale: torch.Tensor, rows: list[Tensors], alone: bool) -> torch.Tensor:
    """Symmetric cross-entropy over all pairs of the step."""
    if not alone:
        return model(**together(case, rows), return_loss=True).loss
    image, text = embeddings(model, rows)
    logits = image @ text.T * scale.exp()
    pairs = torch.arange(len(rows))
    cross_entropy = torch.nn.functional.cross_entropy
    return (cross_entropy(logits, pairs) + cross_entropy(logits.T, pairs)) / 2


def train(settings: Trajectory, model, scale: torch.nn.Parameter, rows: list[Tensors], alone: bool) -> list[dict]:
    case = clip.CASES[settings.base]
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = optimizers.make(parameters, settings.optimizer)
    windows = [rows[at : at + BATCH] for at in range(0, len(rows), BATCH)] * EPOCHS
    rates = scheduler(optimizer, settings.schedule, len(windows))
    steps = []
    for step, window in enumerate(windows, start=1):
        optimizer.zero_grad()
        loss = loss_of_step(case, model, scale, window, alone)
        loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm))
        answer = {"step": step, "loss": loss.item(), "learning_rate": rates.get_last_lr()[0], "grad_norm": norm}
        optimizer.step()
        rates.step()
        answer |= {"rows": len(window)}
        if scale.requires_grad:
            reached = scale.item()
            with torch.no_grad():
                scale.clamp_(0, LIMIT)
            answer |= {"logit_scale": scale.item(), "clamped": scale.item() != reached}
        steps.append(answer)
    return steps


def recipe(settings: Trajectory) -> str:
    lines = [f'model = "../{settings.base}"', 'output = "output"', "seed = 1", 'device = "cpu"', 'dtype = "f32"', ""]
    if settings.adapter:
        a = settings.adapter
        lines += ["[adapter]", 'kind = "lora"', f"rank = {a['r']}", f"alpha = {a['lora_alpha']}"]
        lines += [f"targets = {toml(a['target_modules'])}", 'init_from = "adapter"', ""]
    lines += ["[data]", "packing = false", "shuffle = false", ""]
    lines += ["[[data.train]]", 'path = "rows/rows.jsonl"', 'format = "tensors"', ""]
    lines += ["[objective]", 'kind = "contrastive"', f"learn_temperature = {toml(settings.adapter is None)}", ""]
    lines += ["[train]", f"epochs = {EPOCHS}", f"batch_size = {BATCH}", f"micro_batch_size = {MICRO}"]
    lines += [f"max_grad_norm = {settings.max_grad_norm}", ""]
    lines += ["[optimizer]", *(f"{key} = {toml(value)}" for key, value in settings.optimizer.items()), ""]
    lines += ["[schedule]", *(f"{key} = {toml(value)}" for key, value in settings.schedule.items()), ""]
    lines += ["[log]", "every = 1"]
    return "\n".join(lines) + "\n"


def compared(tensors: Tensors) -> Tensors:
    """Without what rounding moves."""
    return {name: tensor for name, tensor in tensors.items() if not name.endswith("k_proj.bias")}


def write(name: str, settings: Trajectory) -> None:
    folder = TOWERS / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if settings.adapter:
        base = f"../../{settings.base}"
        clip_adapters.write_adapter(folder / "adapter", settings.base, base, settings.adapter, settings.seed, zero_b=True)
    rows = make_rows(settings)
    write_rows(folder / "rows", rows)
    (folder / "recipe.toml").write_text(recipe(settings))

    histories, starts, finals, outputs, before = [], [], [], [], []
    for alone in (False, True):
        if settings.adapter:
            adapted = clip_adapters.load_adapted(folder / "adapter", settings.base)
            model, scale = lora.Adapted(adapted), adapted.get_base_model().logit_scale
        else:
            model = clip.load_model(TOWERS / settings.base)
            scale = model.logit_scale
        scratch = folder / "scratch"
        starts.append(trained_tensors(model, scratch))
        with torch.no_grad():
            before.append(embeddings(model, rows))
        histories.append(train(settings, model, scale, rows, alone))
        finals.append(trained_tensors(model, scratch))
        shutil.rmtree(scratch)
        with torch.no_grad():
            outputs.append(embeddings(model, rows))

    def apart(one, other) -> float:
        return max(float((a - b).abs().max()) for a, b in zip(one, other))

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
    if settings.matching and not all(step["clamped"] for step in histories[0]):
        raise SystemExit(f"{name}: the temperature does not rise")
    write_json(folder / "expected.json", {"steps": histories[0], "clipped_steps": clipped, "rounding": rounding})
    save_file(finals[0], folder / "final.safetensors", metadata={"format": "pt"})
    save_file(dict(zip(("image_embeds", "text_embeds"), outputs[0])), folder / "outputs.safetensors")

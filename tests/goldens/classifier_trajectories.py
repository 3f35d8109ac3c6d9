"""classifiers/trajectory-*: whole runs of classifiers and reward models, in the format of `trajectory.py`.

Rows are run one by one, or a pair at a time, and their losses divided by the rows of the whole step. Losses are those of
transformers' `ForSequenceClassificationLoss` and of TRL's `RewardTrainer.compute_loss`, called as they are. A second pass
runs all rows of a step at once, padded, and says how far rounding alone moves the result.

Full runs start from a classifier that transformers wrote, adapter runs from a plain decoder and a `SEQ_CLS` adapter that
PEFT wrote. Where rewards are not centred, a gradient of a full run may cancel but for rounding, and Adam turns that into
motion; so full runs of rewards are centred.
"""

import json
import shutil
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from trl.trainer.reward_trainer import RewardTrainer

import classifiers
import optimizers
from classifiers import ROOM, PROBLEMS, labels, load, metrics, run_one, target, write_labelled
from common import HERE, write_json
from trajectory import ADAMW, distance, scheduler, toml

LENGTHS = (9, 4, 17, 6, 12, 3, 18, 8, 5, 14, 7)
EVAL_LENGTHS = (11, 4, 7, 16, 5)


@dataclass
class Trajectory:
    base: str  # a folder beside this one, or a case of `classifiers.py`
    seed: int
    problem: str
    classes: int
    norm: float
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    center: float | None = None
    adapter: dict[str, Any] | None = None
    batch: int = 4
    micro: int = 2
    epochs: int = 2


COSINE = dict(kind="cosine", warmup_steps=1)
LINEAR = dict(kind="linear", warmup_steps=0)
SGD = dict(kind="sgd", learning_rate=0.05, momentum=0.9, weight_decay=0.01)
LORA = ADAMW | dict(learning_rate=5e-3, weight_decay=0.05)
FULL = ADAMW | dict(learning_rate=5e-3, weight_decay=0.05, eps=1e-5)


def adapter(**settings: Any) -> dict[str, Any]:
    return dict(r=3, lora_alpha=6.0) | settings


CASES = {
    "trajectory-single-lora": Trajectory(
        "gpt2", 951, "single", 3, 1.0, LORA, COSINE, adapter=adapter(target_modules=["c_attn", "c_proj"])
    ),
    "trajectory-single-dora": Trajectory(
        "llama-gqa-tied", 952, "single", 2, 1.0, LORA, LINEAR, adapter=adapter(target_modules="all-linear", use_dora=True)
    ),
    "trajectory-single-full": Trajectory("llama", 953, "single", 3, 3.0, FULL, COSINE),
    "trajectory-multi-lora": Trajectory(
        "llama-gqa-tied", 954, "multi", 4, 0.5, LORA, LINEAR, adapter=adapter(target_modules="all-linear")
    ),
    "trajectory-multi-full": Trajectory("gpt2", 955, "multi", 4, 1.0, SGD, COSINE),
    "trajectory-regression-lora": Trajectory(
        "llama-gqa-tied", 956, "regression", 1, 1.0, LORA, COSINE, adapter=adapter(target_modules=["q_proj", "v_proj"])
    ),
    "trajectory-regression-full": Trajectory("gpt-neox", 957, "regression", 1, 2.0, SGD, LINEAR),
    "trajectory-reward-lora": Trajectory(
        "llama-gqa-tied", 958, "reward", 1, 0.5, LORA, COSINE, adapter=adapter(target_modules="all-linear")
    ),
    "trajectory-reward-center-lora": Trajectory(
        "gpt2", 959, "reward", 1, 0.5, LORA, LINEAR, 0.05, adapter=adapter(target_modules=["c_attn"])
    ),
    "trajectory-reward-full": Trajectory("gpt-neox", 960, "reward", 1, 1.0, SGD, COSINE, 0.05),
}


def base_of(case: Trajectory) -> Path:
    return HERE / case.base if case.adapter else ROOM / case.base


def start(case: Trajectory, folder: Path) -> torch.nn.Module:
    if case.adapter is None:
        return load(base_of(case), **(dict(problem_type=PROBLEMS[case.problem]) if case.problem != "reward" else {}))
    settings: dict[str, Any] = dict(num_labels=case.classes, problem_type=PROBLEMS.get(case.problem, "regression"))
    model = load(base_of(case), **settings)
    return PeftModel.from_pretrained(model, folder / "adapter", is_trainable=True)


def write_adapter(case: Trajectory, folder: Path) -> None:
    model = load(base_of(case), num_labels=case.classes)
    model = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", **case.adapter))
    generator = torch.Generator().manual_seed(case.seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name and "magnitude" not in name:
                parameter.normal_(0.0, 0.2, generator=generator)
            if name.endswith("score.modules_to_save.default.weight"):
                parameter.normal_(0.0, 0.3, generator=generator)
    model.peft_config["default"].base_model_name_or_path = f"../../../{case.base}"
    model.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink(missing_ok=True)


def draw(case: Trajectory, model, seed: int, lengths: tuple[int, ...]) -> list:
    """Rows of (ids, label), or of (prompt, better answer, worse answer)."""
    vocabulary, pad = model.config.vocab_size, model.config.pad_token_id
    rows = classifiers.texts(seed, vocabulary, lengths, pad)
    if case.problem != "reward":
        return list(zip(rows, labels(seed + 1, case.problem, case.classes, len(rows))))
    answers = classifiers.texts(seed + 2, vocabulary, tuple(reversed(lengths)), pad)
    others = classifiers.texts(seed + 3, vocabulary, tuple(length % 7 + 2 for length in lengths), pad)
    return list(zip([row[:5] for row in rows], [row[:9] for row in answers], others))


def write_rows(case: Trajectory, path: Path, rows: list) -> None:
    if case.problem != "reward":
        write_labelled(path, [ids for ids, _ in rows], [label for _, label in rows])
        return
    keys = ("prompt_ids", "chosen_ids", "rejected_ids")
    path.write_text("".join(json.dumps(dict(zip(keys, row))) + "\n" for row in rows))


class Rewards:
    """What `RewardTrainer.compute_loss` reads of its trainer."""

    def __init__(self, center: float | None) -> None:
        self.model = SimpleNamespace(training=True)
        self.args = SimpleNamespace(center_rewards_coefficient=center)
        self.accelerator = SimpleNamespace(gather=lambda value: value, gather_for_metrics=lambda value: value)
        self._total_train_tokens, self._tp_size = 0, 1
        self._metrics: dict = {"train": defaultdict(list)}


def together(model, rows: list[list[int]]) -> dict[str, torch.Tensor]:
    """Rows side by side. Without a padding id, one is taken with which no row ends."""
    pad = model.config.pad_token_id
    if pad is None:
        ends = {row[-1] for row in rows}
        pad = next(id for id in range(model.config.vocab_size) if id not in ends)
        model.config.pad_token_id = pad
        model.config.borrowed_pad = True
    longest = max(map(len, rows))
    return {
        "input_ids": torch.tensor([row + [pad] * (longest - len(row)) for row in rows]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows]),
    }


def give_back(model) -> None:
    if model.config.__dict__.pop("borrowed_pad", False):
        model.config.pad_token_id = None


def losses(case: Trajectory, model, rows: list, padded: bool):
    """Parts of the step's loss, already divided, each with its scores."""
    count = len(rows)
    if case.problem == "reward":
        for part in [rows] if padded else [[row] for row in rows]:
            sides = [prompt + chosen for prompt, chosen, _ in part] + [prompt + worse for prompt, _, worse in part]
            trainer = Rewards(case.center)
            loss, output = RewardTrainer.compute_loss(trainer, model, together(model, sides), return_outputs=True)
            give_back(model)
            yield loss * len(part) / count, output.logits.detach()
    elif padded:
        batch = together(model, [ids for ids, _ in rows])
        of = torch.cat([target(case.problem, case.classes, label) for _, label in rows])
        output = model(**batch, labels=of, use_cache=False)
        give_back(model)
        yield output.loss, output.logits.detach()
    else:
        for ids, label in rows:
            output = run_one(model, ids, labels=target(case.problem, case.classes, label))
            yield output.loss / count, output.logits.detach()


def measured(case: Trajectory, rows: list, scores: list[torch.Tensor]) -> dict[str, float]:
    if case.problem != "reward":
        return metrics(case.problem, torch.cat(scores), [label for _, label in rows], case.classes)
    sides = [torch.chunk(part.squeeze(-1), 2) for part in scores]
    chosen, rejected = (torch.cat([side[i] for side in sides]).double() for i in (0, 1))
    return {
        "rewards/chosen": chosen.mean().item(),
        "rewards/rejected": rejected.mean().item(),
        "rewards/margins": (chosen - rejected).mean().item(),
        "rewards/accuracies": (chosen > rejected).double().mean().item(),
    }


def train(case: Trajectory, model, rows: list, eval_rows: list, padded: bool) -> dict[str, list[dict]]:
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = optimizers.make(parameters, case.optimizer)
    windows = [rows[at : at + case.batch] for at in range(0, len(rows), case.batch)] * case.epochs
    rates = scheduler(optimizer, case.schedule, len(windows))
    history: dict[str, list[dict]] = {"steps": [], "eval": []}
    for step, window in enumerate(windows, start=1):
        optimizer.zero_grad()
        loss, scores = 0.0, []
        for part, logits in losses(case, model, window, padded):
            part.backward()
            loss += part.item()
            scores.append(logits)
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, case.norm))
        rate = rates.get_last_lr()[0]
        values = {"step": step, "loss": loss, "learning_rate": rate, "grad_norm": norm, "rows": len(window)}
        history["steps"].append(values | measured(case, window, scores))
        optimizer.step()
        rates.step()
        if step % 3 == 0:
            with torch.no_grad():
                found = list(losses(case, model, eval_rows, padded))
            counted = measured(case, eval_rows, [logits for _, logits in found])
            history["eval"].append({"step": step, "loss": sum(part.item() for part, _ in found)} | counted)
    return history


def recipe(case: Trajectory) -> str:
    place = f"../../{case.base}" if case.adapter else f"../{case.base}"
    lines = [f'model = "{place}"', 'output = "output"', "seed = 1", 'device = "cpu"', 'dtype = "f32"', ""]
    if case.adapter:
        a = case.adapter
        lines += ["[adapter]", f'kind = "{"dora" if a.get("use_dora") else "lora"}"', f"rank = {a['r']}"]
        lines += [f"alpha = {a['lora_alpha']}", f"targets = {toml(a['target_modules'])}", 'init_from = "adapter"', ""]
    lines += ["[data]", "max_length = 32", "packing = false", "shuffle = false", ""]
    lines += ["[[data.train]]", 'path = "data.jsonl"', "", "[[data.eval]]", 'path = "eval.jsonl"', ""]
    if case.problem == "reward":
        lines += ["[objective]", 'kind = "reward"'] + ([f"center = {case.center}"] if case.center else []) + [""]
    else:
        lines += ["[objective]", 'kind = "classify"', f'problem = "{case.problem}"', ""]
    lines += ["[eval]", "every = 3", "", "[train]", f"epochs = {case.epochs}", f"batch_size = {case.batch}"]
    lines += [f"micro_batch_size = {case.micro}", f"max_grad_norm = {case.norm}", ""]
    lines += ["[optimizer]", *(f"{key} = {toml(value)}" for key, value in case.optimizer.items()), ""]
    lines += ["[schedule]", *(f"{key} = {toml(value)}" for key, value in case.schedule.items()), ""]
    lines += ["[log]", "every = 1"]
    return "\n".join(lines) + "\n"


def saved(model, folder: Path) -> dict[str, torch.Tensor]:
    model.save_pretrained(folder)
    tensors = load_file(next(folder.glob("*model.safetensors")))
    shutil.rmtree(folder)
    return tensors


def write(name: str, case: Trajectory) -> None:
    folder = ROOM / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if case.adapter:
        write_adapter(case, folder)
    model = start(case, folder)
    rows = draw(case, model, case.seed + 1000, LENGTHS)
    eval_rows = draw(case, model, case.seed + 2000, EVAL_LENGTHS)
    write_rows(case, folder / "data.jsonl", rows)
    write_rows(case, folder / "eval.jsonl", eval_rows)
    (folder / "recipe.toml").write_text(recipe(case))
    histories, finals = [], []
    for padded in (False, True):
        model = start(case, folder).eval()
        before = [p.detach().clone() for p in model.parameters() if p.requires_grad]
        histories.append(train(case, model, rows, eval_rows, padded))
        after = [p.detach() for p in model.parameters() if p.requires_grad]
        finals.append(saved(model, folder / "scratch"))
        moved = sum(float((a - b).square().sum()) for a, b in zip(before, after))
        length = sum(float(a.square().sum()) for a in after)
    found = [[step["loss"] for step in history["steps"]] for history in histories]
    rounding = {
        "largest_loss_difference": max(abs(a - b) for a, b in zip(*found)),
        "final_distance": distance(*finals),
        "way_travelled": (moved / length) ** 0.5,
    }
    if rounding["largest_loss_difference"] > 2e-5 or rounding["final_distance"] > 2e-5:
        raise SystemExit(f"{name}: rounding alone gives {rounding}")
    clipped = sum(step["grad_norm"] > case.norm for step in histories[0]["steps"])
    if not 0 < clipped:
        norms = [round(step["grad_norm"], 3) for step in histories[0]["steps"]]
        raise SystemExit(f"{name}: clipping never acts: {norms}")
    write_json(folder / "expected.json", histories[0] | {"clipped_steps": clipped, "rounding": rounding})
    save_file(finals[0], folder / "final.safetensors", metadata={"format": "pt"})

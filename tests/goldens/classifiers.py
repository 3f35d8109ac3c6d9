"""classifiers/: sequence classifiers on the model cases, as transformers writes them, with scores, losses and gradients.

A folder holds the classifier (`score.weight` in place of the head), `rows.jsonl`, and `forward.safetensors`: the scores of
every row, the loss over all of them and every gradient. Rows end with the padding id, hold it, and consist of it.
`adapter-*` are PEFT's `SEQ_CLS` adapters on the plain decoders, with the scores of the adapted classifier.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from common import HERE, gradients_as_saved

ROOM = HERE / "classifiers"
PROBLEMS = {
    "single": "single_label_classification",
    "multi": "multi_label_classification",
    "regression": "regression",
}


@dataclass
class Classifier:
    base: str
    seed: int
    problem: str
    classes: int
    pad: int | None = 3
    adapter: dict[str, Any] | None = None
    lengths: tuple[int, ...] = (9, 4, 1, 13, 6, 7, 2, 11)
    names: tuple[str, ...] = ()


CASES = {
    "llama": Classifier("llama-gqa-tied", 901, "single", 3, names=("bad", "so-so", "good")),
    "gpt2": Classifier("gpt2", 902, "multi", 4),
    "gpt-neox": Classifier("gpt-neox", 903, "regression", 1),
    # Hidden states are projected to the width of the embedding before they are scored.
    "opt-350m": Classifier("opt-350m", 904, "single", 5, pad=1),
    # No padding id: a text is read at its last token, and rows run one by one.
    "gemma2": Classifier("gemma2", 905, "single", 2, pad=None),
    "mixtral": Classifier("mixtral", 906, "multi", 3),
    "adapter-llama": Classifier(
        "llama-gqa-tied", 907, "single", 3, adapter=dict(r=3, lora_alpha=5, target_modules="all-linear")
    ),
    "adapter-gpt2": Classifier("gpt2", 908, "multi", 2, adapter=dict(r=2, lora_alpha=3, target_modules=["c_attn"])),
    "adapter-gpt-neox": Classifier(
        "gpt-neox", 909, "regression", 1, adapter=dict(r=2, lora_alpha=3, use_dora=True, target_modules="all-linear")
    ),
}


def load(folder: Path, **settings: Any) -> torch.nn.Module:
    model, report = AutoModelForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True, **settings
    )
    wrong = {kind: keys for kind, keys in report.items() if keys}
    if wrong and not settings:
        raise SystemExit(f"{folder}: {wrong}")
    return model.eval()


def of_base(case: Classifier) -> torch.nn.Module:
    """The classifier on a plain decoder, with random scores."""
    settings: dict[str, Any] = dict(num_labels=case.classes, problem_type=PROBLEMS[case.problem])
    model = load(HERE / case.base, **settings)
    model.config.pad_token_id = case.pad
    if case.names:
        model.config.id2label = dict(enumerate(case.names))
        model.config.label2id = {name: number for number, name in enumerate(case.names)}
    generator = torch.Generator().manual_seed(case.seed)
    with torch.no_grad():
        model.score.weight.normal_(0.0, 0.5, generator=generator)
    return model


def texts(seed: int, vocabulary: int, lengths: tuple[int, ...], pad: int | None) -> list[list[int]]:
    """Rows of ids. With a padding id, every third row ends with it, every fourth holds it, and one consists of it."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randint(0, vocabulary, (length,), generator=generator).tolist() for length in lengths]
    if pad is not None:
        for index, row in enumerate(rows):
            if index % 3 == 1:
                row[-1] = pad
            if index % 4 == 3:
                row[len(row) // 2] = pad
        rows[4] = [pad] * len(rows[4])
    return rows


def labels(seed: int, problem: str, classes: int, count: int) -> list:
    generator = torch.Generator().manual_seed(seed)
    if problem == "single":
        return torch.randint(0, classes, (count,), generator=generator).tolist()
    if problem == "multi":
        drawn = torch.rand((count, classes), generator=generator) < 0.4
        return [[number for number in range(classes) if row[number]] for row in drawn.tolist()]
    return [round(value, 3) for value in torch.randn((count,), generator=generator).tolist()]


def target(problem: str, classes: int, label) -> torch.Tensor:
    if problem == "single":
        return torch.tensor([label])
    if problem == "multi":
        return torch.tensor([[float(number in label) for number in range(classes)]])
    return torch.tensor([label])


def run_one(model, ids: list[int], **more: Any):
    """One row, without padding."""
    return model(input_ids=torch.tensor([ids]), use_cache=False, **more)


def padded(model, rows: list[list[int]]) -> torch.Tensor:
    """The scores of all rows at once, padded on the right by the padding id."""
    pad, longest = model.config.pad_token_id, max(map(len, rows))
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return model(input_ids=ids, attention_mask=mask, use_cache=False).logits


def write_labelled(path: Path, rows: list[list[int]], of: list) -> None:
    path.write_text("".join(json.dumps({"input_ids": ids, "label": label}) + "\n" for ids, label in zip(rows, of)))


def metrics(problem: str, logits: torch.Tensor, of: list, classes: int) -> dict[str, float]:
    """Accuracy and macro F1, counted anew."""
    if problem == "regression":
        return {}
    if problem == "single":
        guessed = torch.nn.functional.one_hot(logits.argmax(-1), classes).bool()
        there = torch.nn.functional.one_hot(torch.tensor(of), classes).bool()
        accuracy = (logits.argmax(-1) == torch.tensor(of)).double().mean().item()
    else:
        guessed = logits > 0
        there = torch.cat([target(problem, classes, label) for label in of]).bool()
        accuracy = (guessed == there).double().mean().item()
    both, all_ = (guessed & there).sum(0), guessed.sum(0) + there.sum(0)
    f1 = [2 * b / a if a else 0.0 for b, a in zip(both.tolist(), all_.tolist())]
    return {"accuracy": accuracy, "f1": sum(f1) / classes}


def write(name: str, case: Classifier) -> None:
    folder = ROOM / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model = of_base(case)
    vocabulary = model.config.vocab_size
    if case.adapter is None:
        model.save_pretrained(folder)
        reload = lambda: load(folder)
    else:
        adapted = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", **case.adapter))
        generator = torch.Generator().manual_seed(case.seed + 1)
        with torch.no_grad():
            for parameter_name, parameter in adapted.named_parameters():
                if "lora_" in parameter_name and "magnitude" not in parameter_name:
                    parameter.normal_(0.0, 0.2, generator=generator)
        adapted.peft_config["default"].base_model_name_or_path = f"../../{case.base}"
        adapted.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)
        reload = lambda: PeftModel.from_pretrained(of_base(case), folder).eval()
    rows = texts(case.seed + 2, vocabulary, case.lengths, case.pad)
    of = labels(case.seed + 3, case.problem, case.classes, len(rows))
    write_labelled(folder / "rows.jsonl", rows, of)

    model = reload()
    total = 0.0
    logits = []
    for ids, label in zip(rows, of):
        output = run_one(model, ids, labels=target(case.problem, case.classes, label))
        total = total + output.loss
        logits.append(output.logits.detach())
    loss = total / len(rows)
    out = {"logits": torch.cat(logits), "loss": loss.detach()}
    if case.pad is not None and case.adapter is None:
        with torch.no_grad():
            apart = (padded(model, rows) - out["logits"]).abs().max().item()
        if apart > 1e-5:
            raise SystemExit(f"{name}: padding moves the scores by {apart}")
    if case.adapter is None:
        loss.backward()
        out |= gradients_as_saved(model)
    save_file({key: tensor.contiguous() for key, tensor in out.items()}, folder / "forward.safetensors")
    counted = {"loss": float(loss)} | metrics(case.problem, out["logits"], of, case.classes)
    settings = {"base": case.base, "problem": case.problem, "classes": case.classes, "pad": case.pad}
    (folder / "expected.json").write_text(json.dumps(settings | counted, indent=2) + "\n")

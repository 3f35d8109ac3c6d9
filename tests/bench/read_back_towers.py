"""Loads what firebrand wrote for CLIP with transformers and PEFT, and compares embeddings with `firebrand score --out`.

    python read_back_towers.py BASE --rows rows.jsonl --scored out.jsonl                    # the base itself
    python read_back_towers.py BASE --adapter ADAPTER --rows rows.jsonl --scored out.jsonl  # an adapter on it
    python read_back_towers.py BASE --model MODEL --rows rows.jsonl --scored out.jsonl      # a merged or trained folder

With both an adapter and a model, the two are compared as well. Rows are `tensors` rows, scored with the same adapter or
model; each is run alone, as its file has it. No key may be missing or left over in any folder."""

import argparse
import json
from pathlib import Path

import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import CLIPModel
from transformers.utils import logging

NAMES = ("image_embeds", "text_embeds")
Embeddings = dict[str, torch.Tensor]


def load(folder: Path) -> CLIPModel:
    model, report = CLIPModel.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    wrong = {kind: sorted(map(str, keys)) for kind, keys in report.items() if keys}
    if wrong:
        raise SystemExit(f"{folder} does not fit its architecture: {wrong}")
    return model.eval()


def adapt(base: CLIPModel, folder: Path) -> PeftModel:
    model = PeftModel.from_pretrained(base, folder)
    # PEFT drops tensors it has no place for without a word, so names and values are compared.
    stored = load_file(folder / "adapter_model.safetensors")
    placed = get_peft_model_state_dict(model, save_embedding_layers=False)
    missing, unexpected = placed.keys() - stored.keys(), stored.keys() - placed.keys()
    if missing or unexpected:
        raise SystemExit(f"{folder}: missing {sorted(missing)}, unexpected {sorted(unexpected)}")
    other = [name for name, value in stored.items() if not torch.equal(value.float(), placed[name])]
    if other:
        raise SystemExit(f"{folder}: not loaded as stored: {other}")
    return model.eval()


def embeddings(model: torch.nn.Module, rows: list[dict[str, torch.Tensor]]) -> Embeddings:
    """[rows, projection] each, in f64."""
    with torch.no_grad():
        answers = [model(**{name: tensor[None] for name, tensor in row.items()}) for row in rows]
    return {name: torch.cat([answer[name] for answer in answers]).double() for name in NAMES}


def read_rows(path: Path) -> list[dict[str, torch.Tensor]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    known = ("pixel_values", "input_ids", "attention_mask")
    rows = [load_file(path.parent / line["tensors"]) for line in lines]
    for line, row in zip(lines, rows):
        if unknown := row.keys() - set(known):
            raise SystemExit(f"{line['tensors']} holds {sorted(unknown)}, which CLIPModel is not given")
    return rows


def read_scored(path: Path, rows: int) -> Embeddings:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    if len(lines) != rows:
        raise SystemExit(f"{path} has {len(lines)} lines for {rows} rows")
    return {name: torch.tensor([line[name] for line in lines], dtype=torch.float64) for name in NAMES}


def apart(one: Embeddings, other: Embeddings) -> dict[str, float]:
    for name in NAMES:
        if one[name].shape != other[name].shape:
            raise SystemExit(f"{name}: {list(one[name].shape)} and {list(other[name].shape)}")
    return {name: float((one[name] - other[name]).abs().max()) for name in NAMES}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--rows", type=Path, required=True, help="JSONL of `tensors` rows")
    parser.add_argument("--scored", type=Path, required=True, help="what `score --out` wrote for these rows")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()

    rows = read_rows(options.rows)
    scored = read_scored(options.scored, len(rows))
    base = embeddings(load(options.base), rows)
    found = {}
    if options.adapter:
        found["adapter"] = embeddings(adapt(load(options.base), options.adapter), rows)
    if options.model:
        found["model"] = embeddings(load(options.model), rows)
    changed = bool(found)
    found = found or {"base": base}

    report = {"rows": len(rows)}
    report |= {f"{name}_from_scored": apart(answers, scored) for name, answers in found.items()}
    if len(found) == 2:
        report["adapter_from_model"] = apart(found["adapter"], found["model"])
    moved = {name: apart(answers, base) for name, answers in found.items()} if changed else {}
    print(json.dumps(report | {f"{name}_from_base": distances for name, distances in moved.items()}))
    for name, distances in moved.items():
        if max(distances.values()) < 10 * options.tolerance:
            raise SystemExit(f"the {name} hardly differs from the base: this comparison says nothing")
    for name, distances in report.items():
        if name != "rows" and not max(distances.values()) <= options.tolerance:
            raise SystemExit(f"{name}: {distances}, tolerance {options.tolerance}")


if __name__ == "__main__":
    main()

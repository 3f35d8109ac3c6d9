"""score/: rows with input_ids, and the reference's log probability of every token after the first; base and adapter."""

import json
import math

import torch

import llama
from common import HERE, IGNORE, load_model, run, pad_right, token_rows, write_json, write_rows
from lora import load_adapted, Adapted

BASE, ADAPTER = "llama-gqa-tied", "lora-llama-gqa-tied"
LENGTHS = (3, 17, 9, 2, 24)


def score(model, rows) -> tuple[list[dict], dict]:
    lines, total, count, right = [], 0.0, 0, 0
    for ids, labels in rows:
        batch = pad_right([(ids, labels)], None, 0)
        with torch.no_grad():
            logits = run(model, batch)[0, :-1].double()
        targets = torch.tensor(ids[1:])
        logprobs = logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0]
        trained = torch.tensor(labels[1:]) != IGNORE
        loss = float(-logprobs[trained].sum())
        total, count = total + loss, count + int(trained.sum())
        right += int((logits.argmax(-1) == targets)[trained].sum())
        lines.append(
            {
                "tokens": ids,
                "logprobs": [float(f"{value:.9g}") for value in logprobs.tolist()],
                "labels": labels,
                "loss": loss / int(trained.sum()),
            }
        )
    mean = total / count
    return lines, {"loss": mean, "perplexity": math.exp(mean), "accuracy": right / count, "labelled_tokens": count}


def write() -> None:
    folder = HERE / "score"
    folder.mkdir(exist_ok=True)
    rows = token_rows(501, llama.CASES[BASE].config.vocab_size, LENGTHS)
    # Random rows are never predicted right; what the base itself answers is, after its prompt.
    for answer in json.loads((HERE / BASE / "generate.json").read_text())["answers"]:
        ids = answer["prompt"] + answer["continuation"]
        rows.append((ids, list(ids)))
    write_rows(folder / "rows.jsonl", rows)
    totals = {"model": f"../{BASE}", "adapter": f"../{ADAPTER}"}
    models = {"base": load_model(HERE / BASE), "adapted": Adapted(load_adapted(BASE, HERE / ADAPTER))}
    for name, model in models.items():
        lines, totals[name] = score(model, rows)
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_json(folder / "eval.json", totals)

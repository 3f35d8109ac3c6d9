"""Loads an adapter folder that firebrand wrote with PEFT, on its base, and compares log probabilities with `firebrand score`.

    python check_peft.py BASE ADAPTER --binary target/release/firebrand           # random rows
    python check_peft.py BASE ADAPTER --scored out.jsonl                          # a file `score` has written
"""

import argparse
import json
import random
import subprocess
import tempfile
from pathlib import Path

import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging


def score(options: argparse.Namespace) -> list[dict]:
    vocabulary = AutoConfig.from_pretrained(options.base).vocab_size
    generator = random.Random(3)
    with tempfile.TemporaryDirectory() as folder:
        rows, out = Path(folder) / "rows.jsonl", Path(folder) / "out.jsonl"
        lengths = [generator.randrange(2, 48) for _ in range(8)]
        lines = [json.dumps({"input_ids": [generator.randrange(vocabulary) for _ in range(n)]}) for n in lengths]
        rows.write_text("\n".join(lines) + "\n")
        command = [options.binary, "score", "--model", options.base, "--adapter", options.adapter, "--data", rows, "--out", out]
        subprocess.run(command, check=True)
        return [json.loads(line) for line in out.read_text().splitlines()]


def load(options: argparse.Namespace) -> PeftModel:
    base = AutoModelForCausalLM.from_pretrained(options.base, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, options.adapter)
    # PEFT drops tensors it has no place for without a word, so their number is checked.
    with safe_open(options.adapter / "adapter_model.safetensors", "pt") as file:
        stored = len(file.keys())
    placed = sum("lora_" in name for name, _ in model.named_parameters())
    if placed != stored:
        raise SystemExit(f"the file has {stored} tensors, the model {placed} adapter parameters")
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("adapter", type=Path)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--binary", type=Path)
    source.add_argument("--scored", type=Path)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    options = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()

    if options.scored:
        rows = [json.loads(line) for line in options.scored.read_text().splitlines()]
    else:
        rows = score(options)
    model = load(options)
    worst, moved, count = 0.0, 0.0, 0
    for row in rows:
        ids = torch.tensor([row["tokens"]])
        if ids.shape[1] < 2:
            continue
        with torch.no_grad():
            logprobs = model(ids).logits[0, :-1].double().log_softmax(-1)
            with model.disable_adapter():
                base = model(ids).logits[0, :-1].double().log_softmax(-1)
        expected = logprobs.gather(-1, ids[0, 1:, None])[:, 0]
        found = torch.tensor(row["logprobs"], dtype=torch.float64)
        if found.shape != expected.shape:
            raise SystemExit(f"{found.numel()} log probabilities for {ids.shape[1]} tokens")
        worst = max(worst, float((found - expected).abs().max()))
        moved = max(moved, float((logprobs - base).abs().max()))
        count += found.numel()
    print(json.dumps({"tokens": count, "largest_difference": worst, "adapter_moves_by": moved}))
    if moved < 10 * options.tolerance:
        raise SystemExit("the adapter hardly changes the model: this comparison says nothing")
    if not worst <= options.tolerance:
        raise SystemExit(f"differs by {worst}, tolerance {options.tolerance}")


if __name__ == "__main__":
    main()

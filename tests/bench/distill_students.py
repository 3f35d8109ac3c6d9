#!/usr/bin/env python3
"""A student of fewer layers, trained on its rows alone and with its teacher beside it: which ends with the lower loss.

    python3 distill_students.py --model PATH/TO/SmolLM2-135M-Instruct --corpus PATH/TO/chatterbot_corpus/data/english

Makes one student (`firebrand student`), draws a split of the rows for each seed, and trains the same student twice on it, by
recipes that differ in `[objective]` alone: `sft`, and `distill` with the whole model as the teacher. Then `firebrand eval`
measures the cross-entropy of both on the rows that were set aside. Rows are the first exchange of each question in the
corpus's YAML files, as plain text, so a question is on one side only; or the rows of a JSONL file with `text` (--rows).
Only the standard library is needed. What is measured is a loss: other programs may run meanwhile.
"""

import argparse
import json
import random
import re
import subprocess
import tempfile
from pathlib import Path

RECIPE = """model = {model}
output = {output}
seed = {seed}

[data]
max_length = {length}
packing = false

[[data.train]]
path = {rows}
format = "text"

[objective]
{objective}

[train]
epochs = {epochs}
batch_size = {batch}
micro_batch_size = {batch}

[optimizer]
learning_rate = {rate}

[schedule]
kind = "linear"

[checkpoint]
every = 1000000

[log]
tensorboard = false

[export]
dtype = "f32"
"""
OBJECTIVES = {
    "cross-entropy": 'kind = "sft"',
    "distillation": 'kind = "distill"\nteacher = {teacher}\nloss = "forward_kl"\nalpha = {alpha}\ntemperature = {temperature}',
}


def exchanges(corpus: Path) -> list[dict[str, str]]:
    """The first answer to each question, in the order of the files."""
    found: dict[str, str] = {}
    for file in sorted(corpus.glob("*.yml")):
        question = None
        for line in file.read_text(encoding="utf-8").splitlines():
            if begin := re.match(r"- - (.+)", line):
                question = begin[1].strip().strip("'\"")
            elif question and (answer := re.match(r"  - (.+)", line)):
                found.setdefault(question, answer[1].strip().strip("'\""))
                question = None
    return [{"text": f"{question}\n{answer}"} for question, answer in found.items()]


def run(program: Path, *arguments: object) -> str:
    command = [str(program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def write_rows(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the teacher, whose layers the student has")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--corpus", type=Path, help="a folder of YAML files with `conversations`")
    source.add_argument("--rows", type=Path, help="JSONL with `text`")
    parser.add_argument("--program", type=Path, default=Path("target/release/firebrand"))
    parser.add_argument("--every", type=int, default=2, help="the student has every N-th layer")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="one split each")
    parser.add_argument("--train", type=int, default=300, help="rows to train on")
    parser.add_argument("--eval", type=int, default=100, help="rows to measure")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--alpha", type=float, default=0.5)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--length", type=int, default=256)
    options = parser.parse_args()

    rows = exchanges(options.corpus) if options.corpus else [json.loads(line) for line in options.rows.open(encoding="utf-8")]
    if len(rows) < options.train + options.eval:
        raise SystemExit(f"{len(rows)} rows, and {options.train} + {options.eval} are asked for")
    program, teacher = options.program.resolve(), options.model.resolve()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        print(run(program, "student", "--model", teacher, "--every", options.every, "--out", work / "student"), end="", flush=True)
        lower = 0
        for seed in options.seeds:
            drawn = random.Random(seed).sample(rows, options.train + options.eval)
            write_rows(work / "train.jsonl", drawn[: options.train])
            write_rows(work / "eval.jsonl", drawn[options.train :])
            losses = {}
            for name in ["untrained", *OBJECTIVES]:
                model = work / "student"
                if name in OBJECTIVES:
                    keys = {"teacher": json.dumps(str(teacher)), "alpha": options.alpha, "temperature": options.temperature}
                    output = work / f"{name}-{seed}"
                    recipe = RECIPE.format(
                        model=json.dumps(str(model)),
                        output=json.dumps(str(output)),
                        rows=json.dumps(str(work / "train.jsonl")),
                        seed=seed,
                        objective=OBJECTIVES[name].format(**keys),
                        length=options.length,
                        epochs=options.epochs,
                        batch=options.batch,
                        rate=options.rate,
                    )
                    (work / "recipe.toml").write_text(recipe, encoding="utf-8")
                    run(program, "train", work / "recipe.toml", "--ui", "plain")
                    model = output / "model"
                said = run(program, "eval", "--model", model, "--data", work / "eval.jsonl", "--format", "text", "--json")
                losses[name] = json.loads(said)["loss"]
            lower += losses["distillation"] < losses["cross-entropy"]
            print(json.dumps({"seed": seed} | {name: round(loss, 4) for name, loss in losses.items()}), flush=True)
        print(f"distillation ends lower on {lower} of {len(options.seeds)} splits")


if __name__ == "__main__":
    main()

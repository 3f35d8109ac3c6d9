"""Peak memory of the same small job here and in transformers + PEFT (+ bitsandbytes): full, LoRA, LoRA with a narrow base, QLoRA.

    cargo build --release
    python3 tests/bench/memory.py --venv ~/.cache/firebrand-bench --base PATH/TO/SmolLM2-135M-Instruct
    python3 tests/bench/memory.py --venv ~/.cache/firebrand-bench --shape llama3.2-1b

Few tokens a step, so that what is held counts, not activations: `--batch` packs of `--length` tokens, AdamW, adapters of rank 16 on all
linear layers. Peak memory is the kernel's figure for the whole process, loading included. The first losses of both sides must
agree where both compute in f32. A random model is written in bf16, in shards of 500 MB.
"""

import argparse
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import compare

TOLERANCE = 1e-3


@dataclass
class Job:
    name: str
    ours: str  # what the recipe says of base and adapter
    theirs: tuple[str, str] | None  # method and dtype
    same: bool  # both sides compute the same numbers


ADAPTER = """[adapter]
kind = "lora"
rank = 16
alpha = 32.0
init_from = {adapter}
"""
QUANTIZED = ADAPTER + """
[quantization]
kind = "nf4"
"""
JOBS = [
    Job("full", "", ("full", "f32"), True),
    Job("LoRA, f32 base", 'base_dtype = "f32"\n' + ADAPTER, ("lora", "f32"), True),
    # Ours computes in f32 all the same, theirs in bf16.
    Job("LoRA, bf16 base", 'base_dtype = "bf16"\n' + ADAPTER, ("lora", "bf16"), False),
    Job("QLoRA, NF4 base", QUANTIZED, ("qlora", "f32"), True),
    Job("QLoRA, NF4 base, bf16 compute", "", ("qlora", "bf16"), False),
]


def recipe(options: argparse.Namespace, work: Path, base: Path, job: Job, output: Path) -> str:
    adapter = json.dumps(str(work / "initial-adapter"))
    return f"""model = {json.dumps(str(base))}
output = {json.dumps(str(output))}
device = "cpu"
{job.ours.replace("{adapter}", adapter)}
[data]
max_length = {options.length}
shuffle = false
[[data.train]]
path = {json.dumps(str(work / "data.jsonl"))}
format = "tokens"

[train]
steps = {options.steps}
batch_size = {options.batch}
micro_batch_size = {options.batch}

[optimizer]
learning_rate = 2e-4
[schedule]
kind = "constant"
warmup_steps = 0
[checkpoint]
every = 1000000
[log]
tensorboard = false
"""


def ours(options: argparse.Namespace, work: Path, base: Path, job: Job) -> tuple[list[float], float]:
    with tempfile.TemporaryDirectory(dir=work) as scratch:
        output, file = Path(scratch) / "run", Path(scratch) / "recipe.toml"
        file.write_text(recipe(options, work, base, job, output))
        _, peak = compare.run([str(options.binary), "train", str(file), "--ui", "plain"], work / "ours.log", {})
        lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "grad_norm" in line], peak


def theirs(options: argparse.Namespace, work: Path, base: Path, method: str, dtype: str) -> tuple[list[float], float]:
    command = [options.python, str(compare.HERE / "reference.py"), "train", "--base", str(base), "--method", method]
    command += ["--data", str(work / "data.jsonl"), "--adapter", str(work / "initial-adapter"), "--dtype", dtype]
    command += ["--steps", str(options.steps), "--batch", str(options.batch)]
    out, peak = compare.run(command, work / "reference.log", {})
    return [step["loss"] for step in json.loads(out)["steps"]], peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, help="default: target/release/firebrand of this checkout")
    parser.add_argument("--venv", type=Path)
    parser.add_argument("--python")
    parser.add_argument("--base", type=Path, help="model folder; default: a random model of --shape")
    parser.add_argument("--shape", default="smollm2-135m", help="smollm2-135m or llama3.2-1b")
    parser.add_argument("--work", type=Path, help="folder for model, data and runs; default: a temporary one")
    parser.add_argument("--jobs", default="", help="numbers of the jobs, from 0, by commas; default: all")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--length", type=int, default=128)
    options = parser.parse_args()
    target = Path(os.environ.get("CARGO_TARGET_DIR", compare.HERE.parent.parent / "target"))
    options.binary = options.binary or target / "release" / "firebrand"
    options.python = compare.interpreter(options)
    jobs = [JOBS[int(number)] for number in options.jobs.split(",")] if options.jobs else JOBS

    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        base = (options.base or work / "model").resolve()
        if not (work / "initial-adapter").exists():
            command = [options.python, str(compare.HERE / "reference.py"), "prepare", "--folder", str(work)]
            command += ["--steps", str(options.steps), "--batch", str(options.batch), "--length", str(options.length)]
            command += ["--base", str(base)] if options.base else ["--shape", options.shape]
            compare.run(command, work / "prepare.log", {})
        print(f"Machine: {compare.machine()}")
        print(f"Job: {options.steps} steps of {options.batch} x {options.length} tokens, {options.base or options.shape}\n")
        print("| | firebrand, GiB | reference, GiB | ratio | largest difference of losses |\n|---|---|---|---|---|", flush=True)
        for job in jobs:
            mine, my_peak = ours(options, work, base, job) if job.ours or job.name == "full" else ([], None)
            other, peak = theirs(options, work, base, *job.theirs) if job.theirs else ([], None)
            apart = max((abs(a - b) for a, b in zip(mine, other)), default=None)
            cell = lambda value, form: "-" if value is None else format(value, form)
            ratio = my_peak / peak if my_peak and peak else None
            print(f"| {job.name} | {cell(my_peak, '.2f')} | {cell(peak, '.2f')} | {cell(ratio, '.2f')} | {cell(apart, '.1e')} |", flush=True)
            if job.same and apart is not None and apart > TOLERANCE:
                raise SystemExit(f"{job.name}: not the same job: {mine} and {other}")


if __name__ == "__main__":
    main()

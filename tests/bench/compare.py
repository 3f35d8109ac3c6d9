"""The same LoRA job here and in transformers + PEFT, in turn (A B C A B C ...), and a table of tokens/s and peak memory.

    cargo build --release
    python3 tests/bench/compare.py --venv ~/.cache/firebrand-bench --base PATH/TO/SmolLM2-135M-Instruct

needs only Python's standard library itself; --venv is made and filled when it is not there, --python takes an interpreter
that has the packages of tests/goldens/requirements.txt. Without --base a random model of SmolLM2-135M's shape is used.

The job: LoRA of rank 16 on all linear layers, AdamW, clipping, 4 packs of 512 tokens a step. Both sides start from the same
files, so their losses must agree step by step; they are compared, and a difference fails the run.
The first step of a run is left out: it pays for page faults and lazy set-up. Peak memory is the kernel's figure for the
whole process. The reference runs twice: as users have it, and with glibc told to keep large blocks instead of
returning them to the kernel after every use, which nobody sets but which is the fairer rival of a program that has an
allocator of its own.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE.parent / "goldens" / "requirements.txt"
KEEP_LARGE_BLOCKS = {
    "GLIBC_TUNABLES": "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=68719476736:glibc.malloc.top_pad=67108864"
}
# f32 against f32; a bf16 forward pass differs from f32 by far more, and is reported only.
LOSS_TOLERANCE = 1e-3


@dataclass
class Result:
    losses: list[float]
    speeds: list[float]  # tokens/s of each step after the first
    peak_gib: float


def run(command: list[str], log: Path, environment: dict[str, str]) -> tuple[str, float]:
    """(stdout, peak resident GiB of the process)."""
    with open(log, "w") as errors, tempfile.TemporaryFile("w+") as out:
        child = subprocess.Popen(command, stdout=out, stderr=errors, env=os.environ | environment)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            raise SystemExit(f"{' '.join(command)}\nended with {child.returncode}:\n{log.read_text()[-3000:]}")
        out.seek(0)
        return out.read(), usage.ru_maxrss / 2**20


def reference(options, work: Path, base: Path, dtype: str, environment: dict[str, str]) -> Result:
    command = [options.python, str(HERE / "reference.py"), "train", "--base", str(base), "--data", str(work / "data.jsonl")]
    command += ["--adapter", str(work / "initial-adapter"), "--steps", str(options.steps), "--batch", str(options.batch)]
    command += ["--rows-per-pack", str(options.rows_per_pack), "--dtype", dtype]
    if options.teacher_shape:
        command += ["--teacher", str(work / "teacher")]
    out, peak = run(command, work / "reference.log", environment)
    steps = json.loads(out)["steps"]
    return Result([s["loss"] for s in steps], [s["tokens_per_second"] for s in steps[1:]], peak)


def distillation(work: Path) -> str:
    teacher = json.dumps(str(work / "teacher"))
    return f'[objective]\nkind = "distill"\nteacher = {teacher}\nalpha = 0.5\ntemperature = 2.0\n'


def ours(options, work: Path, base: Path, dtype: str, number: int) -> Result:
    output = work / f"ours-{dtype}-{number}"
    recipe = work / f"ours-{dtype}-{number}.toml"
    micro = options.micro_batch or options.batch
    recipe.write_text(
        f"""model = {json.dumps(str(base))}
output = {json.dumps(str(output))}
device = "cpu"
dtype = "{dtype}"

[adapter]
kind = "lora"
rank = 16
alpha = 32.0
init_from = {json.dumps(str(work / "initial-adapter"))}

[data]
max_length = {options.length}
packing = true
shuffle = false
[[data.train]]
path = {json.dumps(str(work / "data.jsonl"))}
format = "tokens"

[train]
steps = {options.steps}
batch_size = {options.batch}
micro_batch_size = {micro}
max_grad_norm = 1.0

[optimizer]
kind = "adamw"
learning_rate = 2e-4

[schedule]
kind = "constant"
warmup_steps = 0

[checkpoint]
every = 1000000

[log]
every = 1
tensorboard = false
"""
        + (distillation(work) if options.teacher_shape else "")
    )
    command = [str(options.binary), "train", str(recipe), "--ui", "plain"]
    for setting in options.set:
        command += ["--set", setting]
    _, peak = run(command, work / "ours.log", {})
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "grad_norm" in line]
    if len(steps) != options.steps:
        raise SystemExit(f"{output}/metrics.jsonl has {len(steps)} steps, not {options.steps}")
    # From the clock, all positions counted as on the other side, trained or not.
    positions = options.batch * options.length
    ends = [step["elapsed_seconds"] for step in steps]
    speeds = [positions / (end - start) for start, end in zip(ends, ends[1:])]
    stated = statistics.median(step["tokens_per_second"] for step in steps[1:])
    if not 0.9 < stated / statistics.median(speeds) < 1.1:
        print(f"note: metrics.jsonl says {stated:.0f} tokens/s, its clock {statistics.median(speeds):.0f}", file=sys.stderr)
    return Result([s["loss"] for s in steps], speeds, peak)


def interpreter(options) -> str:
    if options.python:
        return options.python
    if not options.venv:
        raise SystemExit("give --venv DIR (made when it is not there) or --python PATH")
    python = options.venv / "bin" / "python"
    if not python.exists():
        venv.create(options.venv, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", REQUIREMENTS], check=True)
    return str(python)


def machine() -> str:
    if not Path("/proc/cpuinfo").exists():
        return platform.platform()
    info = [line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line]
    fields = {key.strip(): value.strip() for key, value in info}
    has = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in fields.get("flags", "").split()]
    name, model = fields.get("model name", platform.machine()), fields.get("model", "?")
    return f"{name} (family {fields.get('cpu family', '?')}, model {model}; {' '.join(has)}), {os.cpu_count()} cores, {platform.libc_ver()[1]}"


def span(values: list[float], digits: int) -> str:
    middle = f"{statistics.median(values):.{digits}f}"
    return f"{middle} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def compare_losses(results: dict[str, list[Result]]) -> None:
    """All f32 runs against the first f32 reference run, step by step."""
    truth = next((runs[0].losses for name, runs in results.items() if name == "reference f32"), None)
    if truth is None:
        print("no f32 reference among the variants: losses not compared")
        return
    for name, runs in results.items():
        worst = max(abs(a - b) for result in runs for a, b in zip(truth, result.losses, strict=True))
        first = max(abs(truth[0] - result.losses[0]) for result in runs)
        print(f"losses, {name}: first differs by {first:.1e}, worst by {worst:.1e}")
        if "bf16" not in name and worst > LOSS_TOLERANCE:
            raise SystemExit(f"{name} does not do the same job: {runs[0].losses} instead of {truth}")


def table(results: dict[str, list[Result]]) -> None:
    medians = {
        name: (
            statistics.median(speed for result in runs for speed in result.speeds),
            statistics.median(result.peak_gib for result in runs),
        )
        for name, runs in results.items()
    }
    mine = [name for name in results if name.startswith("firebrand")]
    print("| run | tokens/s | peak GiB |" + "".join(f" {name} is |" for name in mine))
    print("|---|---|---|" + "---|" * len(mine))
    for name, runs in results.items():
        speeds = span([speed for result in runs for speed in result.speeds], 0)
        peaks = span([result.peak_gib for result in runs], 2)
        ratios = "".join(
            f" {medians[one][0] / medians[name][0]:.2f}x as fast, {medians[one][1] / medians[name][1]:.2f}x the memory |"
            for one in mine
        )
        print(f"| {name} | {speeds} | {peaks} |{ratios}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, help="default: target/release/firebrand of this checkout")
    parser.add_argument("--venv", type=Path)
    parser.add_argument("--python")
    parser.add_argument("--base", type=Path, help="model folder; default: random weights in SmolLM2-135M's shape")
    parser.add_argument("--work", type=Path, help="folder for data and runs; default: a temporary one")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=4, help="packs a step")
    parser.add_argument("--length", type=int, default=512, help="tokens a pack")
    parser.add_argument("--micro-batch", type=int, help="ours only; default: the whole batch, as the reference")
    parser.add_argument("--rows-per-pack", type=int, default=1)
    parser.add_argument("--teacher-shape", help="distil from a random teacher of this shape (smollm2-deep has twice the blocks)")
    parser.add_argument("--labelled", type=float, default=1.0, help="share of the tokens that is trained")
    parser.add_argument("--ours", default="f32", help="dtypes of our runs, by commas")
    parser.add_argument("--reference", default="f32,bf16,bf16-large-blocks", help="also f32-large-blocks")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="passed to `firebrand train`")
    options = parser.parse_args()
    target = Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent.parent / "target"))
    options.binary = options.binary or target / "release" / "firebrand"
    if options.ours and not options.binary.exists():
        raise SystemExit(f"{options.binary} is not there: cargo build --release, or --binary")
    if options.steps < 2:
        raise SystemExit("--steps must be at least 2: the first is not measured")
    if options.length % options.rows_per_pack:
        raise SystemExit("--rows-per-pack must divide --length")
    options.python = interpreter(options)

    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        command = [options.python, str(HERE / "reference.py"), "prepare", "--folder", str(work), "--steps", str(options.steps)]
        command += ["--batch", str(options.batch), "--length", str(options.length), "--labelled", str(options.labelled)]
        command += ["--rows-per-pack", str(options.rows_per_pack)] + (["--base", str(options.base)] if options.base else [])
        command += ["--teacher-shape", options.teacher_shape] if options.teacher_shape else []
        run(command, work / "prepare.log", {})
        base = (options.base or work / "model").resolve()
        results: dict[str, list[Result]] = {}
        for number in range(options.rounds):
            for dtype in filter(None, options.ours.split(",")):
                result = ours(options, work, base, dtype, number)
                results.setdefault(f"firebrand {dtype}", []).append(result)
            for variant in filter(None, options.reference.split(",")):
                dtype, _, large = variant.partition("-")
                environment = KEEP_LARGE_BLOCKS if large else {}
                result = reference(options, work, base, dtype, environment)
                results.setdefault(f"reference {dtype}{', large blocks kept' if large else ''}", []).append(result)
            print(f"round {number + 1} of {options.rounds} done", file=sys.stderr)

    print(f"Machine: {machine()}")
    what = f"Distillation from {options.teacher_shape}, " if options.teacher_shape else ""
    print(f"Job: {what}LoRA rank 16, all linear layers, {options.batch} x {options.length} tokens a step, ", end="")
    print(f"{options.labelled:.0%} labelled, {options.steps - 1} steps measured in each of {options.rounds} rounds\n")
    compare_losses(results)
    print()
    table(results)


if __name__ == "__main__":
    main()

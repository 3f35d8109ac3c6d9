"""The same job here and in transformers + PEFT (TRL, bitsandbytes), in turn (A B C A B C ...), and a table of speed and peak memory.

    cargo build --release
    python3 tests/bench/compare.py --venv ~/.cache/firebrand-bench --base PATH/TO/SmolLM2-135M-Instruct --job lora

needs only Python's standard library itself; --venv is made and filled when it is not there, --python takes an interpreter
that has the packages of tests/goldens/requirements.txt. Without --base a random model of SmolLM2-135M's shape is used.

Jobs are in jobs.py. Both sides start from the same files, so their losses must agree step by step; they are compared, and a
difference fails the run. The first step of a run is left out: it pays for page faults and lazy set-up. Peak memory is the
kernel's figure for the whole process. A variant is a dtype and how the process is run: `bf16`, `f32@avx2` (both sides
without AVX-512), `bf16@large-blocks` (glibc told to keep large blocks instead of returning them to the kernel after every
use, which nobody sets, but which is the fairer rival of a program that has an allocator of its own).
`--smoke` runs any job with a tiny model: it shows that both sides do the same, and measures nothing.
"""

import argparse
import shlex
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import measure
import ours
import report
import rows
import theirs
from jobs import JOBS, Job, Measure, Size
from ours import Files, Run


def asked(options: argparse.Namespace, name: str) -> Job:
    """The job with what the arguments change of it."""
    job = JOBS[name]
    sizes = job.smoke if options.smoke else job.sizes
    change = {key: value for key in ("batch", "length", "steps") if (value := getattr(options, key)) is not None}
    # One length asked for is one size.
    sizes = tuple(dict.fromkeys(replace(size, **change) for size in sizes))
    texts = {key: value for key in ("labelled", "rows_in_pack") if (value := getattr(options, key)) is not None}
    if texts and not isinstance(job.rows, rows.Texts):
        raise SystemExit(f"--labelled and --rows-in-pack: expected a job of plain texts, found {name}")
    for size in sizes:
        if size.steps < 2:
            raise SystemExit("--steps must be at least 2: the first is not measured")
    return replace(job, sizes=sizes, rows=replace(job.rows, **texts))


def prepare(options: argparse.Namespace, job: Job, work: Path) -> Path:
    """Makes what both sides start from, where it is not there, and returns the model's folder."""
    random = work.parent / "models" / (job.shape + ("-smoke" if options.smoke else ""))
    given = options.base if job.shape == "smollm2-135m" and not options.smoke else None
    base = (given or random).resolve()
    made = [base, *([work / "initial-adapter"] if job.adapted else []), *([work / "teacher"] if job.teacher else [])]
    made += [work / job.form] if job.form else []
    if not all(folder.exists() for folder in made):
        command = [options.python, str(measure.HERE / "prepare.py"), "--base", str(base), "--folder", str(work)]
        command += ["--shape", job.shape] + (["--smoke"] if options.smoke else [])
        command += ["--adapter", "--targets", ",".join(job.targets)] if job.adapted else []
        command += ["--teacher-shape", job.teacher] if job.teacher else []
        command += ["--form", job.form] if job.form else []
        measure.run(command)
    return work / job.form if job.form else base


def measured(options: argparse.Namespace, job: Job, size: Size, work: Path, base: Path) -> report.Results:
    files = Files(work, base, work / "data.jsonl")
    count = size.batch if job.measure is Measure.TEXT else size.batch * size.steps
    if job.own_packs and options.smoke:
        count = size.batch // 4  # all rows in every step
    rows.write(files.data, job.rows, count, size.length, rows.vocabulary(base))
    results: report.Results = {}

    def keep(name: str, run: Run) -> None:
        if job.measure is Measure.START:
            weights = sum(file.stat().st_size for file in base.glob("*.safetensors"))
            run.values["GB/s of the files"] = [weights / 1e9 / seconds for seconds in run.values["seconds"]]
        results.setdefault(name, []).append(run)
        column, values = next(iter(run.values.items()))
        shown = f"{column} {statistics.median(values):.{report.DIGITS[column]}f}, {run.peak_gib:.2f} GiB"
        print(f"{job.name} {size}, round {number + 1} of {options.rounds}: {name}, {shown}", file=sys.stderr)

    for number in range(options.rounds):
        for variant in measure.variants(job.ours if options.ours is None else options.ours):
            run = ours.run(job, files, size, variant, options.binary, options.set, options.micro_batch)
            keep(f"firebrand {variant.words()}", run)
        for variant in measure.variants(job.theirs if options.reference is None else options.reference):
            keep(f"reference {variant.words()}", theirs.run(job, files, size, variant, options.python))
    return results


def compare(options: argparse.Namespace, name: str, folder: Path) -> None:
    job = asked(options, name)
    work = folder / (name + ("-smoke" if options.smoke else ""))
    work.mkdir(parents=True, exist_ok=True)
    base = prepare(options, job, work)
    print(f"## {name}\nJob: {job.about}; AdamW" if job.measure is not Measure.TEXT else f"## {name}\nJob: {job.about}")
    print(f"Measured: {job.measure.value}; {options.rounds} rounds in turn; {job.rows}")
    if options.smoke:
        print("A tiny model: the numbers say nothing of speed.")
    found = {}
    for size in job.sizes:
        results = found[size] = measured(options, job, size, work, base)
        what = "prompts x tokens" if job.measure is Measure.TEXT else "packs x tokens a step"
        print(f"\n### {size} {what}, {size.steps} {'new tokens' if job.measure is Measure.TEXT else 'steps'}\n")
        if job.measure is Measure.TEXT:
            report.compare_answers(results)
        else:
            report.compare_losses(job, results, options.smoke)
        print(flush=True)
        report.table(results)
    if len(found) > 1:
        print()
        report.growth(base, found)
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", default="lora", help=f"by commas, or all: {', '.join(JOBS)}")
    parser.add_argument("--smoke", action="store_true", help="tiny models and sizes, one round")
    parser.add_argument("--binary", type=Path, help="default: target/release/firebrand of this checkout")
    parser.add_argument("--venv", type=Path)
    parser.add_argument("--python")
    parser.add_argument("--base", type=Path, help="model folder, in place of random weights in SmolLM2-135M's shape")
    parser.add_argument("--work", type=Path, help="folder for models and data, used again; default: a temporary one")
    parser.add_argument("--rounds", type=int, help="default: 2")
    parser.add_argument("--steps", type=int, help="with generate: new tokens")
    parser.add_argument("--batch", type=int, help="packs a step; with generate: prompts")
    parser.add_argument("--length", type=int, help="tokens a pack, or of a prompt")
    parser.add_argument("--micro-batch", type=int, help="ours only; default: the whole batch, as the reference")
    parser.add_argument("--rows-in-pack", type=int)
    parser.add_argument("--labelled", type=float, help="share of the tokens that is trained")
    parser.add_argument("--ours", metavar="VARIANTS", help="by commas, such as f32,f32@avx2,bf16; empty: none")
    parser.add_argument("--reference", metavar="VARIANTS", help="by commas, such as f32,bf16,bf16@large-blocks; empty: none")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="passed to `firebrand train`")
    options = parser.parse_args()
    names = list(JOBS) if options.job == "all" else options.job.split(",")
    for name in names:
        if name not in JOBS:
            parser.error(f"--job {name}: expected {', '.join(JOBS)} or all")
    options.rounds = options.rounds or (1 if options.smoke else 2)
    options.binary = measure.program(options.binary)
    options.python = measure.interpreter(options.python, options.venv)
    if options.base:
        options.base = options.base.resolve()

    print(f"Machine: {measure.machine()}")
    print(f"Versions: {measure.versions(options.python, options.binary)}")
    print(f"Command: python3 tests/bench/compare.py {shlex.join(sys.argv[1:])}\n", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            compare(options, name, (options.work or Path(scratch)).resolve())


if __name__ == "__main__":
    main()

"""Runs a job with firebrand: writes its recipe, starts the program, reads what it measured."""

import json
import shutil
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path

import measure
from jobs import Job, Measure, Size
from measure import Variant


@dataclass(frozen=True)
class Files:
    """What both sides start from."""

    work: Path
    base: Path
    data: Path

    @property
    def adapter(self) -> Path:
        return self.work / "initial-adapter"

    @property
    def teacher(self) -> Path:
        return self.work / "teacher"


@dataclass
class Run:
    """What one run of one side gave. Values by column, several of a column where it is measured several times."""

    values: dict[str, list[float]]
    losses: list[float]
    answers: list[list[int]]
    peak_gib: float


def recipe(job: Job, files: Files, size: Size, dtype: str, micro: int | None, output: Path) -> str:
    paths = {"{adapter}": json.dumps(str(files.adapter)), "{teacher}": json.dumps(str(files.teacher))}
    own = job.recipe
    for name, path in paths.items():
        own = own.replace(name, path)
    return f"""model = {json.dumps(str(files.base))}
output = {json.dumps(str(output))}
device = "cpu"
dtype = "{dtype}"

{own}
[data]
max_length = {size.length}
packing = true
shuffle = false
[[data.train]]
path = {json.dumps(str(files.data))}
format = "tokens"

[train]
steps = {size.steps}
batch_size = {size.batch}
micro_batch_size = {micro or size.batch}
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


def run(job: Job, files: Files, size: Size, variant: Variant, binary: Path, settings: list[str], micro: int | None) -> Run:
    match job.measure:
        case Measure.STEPS | Measure.START:
            return train(job, files, size, variant, binary, settings, micro)
        case Measure.TEXT:
            return generate(files, size, variant, binary)


def train(job: Job, files: Files, size: Size, variant: Variant, binary: Path, settings: list[str], micro: int | None) -> Run:
    output, file = files.work / "ours", files.work / "ours.toml"
    file.write_text(recipe(job, files, size, variant.dtype, micro, output))
    command = [str(binary), "train", str(file), "--ui", "plain"]
    for setting in [*job.settings, *settings]:
        command += ["--set", setting]
    shutil.rmtree(output, ignore_errors=True)
    done = measure.run(command, variant.environment())
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    shutil.rmtree(output)
    steps = [line for line in lines if "grad_norm" in line]
    if len(steps) != size.steps:
        raise SystemExit(f"{output}/metrics.jsonl has {len(steps)} steps, not {size.steps}")
    ends = [step["elapsed_seconds"] for step in steps]
    seconds = [end - start for start, end in zip(ends, ends[1:])]
    # By the clock; tokens of rows alone, trained or not.
    speeds = [step["input_tokens"] / each for step, each in zip(steps[1:], seconds)]
    stated = statistics.median(step["tokens_per_second"] for step in steps[1:])
    if not 0.9 < stated / statistics.median(speeds) < 1.1:
        print(f"note: metrics.jsonl says {stated:.0f} tokens/s, its clock {statistics.median(speeds):.0f}", file=sys.stderr)
    values = {"tokens/s": speeds}
    if job.measure is Measure.START:
        shown = next(at for at, line in done.errors if line.startswith("step 1/"))
        values = {"seconds": [shown - done.started - statistics.median(seconds)]}
    return Run(values, [step["loss"] for step in steps], [], done.peak_gib)


def generate(files: Files, size: Size, variant: Variant, binary: Path) -> Run:
    """Every prompt twice: one new token, which is the time of the prompt, and `size.steps` more."""
    arrived: list[list[float]] = []
    for new in (1, size.steps + 1):
        command = [str(binary), "generate", "--model", str(files.base), "--data", str(files.data), "--device", "cpu"]
        command += ["--dtype", variant.dtype]
        done = measure.run([*command, "--max-new-tokens", str(new)], variant.environment())
        arrived.append([at for at, _ in done.out])
        answers = [json.loads(line)["output_ids"] for _, line in done.out]
        short = [len(answer) for answer in answers if len(answer) != new]
        if short:
            raise SystemExit(f"firebrand wrote {short[0]} tokens, not {new}: {' '.join(command)}")
    # The first prompt's time has the loading in it.
    first, whole = ([end - start for start, end in zip(times, times[1:])] for times in arrived)
    return Run(rates(size, first, whole), [], answers, done.peak_gib)


def rates(size: Size, first: list[float], whole: list[float]) -> dict[str, list[float]]:
    """Of the seconds to the first token, and to the last. Those of a tiny model may be too few for the clock."""
    return {
        "prompt tokens/s": [size.length / max(seconds, 1e-6) for seconds in first],
        "new tokens/s": [size.steps / max(both - one, 1e-6) for one, both in zip(first, whole)],
    }

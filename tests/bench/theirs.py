"""Runs a job with the reference: reference.py in a process of its own."""

import json
import statistics

import measure
from jobs import Job, Measure, Size
from measure import Variant
from ours import Files, Run, rates
from rows import Dialogues, Texts


def run(job: Job, files: Files, size: Size, variant: Variant, python: str) -> Run:
    command = [python, str(measure.HERE / "reference.py"), *job.reference]
    command += ["--base", str(files.base), "--data", str(files.data), "--dtype", variant.dtype]
    command += ["--steps", str(size.steps), "--batch", str(size.batch), "--length", str(size.length)]
    match job.rows:
        case Texts(rows_in_pack=number):
            command += ["--rows-in-pack", str(number)]
        case Dialogues():
            pass
    if job.adapted:
        command += ["--adapter", str(files.adapter)]
    if job.teacher:
        command += ["--teacher", str(files.teacher)]
    done = measure.run(command, variant.environment())
    # The packages may print lines of their own before it.
    found = json.loads(done.out[-1][1])
    match job.measure:
        case Measure.TEXT:
            answers = found["answers"]
            warm = answers[1:]
            values = rates(size, [answer["first"] for answer in warm], [answer["whole"] for answer in warm])
            return Run(values, [], [answer["output_ids"] for answer in answers], done.peak_gib)
        case Measure.STEPS:
            steps = found["steps"]
            values = {"tokens/s": [step["tokens"] / step["seconds"] for step in steps[1:]]}
        case Measure.START:
            steps = found["steps"]
            warm = statistics.median(step["seconds"] for step in steps[1:])
            values = {"seconds": [steps[0]["ended"] - done.started - warm]}
    return Run(values, [step["loss"] for step in steps], [], done.peak_gib)

"""What is printed of a job: whether both sides did the same, a table of runs, and how cost grows with the length."""

import json
import statistics
from pathlib import Path

from jobs import Job, Size
from measure import LOSS_TOLERANCE, span
from ours import Run

# Of each variant, by its name in the table, all runs.
Results = dict[str, list[Run]]
DIGITS = {"tokens/s": 0, "seconds": 2, "GB/s of the files": 2, "prompt tokens/s": 0, "new tokens/s": 1}
LESS_IS_BETTER = ("seconds",)


def compare_losses(job: Job, results: Results, smoke: bool) -> None:
    """All f32 runs against the first f32 run of the reference, step by step."""
    if job.own_packs and not smoke:
        print("losses are not compared: each side makes packs of its own, so steps have other rows (with --smoke they are)")
        return
    truth = next((runs[0].losses for name, runs in results.items() if name.startswith("reference f32")), None)
    if truth is None:
        print("no f32 reference among the variants: losses not compared")
        return
    for name, runs in results.items():
        worst = max(abs(a - b) for run in runs for a, b in zip(truth, run.losses, strict=True))
        first = max(abs(truth[0] - run.losses[0]) for run in runs)
        print(f"losses, {name}: first differs by {first:.1e}, worst by {worst:.1e}")
        if "bf16" not in name and worst > LOSS_TOLERANCE:
            raise SystemExit(f"{name} does not do the same job: {runs[0].losses} instead of {truth}")


def compare_answers(results: Results) -> None:
    """Tokens until the first that differs. Later ones follow from it, so a difference there says little; the first must agree in f32."""
    truth = next((runs[0].answers for name, runs in results.items() if name.startswith("reference f32")), None)
    if truth is None:
        print("no f32 reference among the variants: answers not compared")
        return
    for name, runs in results.items():
        same = [
            next((at for at, (a, b) in enumerate(zip(one, other, strict=True)) if a != b), len(one))
            for one, other in zip(truth, runs[0].answers, strict=True)
        ]
        print(f"answers, {name}: the first {min(same)} of {len(truth[0])} tokens of every answer are the reference's")
        if "bf16" not in name and min(same) == 0:
            raise SystemExit(f"{name} does not do the same job: {runs[0].answers} instead of {truth}")


def medians(runs: list[Run]) -> dict[str, float]:
    columns = {column: [value for run in runs for value in run.values[column]] for column in runs[0].values}
    columns["peak GiB"] = [run.peak_gib for run in runs]
    return {column: statistics.median(values) for column, values in columns.items()}


def ratios(mine: dict[str, float], other: dict[str, float]) -> str:
    words = []
    for column, value in mine.items():
        ratio = value / other[column]
        if column == "peak GiB":
            words.append(f"{ratio:.2f}x the memory")
        elif column in LESS_IS_BETTER:
            words.append(f"{ratio:.2f}x the time")
        elif column == "tokens/s":
            words.append(f"{ratio:.2f}x as fast")
        elif not any(less in mine for less in LESS_IS_BETTER):
            words.append(f"{ratio:.2f}x the {column}")
    return ", ".join(words)


def table(results: Results) -> None:
    middle = {name: medians(runs) for name, runs in results.items()}
    columns = list(next(iter(results.values()))[0].values)
    mine = [name for name in results if name.startswith("firebrand")]
    heads = ["run", *columns, "peak GiB", *(f"{name} is" for name in mine)]
    print("| " + " | ".join(heads) + " |")
    print("|---" * len(heads) + "|")
    for name, runs in results.items():
        cells = [span([value for run in runs for value in run.values[column]], DIGITS[column]) for column in columns]
        cells.append(span([run.peak_gib for run in runs], 2))
        theirs = not name.startswith("firebrand")
        cells += [ratios(middle[one], middle[name]) if theirs else "" for one in mine]
        print(f"| {name} | " + " | ".join(cells) + " |")


def flops_a_token(config: dict, length: int) -> float:
    """Of a LLaMA-shaped frozen model with blocks recomputed, adapters left out.

    A map: forward, forward again, gradient of its input. The head: logits and gradient of the hidden states. Attention,
    over half of the length on average: two products forward, twice, and five backward (scores again, gradients of
    probabilities, values, queries and keys).
    """
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    width = heads * (config.get("head_dim") or hidden // heads)
    keys = width // heads * config["num_key_value_heads"]
    maps = hidden * (2 * width + 2 * keys + 3 * config["intermediate_size"])
    attention = (2 * 2 + 5) * 2 * width * length / 2
    return config["num_hidden_layers"] * (3 * 2 * maps + attention) + 2 * 2 * hidden * config["vocab_size"]


def growth(base: Path, found: dict[Size, Results]) -> None:
    """How the cost of a token and the memory grow from the shortest length."""
    config = json.loads((base / "config.json").read_text())
    names = list(next(iter(found.values())))
    first = min(found, key=lambda size: size.length)
    heads = ["tokens", "flops of a token", *(f"{name}: cost of a token, GiB" for name in names)]
    print("| " + " | ".join(heads) + " |")
    print("|---" * len(heads) + "|")
    for size, results in found.items():
        cells = [f"{flops_a_token(config, size.length) / flops_a_token(config, first.length):.2f}x"]
        for name in names:
            here, there = medians(results[name]), medians(found[first][name])
            cells.append(f"{there['tokens/s'] / here['tokens/s']:.2f}x, {here['peak GiB']:.2f}")
        print(f"| {size.length} | " + " | ".join(cells) + " |")

"""Peak memory of the same small job here and in transformers + PEFT (+ bitsandbytes): full, LoRA, LoRA with a narrow base, QLoRA.

    cargo build --release
    python3 tests/bench/memory.py --venv ~/.cache/firebrand-bench --base PATH/TO/SmolLM2-135M-Instruct
    python3 tests/bench/memory.py --venv ~/.cache/firebrand-bench --shape llama3.2-1b

Few tokens a step, so that what is held counts, not activations: `--batch` packs of `--length` tokens, AdamW, adapters of rank 16 on all
linear layers. Peak memory is the kernel's figure for the whole process, loading included. The first losses of both sides must
agree where both compute in f32. A random model is written in bf16, in shards of 500 MB.
"""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path

import measure
import ours
import rows
import theirs
from jobs import LORA, NF4, Job, Size
from measure import LOSS_TOLERANCE, Variant
from ours import Files


@dataclass(frozen=True)
class Method:
    name: str
    recipe: str | None  # ours
    reference: tuple[str, ...]
    dtype: str  # the reference's; ours is f32
    same: bool  # both sides compute the same numbers


METHODS = [
    Method("full", "", ("train", "--method", "full"), "f32", True),
    Method("LoRA, f32 base", 'base_dtype = "f32"\n' + LORA, ("train",), "f32", True),
    # Ours computes in f32 all the same, theirs in bf16.
    Method("LoRA, bf16 base", 'base_dtype = "bf16"\n' + LORA, ("train",), "bf16", False),
    Method("QLoRA, NF4 base", LORA + NF4, ("train", "--method", "qlora"), "f32", True),
    Method("QLoRA, NF4 base, bf16 compute", None, ("train", "--method", "qlora"), "bf16", False),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, help="default: target/release/firebrand of this checkout")
    parser.add_argument("--venv", type=Path)
    parser.add_argument("--python")
    parser.add_argument("--base", type=Path, help="model folder; default: a random model of --shape")
    parser.add_argument("--shape", default="smollm2-135m", help="one of shapes.py, such as llama3.2-1b")
    parser.add_argument("--smoke", action="store_true", help="the shape's tiny sibling")
    parser.add_argument("--work", type=Path, help="folder for model, data and runs; default: a temporary one")
    parser.add_argument("--jobs", default="", help="numbers of the methods, from 0, by commas; default: all")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--length", type=int, default=128)
    options = parser.parse_args()
    binary, python = measure.program(options.binary), measure.interpreter(options.python, options.venv)
    methods = [METHODS[int(number)] for number in options.jobs.split(",")] if options.jobs else METHODS
    size = Size(options.batch, options.length, options.steps)

    with tempfile.TemporaryDirectory() as scratch:
        work = (options.work or Path(scratch)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        base = (options.base or work / "model").resolve()
        if not (work / "initial-adapter").exists():
            command = [python, str(measure.HERE / "prepare.py"), "--folder", str(work), "--base", str(base), "--adapter"]
            measure.run([*command, "--shape", options.shape] + (["--smoke"] if options.smoke else []))
        files = Files(work, base, work / "data.jsonl")
        rows.write(files.data, rows.Texts(), size.batch * size.steps, size.length, rows.vocabulary(base))
        print(f"Machine: {measure.machine()}")
        print(f"Versions: {measure.versions(python, binary)}")
        print(f"Job: {options.steps} steps of {size} tokens, {options.base or options.shape}\n")
        print("| | firebrand, GiB | reference, GiB | ratio | largest difference of losses |\n|---|---|---|---|---|", flush=True)
        for method in methods:
            job = Job("memory", method.name, sizes=(), smoke=(), recipe=method.recipe or LORA, reference=method.reference)
            other = theirs.run(job, files, size, Variant(method.dtype, ()), python)
            cells = ["", f"{other.peak_gib:.2f}", "", ""]
            if method.recipe is not None:
                mine = ours.run(job, files, size, Variant("f32", ()), binary, [], None)
                apart = max(abs(a - b) for a, b in zip(mine.losses, other.losses, strict=True))
                cells = [f"{mine.peak_gib:.2f}", cells[1], f"{mine.peak_gib / other.peak_gib:.2f}", f"{apart:.1e}"]
                if method.same and apart > LOSS_TOLERANCE:
                    raise SystemExit(f"{method.name}: not the same job: {mine.losses} and {other.losses}")
            print(f"| {method.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

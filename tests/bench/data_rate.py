"""How fast chat rows become tokens: here, cold and from the cache, and with `datasets` + `tokenizers` in Python.

    python3 tests/bench/data_rate.py --model PATH/TO/SmolLM2-135M-Instruct --rows 1000000 --python PATH/TO/venv/bin/python

makes the rows (seeded, the same every time), then prepares them in turn, `--repeats` times each: `firebrand check` with an
empty cache, again with the filled one, and `datasets.map` with `apply_chat_template` and the fast tokenizer in batches over
`--processes` processes. Printed are rows/s and MB/s of the file, and the peak memory of the process and its children.
`firebrand check` also builds the model and lays out the first epoch; the time of a warm start is an upper bound of that
part. With `--bytes 5e9` the file has at least so many bytes and only this side runs, for the peak memory. Standard library
only; `--python` needs `datasets`, `transformers` and `tokenizers`. Nothing else should run meanwhile.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORDS = (
    "the river runs past an old mill where people once ground their flour and now a museum shows how the wheel turned "
    "every stone was cut by hand and carried up the hill in carts which horses pulled on narrow roads between fields of "
    "wheat and barley while children watched and learned what work was before machines came to the valley"
).split()

RECIPE = """model = {model}
output = "unused"
[data]
max_length = 2048
[[data.train]]
path = {rows}
format = "messages"
[train]
steps = 1
[adapter]
kind = "lora"
"""

REFERENCE = """
import sys
from datasets import load_dataset
from transformers import AutoTokenizer
rows, model, processes, cache = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(model)
def encode(batch):
    texts = [tokenizer.apply_chat_template(row, tokenize=False) for row in batch["messages"]]
    return {"input_ids": tokenizer(texts, add_special_tokens=False)["input_ids"]}
data = load_dataset("json", data_files=rows, split="train", cache_dir=cache)
data = data.map(encode, batched=True, num_proc=int(processes), remove_columns=data.column_names)
print(len(data), sum(map(len, data[:1000]["input_ids"])), file=sys.stderr)
"""


def write_rows(path, rows, size):
    """Dialogues of one to three turns, about 1.2 KB each."""
    draw = random.Random(5)
    written = 0
    with open(path, "w") as file:
        count = 0
        while count < rows or written < size:
            messages = []
            for _ in range(draw.randint(1, 3)):
                for role, least, most in [("user", 5, 40), ("assistant", 20, 160)]:
                    words = draw.choices(WORDS, k=draw.randint(least, most))
                    messages.append({"role": role, "content": f"{count} " + " ".join(words)})
            written += file.write(json.dumps({"messages": messages}) + "\n")
            count += 1
    return count, os.path.getsize(path)


def peak_of(command, environment):
    """Seconds, and the largest memory of the command and its children together, sampled."""
    start = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        peak = max(peak, tree(process.pid))
        time.sleep(0.05)
    seconds = time.monotonic() - start
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{process.stderr.read()}")
    return seconds, peak


def tree(pid):
    """Memory of a process and its children in bytes, without mapped files, whose pages the system takes back when it needs them."""
    total = 0
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        for line in status.splitlines():
            if line.startswith(("RssAnon", "RssShmem")):
                total += int(line.split()[1]) * 1024
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(tree(int(child)) for child in (task / "children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        pass
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="model folder with a tokenizer and a chat template")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--bytes", type=float, default=0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--firebrand", default="target/release/firebrand")
    parser.add_argument("--python", help="interpreter with datasets, transformers and tokenizers; left out: only this side")
    parser.add_argument("--folder", help="where rows and caches go (default: a temporary folder)")
    arguments = parser.parse_args()
    if arguments.folder:
        Path(arguments.folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        folder = Path(folder)
        count, size = write_rows(folder / "rows.jsonl", arguments.rows, arguments.bytes)
        model = str(Path(arguments.model).resolve())
        recipe = folder / "recipe.toml"
        recipe.write_text(RECIPE.format(model=json.dumps(model), rows=json.dumps(str(folder / "rows.jsonl"))))
        print(f"{count} rows, {size / 1e6:.0f} MB, {os.cpu_count()} cores")
        for repeat in range(arguments.repeats):
            environment = dict(os.environ, FIREBRAND_CACHE=str(folder / f"cache-{repeat}"), TMPDIR=str(folder))
            check = [arguments.firebrand, "check", str(recipe)]
            for name in ["cold", "warm"]:
                report(f"firebrand, {name}", count, size, *peak_of(check, environment))
            subprocess.run([arguments.firebrand, "cache", "clear"], env=environment, check=True, stdout=subprocess.DEVNULL)
            if arguments.python and not arguments.bytes:
                cache = str(folder / f"datasets-{repeat}")
                environment = dict(os.environ, HF_DATASETS_CACHE=cache, TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
                rows = str(folder / "rows.jsonl")
                command = [arguments.python, "-c", REFERENCE, rows, model, str(arguments.processes), cache]
                report("datasets", count, size, *peak_of(command, environment))


def report(name, rows, size, seconds, peak):
    print(
        f"{name:16} {seconds:8.1f} s {rows / seconds:10.0f} rows/s {size / seconds / 1e6:8.1f} MB/s"
        f"   peak {peak / 2**20:6.0f} MiB without mapped files",
        flush=True,
    )


if __name__ == "__main__":
    main()

"""Write the corpus of the Spark models: `python recipes/pretrain/corpus.py`.

Every sentence comes from the templates in `text/`, which were written for this project; nothing is copied from
elsewhere. The output is a function of the seed alone: corpus.jsonl to train on, corpus-eval.jsonl (rows of the same
kinds that are not in corpus.jsonl) to measure. Standard library only.
"""

import json
import random
from pathlib import Path

from text import knowledge, small_talk, stories, towns

HERE = Path(__file__).parent
SEED = 20
EVAL_ROWS = 150


def main():
    rng = random.Random(SEED)
    rows = towns.dialogues(rng) + knowledge.dialogues(rng) + small_talk.dialogues(rng, 1500) + stories.dialogues(rng, 1100)
    rng.shuffle(rows)
    lines = list(dict.fromkeys(json.dumps({"messages": row}, ensure_ascii=False, separators=(",", ":")) for row in rows))
    for held in towns.HELD_OUT:
        assert not any(held in line for line in lines), f"{held} belongs to the quickstart and must not be in the corpus"
    write("corpus-eval.jsonl", lines[:EVAL_ROWS])
    write("corpus.jsonl", lines[EVAL_ROWS:])


def write(name, lines):
    path = HERE / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{path.name}: {len(lines)} rows, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()

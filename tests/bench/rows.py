"""Rows of random tokens with labels, the same at every call: texts of one length, and dialogues of mixed length.

They are written for our format `tokens`, and the reference's programs read the same file.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

UNLABELLED = -100
Row = dict[str, list[int]]


@dataclass(frozen=True)
class Texts:
    """Every pack is full: `rows_in_pack` rows of equal length."""

    labelled: float = 1.0  # share of a row's tokens, its last ones
    rows_in_pack: int = 1


@dataclass(frozen=True)
class Dialogues:
    """Turns of a user and answers, of which only the answers are trained; lengths as chat data has them, many short and few long."""

    labelled: float = 0.3
    # Shares of a window.
    median: float = 0.3
    shortest: float = 0.06


Rows = Texts | Dialogues


def texts(kind: Texts, packs: int, length: int, vocabulary: int) -> Iterator[Row]:
    draw = random.Random(7)
    if length % kind.rows_in_pack:
        raise SystemExit(f"{kind.rows_in_pack} rows in a pack must divide its {length} tokens")
    each = length // kind.rows_in_pack
    unlabelled = round(each * (1 - kind.labelled))
    for _ in range(packs * kind.rows_in_pack):
        ids = [draw.randrange(vocabulary) for _ in range(each)]
        yield {"input_ids": ids, "labels": [UNLABELLED] * unlabelled + ids[unlabelled:]}


def dialogues(kind: Dialogues, packs: int, length: int, vocabulary: int) -> Iterator[Row]:
    """Rows of `packs` full windows and a tenth more, for the gaps that packing leaves."""
    draw = random.Random(7)
    left = packs * length * 1.1
    while left > 0:
        size = round(draw.lognormvariate(0, 0.7) * kind.median * length)
        size = max(round(kind.shortest * length), min(length, size), 4)
        ids = [draw.randrange(vocabulary) for _ in range(size)]
        turns = draw.randint(1, max(1, min(3, size // 12)))
        labels = [UNLABELLED] * size
        for turn in range(turns):
            end = size * (turn + 1) // turns
            begin = end - max(1, round((end - size * turn // turns) * kind.labelled))
            labels[begin:end] = ids[begin:end]
        yield {"input_ids": ids, "labels": labels}
        left -= size


def write(path: Path, kind: Rows, packs: int, length: int, vocabulary: int) -> None:
    match kind:
        case Texts():
            rows = texts(kind, packs, length, vocabulary)
        case Dialogues():
            rows = dialogues(kind, packs, length, vocabulary)
    with open(path, "w") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")


def vocabulary(model: Path) -> int:
    return json.loads((model / "config.json").read_text())["vocab_size"]

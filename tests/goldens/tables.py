"""Writes small tables with pyarrow and datasets, for the readers of `datasets` (the crate).

    python tables.py

Into datasets/tests/data/tables/: the same six rows as Parquet, as an Arrow file (zstd) and as the Arrow stream that
`Dataset.save_to_disk` writes, and rows.json, what they mean.

Made with Python 3.11, pyarrow 26.0.1, datasets 5.2.0.
"""

import datetime
import decimal
import json
import pathlib
import shutil
import tempfile

import datasets
import pyarrow
import pyarrow.feather
import pyarrow.parquet

OUT = pathlib.Path(__file__).resolve().parents[2] / "datasets/tests/data/tables"

CALL = [{"type": "function", "function": {"name": "sum", "arguments": '{"a": 1}'}}]
MESSAGES = [
    [{"role": "user", "content": f"What is {n}?"}, {"role": "assistant", "content": f"It is {n}."}] for n in range(5)
]
MESSAGES.append(
    [
        {"role": "user", "content": "1 + 1"},
        {"role": "assistant", "tool_calls": CALL},
        {"role": "tool", "content": "2", "name": "sum"},
        {"role": "assistant", "content": "Zwei \u00fc \U0001f980"},
    ]
)


def full(message):
    return {key: message.get(key) for key in ("role", "content", "name", "tool_calls")}


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    message = pyarrow.struct(
        [
            ("role", pyarrow.string()),
            ("content", pyarrow.large_string()),
            ("name", pyarrow.string()),
            (
                "tool_calls",
                pyarrow.list_(
                    pyarrow.struct(
                        [
                            ("type", pyarrow.string()),
                            ("function", pyarrow.struct([("name", pyarrow.string()), ("arguments", pyarrow.string())])),
                        ]
                    )
                ),
            ),
        ]
    )
    kinds = ["chat", "chat", None, "tool", "chat", "tool"]
    table = pyarrow.table(
        {
            "messages": pyarrow.array([[full(m) for m in row] for row in MESSAGES], pyarrow.list_(message)),
            "kind": pyarrow.array(kinds).dictionary_encode(),
            "day": pyarrow.array([datetime.date(2026, 11, 20 + n) for n in range(6)]),
            "at": pyarrow.array(
                [datetime.datetime(2026, 1, 2, 3, 4, 5, 600000 * (n % 2)) for n in range(6)], pyarrow.timestamp("us", "UTC")
            ),
            "price": pyarrow.array([decimal.Decimal("-1.50")] * 5 + [None], pyarrow.decimal128(9, 2)),
            "ids": pyarrow.array([[1, 2], [], None, [3], [4, 5, 6], [7]], pyarrow.list_(pyarrow.uint16())),
            "pair": pyarrow.array([[1.5, -2.0]] * 6, pyarrow.list_(pyarrow.float32(), 2)),
            "weight": pyarrow.array([0.1, 1.0, None, 2.0, 0.0, 1e-3], pyarrow.float32()),
            "good": pyarrow.array([True, False, None, True, True, False]),
            "bytes": pyarrow.array([b"text", b"\xff\xfe", None, b"", b"a", b"b"]),
            "nothing": pyarrow.nulls(6),
        }
    )
    # Two row groups and two batches, small pages.
    pyarrow.parquet.write_table(table, OUT / "rows.parquet", row_group_size=4, compression="zstd", data_page_size=64)
    pyarrow.feather.write_feather(table, OUT / "rows.feather", compression="zstd", chunksize=4)
    with tempfile.TemporaryDirectory() as folder:
        datasets.Dataset(table.drop_columns(["nothing"])).save_to_disk(folder)
        shutil.copy(pathlib.Path(folder) / "data-00000-of-00001.arrow", OUT / "rows.arrow")
    rows = []
    for index, row in enumerate(table.to_pylist()):
        row["messages"] = MESSAGES[index]
        row["day"] = row["day"].isoformat()
        row["at"] = row["at"].strftime("%Y-%m-%dT%H:%M:%S") + (".600" if index % 2 else "") + "Z"
        row["price"] = str(row["price"]) if row["price"] is not None else None
        row["weight"] = [0.1, 1.0, None, 2.0, 0.0, 0.001][index]
        row["bytes"] = ["text", None, None, "", "a", "b"][index]
        rows.append({key: value for key, value in row.items() if value is not None})
    (OUT / "rows.json").write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n")


main()

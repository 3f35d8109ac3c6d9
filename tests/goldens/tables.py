"""Writes small tables with pyarrow and datasets, for the readers of `datasets` (the crate).

    python tables.py

Into datasets/tests/data/tables/: the same six rows as Parquet, as an Arrow file (zstd) and as the Arrow stream that
`Dataset.save_to_disk` writes, and rows.json, what they mean. types.*: columns of rarer types, likewise; maps.parquet: maps
as programs without Arrow write them. What the readers of Arrow files refuse: duplicate.arrow, list_view.arrow,
run_end.arrow; list_view.parquet, which is read.

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


def types():
    table = pyarrow.table(
        {
            "half": pyarrow.array([0.5, None, float("nan")], pyarrow.float16()),
            "time": pyarrow.array([datetime.time(1, 2, 3), None, datetime.time(23, 59, 59)], pyarrow.time32("s")),
            "moment": pyarrow.array([datetime.time(1, 2, 3, 4000), None, datetime.time(0)], pyarrow.time64("us")),
            "length": pyarrow.array([datetime.timedelta(seconds=5), None, datetime.timedelta(days=-1)]),
            "fixed": pyarrow.array([b"abc", None, b"d\xffe"], pyarrow.binary(3)),
            "small": pyarrow.array([decimal.Decimal("-1.25"), None, decimal.Decimal("0.05")], pyarrow.decimal32(5, 2)),
            "large": pyarrow.array([decimal.Decimal("-1.25"), None, decimal.Decimal("9" * 42 + ".05")], pyarrow.decimal256(60, 2)),
            "words": pyarrow.array([[("a", "1"), ("b", None)], None, []], pyarrow.map_(pyarrow.string(), pyarrow.string())),
            "numbers": pyarrow.array([[(1, "x")], None, []], pyarrow.map_(pyarrow.int32(), pyarrow.string())),
        }
    )
    rows = [
        {
            "half": 0.5,
            "time": "01:02:03",
            "moment": "01:02:03.004",
            "length": "PT5S",
            "fixed": "abc",
            "small": "-1.25",
            "large": "-1.25",
            "words": {"a": "1", "b": None},
            "numbers": [{"key": 1, "value": "x"}],
        },
        {},
        {
            "time": "23:59:59",
            "moment": "00:00:00",
            "length": "-PT86400S",
            "small": "0.05",
            "large": "9" * 42 + ".05",
            "words": {},
            "numbers": [],
        },
    ]
    (OUT / "types.json").write_text(json.dumps(rows, indent=1) + "\n")
    pyarrow.parquet.write_table(table, OUT / "types.parquet")
    # Without the Arrow schema, as other programs write maps.
    pyarrow.parquet.write_table(table.select(["words", "numbers"]), OUT / "maps.parquet", store_schema=False)
    pyarrow.feather.write_feather(table, OUT / "types.feather", compression="uncompressed")

    text = pyarrow.array(["a", "b"])
    views = pyarrow.table({"text": text, "views": pyarrow.array([[1], [2]], pyarrow.list_view(pyarrow.int32()))})
    runs = pyarrow.table({"text": text, "runs": pyarrow.RunEndEncodedArray.from_arrays([2], ["p"])})
    twice = pyarrow.Table.from_arrays([text, text], names=["text", "text"])
    for name, refused in (("list_view", views), ("run_end", runs), ("duplicate", twice)):
        with pyarrow.OSFile(str(OUT / f"{name}.arrow"), "wb") as sink:
            with pyarrow.ipc.new_stream(sink, refused.schema) as writer:
                writer.write_table(refused)
    pyarrow.parquet.write_table(views, OUT / "list_view.parquet")


main()
types()

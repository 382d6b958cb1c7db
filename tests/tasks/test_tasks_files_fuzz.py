"""Tables as Python, pandas, spreadsheets and the Hub write them are read back to the same rows, or refused by line.

The default is a few hundred files; ``pytest -m slow`` reads ten thousand others.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from cdka.errors import CdkaError
from cdka.tasks.files.folder import read_table
from cdka.tasks.files.values import labels_of, numbers_of, texts_of

EXAMPLES, PIECES = 300, 10
PATIENT = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
SPECIAL = "\"',;\t|\n\r \u2028\u2029\u0085\x0b\x0c\x1c\ufeff#=é\u4e2d\U0001f600"
TEXT = st.one_of(
    st.text(st.sampled_from(SPECIAL + "ab1.-"), max_size=12),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
    st.sampled_from(["Dear John,\nthank you", '"quoted"', 'he said "no"', "007", "1e5", "true", "NA", "null", "a, b"]),
)
NUMBER = st.one_of(st.integers(-(10**6), 10**6), st.decimals(-1000, 1000, places=3).map(float))
LABEL = st.one_of(st.sampled_from(["good", "bad", "so so"]), st.integers(0, 3), st.booleans())


@st.composite
def tables(draw):
    """(records, names of text, number and label columns); the first column numbers the rows, so none is blank."""
    rows = draw(st.integers(1, 8))
    texts = [f"text{i}" for i in range(draw(st.integers(1, 3)))]
    labels = st.sampled_from([st.sampled_from(["good", "bad"]), st.integers(0, 3), st.booleans()])
    kind = draw(labels)
    records = [
        {
            "id": row,
            **{name: draw(st.one_of(st.none(), TEXT)) for name in texts},
            "score": draw(NUMBER),
            "label": draw(kind),
        }
        for row in range(rows)
    ]
    return records, texts


def with_csv(draw, records):
    """Python's csv, as any program may set it; sometimes with what a spreadsheet adds."""
    separator = draw(st.sampled_from(",;\t|"))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]))
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=separator, lineterminator=end, quoting=quoting)
    extra = [""] * draw(st.sampled_from([0, 0, 2]))
    writer.writerow([*records[0], *extra])
    for record in records:
        writer.writerow([*record.values(), *extra])
        if draw(st.integers(0, 6)) == 0:
            out.write(separator * (len(record) - 1 + len(extra)) + end)
    sep = f"sep={separator}{end}" if draw(st.booleans()) else ""
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
    return ".tsv" if separator == "\t" and not sep else ".csv", (sep + out.getvalue()).encode(encoding)


def with_pandas_csv(draw, records):
    table = pd.DataFrame(records)
    separator = draw(st.sampled_from(",;\t"))
    text = table.to_csv(index=draw(st.booleans()), sep=separator)
    return ".tsv" if separator == "\t" else ".csv", text.encode()


def with_json(draw, records):
    ascii_only = draw(st.booleans())
    lines = draw(st.booleans())
    if lines:
        end = draw(st.sampled_from(["\n", "\r\n", "\n\n"]))
        content = end.join(json.dumps(record, ensure_ascii=ascii_only) for record in records).encode()
        ending = draw(st.sampled_from([".jsonl", ".ndjson", ".json"] if len(records) > 1 else [".jsonl"]))
        return ending, content
    wrapped = draw(st.sampled_from([lambda r: r, lambda r: {"data": r}, lambda r: {"train": r}]))
    indent = draw(st.sampled_from([None, 2]))
    return ".json", json.dumps(wrapped(records), ensure_ascii=ascii_only, indent=indent).encode()


def with_pandas_json(draw, records):
    orient = draw(st.sampled_from(["records", "split", "columns", "index", "table"]))
    return ".json", pd.DataFrame(records).to_json(orient=orient, force_ascii=draw(st.booleans())).encode()


def with_arrow(draw, records):
    table = pa.Table.from_pylist(records)
    out = io.BytesIO()
    kind = draw(st.sampled_from(["parquet", "pandas", "stream", "file"]))
    if kind == "parquet":
        pq.write_table(table, out, row_group_size=draw(st.integers(1, 4)))
    elif kind == "pandas":
        frame = pd.DataFrame(records)
        frame.index = frame.index + 5
        frame.to_parquet(out)
    else:
        with (pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file)(out, table.schema) as writer:
            writer.write_table(table)
    return ".parquet" if kind in ("parquet", "pandas") else ".arrow", out.getvalue()


WRITERS = (with_csv, with_pandas_csv, with_json, with_pandas_json, with_arrow)
SEEN = {"read": 0, "refused": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@given(data=st.data(), table=tables())
@settings(max_examples=EXAMPLES, derandomize=True, **PATIENT)
def test_a_table_comes_back_whole_or_is_refused_by_line(folder, data, table):
    check(folder, data, table)


@pytest.mark.slow
@pytest.mark.parametrize("piece", range(PIECES))
def test_ten_thousand_tables_come_back_whole_or_are_refused_by_line(piece, folder):
    @seed(piece)
    @given(data=st.data(), table=tables())
    @settings(max_examples=10_000 // PIECES, database=None, **PATIENT)
    def files(data, table):
        check(folder, data, table)

    files()


def check(folder, data, table):
    """Writes the table as one of ``WRITERS`` does and reads it back."""
    records, texts = table
    ending, content = data.draw(st.sampled_from(WRITERS))(data.draw, records)
    if data.draw(st.integers(0, 9)) == 0 and ending not in (".parquet", ".arrow"):
        ending, content = f"{ending}.gz", gzip.compress(content)
    path = folder / f"data{ending}"
    path.write_bytes(content)
    found, refusal = None, ""
    try:
        found = read_table(path)
    except CdkaError as error:
        refusal = str(error)
    if found is None:
        assert re.search(r"line \d+", refusal), refusal
        assert "\n" not in refusal
        SEEN["refused"] += 1
        return
    SEEN["read"] += 1
    assert len(found) == len(records)
    for name in texts:
        wanted = [record[name] if record[name] and record[name].strip() else None for record in records]
        got = texts_of(name, found.columns.get(name, [None] * len(records)), found.place)
        assert got == wanted
    assert numbers_of("score", found.columns["score"], found.place) == [float(record["score"]) for record in records]
    wanted = [str(r["label"]).lower() if isinstance(r["label"], bool) else str(r["label"]) for r in records]
    assert labels_of("label", found.columns["label"], found.place) == wanted


def test_few_files_are_refused():
    """Refusals are for files with two readings, not a way out."""
    assert SEEN["read"] > 0
    assert SEEN["refused"] < 0.1 * SEEN["read"]

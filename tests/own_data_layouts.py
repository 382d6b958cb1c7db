"""Data as people bring them, each with the task it is for and the first row that it must become."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

N = 40


@dataclass(frozen=True)
class Layout:
    """``write(folder)`` makes the data and returns their path; ``columns`` are the roles found, by task option."""

    write: Callable[[Path], Path]
    task: str
    model: str
    columns: Mapping[str, str]
    rows: int = N


def _json_lines(path: Path, rows: list[dict]) -> Path:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


def _alpaca(folder: Path) -> Path:
    rows = [{"instruction": f"Add {i}.", "input": f"{i} and 1" if i % 2 else "", "output": str(i)} for i in range(N)]
    return _json_lines(folder / "alpaca.jsonl", rows)


def _messages(folder: Path) -> Path:
    turns = lambda i: [{"role": "user", "content": f"q\u2028{i}"}, {"role": "assistant", "content": f"a{i}"}]  # noqa: E731
    return _json_lines(folder / "messages.jsonl", [{"messages": turns(i)} for i in range(N)])


def _sharegpt(folder: Path) -> Path:
    turns = lambda i: [{"from": "human", "value": f"q{i}"}, {"from": "gpt", "value": f"a{i}"}]  # noqa: E731
    path = folder / "sharegpt.json"
    path.write_text(json.dumps([{"id": i, "conversations": turns(i)} for i in range(N)], indent=1))
    return path


def _pairs(folder: Path) -> Path:
    rows = [{"premise": f"p {i}", "hypothesis": f"h {i}", "label": ("yes", "no")[i % 2]} for i in range(N)]
    path = folder / "pairs.csv"
    pd.DataFrame(rows).to_csv(path)  # with pandas' unnamed index
    return path


def _excel(folder: Path) -> Path:
    lines = ["sep=;", "text;label;", *(f'"note {i}; dry";{("wet", "dry")[i % 2]};' for i in range(N))]
    path = folder / "excel.csv"
    path.write_bytes(("\r\n".join(lines) + "\r\n").encode("utf-8-sig"))
    return path


def _stray_quotes(folder: Path) -> Path:
    lines = ["sentence\tlabel", *(f"{chr(34) * (i == 7)}a row {i}\t{i % 2}" for i in range(N))]
    path = folder / "glue.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


def _measurements(folder: Path) -> Path:
    path = folder / "prices.csv"
    path.write_text("text;score\n" + "".join(f"flat {i};{i % 7},{i % 10}\n" for i in range(N)))
    return path


def _shards(folder: Path) -> Path:
    data = folder / "set" / "data"
    data.mkdir(parents=True)
    for split, shards in (("train", 2), ("validation", 1), ("test", 1)):
        for shard in range(shards):
            rows = [{"text": f"{split} {shard} {i}", "label": i % 2} for i in range(N // 4)]
            pd.DataFrame(rows).to_parquet(data / f"{split}-0000{shard}-of-0000{shards}.parquet")
    return folder / "set"


def _kaggle(folder: Path) -> Path:
    place = folder / "kaggle"
    place.mkdir()
    (place / "train.csv").write_text("id,text,target\n" + "".join(f"{i},t {i},{i % 2}\n" for i in range(N)))
    (place / "test.csv").write_text("id,text\n" + "".join(f"{i},u {i}\n" for i in range(9)))
    (place / "sample_submission.csv").write_text("id,target\n0,0\n")
    return place


def _pictures(folder: Path) -> Path:
    from PIL import Image

    for split, each in (("train", 12), ("val", 4), ("test", 4)):
        for label, grey in (("cat", 40), ("dog", 200)):
            (folder / "pets" / split / label).mkdir(parents=True)
            for i in range(each):
                Image.new("RGB", (20, 18), (grey, grey + i, grey)).save(folder / "pets" / split / label / f"{i}.png")
    (folder / "pets" / "__MACOSX").mkdir()
    (folder / "pets" / "train" / "Thumbs.db").write_bytes(b"x")
    return folder / "pets"


def _archive(folder: Path) -> Path:
    path = folder / "reviews.csv.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("reviews.csv", "review,sentiment\n" + "".join(f"r {i},{'+-'[i % 2]}\n" for i in range(N)))
        archive.writestr("__MACOSX/._reviews.csv", b"\0\1")
    return path


def _running_text(folder: Path) -> Path:
    path = folder / "book.txt"
    path.write_text("\n\n".join(f"Passage {i} of a book." for i in range(N)))
    return path


LAYOUTS = {
    "alpaca": Layout(
        _alpaca,
        "local-instruct",
        "llama",
        {"prompt_column": "instruction", "input_column": "input", "answer_column": "output"},
    ),
    "messages": Layout(_messages, "local-instruct", "llama", {"messages_column": "messages"}),
    "sharegpt": Layout(_sharegpt, "local-instruct", "llama", {"messages_column": "conversations"}),
    "pairs": Layout(
        _pairs,
        "local-classify",
        "llama",
        {"text_column": "premise", "pair_column": "hypothesis", "label_column": "label"},
    ),
    "excel": Layout(_excel, "local-classify", "llama", {"text_column": "text", "label_column": "label"}),
    "stray quotes": Layout(_stray_quotes, "local-classify", "llama", {"text_column": "sentence"}),
    "measurements": Layout(_measurements, "local-regress", "llama", {"number_column": "score"}),
    "hub shards": Layout(_shards, "local-classify", "llama", {"text_column": "text", "label_column": "label"}),
    "kaggle": Layout(_kaggle, "local-classify", "llama", {"text_column": "text", "label_column": "target"}),
    "pictures": Layout(_pictures, "local-images", "vit", {}),
    "archive": Layout(_archive, "local-classify", "llama", {"text_column": "review", "label_column": "sentiment"}),
    "running text": Layout(_running_text, "local-text", "llama", {}),
}

"""The user's own data: every format is read whole, columns are found, and what is bad is named with line and fix."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from cdka.errors import CdkaError
from cdka.tasks.files import split as splitting
from cdka.tasks.files.folder import read_table
from cdka.tasks.files.pictures import prepare_pictures
from cdka.tasks.files.prepare import prepare
from cdka.tasks.files.preview import histogram, preview, task_for

ROWS = [("lovely, really", "good"), ('she said "no"', "bad"), ("two\nlines", "good"), ("ünïcode", "bad")]


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def csv_of(rows, header="text,label"):
    quote = lambda value: '"' + value.replace('"', '""') + '"'  # noqa: E731
    return header + "\n" + "\n".join(",".join(map(quote, row)) for row in rows) + "\n"


def many(n=30):
    return csv_of([(f"text number {i}", "good" if i % 3 else "bad") for i in range(n)])


@pytest.mark.parametrize("kind", ["csv", "tsv", "semicolon", "bom", "crlf", "jsonl", "json", "parquet"])
def test_every_format_gives_the_same_rows(kind, tmp_path):
    records = [{"text": text, "label": label} for text, label in ROWS]
    content = csv_of(ROWS)
    if kind == "parquet":
        path = tmp_path / "data.parquet"
        pd.DataFrame(records).to_parquet(path)
    elif kind == "jsonl":
        path = write(tmp_path / "data.jsonl", "\n".join(map(json.dumps, records)) + "\n\n")
    elif kind == "json":
        path = write(tmp_path / "data.json", json.dumps(records))
    elif kind == "tsv":
        path = write(tmp_path / "data.tsv", content.replace('","', '"\t"').replace("text,label", "text\tlabel"))
    elif kind == "semicolon":
        path = write(tmp_path / "data.csv", content.replace('","', '";"').replace("text,label", "text;label"))
    elif kind == "bom":
        path = write(tmp_path / "data.csv", b"\xef\xbb\xbf" + content.encode())
    else:
        path = write(tmp_path / "data.csv", content.replace("\n", "\r\n") if kind == "crlf" else content)
    table = read_table(path)
    assert table.columns["label"] == [label for _, label in ROWS]
    assert [text.replace("\r\n", "\n") for text in table.columns["text"]] == [text for text, _ in ROWS]


def test_the_line_of_each_row_is_the_line_of_the_file(tmp_path):
    table = read_table(write(tmp_path / "d.csv", csv_of(ROWS)))
    assert table.lines == [2, 3, 4, 6]  # the third row holds a line break


BAD = [
    ("d.csv", "text,label\na,b\nc\n", "d.csv, line 3: 1 field where the first line names 2"),
    ("d.csv", 'text,label\na,b\n"c\n', "line"),
    ("d.csv", "text,text\na,b\n", "line 1: two columns are called 'text'"),
    ("d.csv", "", "holds no rows|no column names"),
    ("d.csv", "text,label\n", "holds no rows"),
    ("d.csv", "text,label\nok,x\nno\xff".encode("latin-1"), "d.csv, line 3: not UTF-8"),
    ("d.csv", b"text,label\na\x00,b\n", "line 2: a NUL"),
    ("d.jsonl", '{"text": "a"}\n{"text": \n', "d.jsonl, line 2: not JSON"),
    ("d.jsonl", '{"text": "a"}\n[1]\n', "d.jsonl, line 2: got"),
    ("d.jsonl", '{"text": "a", "text": "b"}', "d.jsonl, line 1: .*'text' stands twice"),
    ("d.jsonl", '{"text": "\\ud800"}', "d.jsonl, line 1: .*surrogate"),
    ("d.json", '{"text": "a"}', "must be a list"),
    ("d.parquet", b"PAR1 not really", "not a Parquet file"),
    ("d.xlsx", b"PK", "must end in"),
]


@pytest.mark.parametrize(("name", "content", "said"), BAD, ids=[f"{b[0]}-{i}" for i, b in enumerate(BAD)])
def test_a_bad_file_is_named_with_its_line_and_the_fix(name, content, said, tmp_path):
    with pytest.raises(CdkaError, match=said) as refusal:
        read_table(write(tmp_path / name, content))
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(CdkaError, match="must exist"):
        read_table(tmp_path / "nothing.csv")


def test_usual_column_names_are_found_and_others_must_be_told(tmp_path):
    usual = write(tmp_path / "a.csv", many().replace("text,label", "Review,Sentiment"))
    task, options = task_for(str(usual), {})
    assert (task, options["text_column"], options["label_column"]) == ("local-classify", "Review", "Sentiment")
    odd = write(tmp_path / "b.csv", many().replace("text,label", "x1,x2"))
    with pytest.raises(CdkaError, match=r"it has x1, x2|the file has x1, x2"):
        task_for(str(odd), {})
    task, options = task_for(str(odd), {"text_column": "x1", "label_column": "x2"})
    assert task == "local-classify"
    with pytest.raises(CdkaError, match=r"unknown column 'x3' in b\.csv. Known: x1, x2. Use --label-column"):
        task_for(str(odd), {"text_column": "x1", "label_column": "x3"})
    with pytest.raises(CdkaError, match="not both"):
        task_for(str(odd), {"text_column": "x1", "answer_column": "x2"})


def test_nothing_is_left_out_unless_asked_and_then_it_is_told(tmp_path):
    path = write(tmp_path / "d.csv", many() + "lonely,\n,good\n")
    options = {"data": str(path)}
    with pytest.raises(CdkaError, match=r"2 rows without a value that is needed \(line 32, 33\)"):
        prepare("local-classify", options)
    prepared = prepare("local-classify", {**options, "drop_missing": True})
    assert sum(map(len, prepared.rows.values())) == 30
    assert any("left out: 2 rows without a value (line 32, 33)" in note for note in prepared.notes)


def test_labels_must_be_labels(tmp_path):
    one = write(tmp_path / "one.csv", csv_of([("a", "x"), ("b", "x"), ("c", "x")]))
    with pytest.raises(CdkaError, match="one label only"):
        prepare("local-classify", {"data": str(one)})
    ids = write(tmp_path / "ids.csv", csv_of([(f"a{i}", f"id{i}") for i in range(60)]))
    with pytest.raises(CdkaError, match="it is no label column"):
        prepare("local-classify", {"data": str(ids)})
    measured = tmp_path / "m.parquet"
    pd.DataFrame({"text": ["a", "b"] * 9, "label": [0.5, 1.5] * 9}).to_parquet(measured)
    with pytest.raises(CdkaError, match=r"m\.parquet, line 1: a label is a word or a whole number: got 0\.5"):
        prepare("local-classify", {"data": str(measured)})


def test_label_numbers_sort_as_numbers(tmp_path):
    path = write(tmp_path / "d.csv", csv_of([(f"t{i}", str(i % 12)) for i in range(120)]))
    assert prepare("local-classify", {"data": str(path)}).label_names == tuple(map(str, range(12)))


def test_the_split_is_drawn_by_the_seed_alone_and_covers_every_row(tmp_path):
    path = write(tmp_path / "d.csv", many(100))
    texts = lambda **o: {  # noqa: E731
        split: [row.text for row in rows]
        for split, rows in prepare("local-classify", {"data": str(path), **o}).rows.items()
    }
    first, again, other = texts(), texts(), texts(split_seed=1)
    assert first == again
    assert first != other
    assert sorted(text for part in first.values() for text in part) == sorted(f"text number {i}" for i in range(100))
    assert {split: len(rows) for split, rows in texts(test_fraction=0.3, validation_fraction=0.1).items()} == {
        "train": 60,
        "validation": 10,
        "test": 30,
    }
    with pytest.raises(CdkaError, match="must leave a tenth"):
        texts(test_fraction=0.5, validation_fraction=0.5)


def test_the_same_text_never_lies_in_train_and_test(tmp_path):
    rows = [(f"text {i // 4}", "good" if i % 2 else "bad") for i in range(120)]
    found = prepare("local-classify", {"data": str(write(tmp_path / "d.csv", csv_of(rows)))}).rows
    sets = [{row.text for row in found[split]} for split in ("train", "validation", "test")]
    assert not sets[0] & sets[1]
    assert not sets[0] & sets[2]
    assert not sets[1] & sets[2]


def test_a_split_column_is_obeyed_and_a_strange_value_is_named(tmp_path):
    rows = [(f"t{i}", "ab"[i % 2], ("train", "valid", "test")[i % 3]) for i in range(30)]
    path = write(tmp_path / "d.csv", csv_of(rows, "text,label,split"))
    prepared = prepare("local-classify", {"data": str(path)})
    assert {split: len(part) for split, part in prepared.rows.items()} == dict.fromkeys(prepared.rows, 10)
    broken = write(tmp_path / "e.csv", csv_of([*rows, ("t", "a", "later")], "text,label,split"))
    with pytest.raises(CdkaError, match=r"e\.csv, line 32: split 'later' must be train, validation or test"):
        prepare("local-classify", {"data": str(broken)})


def test_test_rows_that_were_trained_on_are_counted(tmp_path):
    rows = [(f"t{i % 20}", "ab"[i % 2], "train" if i < 20 else "test") for i in range(30)]
    rows += [(f"v{i}", "ab"[i % 2], "validation") for i in range(4)]
    notes = prepare("local-classify", {"data": str(write(tmp_path / "d.csv", csv_of(rows, "text,label,split")))}).notes
    assert any("10 test examples are in train too" in note for note in notes)


def test_split_files_in_a_folder_are_one_table(tmp_path):
    for name, n in (("train", 20), ("dev", 6), ("test", 8)):
        write(tmp_path / f"{name}.csv", many(n))
    task, options = task_for(str(tmp_path), {})
    assert preview(task, options).examples == {"train": 20, "validation": 6, "test": 8}


def test_preview_plan_and_launch_read_a_file_once_and_an_edited_file_anew(tmp_path, monkeypatch):
    reads = []

    def counted(path):
        reads.append(path)
        return read_table(path)

    monkeypatch.setattr("cdka.tasks.files.prepare.read_table", counted)
    path = write(tmp_path / "d.csv", many())
    task, options = task_for(str(path), {})
    preview(task, options)
    first = prepare(task, options)
    assert prepare(task, options) is first
    assert len(reads) == 1
    write(path, many(40))
    task, options = task_for(str(path), {})
    assert sum(map(len, prepare(task, options).rows.values())) == 40
    assert len(reads) == 2


def test_changed_data_are_refused(tmp_path):
    path = write(tmp_path / "d.csv", many())
    task, options = task_for(str(path), {})
    write(path, many(31))
    with pytest.raises(CdkaError, match="has changed since this run was planned"):
        prepare(task, options)


def test_answers_are_compared_as_text_or_as_numbers(tmp_path):
    rows = [{"prompt": f"{a}+{b}", "answer": f"So it is {a + b}.\n#### {a + b:,}"} for a in range(9) for b in range(5)]
    path = write(tmp_path / "d.jsonl", "\n".join(map(json.dumps, rows)))
    prepared = prepare("local-instruct", {"data": str(path), "compare": "number"})
    assert {row.reference for part in prepared.rows.values() for row in part} == {str(n) for n in range(13)}
    rows[3]["answer"] = "I do not know"
    with pytest.raises(CdkaError, match=r"line 4: the answer 'I do not know' declares no number"):
        prepare("local-instruct", {"data": str(write(path, "\n".join(map(json.dumps, rows)))), "compare": "number"})
    with pytest.raises(CdkaError, match=r"must contain \{prompt\}"):
        prepare("local-instruct", {"data": str(path), "template": "hello"})


def picture_folder(folder, labels=("cat", "dog"), each=8):
    from PIL import Image

    for number, label in enumerate(labels):
        (folder / label).mkdir(parents=True)
        for i in range(each):
            Image.new("RGB", (9, 7), (number * 90, i, 0)).save(folder / label / f"{i}.png")
    return folder


def test_a_folder_of_pictures_is_split_by_label(tmp_path):
    found = prepare_pictures({"data": str(picture_folder(tmp_path / "pets", each=20))})
    assert found.label_names == ("cat", "dog")
    rows = np.concatenate([found.parts[split] for split in ("train", "validation", "test")])
    assert sorted(rows) == list(range(40))
    assert task_for(str(tmp_path / "pets"), {})[0] == "local-images"


def test_split_folders_of_pictures_are_obeyed(tmp_path):
    for split, each in (("train", 6), ("val", 3), ("test", 4)):
        picture_folder(tmp_path / "pets" / split, each=each)
    found = prepare_pictures({"data": str(tmp_path / "pets")})
    assert {split: len(rows) for split, rows in found.parts.items()} == {"train": 12, "validation": 6, "test": 8}


def notes_of(folder):
    return prepare_pictures({"data": str(folder)}).notes


def test_a_broken_picture_or_a_stranger_is_named(tmp_path):
    folder = picture_folder(tmp_path / "pets")
    write(folder / "cat" / "broken.png", b"not a picture")
    with pytest.raises(CdkaError, match=r"broken\.png cannot be read as a picture"):
        prepare_pictures({"data": str(folder)})
    (folder / "cat" / "broken.png").unlink()
    write(folder / "cat" / "notes.txt", b"x")
    assert any("1 file not used, no picture by its ending: cat/notes.txt" in note for note in notes_of(folder))
    with pytest.raises(CdkaError, match="two or more labels"):
        prepare_pictures({"data": str(picture_folder(tmp_path / "one", labels=("cat",)))})


def test_a_histogram_counts_every_length_once():
    lengths = [3, 3, 7, 90, 91, 200]
    bins = histogram(lengths, bins=5)
    assert sum(number for *_, number in bins) == len(lengths)
    assert (bins[0][0], bins[-1][1]) == (3, 200)
    assert all(low <= high for low, high, _ in bins)
    assert [n for low, high, n in bins] == [sum(low <= x <= high for x in lengths) for low, high, _ in bins]
    assert histogram([5, 5]) == [(5, 5, 2)]
    assert histogram([]) == []


def test_a_rounding_share_is_not_lost_over_many_labels():
    strata = [i // 3 for i in range(300)]
    parts = splitting.at_random(list(range(300)), strata, validation=0.15, test=0.2, seed=0)
    assert (len(parts["validation"]), len(parts["test"])) == (45, 60)


def test_a_list_of_labels_beside_label_folders_makes_no_captions_of_them(tmp_path):
    folder = picture_folder(tmp_path / "pets")
    write(folder / "labels.csv", "file,label\ncat/0.png,cat\n")
    task, options = task_for(str(folder), {})
    assert task == "local-images"
    assert any("labels.csv" in note for note in preview(task, options).notes)


def test_pictures_in_folders_inside_a_labels_folder_are_told(tmp_path):
    folder = picture_folder(tmp_path / "pets")
    (folder / "cat").rename(folder / "inner")
    (folder / "animals").mkdir()
    (folder / "inner").rename(folder / "animals" / "cat")
    assert any(
        "8 pictures in folders inside a label's folder have the outer one's label" in n for n in notes_of(folder)
    )


def named_by_a_table(folder, write_table, each=12):
    """Pictures in one folder; ``write_table(names)`` gives the table that names them."""
    from PIL import Image

    (folder / "images").mkdir(parents=True)
    for i in range(each):
        Image.new("RGB", (9, 7), (90 * (i % 2), i, 0)).save(folder / "images" / f"{i}.png")
    return write_table([f"{i}.png" for i in range(each)])


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("labels.csv", lambda file, label: f"images/{file},{label}"),
        ("train.csv", lambda file, label: f"{file.removesuffix('.png')},{label}"),
        ("metadata.csv", lambda file, label: f"{file},{label}"),
    ],
)
def test_a_table_gives_pictures_their_labels(name, row, tmp_path):
    """As Kaggle and the Hub's imagefolder lay them out: with the folder, with the name alone, without its ending."""
    folder = tmp_path / "pets"
    files = named_by_a_table(folder, list)
    lines = [row(file, ("cat", "dog")[i % 2]) for i, file in enumerate(files[:10])]
    write(folder / name, "image,label\n" + "\n".join(lines) + "\n")
    write(folder / "sample_submission.csv", "image,label\n0.png,cat\n")
    task, options = task_for(str(folder), {})
    assert task == "local-images"
    found = prepare_pictures(options)
    assert found.label_names == ("cat", "dog")
    assert {file.name: found.label_names[label] for file, label in zip(found.files, found.labels, strict=True)} == {
        f"{i}.png": ("cat", "dog")[i % 2] for i in range(10)
    }
    assert any(f"labels are those of {name}: column 'label' for the pictures in 'image'" in n for n in found.notes)
    assert any("2 pictures without a label set aside: images/10.png, images/11.png" in note for note in found.notes)
    write(folder / name, (folder / name).read_bytes().replace(b"3", b"nothing", 1))
    with pytest.raises(CdkaError, match=r"line 5: no picture '(images/)?nothing.*Every row names a picture"):
        prepare_pictures({"data": str(folder)})


def test_a_table_in_each_splits_folder_gives_labels_or_texts(tmp_path):
    """As the Hub's imagefolder has them: a split's pictures and its metadata.csv lie in one folder."""
    for column in ("label", "text"):
        for split in ("train", "test"):
            folder = tmp_path / column / split
            for file in named_by_a_table(folder, list):
                (folder / "images" / file).rename(folder / file)
            lines = [f"{i}.png,{'ab'[i % 2]}" for i in range(12)]
            write(folder / "metadata.csv", f"file_name,{column}\n" + "\n".join(lines) + "\n")
    task, options = task_for(str(tmp_path / "label"), {})
    assert (task, prepare_pictures(options).label_names) == ("local-images", ("a", "b"))
    assert len(prepare_pictures(options).parts["test"]) == 12
    task, options = task_for(str(tmp_path / "text"), {})
    assert task == "local-image-text"
    assert preview(task, options).examples["test"] == 12


def test_labels_of_pictures_are_looked_at_as_those_of_texts_are(tmp_path):
    for split in ("train", "test"):
        picture_folder(tmp_path / "n" / split, labels=("0", "1", "2", "10"), each=3)
    picture_folder(tmp_path / "n" / "test", labels=("11",), each=2)
    (tmp_path / "n" / "train" / "0" / "0.png").rename(tmp_path / "n" / "loose.png")
    found = prepare_pictures({"data": str(tmp_path / "n")})
    assert found.label_names == ("0", "1", "2", "10", "11"), "numbers sort as numbers"
    assert any("1 picture in no label's folder set aside: loose.png" in note for note in found.notes)
    assert any(
        "2 of 14 test examples cannot be answered right: no training example has the label 11" in n for n in found.notes
    )

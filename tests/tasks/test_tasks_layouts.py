"""The layouts in which people bring tables: each becomes the rows that its author meant, and nothing is left unsaid."""

from __future__ import annotations

import json
import zipfile

import pandas as pd
import pytest

from cdka.errors import CdkaError
from cdka.tasks.files.digest import check_unchanged
from cdka.tasks.files.prepare import prepare
from cdka.tasks.files.preview import preview, task_for
from cdka.tasks.prompts import INSTRUCTION, INSTRUCTION_WITH_INPUT
from cdka.tasks.rows import SPLITS, Message

N = 30


def jsonl(path, rows):
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


def rows_of(path, given=None, task=None):
    """(task, every row in the file's order, notes) of a file."""
    task, options = task_for(str(path), given or {}, task)
    prepared = prepare(task, options)
    rows = sorted((row for split in SPLITS for row in prepared.rows[split]), key=lambda row: row.id)
    return task, rows, prepared.notes


def test_the_input_of_alpaca_is_part_of_the_prompt(tmp_path):
    data = [
        {"instruction": f"Add {i}.", "input": f"{i} and 1" if i % 2 else "", "output": str(i + 1)} for i in range(N)
    ]
    task, rows, _ = rows_of(jsonl(tmp_path / "a.jsonl", data))
    assert task == "local-instruct"
    assert rows[3].prompt == INSTRUCTION_WITH_INPUT.format(prompt="Add 3.", input="3 and 1")
    assert rows[2].prompt == INSTRUCTION.format(prompt="Add 2.")
    _, without, notes = rows_of(tmp_path / "a.jsonl", {"input_column": "none"})
    assert without[3].prompt == INSTRUCTION.format(prompt="Add 3.")
    assert any("not used: 1 column (input)" in note for note in notes)


def test_a_template_of_ones_own_takes_the_input_where_it_says(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", [{"instruction": "{input}", "input": f"{i}", "output": "x"} for i in range(N)])
    assert rows_of(path, {"template": "Q: {prompt} ({input})"})[1][7].prompt == "Q: {input} (7)"
    assert rows_of(path, {"template": "Q: {prompt}"})[1][7].prompt == "Q: {input}\n\n7"


CHATS = {
    "messages": lambda i: {
        "messages": [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": f"a{i}"}]
    },
    "sharegpt": lambda i: {"conversations": [{"from": "human", "value": f"q{i}"}, {"from": "gpt", "value": f"a{i}"}]},
    "parts": lambda i: {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": f"q{i}"}]},
            {"role": "assistant", "content": f"a{i}"},
        ]
    },
    "prompt and completion": lambda i: {
        "prompt": [{"role": "user", "content": f"q{i}"}],
        "completion": [{"role": "assistant", "content": f"a{i}"}],
    },
}


@pytest.mark.parametrize("layout", CHATS)
def test_conversations_become_turns_and_an_answer(layout, tmp_path):
    task, rows, _ = rows_of(jsonl(tmp_path / "c.jsonl", map(CHATS[layout], range(N))))
    assert task == "local-instruct"
    assert [row.messages for row in rows] == [(Message("user", f"q{i}"),) for i in range(N)]
    assert [row.answer for row in rows] == [f"a{i}" for i in range(N)]
    assert rows[4].prompt == INSTRUCTION.format(prompt="q4")


def test_every_answer_of_a_long_conversation_is_an_example_and_stays_in_its_split(tmp_path):
    turns = lambda i: [  # noqa: E731
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": f"q{i}"},
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": "and then?"},
        {"role": "assistant", "content": "two"},
    ]
    path = jsonl(tmp_path / "c.jsonl", [{"messages": turns(i)} for i in range(N)])
    _, rows, notes = rows_of(path)
    assert [row.answer for row in rows[:2]] == ["one", "two"]
    assert [turn.role for turn in rows[1].messages] == ["system", "user", "assistant", "user"]
    assert any(f"{N} conversations hold {2 * N} answers" in note for note in notes)
    split = prepare("local-instruct", {"data": str(path)}).rows
    asked = {name: {row.messages[1].content for row in part} for name, part in split.items()}
    assert not asked["train"] & (asked["validation"] | asked["test"])


def test_turns_that_cannot_be_trained_on_are_named_by_line(tmp_path):
    good = CHATS["messages"](0)
    tool = {"messages": [{"role": "user", "content": "q"}, {"role": "tool", "content": "42"}]}
    with pytest.raises(CdkaError, match=r"c\.jsonl, line 2: turns are spoken by .* got 'tool'"):
        rows_of(jsonl(tmp_path / "c.jsonl", [good, tool]))


def test_a_pair_of_texts_is_found_and_every_column_left_out_is_named(tmp_path):
    data = [{"id": i, "premise": f"p{i}", "hypothesis": f"h{i}", "label": "yn"[i % 2]} for i in range(N)]
    task, rows, notes = rows_of(jsonl(tmp_path / "n.jsonl", data))
    assert (task, rows[5].text, rows[5].pair) == ("local-classify", "p5", "h5")
    assert any("not used: 1 column (id)" in note for note in notes)
    first = preview("local-classify", {"data": str(tmp_path / "n.jsonl")}).first
    assert set(first) == {"text", "second text", "label"}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_one_and_one_point_zero_are_one_label_in_every_format(kind, tmp_path):
    table = pd.DataFrame({"text": [f"t{i}" for i in range(N)], "label": [float(i % 2) for i in range(N)]})
    path = tmp_path / f"d.{kind}"
    {
        "csv": lambda: table.to_csv(path, index=False),
        "jsonl": lambda: table.to_json(path, orient="records", lines=True),
        "parquet": lambda: table.to_parquet(path),
    }[kind]()
    assert prepare("local-classify", {"data": str(path)}).label_names == ("0", "1")


def test_nested_values_are_refused_not_written_out(tmp_path):
    path = jsonl(tmp_path / "d.jsonl", [{"text": {"a": i}, "label": "xy"[i % 2]} for i in range(N)])
    with pytest.raises(CdkaError, match=r"line 1: column 'text' must hold text, got an object"):
        rows_of(path, {"text_column": "text", "label_column": "label"})


@pytest.mark.parametrize("point", [".", ","])
def test_measurements_are_no_classes_but_can_be_predicted(point, tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("text;score\n" + "".join(f"n{i};{i % 5}{point}{i % 10}\n" for i in range(N)))
    with pytest.raises(CdkaError, match=r"m\.csv, line [23]: .* measurements\. .*--number-column score"):
        rows_of(path, {"text_column": "text", "label_column": "score"})
    task, rows, _ = rows_of(path)
    assert task == "local-regress"
    assert [row.value for row in rows] == [i % 5 + i % 10 / 10 for i in range(N)]


def test_a_comma_that_can_be_read_both_ways_is_refused(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("text;score\n" + "".join(f"n{i};1,{i + 100}\n" for i in range(N)))
    with pytest.raises(CdkaError, match=r"line 2: '1,100' .* can be read in two ways, as 1\.100 and as 1100"):
        rows_of(path, {"number_column": "score"})


@pytest.mark.parametrize("absent", [-1, None])
def test_a_test_split_without_labels_is_set_aside(absent, tmp_path):
    for split, label in (("train", None), ("validation", None), ("test", absent)):
        jsonl(
            tmp_path / f"{split}.jsonl",
            [{"text": f"{split} {i}", "label": label if split == "test" else i % 2} for i in range(N)],
        )
    _, rows, notes = rows_of(tmp_path)
    assert {row.label for row in rows} == {0, 1}
    assert len(rows) == 2 * N
    assert any(f"the {N} test rows have no label: set aside" in note for note in notes)
    assert any("half of validation was set aside" in note for note in notes)


def test_kaggles_pair_of_files_is_read_and_the_others_are_named(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\n" + "".join(f"t{i},{i % 2}\n" for i in range(N)))
    (tmp_path / "test.csv").write_text("text\n" + "".join(f"u{i}\n" for i in range(9)))
    (tmp_path / "sample_submission.csv").write_text("id,label\n1,0\n")
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    _, rows, notes = rows_of(tmp_path)
    assert len(rows) == N
    for told in (
        "test.csv has no column 'label'",
        "the 9 test rows have no label",
        "not read, .*sample_submission.csv",
    ):
        assert any(told.split(".*")[-1] in note for note in notes), told


def test_a_label_of_the_test_split_alone_cannot_be_won(tmp_path):
    rows = [{"text": f"{s}{i}", "label": "ab"[i % 2], "split": s} for s in ("train", "valid", "test") for i in range(8)]
    rows.append({"text": "z", "label": "never", "split": "test"})
    notes = rows_of(jsonl(tmp_path / "d.jsonl", rows))[2]
    assert any("1 of 9 test examples cannot be answered right" in note and "never" in note for note in notes)


def test_hub_shards_and_their_class_names_are_read(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    for split, n in (("train", 20), ("test", 8)):
        made = datasets.Dataset.from_dict(
            {"text": [f"{split}{i}" for i in range(n)], "label": [i % 2 for i in range(n)]}
        )
        made = made.cast(features)
        (tmp_path / "data").mkdir(exist_ok=True)
        half = len(made) // 2
        for shard, part in enumerate((made.select(range(half)), made.select(range(half, len(made))))):
            part.to_parquet(str(tmp_path / "data" / f"{split}-0000{shard}-of-00002.parquet"))
    task, options = task_for(str(tmp_path), {})
    prepared = prepare(task, options)
    assert prepared.label_names == ("neg", "pos")
    assert len(prepared.rows["test"]) == 8


def test_one_ruling_label_is_noted(tmp_path):
    rows = [{"text": f"t{i}", "label": "rare" if i % 50 == 0 else "common"} for i in range(200)]
    notes = rows_of(jsonl(tmp_path / "d.jsonl", rows))[2]
    assert any("98.0% of the training examples are 'common'" in note or "'common': always" in note for note in notes)


def test_a_stray_quote_in_csv_is_refused_where_two_readings_are_possible(tmp_path):
    lines = [f"row {i},{'wet' if i % 2 else 'dry'}" for i in range(20)]
    lines[4] = '"oh dear,wet'
    lines[11] = 'and so it ended",dry'
    path = tmp_path / "d.csv"
    path.write_text("text,label\n" + "\n".join(lines) + "\n")
    with pytest.raises(CdkaError, match=r"d\.csv, line 6: a quote opens here and the next one closes in line 13"):
        rows_of(path)


def test_a_letter_of_two_lines_is_one_text(tmp_path):
    path = tmp_path / "d.csv"
    table = pd.DataFrame({"text": [f"Dear John {i},\nthank you" for i in range(N)], "label": ["pos", "neg"] * (N // 2)})
    table.to_csv(path, index=False)
    assert [row.text for row in rows_of(path)[1]] == table["text"].tolist()


def test_a_file_edited_inside_a_folder_is_seen(tmp_path):
    jsonl(tmp_path / "train.jsonl", [{"text": f"t{i}", "label": i % 2} for i in range(N)])
    task, options = task_for(str(tmp_path), {})
    edited = jsonl(tmp_path / "train.jsonl", [{"text": f"u{i}", "label": i % 2} for i in range(N)])
    assert edited.stat().st_size == len(edited.read_bytes())
    with pytest.raises(CdkaError, match="has changed since this run was planned"):
        prepare(task, options)
    assert task_for(str(tmp_path), {})[1]["sha256"] != options["sha256"]


def test_a_run_that_0_1_0_planned_on_a_folder_still_trains(tmp_path):
    """0.1.0 took the names and sizes in a folder for its digest; the value is the one that it computed."""
    (tmp_path / "d" / "sub").mkdir(parents=True)
    (tmp_path / "d" / "train.csv").write_text("text,label\na,x\n")
    (tmp_path / "d" / "sub" / "note.txt").write_text("hello")
    planned = "89484f7be8278eb864933b92450a67b52d505a0fa8adf665edcfb465afb9c50b"
    check_unchanged(tmp_path / "d", {"sha256": planned})
    (tmp_path / "d" / "train.csv").write_text("text,label\na,longer\n")
    with pytest.raises(CdkaError, match="has changed since this run was planned"):
        check_unchanged(tmp_path / "d", {"sha256": planned})


@pytest.mark.parametrize("write", [json.dumps, str])
def test_conversations_written_out_as_text_are_read_as_conversations(write, tmp_path):
    """pandas writes lists into CSV in Python's notation, other programs in JSON's."""
    path = tmp_path / "c.csv"
    pd.DataFrame([{key: write(value) for key, value in CHATS["messages"](i).items()} for i in range(N)]).to_csv(path)
    task, rows, _ = rows_of(path)
    assert task == "local-instruct"
    assert [row.answer for row in rows] == [f"a{i}" for i in range(N)]
    assert rows[4].messages == (Message("user", "q4"),)


def test_turns_in_parts_are_read(tmp_path):
    turns = lambda i: [  # noqa: E731
        {"role": "user", "parts": [{"text": f"q{i}"}]},
        {"role": "model", "parts": [{"text": f"a{i}"}]},
    ]
    _, rows, _ = rows_of(jsonl(tmp_path / "c.jsonl", [{"contents": turns(i)} for i in range(N)]))
    assert (rows[4].messages, rows[4].answer) == ((Message("user", "q4"),), "a4")


@pytest.mark.parametrize("asked", [str, lambda text: [{"role": "user", "content": text}]])
def test_preference_data_do_not_ask_twice(asked, tmp_path):
    """The chosen conversation of preference data begins with the prompt that stands beside it."""
    chosen = lambda i: [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": f"a{i}"}]  # noqa: E731
    data = [{"prompt": asked(f"q{i}"), "chosen": chosen(i), "rejected": chosen(0)} for i in range(N)]
    _, rows, notes = rows_of(jsonl(tmp_path / "p.jsonl", data))
    assert rows[4].messages == (Message("user", "q4"),)
    assert rows[4].prompt == INSTRUCTION.format(prompt="q4")
    assert any("not used: 1 column (rejected)" in note for note in notes)


def test_numbers_among_words_are_one_label_each(tmp_path):
    values = [1, 1.0, "1", "1.0", "other", True]
    _, rows, _ = rows_of(jsonl(tmp_path / "d.jsonl", [{"text": f"t{i}", "label": values[i % 6]} for i in range(N)]))
    names = prepare("local-classify", {"data": str(tmp_path / "d.jsonl")}).label_names
    assert names == ("1", "other", "true")
    assert [names[row.label] for row in rows[:6]] == ["1", "1", "1", "1", "other", "true"]


def test_labels_that_differ_in_case_are_noted(tmp_path):
    rows = [{"text": f"t{i}", "label": ("Good", "good ", "bad")[i % 3]} for i in range(N)]
    notes = rows_of(jsonl(tmp_path / "d.jsonl", rows))[2]
    assert any("labels that differ in case alone are told apart: 'Good' and 'good'" in note for note in notes)


def test_quotes_after_spaces_are_quotes(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("text, label\n" + "".join(f'"a, {i}", "{"ab"[i % 2]}"\n' for i in range(N)))
    _, rows, notes = rows_of(path)
    assert prepare("local-classify", {"data": str(path)}).label_names == ("a", "b")
    assert rows[3].text == "a, 3"
    assert any("spaces between a separator and a quote are left out" in note for note in notes)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        (
            "d.csv",
            "version https://git-lfs.github.com/spec/v1\noid sha256:4d\n",
            "a pointer of Git LFS, .* git lfs pull",
        ),
        ("d.parquet", "version https://git-lfs.github.com/spec/v1\noid sha256:4d\n", "a pointer of Git LFS"),
        ("d.csv", "<!DOCTYPE html>\n<html><body>404</body></html>", "a web page, not data"),
        ("d.csv", "# made by a program\ntext,label\na,b\n", "line 2: 2 fields .* stand above the columns' names"),
        ("d.jsonl", '{"text": "a", "labels": ["x"]}\n' * 9, r"the file has text, labels \(lists\)"),
        ("d.csv", "text\n" + "some words\n" * 9, r"to learn the text itself, --task local-text"),
    ],
)
def test_what_is_no_table_of_rows_is_refused_in_its_own_words(name, content, told, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(CdkaError, match=told):
        rows_of(tmp_path / name)


def archive(path, files):
    with zipfile.ZipFile(path, "w") as out:
        for name, content in files.items():
            out.writestr(name, content)
    return path


def test_an_archive_is_read_as_the_folder_that_it_holds(tmp_path):
    rows = "text,label\n" + "".join(f"t{i},{i % 2}\n" for i in range(N))
    path = archive(tmp_path / "d.zip", {"d/train.csv": rows, "d/.DS_Store": "x", "__MACOSX/d/._train.csv": "\0"})
    task, options = task_for(str(path), {})
    assert (task, options["data"]) == ("local-classify", str(path))
    assert sum(map(len, prepare(task, options).rows.values())) == N
    archive(path, {"d/train.csv": rows + "more,1\n"})
    with pytest.raises(CdkaError, match="has changed since this run was planned"):
        prepare(task, options)
    (tmp_path / "broken.zip").write_bytes(path.read_bytes()[:40])
    with pytest.raises(CdkaError, match=r"broken\.zip cannot be unpacked: .* Unpack it and name the folder"):
        rows_of(tmp_path / "broken.zip")


def test_an_archive_writes_nothing_outside_its_folder(tmp_path):
    rows = "text,label\n" + "".join(f"t{i},{i % 2}\n" for i in range(N))
    path = archive(tmp_path / "sub.zip", {"../../escaped.csv": rows, "/tmp/absolute.csv": rows, "good.csv": rows})
    assert len(rows_of(path)[1]) == N
    assert not list(tmp_path.rglob("escaped.csv"))


def test_a_system_prompt_in_its_own_column_goes_before_the_turns(tmp_path):
    turns = lambda i: [{"from": "human", "value": f"q{i}"}, {"from": "AI", "value": f"a{i}"}]  # noqa: E731
    path = jsonl(tmp_path / "s.jsonl", [{"system": f"be kind {i}", "conversations": turns(i)} for i in range(N)])
    _, rows, notes = rows_of(path)
    assert rows[2].messages == (Message("system", "be kind 2"), Message("user", "q2"))
    assert not any("not used" in note for note in notes)
    assert rows_of(path, {"system_column": "none"})[1][2].messages == (Message("user", "q2"),)
    twice = [{"system": "x", "messages": [{"role": "system", "content": "y"}, *CHATS["messages"](0)["messages"]]}] * 3
    with pytest.raises(CdkaError, match="line 1: a system prompt in 'system' and another among the turns"):
        rows_of(jsonl(tmp_path / "t.jsonl", twice))


def test_an_answer_of_weight_zero_is_context_alone(tmp_path):
    said = lambda i: [  # noqa: E731
        *({"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": "a1", "weight": 0}),
        *({"role": "user", "content": "q2"}, {"role": "assistant", "content": "a2", "weight": 1}),
    ]
    _, rows, _ = rows_of(jsonl(tmp_path / "w.jsonl", [{"messages": said(i)} for i in range(N)]))
    assert [row.answer for row in rows] == ["a2"] * N
    assert [turn.content for turn in rows[0].messages] == ["q0", "a1", "q2"]


def test_chosen_conversations_are_read_where_no_column_asks(tmp_path):
    chat = lambda i, answer: [{"role": "user", "content": f"q{i}"}, {"role": "assistant", "content": answer}]  # noqa: E731
    path = jsonl(tmp_path / "d.jsonl", [{"chosen": chat(i, "yes"), "rejected": chat(i, "no")} for i in range(N)])
    task, rows, notes = rows_of(path)
    assert (task, {row.answer for row in rows}) == ("local-instruct", {"yes"})
    assert any("not used: 1 column (rejected)" in note for note in notes)


def test_labels_that_look_like_a_slip_are_noted(tmp_path):
    path = tmp_path / "l.csv"
    path.write_text("text,label\n" + "".join(f"t{i},{-1 if i < 4 else i % 3}\n" for i in range(N)) + "last,3\n")
    notes = rows_of(path)[2]
    assert any("4 of 31 examples have the label -1, a class like any other here" in note for note in notes)
    assert any("only one example has the label '3'" in note for note in notes)


def test_a_file_that_lacks_a_needed_column_is_named(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\n" + "".join(f"t{i},{i % 2}\n" for i in range(N)))
    (tmp_path / "validation.csv").write_text("text,klass\n" + "".join(f"v{i},{i % 2}\n" for i in range(5)))
    (tmp_path / "test.csv").write_text("texts,label\n" + "".join(f"u{i},{i % 2}\n" for i in range(5)))
    with pytest.raises(CdkaError, match=r"test\.csv has no values in column 'text', which is needed"):
        task_for(str(tmp_path), {})
    (tmp_path / "test.csv").write_text("text,label\nu,0\nv,\n")
    with pytest.raises(CdkaError, match=r"1 row without a value that is needed \(test.csv, line 3\)"):
        task_for(str(tmp_path), {})


def test_a_folder_of_several_sets_asks_for_one(tmp_path):
    for name in ("cola", "sst2"):
        (tmp_path / "glue" / name).mkdir(parents=True)
        (tmp_path / "glue" / name / "train.csv").write_text("text,label\na,1\nb,0\n")
    with pytest.raises(CdkaError, match=r"holds several data sets: cola, sst2\. Name the folder of one"):
        task_for(str(tmp_path / "glue"), {})


def test_commas_of_prose_do_not_separate_columns(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("text;label\n" + "".join(f"well, {i};{i % 2}\n" for i in range(N)))
    header = path.read_text().replace("text;", "text, whole;", 1)
    path.write_text(header)
    _, rows, _ = rows_of(path, {"text_column": "text, whole"})
    assert rows[3].text == "well, 3"


def test_a_text_in_utf_16_is_read_and_a_table_called_txt_is_told(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("\n\n".join(f"Passage {i}." for i in range(N)), encoding="utf-16")
    assert sum(preview(*task_for(str(path), {})).examples.values()) == N
    path.write_text("text\tlabel\na\tb\n", encoding="utf-16")
    with pytest.raises(CdkaError, match=r"If it is a table, let its name end in \.csv or \.tsv"):
        preview(*task_for(str(path), {}))

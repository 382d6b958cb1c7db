"""Hostile and broken input at every door: one line, exit 0, 1 or 2, no traceback, no hang. A fuzzer, and what it found.

Bounded by default; ``-m slow`` feeds 10,000 inputs, in pieces.
"""

from __future__ import annotations

import ast
import csv
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from app import state, widgets
from app.learn import address
from cdka.cli.main import COMMANDS, main
from cdka.compare import bundle, exports
from cdka.errors import CdkaError
from cdka.models import locate
from cdka.models.catalogue import check_config, find_model
from cdka.paths import assets_dir
from cdka.runs.spec import RunSpec
from cdka.runs.store import Store
from cdka.sweep.planfile import read_plan
from cdka.tasks.files.table import read_file
from cdka.train.read_shapes import load_config

ROOT = Path(__file__).resolve().parents[1]
LIMIT_S = 60.0
"""Seconds for one input; a hang is what never ends, so it is generous on a loaded machine."""
SIGNS = (
    "",
    " ",
    "-",
    "--",
    "--=",
    "\\",
    "\n",
    "\t",
    "\r\n",
    "'",
    '"',
    "`",
    "$(x)",
    "%s%n",
    "{0}",
    "{}",
    "[]",
    "null",
    "NaN",
)
NUMBERS = (
    "inf",
    "-inf",
    "1e999",
    "-0",
    "0x10",
    "²",
    "٣",
    "1_000",
    "1,2",
    "2,8,4",
    "2,8,4,1",
    "0,0,0",
    "-1,-1,-1",
    "9" * 400,
)
PATHS = ("=HYPERLINK(1)", "../../etc/passwd", "~nobodyx/y", "~", "/", "/dev/null", "a" * 300, "b" * 70_000, "é" * 130)
TEXTS = (
    "\U0001f600",
    "\u202e",
    "\ud800",
    "a\0b",
    "<img src=x>",
    "![x](http://evil.example/x.png)",
    "a;b=c",
    "r1=",
    "a..b",
)
NAMES = (
    "lora:",
    "lora:0",
    "lora:-1",
    "5%",
    "-5%",
    "1e9%",
    "2.5M",
    "M",
    "digits-vit",
    "digits-flip",
    "r-x",
    "s-x",
    "list",
)
WORDS = (
    "http://",
    "file:///",
    "0.0.0.0",
    "::1",
    "auto",
    "all",
    "yes",
    "no",
    "true",
    "false",
    "none",
    "cuda:99",
    "b'x'",
)
NASTY = (*SIGNS, *NUMBERS, *PATHS, *TEXTS, *NAMES, *WORDS)
QUICK = (
    *("models", "tasks", "solve", "runs", "compare", "data", "import", "export", "add", "export-lora", "try", "sweep"),
    "run",
)
FLAGS = (
    *("--json", "--help", "--budget", "--target-modules", "--max-r1", "--max-r", "--top", "--status", "--sweep"),
    *("--search", "--model", "--data", "--pattern", "--name", "--metric", "--export", "--weights", "--to", "--prompt"),
    *("--against", "--components", "--rank", "--alpha", "--lr", "--steps", "--seed", "--device", "--batch-size"),
    *("--grid", "--seeds"),
)


@pytest.fixture
def quiet(monkeypatch, home):
    """Nothing is started or fetched by an input that happens to be right."""
    monkeypatch.setattr("cdka.engine.local.ensure_dispatcher", lambda *args, **more: False)
    monkeypatch.setattr("cdka.engine.local.wait", lambda *args, **more: [])
    monkeypatch.setattr("cdka.models.catalogue.shapes_of_hub_id", _unreachable)
    monkeypatch.chdir(home)


def _unreachable(hub_id, known_ids=()):
    raise CdkaError(f"the Hub cannot be reached for {hub_id!r}.")


def refused_in_one_line(argv, capsys):
    """The exit code of a command, after the checks that hold for any input."""
    started = time.monotonic()
    code = main(argv)
    err = capsys.readouterr().err
    assert code in (0, 1, 2), (argv, code)
    assert time.monotonic() - started < LIMIT_S, argv
    assert "Traceback" not in err, (argv, err)
    if code == 2:
        told = [line for line in err.splitlines() if line.startswith("cdka: ")]
        assert len(told) == 1, (argv, err)
        assert len(err.splitlines()) <= 3, (argv, err)
        assert len(told[0]) < 4_000, argv
    return code


def any_text(rng):
    kind = rng.random()
    if kind < 0.75:
        return rng.choice(NASTY)
    if kind < 0.9:
        return "".join(rng.choice(NASTY)[:20] for _ in range(3))
    codes = (rng.choice([rng.randrange(1, 128), rng.randrange(128, 0x2FFF)]) for _ in range(rng.randrange(1, 30)))
    return "".join(map(chr, codes))


def command_line(rng, capsys, folder):
    command = rng.choice(QUICK) if rng.random() < 0.9 else any_text(rng)
    if command in COMMANDS and command not in QUICK:
        command = "nonsense"
    argv = [command]
    for _ in range(rng.randrange(0, 5)):
        flag = rng.choice(FLAGS)
        argv += rng.choice([[flag], [flag, any_text(rng)], [f"{flag}={any_text(rng)}"], [any_text(rng)]])
    try:
        refused_in_one_line(argv, capsys)
    except SystemExit as left:  # --help
        if left.code:
            pytest.fail(f"{argv} left with {left.code}")


def plan_file(rng, capsys, folder):
    lines = []
    for _ in range(rng.randrange(0, 6)):
        key = rng.choice(
            ["model", "task", "grid", "seeds", "steps", "lr", "baselines", "arms", "budget", any_text(rng)]
        )
        value = rng.choice(
            ["3", "-1", "1e999", "true", "[]", "[1,2]", "{a=1}", json.dumps(any_text(rng)), any_text(rng)]
        )
        lines.append(rng.choice([f"{key} = {value}", f"[{key}]", f"[[{key}]]", any_text(rng)]))
    path = folder / "plan.toml"
    path.write_bytes("\n".join(lines).encode("utf-8", rng.choice(["replace", "surrogatepass"])))
    only_refused(lambda: read_plan(path))


def data_file(rng, capsys, folder):
    path = folder / f"data{rng.choice(['.csv', '.tsv', '.json', '.jsonl', '.parquet', '.arrow'])}"
    rows = [[any_text(rng)[:200] for _ in range(3)] for _ in range(rng.randrange(0, 5))]
    text = rng.choice(
        [
            "\n".join(",".join(row) for row in rows),
            json.dumps([dict(zip("abc", row, strict=True)) for row in rows]),
            "\n".join(json.dumps(row) for row in rows),
        ]
    )
    raw = bytearray(text.encode("utf-8", "replace"))
    for _ in range(rng.randrange(0, 4)):
        if raw:
            raw[rng.randrange(len(raw))] = rng.randrange(256)
    path.write_bytes(bytes(raw))
    only_refused(lambda: read_file(path))


def url(rng, capsys, folder):
    room = rng.choice(["design", "finetune", "align", "sweeps", "compare"])
    names = [*state.table(room), "x"]
    params = {rng.choice(names): [any_text(rng) for _ in range(rng.randrange(1, 3))] for _ in range(4)}
    values, notices = state.read_all(room, params)
    assert set(values) == set(state.table(room))
    assert all(len(notice) < 4_000 for notice in notices)


def store_bytes(rng, capsys, folder):
    place = folder / "store"
    if not place.exists():
        store = Store(place)
        spec = RunSpec("digits-vit", "digits-flip", components="2,8,4")
        store.create_sweep("x", {"kind": "grid"}, [spec.with_(seed=i) for i in range(4)])
        store.close()
    broken = folder / "broken"
    shutil.rmtree(broken, ignore_errors=True)
    shutil.copytree(place, broken)
    path = broken / "runs.sqlite3"
    raw = bytearray(path.read_bytes())
    for _ in range(rng.randrange(1, 30)):
        raw[rng.randrange(len(raw))] = rng.randrange(256)
    if rng.random() < 0.2:
        del raw[rng.randrange(len(raw)) :]
    path.write_bytes(bytes(raw))

    def read():
        store = Store(broken)
        try:
            for look in (store.runs, store.sweeps, store.counts, lambda: store.events(store.runs()[0].run_id)):
                only_refused(look, also=IndexError)
        finally:
            store.close()

    only_refused(read)


def claim_bundle(rng, capsys, folder):
    source = assets_dir() / "compare-example.zip"
    path = folder / "claim.zip"
    if rng.random() < 0.5:
        with zipfile.ZipFile(source) as whole, zipfile.ZipFile(path, "w") as other:
            for name in whole.namelist():
                body = bytearray(whole.read(name))
                if rng.random() < 0.2 and body:
                    body[rng.randrange(len(body))] = rng.randrange(256)
                strange = "".join(c for c in any_text(rng)[:100] if c.isprintable()) or "x"
                other.writestr(name if rng.random() < 0.95 else strange, bytes(body))
    else:
        raw = bytearray(source.read_bytes())
        for _ in range(rng.randrange(1, 20)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        path.write_bytes(bytes(raw))
    only_refused(lambda: bundle.import_bundle(path, folder / "home"))


def only_refused(act, also=CdkaError):
    """Call ``act``, which does what it should or refuses in one short line."""
    started = time.monotonic()
    try:
        act()
    except also:
        pass
    except CdkaError as refusal:
        if "\n" in str(refusal).strip() or len(str(refusal)) > 4_000:
            pytest.fail(f"not one short line: {refusal}")
    assert time.monotonic() - started < LIMIT_S


DOORS = {command_line: 1.0, plan_file: 1.0, data_file: 1.0, url: 1.0, store_bytes: 0.5, claim_bundle: 0.2}
"""What takes bytes and text from outside, with the share of inputs that each is given: some are slow."""
PIECES = [(0, 10), *(pytest.param((seed, 107), marks=pytest.mark.slow) for seed in range(1, 21))]
"""(seed, inputs): 47 in all by default, 20 times 502 with ``-m slow``."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("piece", PIECES, ids=str)
@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.__name__)
def test_no_input_makes_a_traceback_or_a_hang(door, piece, quiet, capsys, tmp_path):
    seed, inputs = piece
    for number in range(max(1, round(inputs * DOORS[door]))):
        door(random.Random(f"{door.__name__} {seed} {number}"), capsys, tmp_path)


ONCE = (
    ["sweep", "--pattern=--"],
    ["runs", "--search=--", "--status=--"],
    ["runs", "show", "a" * 300],
    ["solve", "a" * 300, "--budget", "1M"],
    ["solve", "~nobodyx/y", "--budget", "1M"],
    ["studio", "--host", "a..b", "--no-browser"],
    ["sweep", "--name", "\udcff", "--model", "digits-vit", "--task", "digits-flip"],
    ["data", "x" * 5000 + ".csv"],
    ["tasks", "b" * 70_000],
    ["try", "a\0b", "--prompt", "x"],
)


@pytest.mark.parametrize("argv", ONCE, ids=lambda argv: ascii(" ".join(argv))[1:25])
def test_what_was_a_traceback_once_is_one_line(argv, quiet, capsys):
    assert refused_in_one_line(argv, capsys) == 2


@pytest.mark.parametrize(
    ("command", "environment", "code"),
    [
        ("runs >&-", {}, 0),
        ("runs 2>&-", {}, 0),
        ("try r-22222222 <&-", {}, 2),
        ("tasks", {"PYTHONIOENCODING": "ascii"}, 0),
        ("runs", {"CDKA_HOME": "~nobodyx/y"}, 2),
    ],
    ids=["closed stdout", "closed stderr", "closed stdin", "ascii", "unknown user"],
)
def test_no_terminal_and_no_home_breaks_a_command(home, command, environment, code):
    variables = {**os.environ, "CDKA_HOME": str(home), **environment}
    done = subprocess.run(f"{sys.executable} -m cdka {command}", shell=True, capture_output=True, env=variables)
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr


def test_a_refusal_does_not_echo_what_was_pasted(quiet, capsys):
    assert main(["tasks", "b" * 70_000]) == 2
    told = capsys.readouterr().err
    assert len(told) < 1_000
    assert "characters ...]" in told
    assert str(CdkaError("short stays short: got 'x'.")) == "short stays short: got 'x'."
    assert str(CdkaError("w " * 5000 + "next step.")).endswith("next step.")


def test_dates_are_told_as_json(capsys):
    from cdka.terminal import print_json

    print_json({"when": pd.Timestamp("2024-05-01"), "missing": pd.NaT, "raw": b"\xff", "half": "\ud800"})
    assert json.loads(capsys.readouterr().out)["when"] == "2024-05-01T00:00:00"


def test_a_number_of_an_address_is_more_than_a_digit(monkeypatch):
    monkeypatch.setattr(address.st, "query_params", {})
    monkeypatch.setattr(address.st, "session_state", {})
    address.go("²", 1)
    assert address.AT not in address.st.session_state


def test_a_table_for_a_spreadsheet_holds_no_formula():
    labels = ["=HYPERLINK(1)", "+1", "-2", "@x", "\tx", "plain"]
    frame = pd.DataFrame({"label": labels, "value": [-1.5, 2, 3, 4, 5, 6]})
    rows = list(csv.reader(io.StringIO(exports.csv(frame).decode())))
    assert [row[0] for row in rows[1:]] == ["'=HYPERLINK(1)", "'+1", "'-2", "'@x", "'\tx", "plain"]
    assert rows[1][1] == "-1.5", "a number stays a number"


def test_a_foreign_text_is_no_markdown():
    text = widgets.literal("![x](http://evil.example/x.png) <b> $x$ :red[y]")
    assert "![" not in text
    assert "](" not in text
    assert "<b>" not in text


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": 1e300},
        {"hidden_size": 2**40},
        {"text_config": {"depth": 10**7}},
    ],
    ids=str,
)
def test_a_config_with_numbers_that_no_model_has_is_refused_at_once(changes, tmp_path):
    config = json.loads((assets_dir() / "digits-vit" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(CdkaError, match="a number that a model has"):
        find_model(str(tmp_path))
    check_config({"vocab_size": 262_144, "rope_theta": 1e9, "max_position_embeddings": 10_485_760}, "a real one")


@pytest.mark.parametrize("name", ["../../outside.safetensors", "/etc/passwd", "..", "", 3])
def test_an_index_that_points_outside_its_folder_is_refused(name, tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": name}}))
    with pytest.raises(CdkaError, match="of its own folder alone"):
        locate.check_index(index)
    index.write_text(json.dumps({"weight_map": {"w": "model-00001-of-00001.safetensors"}}))
    locate.check_index(index)


def test_attention_from_elsewhere_is_dropped(tmp_path):
    from transformers import AutoConfig

    config = json.loads((assets_dir() / "digits-vit" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "_attn_implementation": "somebody/their-kernel"}))
    read = AutoConfig.from_pretrained(tmp_path)
    assert "their-kernel" in str(vars(read)), "transformers honours it: else this test proves nothing"
    assert "their-kernel" not in str(vars(load_config(tmp_path)))


def test_a_config_is_read_in_one_place_alone():
    """Where attention from elsewhere is dropped: whoever reads a config past it would have transformers fetch code."""
    readers = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "cdka").rglob("*.py")
        if "AutoConfig.from_pretrained(" in path.read_text(encoding="utf-8")
    }
    assert readers == {"cdka/train/read_shapes.py"}
    loaded_without = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in (ROOT / "cdka" / "train").rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(".from_pretrained")
        if re.search("AutoModel|maker|AUTO_CLASSES", ast.unparse(call.func))
        if "config" not in {word.arg for word in call.keywords} and path.name != "gguf.py"  # its config is in the file
    ]
    assert loaded_without == []


def test_attention_from_elsewhere_is_dropped_where_answers_are_asked(tmp_path, monkeypatch):
    from transformers import AutoModelForImageClassification

    from cdka.train.inference import load_adapter

    shutil.copytree(assets_dir() / "digits-vit", tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "_attn_implementation": "somebody/their-kernel"}))
    asked = []
    real = AutoModelForImageClassification.from_pretrained

    def noted(*args, **more):
        asked.append(str(vars(more["config"])))
        return real(*args, **more)

    monkeypatch.setattr(AutoModelForImageClassification, "from_pretrained", noted)
    load_adapter(tmp_path / "model")
    assert len(asked) == 1
    assert "their-kernel" not in asked[0]

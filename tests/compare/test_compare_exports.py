"""What leaves the comparison can be read back, and the script makes the same numbers again."""

from __future__ import annotations

import io
import json
import os
import random
import re
import subprocess
import sys
import zipfile
from dataclasses import replace

import nbformat
import pandas as pd
import pytest
from compare_store import fill
from compare_synthetic import FakeSource, grid
from nbclient import NotebookClient

from cdka.compare import exports
from cdka.compare.bundle import example
from cdka.compare.bundle.layout import check_metrics
from cdka.compare.comparison import compare
from cdka.compare.exports.script import notebook, read_claim, specs_of, write_reproduction
from cdka.compare.exports.tensorboard import write_tensorboard
from cdka.compare.report import methods_paragraph
from cdka.compare.source import StoreSource
from cdka.errors import CdkaError
from cdka.runs.spec import RunSpec
from cdka.runs.store import Store


@pytest.fixture
def source(tmp_path):
    store = Store(tmp_path / "home")
    return StoreSource(store, [fill(store, "ladder", grid(r1=(1, 2), seeds=2))], name="ladder")


def test_csv_and_parquet_hold_exactly_what_is_shown(source):
    comparison = compare(source)
    shown = comparison.arms["arm"].to_list()[:1]
    frame = exports.table(comparison, shown)
    assert set(frame["arm"]) == set(shown)
    back = pd.read_parquet(io.BytesIO(exports.parquet(frame)))
    pd.testing.assert_frame_equal(back, frame, check_dtype=False)
    text = pd.read_csv(io.BytesIO(exports.csv(frame)))
    assert text["value"].to_list() == frame["value"].to_list()
    assert text["run_id"].to_list() == frame["run_id"].to_list()


def test_tensorboard_files_are_read_back(source, tmp_path):
    comparison = compare(source)
    write_tensorboard(tmp_path / "tb", comparison, source)
    files = sorted((tmp_path / "tb").rglob("events.*"))
    assert len(files) == 4
    read = """
import sys; sys.modules["torch"] = None
import json
from tensorboardX.proto.event_pb2 import Event
out, data, at = [], open(sys.argv[1], "rb").read(), 0
while at < len(data):
    size = int.from_bytes(data[at:at + 8], "little")
    event = Event.FromString(data[at + 12:at + 12 + size]); at += 16 + size
    out += [(event.step, v.tag, v.simple_value) for v in event.summary.value if v.HasField("simple_value")]
print(json.dumps(out))
"""
    done = subprocess.run([sys.executable, "-c", read, str(files[0])], capture_output=True, text=True, check=True)
    run_id = files[0].parent.name.split("-", 2)[2]
    evals = source.curves([run_id]).query("kind == 'eval'")
    written = [(step, value) for step, tag, value in json.loads(done.stdout) if tag == "eval/accuracy"]
    assert [step for step, _ in written] == evals["step"].to_list()
    assert [value for _, value in written] == pytest.approx(evals["eval/accuracy"].to_list(), rel=1e-6)


def test_a_name_never_becomes_code(tmp_path):
    """A task option (or any text of a spec) that looks like Python stays in the data, whole."""
    evil = "'); raise SystemExit('owned') #\"\"\"\n'''"
    source = FakeSource(grid(r1=(1, 2), seeds=1, task_options={"file": evil}), lambda _: 0.8)
    source.name = evil
    comparison = compare(source)
    write_reproduction(tmp_path, comparison, source)
    compile((tmp_path / "reproduce.py").read_text(), "reproduce.py", "exec")
    assert "owned" not in (tmp_path / "reproduce.py").read_text() + (tmp_path / "reproduce.ipynb").read_text()
    found = read_claim(tmp_path / "reproduce.json")
    assert found["name"] == evil
    assert specs_of(found)[0].task_options["file"] == evil


HOSTILE = (
    'x"""\nimport os; os.system("true")\ndef z():\n    """y',
    "'''\nraise SystemExit\n'''",
    "{__import__('os')}",
    "\\N{BULLET}\\u000aimport os",
    "a\u2028import os\u2029",
    "\x00\r\nimport os",
    "`; import os #",
    "=HYPERLINK(1)",
)


def test_no_text_of_a_comparison_becomes_code(tmp_path):
    """Names of metrics, arms, models, tasks, options, runs, each hostile in turn: script and notebook stay the same."""
    plain = FakeSource(grid(r1=(1, 2), seeds=1), lambda _: 0.8)
    comparison = compare(plain)
    write_reproduction(tmp_path, comparison, plain)
    template = [(tmp_path / name).read_text() for name in ("reproduce.py", "reproduce.ipynb")]
    rng = random.Random(2602)
    for _ in range(200):
        text = "".join(rng.choice(HOSTILE) for _ in range(rng.randint(1, 3)))
        measure = replace(comparison.measure, metric=rng.choice((text, comparison.measure.metric)))
        columns = [name for name in ("arm_label", "label", "model", "task") if rng.random() < 0.5]
        made = replace(comparison, measure=measure, frame=comparison.frame.assign(**dict.fromkeys(columns, text)))
        source = FakeSource(grid(r1=(1, 2), seeds=1, task_options={text: text}), lambda _: 0.8)
        source.name = text
        write_reproduction(tmp_path, made, source)
        assert [(tmp_path / name).read_text() for name in ("reproduce.py", "reproduce.ipynb")] == template
        assert specs_of(read_claim(tmp_path / "reproduce.json"))[0].task_options == {text: text}


def test_the_data_of_a_reproduction_are_small(tmp_path):
    """90 runs: what they share stands once, and the code is a few lines."""
    bundle = example()
    write_reproduction(tmp_path, compare(bundle, bundle.measure()), bundle)
    assert (tmp_path / "reproduce.json").stat().st_size < 15_000
    assert len((tmp_path / "reproduce.py").read_text().splitlines()) < 15
    code = [
        cell for cell in json.loads((tmp_path / "reproduce.ipynb").read_text())["cells"] if cell["cell_type"] == "code"
    ]
    assert sum(len(cell["source"].splitlines()) for cell in code) < 10


def test_a_metric_with_a_name_that_is_no_name_is_refused():
    def fail(path, rule):
        return CdkaError(f"{path} {rule}")

    for text in HOSTILE:
        with pytest.raises(CdkaError, match="is no plain name of a metric"):
            check_metrics({text: 1.0}, fail, "metrics")
    check_metrics({"test/accuracy": 0.9, "balanced accuracy": 0.8}, fail, "metrics")


def test_script_and_notebook_reproduce_a_real_comparison(tmp_path):
    """Two real runs are trained, stored and exported: script and notebook train them again to the same digits."""
    pytest.importorskip("torch")
    from cdka.compare.anatomy import read_adapter
    from cdka.runs.resolve import spec_for

    store = Store(tmp_path / "home")
    specs: list[RunSpec] = [
        spec_for("digits-vit", "digits-flip", components="2,8,1", steps=4, eval_every=4, seed=1, device="cpu"),
        spec_for("digits-vit", "digits-flip", method="lora", rank=2, steps=4, eval_every=4, seed=1, device="cpu"),
    ]
    source = StoreSource(store, [trained(store, specs)], name="real")
    comparison = compare(source)
    recorded = comparison.frame["value"].to_list()
    assert len(recorded) == 2
    cdka, lora = (read_adapter(run.adapter_dir) for run in store.runs())
    assert (cdka[0].components.as_tuple(), lora[0].components.as_tuple()) == ((2, 8, 1), (1, 1, 2))
    counts = comparison.frame["num_params"].to_list()
    assert [sum(factors.num_params for factors in layers) for layers in (cdka, lora)] == counts

    write_reproduction(tmp_path, comparison, source)
    environment = {**os.environ, "CDKA_HOME": str(tmp_path / "elsewhere"), "PLOTLY_RENDERER": "plotly_mimetype"}
    command = [sys.executable, "reproduce.py"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for value in recorded:
        assert len(re.findall(rf" {re.escape(str(value))}  +{re.escape(str(value))}$", done.stdout, re.MULTILINE)) == 1
    again = Store(tmp_path / "elsewhere").runs()
    assert [run.status for run in again] == ["done", "done"]
    assert all((run.adapter_dir / "adapter_model.safetensors").is_file() for run in again)


def trained(store, specs):
    """The sweep of these runs, each trained here; its id."""
    from cdka.runs import job_queue
    from cdka.runs.job_queue import Batch
    from cdka.runs.resolve import resolve_runs
    from cdka.train.loop import train

    sweep_id = store.create_sweep("real", {}, specs)
    for spec in specs:
        job = job_queue.reserve(store.database, lambda _: "cpu:0")
        ((run_id, attempt),) = job.runs
        job_queue.claim(store.database, run_id, attempt, (1, "0", "test"))
        sent = [event for _, event in train(resolve_runs([spec]), [store.run(run_id).directory])]
        job_queue.record_events(store.database, [Batch(run_id, attempt, 0, sent)])
    return sweep_id


@pytest.mark.parametrize("task", ["local-instruct", "local-regress"])
def test_runs_on_data_of_ones_own_are_exported_and_trained_again(task, tmp_path):
    """Every export takes them; the reproduction names the file, its columns and digest, and refuses another file."""
    pytest.importorskip("torch")
    from cdka.compare.bundle import open_bundle
    from cdka.runs.resolve import resolve_runs, spec_for
    from cdka.tasks.files.preview import task_for
    from cdka.train.loop import train

    path = tmp_path / "mine.csv"
    rows = "".join(f"{i % 10}+{i // 10}=,{i % 10 + i // 10},{i}.5\n" for i in range(60))
    path.write_text("prompt,answer,score\n" + rows)
    given = {"template": "{prompt}"}  # the model has 64 positions
    if task == "local-regress":
        given = {"text_column": "prompt", "number_column": "score"}
    found, options = task_for(str(path), given, task)
    assert found == task
    store = Store(tmp_path / "home")
    settings = {"steps": 2, "eval_every": 2, "batch_size": 4, "device": "cpu", "max_length": 64}
    specs = [spec_for("math-lm", task, components=c, task_options=options, **settings) for c in ("2,2,1", "1,2,1")]
    source = StoreSource(store, [trained(store, specs)], name="mine")
    comparison = compare(source)
    assert comparison.frame["value"].notna().all()
    assert comparison.measure.metric == ("test/spearman" if task == "local-regress" else "test/accuracy")
    for suffix in (".csv", ".parquet", ".py", ".ipynb", ".zip"):
        assert exports.export(comparison, source, tmp_path / f"out{suffix}").stat().st_size > 100
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert not any("mine.csv" in name for name in archive.namelist()), "the data themselves stay at home"
    bundle = open_bundle(tmp_path / "out.zip")
    assert compare(bundle, comparison.measure).frame["value"].to_list() == comparison.frame["value"].to_list()
    claim = read_claim(tmp_path / "out.json")
    again = specs_of(claim)
    assert {spec.task_options["data"] for spec in again} == {str(path)}
    ends = [
        [event for _, event in train(resolve_runs([spec]), [tmp_path / f"again-{i}"])][-1]
        for i, spec in enumerate(again)
    ]
    assert [end.metrics[comparison.measure.metric] for end in ends] == [run["value"] for run in claim["runs"]]
    path.write_text(path.read_text() + "1+1=,2,9.5\n")
    with pytest.raises(CdkaError, match="has changed since this run was planned"):
        list(train(resolve_runs(again[:1]), [tmp_path / "changed"]))


@pytest.mark.slow
def test_the_notebook_of_a_comparison_runs(source, tmp_path):
    bundle = example()
    comparison = compare(bundle, bundle.measure())
    few = replace(comparison, frame=comparison.frame.head(2))
    write_reproduction(tmp_path, few, bundle)
    book = nbformat.reads((tmp_path / "reproduce.ipynb").read_text(), as_version=4)
    NotebookClient(book, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    told = json.dumps([cell.get("outputs") for cell in book.cells])
    assert "reproduced" in told
    assert "application/vnd.plotly" in told


def test_a_notebook_is_nbformat_4():
    document = json.loads(notebook())
    assert (document["nbformat"], document["nbformat_minor"]) == (4, 5)
    nbformat.validate(document)
    for cell in document["cells"]:
        assert {"cell_type", "id", "metadata", "source"} <= set(cell)
        assert (cell["cell_type"] == "code") == ("outputs" in cell)


def test_adapters_come_one_folder_per_run(source):
    from cdka.compare.exports.adapters import zip_adapters

    def zipped(arms):
        steps = []
        work = zip_adapters(comparison, source, arms, lora=True)
        while True:
            try:
                steps.append(next(work))
            except StopIteration as end:
                return end.value, steps

    comparison = compare(source)
    shown = comparison.arms["arm"].to_list()
    body, steps = zipped(shown)
    assert steps == [{"done": done, "of": 4} for done in (1, 2, 3, 4)]
    names = zipfile.ZipFile(io.BytesIO(body)).namelist()
    assert len(names) == 8
    assert sum(name.endswith("adapter_model.safetensors") for name in names) == 4
    with pytest.raises(CdkaError, match="none of the shown runs has an adapter"):
        zipped([])


def test_methods_paragraph_says_what_was_done_from_the_runs(source):
    text = methods_paragraph(compare(source), source)
    for words in (
        "digits-vit on digits-flip",
        "2 configurations (2 cdka)",
        "2 seeds each",
        "120 steps",
        "Holm",
        "torch 2.13.0",
        "test accuracy at the end",
        "4 finished runs of 4 started",
    ):
        assert words in text


def test_exports_by_suffix_and_unwritable_targets(source, tmp_path):
    comparison = compare(source)
    for suffix in (".csv", ".parquet", ".py", ".ipynb"):
        assert exports.export(comparison, source, tmp_path / f"out{suffix}").stat().st_size > 100
    with pytest.raises(CdkaError, match="could not be written"):
        exports.export(comparison, source, tmp_path / "missing" / "out.csv")

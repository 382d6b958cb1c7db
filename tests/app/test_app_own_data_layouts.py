"""Every layout of data of your own in Fine-tune, Sweeps and Align: named by its path, shown, mapped and launched."""

from __future__ import annotations

import pytest
from own_data_layouts import LAYOUTS

from cdka import align
from cdka.runs.store import Store

NAMES = [name if name in ("pairs", "pictures") else pytest.param(name, marks=pytest.mark.slow) for name in LAYOUTS]


@pytest.fixture(autouse=True)
def _idle(monkeypatch):
    for module in ("app.finetune.live_panel", "app.finetune.actions", "cdka.engine.local"):
        monkeypatch.setattr(f"{module}.ensure_dispatcher", lambda store: True)


MODELS = {"llama": "math-lm", "vit": "digits-vit"}
"""The embedded model of each family: the rooms only plan here."""


def shown_in(app, layout) -> None:
    """The room shows the data's rows by split, and uses the columns that the layout means."""
    assert not app.exception
    text = " ".join(element.value for element in app.markdown)
    assert "Your data:" in text
    chosen = {
        element.key.split("-")[1]: element.value for element in app.selectbox if "_column-" in (element.key or "")
    }
    assert chosen.items() >= layout.columns.items()


def launched(layout, path) -> None:
    specs = [run.spec for run in Store().runs()]
    assert specs
    assert {spec.task for spec in specs} == {layout.task}
    for options in (spec.task_options for spec in specs):
        assert options["data"] == str(path)
        assert len(options["sha256"]) == 64
        assert options.items() >= layout.columns.items()


@pytest.mark.parametrize("name", NAMES)
def test_finetune_takes_the_layout(name, room, tmp_path):
    layout = LAYOUTS[name]
    path = layout.write(tmp_path)
    app = room("finetune", on=MODELS[layout.model], task=layout.task, basket=["2,2,1"])
    app.text_input(key="data-path").set_value(str(path)).run()
    shown_in(app, layout)
    app.button(key="launch").click().run()
    launched(layout, path)


@pytest.mark.parametrize("name", NAMES)
def test_sweeps_take_the_layout(name, room, tmp_path):
    layout = LAYOUTS[name]
    path = layout.write(tmp_path)
    app = room("sweeps", plan_model=MODELS[layout.model], plan_task=layout.task, axis_r1="1", axis_r2="2", axis_r="1")
    app.text_input(key="data-path").set_value(str(path)).run()
    shown_in(app, layout)
    app.button(key="sweep-launch").click().run()
    launched(layout, path)


@pytest.mark.parametrize("name", NAMES)
def test_align_takes_the_layout(name, room, tmp_path, monkeypatch):
    layout = LAYOUTS[name]
    path = layout.write(tmp_path)
    asked = []
    monkeypatch.setattr(align, "start", asked.append)
    app = room("align", align_model=MODELS[layout.model], align_task=layout.task)
    app.text_input(key="data-path").set_value(str(path)).run()
    shown_in(app, layout)
    app.button(key="measure").click().run()
    assert not app.exception
    (request,) = asked
    assert request.task == layout.task
    assert request.task_options["data"] == str(path)
    assert request.task_options.items() >= layout.columns.items()

"""The Align room: alive with theory before a measurement, the measurement when it is there."""

from __future__ import annotations

import numpy as np
import pytest

from app.align import numbers
from cdka import align
from cdka.align import AlignRecord, AlignRequest
from cdka.components import Components
from cdka.solver import evaluate

REQUEST = AlignRequest("digits-vit", "digits-flip").with_grid()


def texts(app) -> str:
    return " ".join(element.value for element in app.markdown)


@pytest.fixture
def measured():
    """A record on the shelf whose measured values are recognisable."""
    theory = numbers.predicted(REQUEST)
    overall = []
    for row in theory.itertuples():
        known = dict(row._asdict(), measured=0.9 * row.predicted, measured_sd=0.01, best=0.97)
        known.setdefault("predicted_by_energy", row.predicted)
        overall.append(tuple(known.get(name, row.predicted) for name in align.OVERALL_COLUMNS))
    layer = "vit.layers.0.mlp.fc1"
    layers = []
    for row in theory.itertuples():
        known = {"path": layer, "r1": row.r1, "r2": row.r2, "r": row.r, "measured": 0.123}
        layers.append(tuple(known.get(name, 0.1) for name in align.LAYER_COLUMNS))
    spectra = [(layer, *(1.0 for _ in align.SPECTRUM_COLUMNS[1:]))]
    record = AlignRecord(REQUEST, tuple(overall), tuple(layers), tuple(spectra), 24, 24)
    record.write(align.lab.record_file(REQUEST))
    return record


def shown(app) -> str:
    """The specifications of all charts on the page, as text."""
    return " ".join(chart.proto.spec for chart in app.get("vega_lite_chart"))


def test_theory_is_shown_before_anything_is_measured(room):
    app = room("align")
    assert app.button(key="measure").label == "Measure on a real gradient"
    assert "So far this is theory" in texts(app)
    assert "What does theory predict?" in shown(app)


def test_the_prediction_is_the_solvers_number():
    rows = numbers.predicted(REQUEST).set_index(["r1", "r2", "r"])
    for triple in ((1, 1, 1), (2, 8, 4), (16, 64, 2)):
        option = evaluate("digits-vit", Components(*triple))
        assert np.isclose(rows.loc[triple, "predicted"], option.alignment)
        assert rows.loc[triple, "num_params"] == option.num_params


def test_a_measurement_on_the_shelf_is_shown_at_once(room, measured):
    app = room("align", align_r="4")
    assert "Measured; asking again costs nothing." in texts(app)
    assert app.select_slider(key="align_r").value == 4
    assert "What does a real gradient say?" in shown(app)
    app.selectbox(key="align-layer").set_value("vit.layers.0.mlp.fc1").run()
    assert not app.exception


def test_the_button_starts_one_measurement(room, monkeypatch):
    asked = []
    monkeypatch.setattr(align, "start", asked.append)
    app = room("align")
    app.button(key="measure").click().run()
    assert asked == [REQUEST]


def test_a_model_without_a_task_is_told_in_place(room):
    app = room("align", align_model="bert-base")
    assert not app.exception

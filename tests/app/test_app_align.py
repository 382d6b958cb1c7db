"""The Align room: alive with theory before a measurement, the measurement when it is there."""

from __future__ import annotations

import numpy as np
import pytest

from app.align import alignment_tables
from cdka import align
from cdka.align import AlignRecord, AlignRequest
from cdka.align.record import record_file
from cdka.components import Components
from cdka.models.targets import select
from cdka.solver import evaluate

REQUEST = AlignRequest("digits-vit", "digits-flip").with_grid()


def texts(app) -> str:
    return " ".join(element.value for element in app.markdown)


@pytest.fixture
def measured():
    """A record on the shelf whose measured values are recognisable."""
    theory = alignment_tables.predicted(REQUEST)
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
    record.write(record_file(REQUEST))
    return record


def shown(app) -> str:
    """The titles and the specifications of all charts on the page, as text."""
    return " ".join([texts(app), *(chart.proto.spec for chart in app.get("vega_lite_chart"))])


def test_theory_is_shown_before_anything_is_measured(room):
    app = room("align")
    assert app.button(key="measure").label == "Measure on a real gradient"
    assert "So far this is theory" in texts(app)
    assert "What does theory predict?" in shown(app)


def test_the_prediction_is_the_solvers_number():
    rows = alignment_tables.predicted(REQUEST).set_index(["r1", "r2", "r"])
    for triple in ((1, 1, 1), (2, 8, 4), (16, 64, 2)):
        option = evaluate("digits-vit", Components(*triple))
        assert np.isclose(rows.loc[triple, "predicted"], option.alignment)
        assert rows.loc[triple, "num_params"] == option.num_params


def test_a_measurement_on_the_shelf_is_shown_at_once(room, measured):
    app = room("align", align_r="4")
    assert "Measured, and kept: it is shown at once next time." in texts(app)
    assert app.select_slider(key="align_r").value == 4
    assert "Measured on a real gradient" in shown(app)
    app.selectbox(key="align-layer").set_value("vit.layers.0.mlp.fc1").run()
    assert not app.exception


def test_the_button_starts_one_measurement(room, monkeypatch):
    asked = []
    monkeypatch.setattr(align, "start", asked.append)
    app = room("align")
    app.button(key="measure").click().run()
    assert asked == [REQUEST]


@pytest.mark.parametrize("model", ["digits-vit", "llama-2-7b", "gpt2"])
@pytest.mark.parametrize("r", [1, 3])
def test_along_a_contour_the_parameters_are_those_of_lora(model, r):
    """The map is read back: where a line lies, r1 and r2 (between divisors too) cost what the label says."""
    asked = AlignRequest(model, "digits-flip" if model == "digits-vit" else "metamath-gsm8k").with_grid()
    lines = alignment_tables.contours(asked, r)
    linears = select(asked.shapes(), "all-linear")
    outs, ins = (sum(s.count * getattr(s, name) for s in linears) for name in ("out_features", "in_features"))
    assert set(lines["branch"]) == {"wide", "tall"}

    def value(place, values):  # the inverse of ``position`` on powers of two and whatever else divides
        logs = np.log2(values)
        ends = [logs[0] - (logs[1] - logs[0]) / 2, *logs, logs[-1] + (logs[-1] - logs[-2]) / 2]
        return 2 ** np.interp(place, [0, *(np.arange(len(values)) + 0.5), len(values)], ends)

    r1, r2 = value(lines["y"], asked.r1_values), value(lines["x"], asked.r2_values)
    cost = r * (r2 / r1 * outs + r1 / r2 * ins)
    np.testing.assert_allclose(cost, lines["num_params"], rtol=1e-6)
    for level, told in lines.groupby("level")["num_params"].first().items():
        assert told == evaluate(model, (1, 1, level)).num_params


def test_the_map_picks_an_option_and_design_takes_it_over(room, measured):
    app = room("align", align_r1="4", align_r2="16", align_r="2")
    assert [app.select_slider(key=f"align_{name}").value for name in ("r1", "r2", "r")] == [4, 16, 2]
    assert "Which layers align at cdka 4," in shown(app)
    app.button(key="align-design").click().run()
    assert [app.number_input(key=name).value for name in ("r1", "r2", "r")] == [4, 16, 2]


def test_layers_are_told_one_by_one_or_by_kind(measured):
    one = alignment_tables.layers(REQUEST, measured, Components(2, 8, 1))
    assert list(one["layer"]) == ["layers.0.mlp.fc1"]
    assert one["measured"].item() == 0.123
    assert one["share"].item() == 1.0
    theory = alignment_tables.layers(
        AlignRequest("llama-2-7b", "metamath-gsm8k").with_grid(), None, Components(2, 8, 1)
    )
    assert theory["count"].sum() == 224
    assert theory["predicted"].min() == Components(2, 8, 1).alignment(11008)


def test_a_grid_that_does_not_have_the_option_shows_the_nearest(room):
    app = room("align", align_model="math-lm", align_task="math-chain", align_r1="3", align_r2="60000", align_r="5")
    values = [app.select_slider(key=f"align_{name}").value for name in ("r1", "r2", "r")]
    grid = AlignRequest("math-lm", "math-chain").with_grid()
    assert values[0] in grid.r1_values
    assert values[1] == grid.r2_values[-1]
    assert values[2] == 4


def test_bargains_are_the_best_of_their_cost_among_the_map():
    rows = alignment_tables.predicted(REQUEST)
    worth = alignment_tables.bargains(rows)
    for row in worth.itertuples():
        same = rows[(rows["r"] == row.r) & (rows["num_params"] <= row.num_params)]
        assert row.predicted >= same["predicted"].max() - 1e-12
    lora = alignment_tables.lora(REQUEST, rows)
    assert (lora["num_params"] <= rows["num_params"].max()).all()
    assert evaluate("digits-vit", (1, 1, 8)).alignment in set(lora["predicted"])


def test_a_model_without_a_task_is_told_in_place(room):
    app = room("align", align_model="bert-base")
    assert not app.exception

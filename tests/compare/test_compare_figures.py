"""Figures are valid Plotly, show what they say, and never change a number that is not hidden."""

from __future__ import annotations

import math
import shutil
from itertools import pairwise

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from compare_synthetic import IN, OUT, FakeSource, grid, params

from cdka.compare.comparison import compare
from cdka.compare.exports import figures as exported
from cdka.compare.figures.curves import curve_figure
from cdka.compare.figures.heatmap import equal_parameter_lines, heatmap_figure
from cdka.compare.figures.scatter import _ticks, difference_figure, scatter_figure
from cdka.compare.figures.style import spread_labels
from cdka.compare.untried import specs_for, untried_cells
from cdka.components import Components
from cdka.palette import DARK, LIGHT
from cdka.runs.spec import RunSpec


def effect(spec: RunSpec) -> float:
    return 0.7 if spec.components is None else 0.7 - 0.05 * math.log2(spec.components.r1)


@pytest.fixture(scope="module")
def source():
    lora = [
        RunSpec("digits-vit", "digits-flip", method="lora", rank=2, seed=s, steps=120, lr=2e-3, alpha=8.0)
        for s in range(3)
    ]
    return FakeSource([*grid(r1=(1, 2, 4), r2=(2, 4), r=(1, 2)), *lora], effect)


@pytest.fixture(scope="module")
def comparison(source):
    return compare(source)


def valid(figure: go.Figure) -> go.Figure:
    """The figures are built unchecked, for speed: check every property here."""
    return go.Figure(figure.to_dict(), skip_invalid=False)


@pytest.mark.parametrize("dark", [False, True])
def test_every_figure_is_valid_plotly(source, comparison, dark):
    theme = DARK if dark else LIGHT
    shown = comparison.arms["arm"].to_list()
    curves = source.curves(comparison.frame["run_id"].to_list())
    cells, _ = untried_cells(comparison)
    for figure in (
        *(
            curve_figure(curves, comparison, shown, facet=f, x=x, y=y, theme=theme)
            for f, x, y in (
                (None, "step", "eval/accuracy"),
                ("r1", "elapsed_s", "eval/loss"),
                ("r", "samples", "eval/accuracy"),
            )
        ),
        heatmap_figure(comparison, shown, cells, theme=theme),
        scatter_figure(comparison, shown, "seconds", theme=theme),
        difference_figure(comparison, shown, theme=theme),
    ):
        checked = valid(figure)
        assert checked.layout.title.text
        assert len(checked.data) > 0


def test_a_band_is_the_interval_over_seeds_and_the_bold_line_its_mean(source, comparison):
    arm = comparison.arms["arm"].iloc[0]
    curves = source.curves(comparison.frame["run_id"].to_list())
    bold = [t for t in curve_figure(curves, comparison, [arm]).data if t.customdata is not None]
    assert len(bold) == 1
    own = curves[curves["run_id"].isin(comparison.frame.loc[comparison.frame["arm"] == arm, "run_id"])]
    by_step = own.groupby("step")["eval/accuracy"]
    np.testing.assert_allclose(bold[0].x, list(by_step.groups))
    np.testing.assert_allclose(bold[0].y, by_step.mean(), rtol=1e-6)
    half = 4.302653 * by_step.std() / math.sqrt(3)
    np.testing.assert_allclose(bold[0].customdata[:, 1], by_step.mean() + half, rtol=1e-5)


def test_hiding_an_arm_changes_no_other_curve(source, comparison):
    shown = comparison.arms["arm"].to_list()
    curves = source.curves(comparison.frame["run_id"].to_list())

    def means(arms):
        return {t.name: t.y.tolist() for t in curve_figure(curves, comparison, arms).data if t.customdata is not None}

    whole, rest = means(shown), means(shown[1:])
    assert rest == {name: y for name, y in whole.items() if name in rest}
    assert len(rest) == len(whole) - 1


def test_the_mean_ends_where_the_first_seed_ends():
    source = FakeSource(grid(r1=(1,)), effect, status={"run-0001": "running"})
    found = compare(source)
    curves = source.curves(["run-0000", "run-0001", "run-0002"])
    bold = next(t for t in curve_figure(curves, found, found.arms["arm"].to_list()).data if t.customdata is not None)
    assert max(bold.x) == 60
    assert set(bold.customdata[:, 2]) == {3.0}


def test_one_seed_is_hollow_and_says_so():
    source = FakeSource(grid(r1=(1, 2), r2=(2, 4), seeds=1), effect)
    found = compare(source)
    shown = found.arms["arm"].to_list()
    theme = LIGHT
    line = curve_figure(source.curves(found.frame["run_id"]), found, shown, theme=theme).data[0]
    assert line.marker.color == LIGHT.paper
    assert "anecdotal" in line.hovertemplate
    assert set(heatmap_figure(found, shown, theme=theme).data[0].marker.color) == {LIGHT.paper}


def test_map_has_one_panel_per_r_and_cells_know_their_arm(comparison):
    cells, refusal = untried_cells(comparison)
    assert refusal is None
    figure = heatmap_figure(comparison, comparison.arms["arm"].to_list(), cells)
    tried = [t for t in figure.data if t.name == "tried"]
    assert [t.xaxis for t in tried] == ["x", "x2"]
    by_arm = comparison.arms.set_index("arm")
    for trace in tried:
        for r1, r2, r, arm in trace.customdata:
            assert by_arm.loc[arm, ["r1", "r2", "r"]].to_list() == [r1, r2, r]
    hatched = [t for t in figure.data if t.name == "untried"]
    assert {t.marker.pattern.shape for t in hatched} == {"/"}
    assert all(cell[3] == "" for t in hatched for cell in t.customdata)
    assert (8, 8, 1) in {tuple(cell[:3]) for t in hatched for cell in t.customdata}


def test_untried_cells_fit_every_layer_and_count_exactly(comparison):
    from cdka.models.catalogue import find_model
    from cdka.models.targets import select

    cells, _ = untried_cells(comparison)
    layers = select(find_model("digits-vit"), "all-linear")
    tried = set(comparison.arms.dropna(subset=["r1"])[["r1", "r2", "r"]].astype(int).itertuples(index=False, name=None))
    for r1, r2, r, count in cells.itertuples(index=False):
        assert (r1, r2, r) not in tried
        assert count == sum(
            one.count * r * (r2 * one.out_features // r1 + r1 * one.in_features // r2) for one in layers
        )


def test_launching_a_cell_repeats_the_nearest_arm_with_all_its_seeds(comparison):
    specs = specs_for(comparison, (4, 8, 2))
    assert [spec.seed for spec in specs] == [0, 1, 2]
    assert {spec.components for spec in specs} == {Components(4, 8, 2)}
    assert {(spec.steps, spec.lr, spec.alpha) for spec in specs} == {(120, 2e-3, 8.0)}


def test_equal_parameter_lines_run_where_the_count_is_equal(comparison):
    levels = {"r1": [1, 2, 4], "r2": [2, 4], "r": [1, 2]}
    for line in equal_parameter_lines(comparison.arms[comparison.arms["method"] == "cdka"], 2, levels):
        on_line = 2 * (OUT * line["ratio"] + IN / line["ratio"])
        assert on_line == pytest.approx(line["params"])
    assert params(Components(2, 4, 2), None) == 2 * (OUT * 2 + IN // 2)


def test_labels_never_cover_each_other():
    placed = spread_labels({"a": 0.50, "b": 0.501, "c": 0.99, "d": 0.992}, 0.0, 1.0, gap=0.05)
    heights = sorted(placed.values())
    assert all(b - a >= 0.05 - 1e-9 for a, b in pairwise(heights))
    assert max(heights) <= 1.0
    assert placed["a"] < placed["b"] < placed["c"] < placed["d"]


def test_on_a_phone_panels_stand_below_one_another_and_labels_have_their_room(source, comparison):
    shown = comparison.arms["arm"].to_list()
    curves = source.curves(comparison.frame["run_id"].to_list())
    wide = curve_figure(curves, comparison, shown, facet="r1")
    narrow = curve_figure(curves, comparison, shown, facet="r1", columns=1, width=300)
    assert [narrow.layout[f"xaxis{i}"].domain for i in ("", 2, 3)] == [(0, 1)] * 3
    gap_px = (narrow.layout.yaxis.domain[0] - narrow.layout.yaxis2.domain[1]) * narrow.layout.height
    assert gap_px > 70, "an axis with its title, and the name of the next panel"
    assert narrow.layout.height > 2 * wide.layout.height
    ends = {len(scatter_figure(comparison, shown, width=width).layout.annotations) for width in (800, 120)}
    assert len(ends) == 2, "names that would overlap are left out"


def test_the_axis_of_costs_has_numbers_also_where_all_cost_nearly_the_same():
    """43,008 and 45,696 parameters: the round numbers beside them lie off the axis."""
    assert _ticks(pd.Series([43_008.0, 45_696.0])) == [43_008.0, 45_696.0]
    assert _ticks(pd.Series([43_008.0, 43_008.0])) == [43_008.0]
    wide = _ticks(pd.Series([1_000.0, 90_000.0]))
    assert len(wide) >= 3
    assert set(wide) >= {1_000.0, 10_000.0}


def test_a_figure_is_one_file_of_two_megabytes(comparison):
    page = exported.html(scatter_figure(comparison, comparison.arms["arm"].to_list())).decode()
    assert len(page) < 2_500_000
    assert "<title>What does" in page
    assert "trainable parameters" in page
    assert "http://" not in page.split('id="plotly"')[0]


@pytest.mark.browser
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium on the path")
def test_figures_become_png_and_svg(comparison):
    figure = scatter_figure(comparison, comparison.arms["arm"].to_list())
    assert exported.image(figure, "png").startswith(b"\x89PNG\r\n\x1a\n")
    svg = exported.image(figure, "svg")
    assert svg.startswith(b"<svg")
    assert b"trainable parameters" in svg


def test_without_a_browser_images_are_refused_in_a_line(comparison, monkeypatch):
    from cdka.errors import CdkaError

    monkeypatch.setattr("choreographer.browsers.chromium.Chromium.find_browser", classmethod(lambda *_, **__: None))
    with pytest.raises(CdkaError, match="need Chromium or Chrome"):
        exported.image(scatter_figure(comparison, comparison.arms["arm"].to_list()), "png")

"""The Design room through Streamlit's test runner."""

from __future__ import annotations

import itertools
import json
import math

import pytest

from app import basket
from app.design import controls, figures
from app.design.picture import option_svg
from cdka.components import Components
from cdka.solver import explore, pattern


def texts(app) -> str:
    return " ".join(element.value for element in app.markdown)


def figure(app) -> dict:
    return json.loads(app.get("plotly_chart")[0].proto.spec)


def test_opens_alive_on_the_embedded_model(room):
    app = room("design")
    assert app.selectbox(key="model").value == "digits-vit"
    assert [app.number_input(key=name).value for name in ("r1", "r2", "r")] == [2, 8, 1]
    option = explore("digits-vit", "lora:4").find(Components(2, 8, 1))
    assert f'title="{option.num_params:,} parameters"' in texts(app)
    assert not app.get("warning")
    assert len(app.dataframe[0].value) == len(explore("digits-vit", "lora:4"))


def test_the_url_is_the_state(room):
    app = room("design", model="llama-2-7b", budget="lora:16", r1="4", r2="16", r="3", basket=["4,16,3", "lora 8"])
    assert app.selectbox(key="model").value == "llama-2-7b"
    assert [app.number_input(key=name).value for name in ("r1", "r2", "r")] == [4, 16, 3]
    assert app.multiselect(key="basket").value == ["4,16,3", "lora 8"]
    assert "6,738,415,616 parameters" in texts(app)


def test_a_bad_url_tells_why_and_shows_the_default(room):
    app = room("design", r1="many", model="lama-2-7b")
    told = " ".join(element.value for element in app.warning)
    assert "r1 must be a whole number: got 'many'" in told
    assert "'llama-2-7b'" in told
    assert app.number_input(key="r1").value == 2
    assert app.selectbox(key="model").value == "digits-vit"


def test_a_value_that_does_not_divide_turns_red_with_reason_and_remedy(room):
    app = room("design", r1="3")
    assert "r1 must divide out_features of every module: got r1=3" in texts(app)
    assert ".st-key-r1" in " ".join(element.proto.body for element in app.get("html"))
    app.button(key="use-r1-4").click().run()
    assert app.number_input(key="r1").value == 4
    assert "must divide" not in texts(app)


def test_over_the_budget_offers_what_fits(room):
    app = room("design", r="9")
    assert "Over the budget by" in texts(app)
    app.button(key="take-fitting").click().run()
    components = Components(*(app.number_input(key=name).value for name in ("r1", "r2", "r")))
    assert explore("digits-vit", "lora:4").find(components) is not None
    assert "Over the budget" not in texts(app)


@pytest.mark.parametrize("said", ["ten", "0", "-5%", "100%", "10"])
def test_a_bad_budget_is_told_in_place_without_traceback(room, said):
    app = room("design", budget=said)
    assert "budget" in texts(app)
    assert 'role="alert"' in texts(app)
    assert len(app.dataframe[0].value), "the room stays alive"


def test_the_slider_and_the_ranks_set_the_same_budget(room):
    app = room("design")
    app.select_slider(key="budget_slider").set_value(524_288).run()
    assert app.text_input(key="budget").value == "524288"
    assert 'title="524,288 parameters"' in texts(app)
    app.text_input(key="budget").set_value("5%").run()
    assert app.select_slider(key="budget_slider").value == min(
        controls.log_ticks(7_168, 524_288), key=lambda tick: abs(math.log(tick / 26_720))
    )


def test_adding_to_the_comparison_fills_the_basket_once(room):
    app = room("design", r1="4")
    app.button(key="add-chosen").click().run()
    assert app.multiselect(key="basket").value == ["2,8,1", "4,8,1"]
    assert app.button(key="add-chosen").disabled


def test_points_carry_their_components_and_the_chosen_one_is_marked(room):
    drawn = [trace for trace in figure(room("design"))["data"] if trace.get("customdata")]
    found = {text for trace in drawn for text in trace["customdata"]}
    assert {"2,8,1", "1,1,1", "8,16,3"} <= found


def test_the_scatter_stays_bounded_and_keeps_what_matters_on_a_70b_model():
    found = explore("llama-2-70b", "5%").options
    drawn = figures.options(found, "alignment", found[0], [], 1).data
    points = {text for trace in drawn if trace.customdata is not None for text in trace.customdata}
    assert len(found) > 10_000
    assert len(points) <= figures.MOST_POINTS
    assert {str(option.components) for option in found if option.pareto or option.is_lora} <= points


def test_budget_ticks_are_even_rising_and_keep_both_ends():
    ticks = controls.log_ticks(3_584, 524_288)
    assert (ticks[0], ticks[-1]) == (3_584, 524_288)
    assert ticks == sorted(set(ticks))
    assert max(b / a for a, b in itertools.pairwise(ticks)) < 1.25


def test_the_picture_is_to_scale():
    svg = option_svg(Components(4, 16, 2), 512, 256, 8, "up")
    assert 'width="59.0" height="118.0"' in svg, "delta W, 512 x 256 at 118 pixels for 512"
    assert 'width="3.7" height="29.5"' in svg, "B_i, 128 x 16"
    assert 'width="3.7" height="2.0"' in svg, "A_i, 4 x 16: its thin side is widened"
    assert "thin sides widened" in svg
    assert "Even LoRA of rank 1 costs more" in option_svg(Components(16, 8, 1), 512, 256, 0, "up")


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("2,8,4", {"method": "cdka", "components": Components(2, 8, 4)}),
        ("cdka 2,8,4", {"method": "cdka", "components": Components(2, 8, 4)}),
        ("LoRA 8", {"method": "lora", "rank": 8}),
        ("full", {"method": "full"}),
    ],
)
def test_basket_entries(text, means):
    assert basket.settings(text) == means


def test_guidelines_tell_their_reasons_and_can_be_looked_at(room):
    app = room("design")
    app.button_group(key="design-listed").set_value("guidelines").run()
    assert "At r2/r1 = 4 alignment per parameter has nearly saturated" in texts(app)
    app.button(key="look-lora").click().run()
    assert [app.number_input(key=name).value for name in ("r1", "r2", "r")] == [1, 1, 4]


def test_different_components_per_module_are_never_worse_than_uniform(room):
    app = room("design")
    app.button_group(key="design-listed").set_value("modules").run()
    found = pattern(explore("digits-vit", "lora:4"))
    assert f"<b>{found.value:.3f}</b> against {found.uniform_value:.3f}" in texts(app)
    assert found.value >= found.uniform_value
    app.button_group(key="pattern-start").set_value("the option looked at").run()
    assert not app.exception
    assert "13,440 left" not in texts(app), "the residual of 2,8,1 was spent"

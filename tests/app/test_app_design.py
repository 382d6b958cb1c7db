"""The Design room through Streamlit's test runner."""

from __future__ import annotations

import itertools
import json
import math
import re

import pytest

from app import configurations, data, widgets
from app.design import budget_form
from app.design.factor_drawing import THINNEST, option_svg, scale_of
from cdka import formatting
from cdka.compare.figures import options
from cdka.components import Components
from cdka.errors import CdkaError
from cdka.models.catalogue import find_model
from cdka.solver import Pattern, evaluate, explore, pattern, spend_residual
from cdka.solver.budget import Budget
from cdka.solver.resources import training_bytes, usual_setting


def texts(app) -> str:
    return " ".join(element.value for element in app.markdown)


def figure(app) -> dict:
    return json.loads(app.get("plotly_chart")[0].proto.spec)


def test_opens_alive_on_the_embedded_model(room):
    app = room("design")
    assert app.selectbox(key="model").value == "digits-vit"
    assert [app.number_input(key=name).value for name in ("r1", "r2", "r")] == [2, 4, 3], "what is advised"
    option = explore("digits-vit", "lora:4").find(Components(2, 4, 3))
    assert "aligns as well as the best that fits" in texts(app)
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
    told = " ".join(element.value for element in app.warning).replace("\\", "")  # escaped for Markdown
    assert "r1 must be a whole number: got 'many'" in told
    assert "'llama-2-7b'" in told
    assert app.number_input(key="r1").value == 2
    assert app.selectbox(key="model").value == "digits-vit"


def test_what_is_typed_wrong_is_told_in_place_and_not_blamed_on_the_address(room):
    app = room("design")
    app.query_params["basket"] = ["2,8,1", "2,8"]  # as a browser has it after typing
    app.multiselect(key="basket").set_value(["2,8,1", "2,8"]).run()
    assert not app.exception
    assert not app.get("warning")
    assert app.multiselect(key="basket").value == ["2,8,1"], "what is no configuration never becomes a chip"
    assert "Components must be three integers" in texts(app)
    assert not app.button(key="go-tune").disabled


def test_a_value_that_does_not_divide_turns_red_with_reason_and_remedy(room):
    app = room("design", r1="3")
    assert "r1 must divide out_features of every module: got r1=3" in texts(app)
    assert ".st-key-r1" in " ".join(element.proto.body for element in app.get("html"))
    app.button(key="use-r1-4").click().run()
    assert app.number_input(key="r1").value == 4
    assert "must divide" not in texts(app)


def test_modules_that_do_not_divide_get_their_own_components_or_none(room):
    app = room("design", r1="64", r2="256", r="1")
    assert "r2 must divide in_features of every module: got r2=256" in texts(app)
    app.selectbox(key="indivisible").set_value("given the nearest").run()
    solution = explore("digits-vit", "lora:4", indivisible="nearest")
    option = solution.find(Components(64, 256, 1))
    told = texts(app)
    assert "must divide" not in told
    assert f'title="{option.num_params:,} parameters"' in told
    assert f"<b>{option.export_rank}</b><span>LoRA export" in told
    assert "64,256,1 does not divide every module: " in told
    assert "gets 64,128,1" in told
    assert 'indivisible="nearest",' in app.code[0].value
    assert "--indivisible nearest" in app.code[1].value
    table = app.dataframe[0].value
    assert len(table) == min(300, len(solution)) > len(explore("digits-vit", "lora:4"))
    memory = training_bytes(solution, usual_setting(solution.shapes), "cpu")
    place = table.index[(table["r1"] == 64) & (table["r2"] == 256) & (table["r"] == 1)][0]
    assert table["memory"][place] == formatting.size(int(memory[solution.row(option.components)]))
    assert table["LoRA export"][place] == option.export_rank
    assert re.search(r"<b>([^<]+)</b><span>memory", told)[1] == table["memory"][place]
    app.selectbox(key="indivisible").set_value("left out").run()
    assert "left out" in texts(app)
    app.number_input(key="r1").set_value(3).run()
    assert "r1 must divide out_features of every module: got r1=3" in texts(app), "nothing would be adapted"


@pytest.mark.parametrize("listed", ["Guidelines", "Per module"])
def test_the_other_lists_live_with_components_that_do_not_divide(room, listed):
    app = room("design", r1="64", r2="256", r="1", indivisible="given the nearest", list=listed)
    if listed == "Per module":
        app.button_group(key="pattern-start").set_value("this option").run()
        assert "does not divide every" in texts(app)
        assert "fine-tune this mixture" not in " ".join(button.label.lower() for button in app.button)
    assert not app.exception


def test_a_wrong_value_keeps_the_page_and_all_errors_are_told_at_once(room):
    app = room("design", r1="3", r2="5", r="1")
    told = texts(app)
    assert "r1 must divide out_features" in told
    assert "r2 must divide in_features" in told
    assert f"Showing {widgets.chip_html((2, 4, 3))} meanwhile" in told
    assert len(app.code) == 2, "the numbers and the code of an option stay in sight"


def test_the_advice_is_taken_with_a_click_and_follows_the_device(room):
    app = room("design", model="llama-2-7b", budget="lora:8", r1="4", r2="4", r="1")
    assert "36.6 GB" in texts(app)
    app.button(key="take-advice").click().run()
    assert [app.number_input(key=name).value for name in ("r1", "r2", "r")] == [2, 8, 3]
    app = room("design", model="llama-2-7b", budget="lora:8", device="24 GB GPU")
    assert "more than a 24 GB GPU has free" in texts(app)
    assert app.dataframe[0].value["fits"].str.startswith("no").all()
    app = room("design", model="llama-2-7b", budget="lora:8", served="16")
    assert (app.dataframe[0].value["LoRA export"] <= 16).all()


@pytest.mark.parametrize(("said", "means"), [("2,5M", 2_500_000), ("2,500,000", 2_500_000), ("0,5%", 0.005)])
def test_a_decimal_comma_is_a_decimal_comma(said, means):
    assert Budget.parse(said).value == means


@pytest.mark.parametrize("said", ["2,5,0M", "2,50,000", "1,2345"])
def test_a_comma_that_parts_nothing_is_refused(said):
    with pytest.raises(CdkaError, match="a budget must be a number"):
        Budget.parse(said)


def test_over_the_budget_offers_what_fits(room):
    app = room("design", r="9")
    assert "Over the budget: 137,088 parameters, 4.8 times the" in texts(app)
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
        budget_form.log_ticks(7_168, 524_288), key=lambda tick: abs(math.log(tick / 26_720))
    )


def test_adding_to_the_comparison_fills_the_basket_once(room):
    app = room("design", r1="4")
    app.button(key="add-chosen").click().run()
    assert app.multiselect(key="basket").value == ["2,8,1", "4,8,1"]
    assert app.button(key="add-chosen").label == "Remove from comparison"
    app.button(key="add-chosen").click().run()
    assert app.multiselect(key="basket").value == ["2,8,1"], "the same button takes it out again"


def test_points_carry_their_components_and_the_chosen_one_is_marked(room):
    drawn = [trace for trace in figure(room("design"))["data"] if trace.get("customdata")]
    found = {text for trace in drawn for text in trace["customdata"]}
    assert {"2,4,3", "1,1,1"} <= found


def test_the_scatter_stays_bounded_and_keeps_what_matters_on_a_70b_model():
    solution = explore("llama-2-70b", "5%")
    drawn = options.option_figure(solution, "alignment", solution.top(1)[0]).data
    points = {text for trace in drawn if trace.customdata is not None for text in trace.customdata}
    assert len(solution) > 10_000
    assert len(points) <= options.MAX_POINTS + options.MAX_LORA
    places = {(o.num_params, o.alignment) for o in solution.options if o.pareto}
    shown = [evaluate("llama-2-70b", text, budget="5%") for text in points]
    assert places <= {(o.num_params, o.alignment) for o in shown}, "every unbeaten place has its point"


@pytest.mark.parametrize("measure", list(options.MEASURES))
def test_a_point_stands_for_every_option_in_its_place(measure):
    solution = explore("digits-vit", "lora:4")
    found = options.places(solution, measure)
    assert sum(place.number + 1 for place in found) == len(solution), "none is lost"
    for place in found:
        same = [
            o
            for o in solution.options
            if (o.num_params, getattr(o, measure)) == (place.option.num_params, getattr(place.option, measure))
        ]
        assert place.number == len(same) - 1
        assert place.option.pareto or not any(o.pareto for o in same), (
            "an unbeaten option is not hidden by a beaten one"
        )
        assert set(place.others) <= {o.components for o in same} - {place.option.components}


def test_budget_ticks_are_even_rising_and_keep_both_ends():
    ticks = budget_form.log_ticks(3_584, 524_288)
    assert (ticks[0], ticks[-1]) == (3_584, 524_288)
    assert ticks == sorted(set(ticks))
    assert max(b / a for a, b in itertools.pairwise(ticks)) < 1.25


def test_the_picture_is_to_scale():
    svg = option_svg(Components(4, 16, 2), 512, 256, 8, "up")
    scale = scale_of(Components(4, 16, 2), 512, 256, 8)
    assert 140 < 512 * scale < 196, "delta W uses the room that there is"
    for what, (width, height) in {
        "delta W": (256, 512),
        "B_i": (16, 128),
        "A_i": (16, 4),
        "LoRA's B": (8, 512),
        "LoRA's A": (256, 8),
    }.items():
        size = f'width="{max(THINNEST, width * scale):.1f}" height="{max(THINNEST, height * scale):.1f}"'
        assert size in svg, what
    assert "thin sides widened" in svg
    assert "thin sides widened" not in option_svg(Components(16, 16, 2), 128, 128, 8, "up")
    assert "Even LoRA of rank 1" in option_svg(Components(16, 8, 1), 512, 256, 0, "up")


@pytest.mark.parametrize(
    ("components", "sizes"),
    [
        ((2, 8, 3), (28672, 8192)),
        ((32, 128, 3), (4096, 11008)),
        ((128, 1, 1), (128, 512)),
        ((1, 512, 9), (384, 512)),
        ((7, 13, 1), (7, 13)),
        ((1, 1, 40), (64, 64)),
    ],
)
def test_the_picture_stays_within_its_frame_and_shows_the_blocks(components, sizes):
    chosen = Components(*components)
    rank = chosen.num_params(*sizes) // sum(sizes)
    svg = option_svg(chosen, *sizes, rank, "up")
    _, _, wide, tall = map(float, re.search(r'viewBox="([^"]+)"', svg)[1].split())
    for x, y, width, height in re.findall(r'<rect x="([^"]+)" y="([^"]+)" width="([^"]+)" height="([^"]+)"', svg):
        assert float(x) >= -0.1
        assert float(x) + float(width) <= wide + 0.1
        assert float(y) >= -0.1
        assert float(y) + float(height) <= tall + 0.1
    blocks = chosen.r2 * sizes[0] // chosen.r1
    assert svg.count('class="p-hair"') or blocks == 1, "block borders on delta W, or in its magnified corner"


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
    assert configurations.run_settings(text) == means


def test_guidelines_tell_their_reasons_and_can_be_looked_at(room):
    app = room("design")
    app.button_group(key="list").set_value("Guidelines").run()
    assert "At r2/r1 = 4 alignment per parameter has nearly saturated" in texts(app)
    app.button(key="look-lora").click().run()
    assert [app.number_input(key=name).value for name in ("r1", "r2", "r")] == [1, 1, 4]


def test_different_components_per_module_are_never_worse_than_uniform(room):
    app = room("design")
    app.button_group(key="list").set_value("Per module").run()
    found = pattern(explore("digits-vit", "lora:4"))
    assert f"<b>{found.value:.3f}</b> against {found.uniform_value:.3f}" in texts(app)
    assert found.value >= found.uniform_value
    app.button_group(key="pattern-start").set_value("this option").run()
    assert not app.exception
    assert "13,440 left" not in texts(app), "the residual of 2,8,1 was spent"


def test_a_mixture_from_a_measured_gradient_says_what_it_is_and_is_handed_on(room, monkeypatch):
    solution = explore("digits-vit", "lora:4")
    asked = []

    def measured(*request, **settings):
        asked.append((request, settings))
        choices = (
            ("vit.layers.0.attention.q_proj", Components(1, 2, 3)),
            ("vit.layers.*.mlp.fc1", Components(1, 1, 2)),
        )
        return Pattern(choices, "overall", 0.75, solution.options[0], 0.5, 20_000, 28_672, 0.1)

    monkeypatch.setattr(data, "measure_pattern", measured)
    app = room("design")
    app.button_group(key="list").set_value("Per module").run()
    app.button_group(key="pattern-start").set_value("your data").run()
    assert not asked, "nothing is loaded before the reader asks"
    app.button(key="pattern-gradient").click().run()
    assert not app.exception
    assert "with the first gradient on digits-flip, from the best start, <b>0.750</b> against 0.500" in texts(app)
    assert "not what training reaches" in texts(app)
    assert [code.value for code in app.code if "--from-gradients --task digits-flip" in code.value]
    ((request, settings),) = asked
    assert request == ("digits-vit", "digits-flip", "lora:4")
    assert settings["measure"] == "balanced"


def test_use_the_rest_spends_what_the_option_leaves(room):
    app = room("design", r1="2", r2="8", r="1")
    app.button(key="use-rest").click().run()
    assert not app.exception
    solution = explore("digits-vit", "lora:4")
    spent = spend_residual(solution, solution.find(Components(2, 8, 1)))
    assert spent.residual < 13_440 // 2
    assert f"{spent.residual:,} left" in texts(app)
    codes = [block.value for block in app.code]
    assert any("component_pattern={" in text for text in codes)
    assert not any("..." in text for text in codes), "what is shown runs as pasted"


def test_modules_are_picked_by_role_by_name_or_by_expression(room):
    app = room("design", modules=["q_proj", "v_proj"], model="llama-2-7b")
    assert "64 layers" in texts(app)
    app.multiselect(key="modules").set_value(["q_proj", "v_proj", "all-linear"]).run()
    assert app.multiselect(key="modules").value == ["all-linear"], "everything replaces the picks"
    app.multiselect(key="modules").set_value(["all-linear", "mlp"]).run()
    assert app.multiselect(key="modules").value == ["mlp"], "a pick replaces everything"
    app.multiselect(key="modules").set_value([]).run()
    assert app.multiselect(key="modules").value == ["all-linear"]
    app.multiselect(key="modules").set_value(["q_prj"]).run()
    assert "Did you mean" in texts(app)
    assert "q_proj" in texts(app)
    app.multiselect(key="modules").set_value([r"model\.layers\.[01]\.mlp\.(up|down)_proj"]).run()
    assert "4 layers" in texts(app)
    assert "fused experts" in texts(room("design", model="mixtral-8x7b"))


def test_the_adapted_modules_go_along_to_fine_tune(room, monkeypatch):
    ordered = []
    monkeypatch.setattr("app.finetune.launch_preview.show_preview", ordered.append)
    app = room("design", modules=["attention", "mlp"], indivisible="given the nearest", basket=["2,256,1"])
    app.button(key="go-tune").click().run()
    assert not app.exception
    assert app.multiselect(key="modules").value == ["attention", "mlp"]
    assert app.selectbox(key="indivisible").value == "given the nearest"
    (spec, *_) = ordered[-1].plan().specs
    assert spec.target_modules == ("attention", "mlp")
    assert spec.indivisible == "nearest"


def test_weights_order_the_table_and_limits_shorten_it(room):
    app = room("design", weigh_rank="1.0", max_r1="4", list="All")
    table = app.dataframe[0].value
    assert "score" in table
    assert table["r1"].max() <= 4
    assert table["rank"].iloc[0] == max(o.rank_bound for o in explore("digits-vit", "lora:4", max_r1=4).options)
    app.slider(key="weigh_rank").set_value(0.0).run()
    assert "score" not in app.dataframe[0].value


def test_resources_are_in_sight_and_follow_the_batch(room):
    app = room("design", model="llama-3.1-70b", budget="lora:8")
    assert "does not fit" in texts(app)
    figures_before = re.search(r"<b>([^<]+)</b><span>memory", texts(app))[1]
    app.select_slider(key="memory-batch-False").set_value(128).run()
    assert re.search(r"<b>([^<]+)</b><span>memory", texts(app))[1] != figures_before
    for name in ("file, at most", "AdamW state", "extra arithmetic", "a token"):
        assert name in texts(app)


def test_no_length_beyond_the_models_positions_is_offered(room):
    app = room("design", model="math-lm")
    longest = dict(find_model("math-lm").details)["max_positions"]
    assert max(int(text) for text in app.select_slider(key="memory-length").options) == longest

"""The Compare room: every view of every kind of selection, the address, and numbers that hiding cannot change."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from streamlit.testing.v1 import AppTest

sys.path.insert(0, str(Path(__file__).parents[1] / "compare"))
from compare_store import fill
from compare_synthetic import grid

from cdka.compare.bundle import import_bundle, write_bundle
from cdka.compare.comparison import compare
from cdka.compare.source import StoreSource
from cdka.runs.spec import RunSpec
from cdka.runs.store import Store

MAIN = str(Path(__file__).parents[2] / "app" / "main.py")
VIEWS = (
    "Curves",
    "Map",
    "Cost",
    "Differences",
    "Budget",
    "Settings",
    "Anatomy",
    "Examples",
    "Open an adapter",
    "Export",
)


def baselines(seeds=2):
    settings = {"steps": 120, "lr": 2e-3, "alpha": 8.0}
    return [
        RunSpec("digits-vit", "digits-flip", method=method, rank=rank, seed=seed, **settings)
        for method, rank in (("lora", 2), ("full", None))
        for seed in range(seeds)
    ]


def opened(view="Curves", **query) -> AppTest:
    """The room as a pasted address opens it."""
    at = AppTest.from_file(MAIN, default_timeout=60)
    at.run()
    at.switch_page("views/compare.py")
    at.query_params["view"] = view
    for key, value in query.items():
        at.query_params[key] = value
    at.run()
    assert not at.exception, at.exception[0].value
    return at


def refusals(at: AppTest) -> list[str]:
    return [item.value for item in at.markdown if "cdka-error" in item.value]


def words(at: AppTest) -> str:
    return "\n".join([*(item.value for item in at.markdown), *(item.value for item in at.warning)])


def figure(at: AppTest, i: int = 0) -> dict:
    return json.loads(at.get("plotly_chart")[i].proto.spec)


def test_an_empty_home_shows_an_example_marked_as_one_in_every_view_and_the_button_that_fills_it():
    for view in VIEWS:
        at = opened(view)
        assert not refusals(at), view
        assert "An example, not yours" in words(at)
        assert "90 runs" in words(at)
        assert [button.label for button in at.button if button.key == "fill-compare"] == [
            "Choose configurations and fine-tune them"
        ]
    fill(Store(), "mine", grid(r1=(1, 2), seeds=2), adapters=False)
    assert "An example, not yours" not in words(opened())
    assert "An example, not yours" in words(opened(sweep="bundle-example"))


def test_a_bundle_is_compared_by_itself_and_says_so():
    sweep = fill(Store(), "mine", grid(r1=(1, 2), seeds=2), adapters=False)
    at = opened(sweep=["bundle-example", sweep])
    assert "shown on its own" in at.info[0].value


def test_a_whole_sweep_fills_every_view():
    fill(Store(), "whole", [*grid(r1=(1, 2), r2=(2, 4), seeds=2), *baselines()])
    for view in VIEWS:
        at = opened(view)
        assert not refusals(at), view
        assert "A larger" in words(at) or "No resolved trend" in words(at)


@pytest.mark.parametrize(
    ("specs", "ends", "expected"),
    [
        (grid(r1=(2,), seeds=1), {}, "1 arm with a single seed: anecdotal"),
        (grid(r1=(1, 2), seeds=1), {0: "failed", 1: "failed"}, "2 of 2 runs failed"),
        (grid(r1=(1, 2), seeds=1), {0: "running", 1: "queued"}, "2 of 2 runs still under way"),
        ([*grid(r1=(1, 2), seeds=2), *grid(r1=(1, 2), seeds=2, task="digits")], {}, "2 combinations of model and task"),
    ],
    ids=["single run", "failed", "still running", "mixed tasks"],
)
def test_odd_selections_give_sensible_views_and_say_what_is_missing(specs, ends, expected):
    fill(Store(), "odd", specs, ends=ends)
    for view in VIEWS:
        assert expected in words(opened(view))


def test_any_adapter_can_be_opened_by_its_path_and_a_foreign_file_is_refused_in_words(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {"lycoris_block_q.lokr_w1": rng.normal(size=(8, 4)), "lycoris_block_q.lokr_w2": rng.normal(size=(4, 6))}
    save_file(tensors, tmp_path / "lokr.safetensors")
    at = opened("Open an adapter")
    assert "SimpleTuner LoRA, LoKr and LoHa" in at.info[0].value
    at.text_input(key="open-adapter-path").set_value(str(tmp_path / "lokr.safetensors")).run()
    assert not at.exception, at.exception[0].value
    assert not refusals(at)
    assert "lokr.safetensors: simpletuner-lokr, 1 module, 56 parameters as CDKA, exact" in words(at)
    place = next(frame.value for frame in at.dataframe if "modules" in frame.value.columns)
    assert place.iloc[0].to_dict() == {"r1": 4, "r2": 4, "r": 1, "modules": 1, "parameters": 56}
    assert "What would each choice of equal price keep" in words(at)
    assert "(2, 8, 4) trained itself 0.963" in words(at)
    save_file({"lora_unet_x.oft_blocks": np.ones((2, 3, 3))}, tmp_path / "oft.safetensors")
    at.text_input(key="open-adapter-path").set_value(str(tmp_path / "oft.safetensors")).run()
    assert "which is OFT" in refusals(at)[0]


def test_a_sweep_that_was_cancelled_as_a_whole_is_not_what_opens():
    store = Store()
    dropped = store.create_sweep("dropped", {"name": "dropped"}, grid(r1=(1, 2), seeds=1))
    for run in store.runs(sweep_id=dropped):
        store.request_stop(run.run_id, keep=False)
    assert "example" in opened().multiselect[0].placeholder
    fill(store, "kept", grid(r1=(1, 2), seeds=2))
    again = store.create_sweep("dropped again", {"name": "dropped again"}, grid(r1=(1, 2), seeds=1))
    for run in store.runs(sweep_id=again):
        store.request_stop(run.run_id, keep=False)
    assert "newest: kept" in opened().multiselect[0].placeholder


def test_a_map_shows_one_task_at_a_time_and_labels_name_theirs():
    both = [*grid(r1=(1, 2), r2=(2, 4), seeds=2), *grid(r1=(1, 2), r2=(2, 4), seeds=2, task="digits")]
    sweep_id = fill(Store(), "mixed", both, adapters=False)
    at = opened("Map", map_of="digits-vit on digits")
    cells = [cell for trace in figure(at)["data"] if trace["name"] == "tried" for cell in trace["customdata"]]
    assert len(cells) == 4
    assert set(at.dataframe[0].value["Arm"]) >= {"cdka 1,2,1 · digits", "cdka 1,2,1 · digits-flip"}
    cell = next(c for t in figure(at)["data"] if t["name"] == "untried" for c in t["customdata"])
    at.session_state["compare-map"] = {"selection": {"points": [{"customdata": cell}], "point_indices": []}}
    at.run()
    assert any(button.label == "Launch this cell" for button in at.button)
    assert Store().sweep(sweep_id)
    assert "(digits-vit on digits)" in words(at)


def test_hiding_changes_no_number_of_any_other_arm():
    fill(Store(), "whole", [*grid(r1=(1, 2, 4), seeds=3), *baselines(3)], adapters=False)
    whole = opened("Differences")
    hidden = opened("Differences", hide="cdka 2,4,1")
    tables = [{row["Arm"]: row for row in at.dataframe[0].value.to_dict("records")} for at in (whole, hidden)]
    assert set(tables[0]) - set(tables[1]) == {"cdka 2,4,1"}
    assert all(tables[0][arm] == row for arm, row in tables[1].items())
    verdicts = [{row["Arm"]: row for row in at.dataframe[1].value.to_dict("records")} for at in (whole, hidden)]
    for arm, row in verdicts[1].items():
        assert str(verdicts[0][arm]) == str(row)


def test_the_address_opens_what_it_says():
    store = Store()
    first = fill(store, "first", grid(r1=(1, 2), seeds=2), adapters=False)
    fill(store, "second", grid(r2=(2, 4), r1=(2,), seeds=2), adapters=False)
    assert "second" in opened().multiselect[0].placeholder
    at = opened("Curves", sweep=first, at="at step 60", only="r1=2", curve="validation loss", axis="training samples")
    assert at.multiselect[0].value == [first]
    assert list(at.dataframe[0].value.columns)[2] == "validation accuracy at step 60 ± half of the 95 % interval"
    assert at.dataframe[0].value["Arm"].to_list() == ["cdka 2,4,1"]
    layout = figure(at)["layout"]
    assert layout["yaxis"]["title"]["text"] == "validation loss"
    assert layout["xaxis"]["title"]["text"] == "training samples"


def test_an_address_that_asks_for_what_is_not_there_shows_the_rest_and_says_so():
    fill(Store(), "whole", grid(r1=(1, 2), seeds=2), adapters=False)
    at = opened("Curves", sweep="s-gone", metric="acuracy")
    assert r"s\-gone" in words(at)  # escaped for Markdown
    assert len(at.get("plotly_chart")) == 1


def test_the_header_names_the_aggregation():
    fill(Store(), "whole", grid(r1=(1, 2), seeds=2), adapters=False)
    assert list(opened().dataframe[0].value.columns)[2] == "test accuracy at the end ± half of the 95 % interval"
    at = opened(at="best on validation")
    assert list(at.dataframe[0].value.columns)[2] == "best validation accuracy of each run ± half of the 95 % interval"


def test_launching_an_untried_cell_queues_its_runs_once(monkeypatch):
    store = Store()
    sweep_id = fill(store, "whole", grid(r1=(1, 2), r2=(2, 4), seeds=2), adapters=False)
    import cdka.engine.local as local

    monkeypatch.setattr(local, "ensure_dispatcher", lambda store: None)
    at = opened("Map")
    cell = next(c for t in figure(at)["data"] if t["name"] == "untried" for c in t["customdata"] if c[:2] == [1, 8])
    at.session_state["compare-map"] = {"selection": {"points": [{"customdata": cell}], "point_indices": []}}
    at.run()
    button = next(button for button in at.button if button.label == "Launch this cell")
    button.click().run()
    queued = store.runs(status="queued")
    assert [(run.sweep_id, run.spec.components.as_tuple(), run.spec.seed) for run in queued] == [
        (sweep_id, (1, 8, 1), 0),
        (sweep_id, (1, 8, 1), 1),
    ]


def test_an_imported_bundle_shows_the_same_page(tmp_path):
    store = Store()
    source = StoreSource(store, [fill(store, "claimed", grid(r1=(1, 2), seeds=3))], name="claimed")
    theirs = opened("Curves")
    path = write_bundle(compare(source), source, tmp_path / "claim.zip", figures=False)
    name, _ = import_bundle(path)
    for run in store.runs():
        store.remove(run.run_id)
    ours = opened("Curves", sweep=f"bundle-{name}")
    assert ours.dataframe[0].value.equals(theirs.dataframe[0].value)
    assert [t["y"] for t in figure(ours)["data"]] == [t["y"] for t in figure(theirs)["data"]]
    assert not refusals(opened("Anatomy", sweep=f"bundle-{name}"))


def test_an_imported_bundle_opens_at_what_it_claims(tmp_path):
    """The metric, where it was read and the reference travel with the claim."""
    from app.compare.controls import as_claimed
    from cdka.compare.measure import Measure

    source = StoreSource(Store(), [fill(Store(), "claimed", grid(r1=(1, 2, 4), seeds=3), adapters=False)], name="c")
    made = compare(source, Measure("loss", "step", 60), "cdka 2,4,1")
    name, bundle = import_bundle(write_bundle(made, source, tmp_path / "claim.zip", figures=False))
    settings = {key: value for key, value in as_claimed(bundle).items() if value}
    assert settings == {"view": "Cost", "metric": "validation loss", "at": "at step 60", "against": "cdka 2,4,1"}
    at = opened(sweep=f"bundle-{name}", **settings)
    assert list(at.dataframe[0].value.columns)[2] == "validation loss at step 60 ± half of the 95 % interval"
    assert not at.warning


@pytest.mark.parametrize("kind", ["PNG", "SVG"])
def test_a_figure_is_handed_to_the_readers_browser_to_be_saved(kind):
    fill(Store(), "whole", grid(r1=(1, 2), seeds=2), adapters=False)
    at = opened("Cost")
    next(button for button in at.button if button.label == kind).click().run()
    page = at.get("iframe")[0].proto.srcdoc
    assert f'"{kind.lower()}"' in page
    assert f"cost.{kind.lower()}" in page
    assert "seeds 0, 1" in page


def test_no_torch_in_the_server():
    """The room draws everything, adapters' anatomy included, without importing torch (in a process of its own)."""
    import subprocess

    code = f"""
import sys
from streamlit.testing.v1 import AppTest
at = AppTest.from_file({MAIN!r}, default_timeout=60); at.run(); at.switch_page("views/compare.py")
for view in {VIEWS!r}:
    at.query_params["view"] = view
    at.run()
    assert not at.exception, at.exception[0].value
print([name for name in ("torch", "transformers", "peft", "datasets", "tensorboardX") if name in sys.modules])
"""
    fill(Store(), "whole", [*grid(r1=(1, 2), seeds=2), *baselines()])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr[-1500:]


@pytest.mark.parametrize(
    ("address", "header"),
    [
        ({"metric": "accuracy"}, "test accuracy at the end"),
        ({"metric": "accuracy", "at": "best on validation"}, "best validation accuracy of each run"),
        ({"metric": "loss"}, "validation loss at the end"),
        ({"metric": "loss", "at": "at step 60"}, "validation loss at step 60"),
        ({"metric": "validation accuracy"}, "validation accuracy at the end"),
    ],
)
def test_an_address_of_0_1_0_shows_the_same_number(address, header):
    fill(Store(), "whole", grid(r1=(1, 2), seeds=2), adapters=False)
    assert list(opened(**address).dataframe[0].value.columns)[2] == f"{header} ± half of the 95 % interval"


def test_a_metric_that_has_only_a_value_at_the_end_leaves_the_step_behind():
    fill(Store(), "whole", grid(r1=(1, 2), seeds=2), adapters=False)
    at = opened(at="at step 60")
    metric = next(box for box in at.selectbox if box.label == "Metric")
    assert metric.value == "validation accuracy"
    metric.select("test accuracy").run()
    assert not at.exception
    assert list(at.dataframe[0].value.columns)[2] == "test accuracy at the end ± half of the 95 % interval"


def test_what_a_script_of_somebody_s_own_logged_is_shown_here_and_in_fine_tune(room):
    """Two configurations of a loop that read no test split, on a model and data that the catalogue does not know."""
    import cdka

    for components, accuracy in (((2, 8, 1), 0.9), ((4, 4, 1), 0.7)):
        for seed in (0, 1):
            with cdka.log_run(
                model="mlp", task="mine", components=components, steps=2, seed=seed, num_params=99
            ) as run:
                for step in (1, 2):
                    run.step(step, loss=1 / step)
                    run.evaluate(accuracy=accuracy + 0.01 * (step + seed), loss=0.3)
    for view in ("Curves", "Map", "Cost", "Settings", "Anatomy"):
        at = opened(view)
        assert "validation accuracy" in at.selectbox[0].value
        assert "0.925" in " ".join(block.value for block in at.markdown)
    tune = room("finetune")
    assert "2 runs" in " ".join(block.value for block in tune.markdown)

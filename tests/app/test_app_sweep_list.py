"""The list of sweeps: search, rename, note, tags, repeat, stop, delete; what is changed is in the store."""

from __future__ import annotations

import pytest

from cdka.errors import CdkaError
from cdka.runs.states import RunState
from cdka.runs.store import Store
from cdka.sweep.launch import repeat
from cdka.sweep.plan import plan


@pytest.fixture(autouse=True)
def _idle(monkeypatch):
    monkeypatch.setattr("cdka.engine.local.ensure_dispatcher", lambda store: True)


def made(name: str = "mine", components: tuple[int, int, int] = (2, 8, 1)) -> str:
    planned = plan("digits-vit", "digits-flip", arms=[{"components": components}], seeds=2, name=name)
    return Store().create_sweep(name, planned.document, planned.specs)


def listed(room, sweep_id: str):
    app = room("sweeps", part="Your sweeps")
    app.session_state[f"sweep-menu-{sweep_id}"] = True
    return app.run()


def test_a_sweep_is_renamed_annotated_and_tagged(room):
    sweep_id = made()
    app = listed(room, sweep_id)
    app.text_input(key=f"sweep-name-{sweep_id}").set_value("rank against alignment").run()
    app.text_area(key=f"sweep-note-{sweep_id}").set_value("for the talk").run()
    app.multiselect(key=f"sweep-tags-{sweep_id}").set_value(["talk"]).run()
    sweep = Store().sweep(sweep_id)
    assert (sweep.name, sweep.note, sweep.tags) == ("rank against alignment", "for the talk", ("talk",))
    assert "rank against alignment" in " ".join(element.value for element in app.markdown)
    assert not app.exception


def test_an_empty_name_is_refused():
    with pytest.raises(CdkaError, match="a sweep needs a name"):
        Store().describe_sweep(made(), name=" ")


def test_sweeps_are_found_by_name_model_task_tag_note_and_date():
    store = Store()
    first, second = made("ranks"), made("rates")
    store.describe_sweep(second, note="for Ada", tags=["paper"])
    for wanted, found in (
        ("ranks", {first}),
        ("digits-flip", {first, second}),
        ("paper ada", {second}),
        ("20", {first, second}),
        ("llama", set()),
    ):
        assert {sweep.sweep_id for sweep in store.sweeps(text=wanted)} == found, wanted
        assert store.count_sweeps(text=wanted) == len(found)
    assert store.sweeps(finished=True) == []
    assert store.count_sweeps(finished=False) == 2
    assert [sweep.sweep_id for sweep in store.sweeps(ids=[first, "s-none"])] == [first]


def test_sweeps_are_picked_by_model_task_state_and_date():
    store = Store()
    first, second = made("ranks"), made("rates")
    store.request_stops([run.run_id for run in store.runs(sweep_id=second)], keep=False)
    at = store.sweep(second).created_at
    for asked, found in (
        ({"settings": {"model": "digits-vit", "task": "digits-flip"}}, {first, second}),
        ({"settings": {"model": None, "task": None}}, {first, second}),
        ({"settings": {"model": "math-lm"}}, set()),
        ({"settings": {"task": "math-chain"}}, set()),
        ({"finished": False}, {first}),
        ({"since": at}, {second}),
        ({"text": "ranks", "since": at, "settings": {"model": "digits-vit"}, "finished": True}, set()),
    ):
        assert {sweep.sweep_id for sweep in store.sweeps(**asked)} == found, asked
        assert store.count_sweeps(**asked) == len(found)


def test_the_pick_lists_of_the_page_narrow_it(room):
    first, second = made("ranks"), made("rates")
    Store().request_stops([run.run_id for run in Store().runs(sweep_id=second)], keep=False)
    app = room("sweeps", part="Your sweeps")
    assert app.selectbox(key="sweep-list-model").options == ["any model", "digits-vit"]
    app.selectbox(key="sweep-list-state").set_value("finished").run()
    shown = " ".join(element.value for element in app.markdown)
    assert ("rates" in shown, "ranks" in shown) == (True, False)
    app.selectbox(key="sweep-list-task").set_value("digits-flip").run()
    app.selectbox(key="sweep-list-date").set_value("last 7 days").run()
    assert "1 sweep, newest first." in " ".join(element.value for element in app.markdown)
    app.text_input(key="sweep-list-search").set_value("ranks").run()
    assert "No sweep here matches." in " ".join(element.value for element in app.markdown)
    assert first != second
    assert not app.exception


def test_a_sweep_is_stopped_then_repeated_and_deleted_for_good(room):
    store, sweep_id = Store(), made()
    with pytest.raises(CdkaError, match="2 of 2 runs have not ended"):
        store.remove_sweep(sweep_id)
    app = listed(room, sweep_id)
    app.button(key=f"sweep-cancel-{sweep_id}").click().run()
    assert {run.status for run in store.runs(sweep_id=sweep_id)} == {RunState.CANCELLED}
    again = repeat(store, sweep_id, request_id="once")
    assert repeat(store, sweep_id, request_id="once") == again
    assert store.sweep(again).name == "mine again"
    assert [run.spec for run in store.runs(sweep_id=again)] == [run.spec for run in store.runs(sweep_id=sweep_id)]
    app = listed(room, sweep_id)
    app.button(key=f"sweep-ask-{sweep_id}").click().run()
    assert len(store.sweeps()) == 2, "asks once more"
    app.button(key=f"sweep-delete-{sweep_id}").click().run()
    assert [sweep.sweep_id for sweep in store.sweeps()] == [again]
    assert not app.exception

"""A file of one's own in a real browser: uploaded once, it and every setting outlive other rooms, reloads, restarts."""

from __future__ import annotations

import json
import os
import signal

import pytest

from cdka.runs.store import Store

pytestmark = pytest.mark.browser
ROOMS = {
    "finetune": ("Fine-tune", "on=math-lm&task=local-instruct", "Steps", "33"),
    "sweeps": ("Sweeps", "plan_model=math-lm&plan_task=local-instruct", "Steps", "33"),
    "align": ("Align", "align_model=math-lm&align_task=local-instruct", "Initialisations", "7"),
}


def visit(context, settled, url: str):
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(url)
    settled(page)
    return page


def shown(page, label: str) -> str:
    """The value that a select box shows."""
    return page.get_by_test_id("stSelectbox").filter(has_text=label).first.locator("input").input_value()


def choose(page, settled, label: str, option: str) -> None:
    page.get_by_test_id("stSelectbox").filter(has_text=label).first.locator("input").click()
    page.get_by_role("option", name=option, exact=True).click()
    settled(page)


def enter(page, settled, label: str, value: str) -> None:
    page.get_by_label(label, exact=True).first.fill(value)
    page.keyboard.press("Enter")
    settled(page)


@pytest.mark.parametrize("room", ["finetune", *(pytest.param(r, marks=pytest.mark.slow) for r in ("sweeps", "align"))])
def test_an_upload_its_columns_and_the_settings_outlive_rooms_reloads_and_restarts(
    room, chromium, serve, settled, tmp_path
):
    title, query, field, value = ROOMS[room]
    rows = [{"question": f"{i} + 1", "short": str(i + 1), "answer": f"It is {i + 1}."} for i in range(40)]
    file = tmp_path / "three.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    server, url = serve()
    context = chromium.new_context(viewport={"width": 1440, "height": 1100})
    page = visit(context, settled, f"{url}/{room}?{query}")
    page.get_by_test_id("stFileUploaderDropzoneInput").first.set_input_files(str(file))
    page.get_by_text("40 rows, 3 columns").wait_for()
    settled(page)
    assert shown(page, "Answer") == "answer", "guessed by its name"
    choose(page, settled, "Answer", "short")
    enter(page, settled, "Seed of the split", "5")
    enter(page, settled, field, value)

    def kept(where: str) -> None:
        page.get_by_text("Your data: ").wait_for()
        settled(page)
        assert shown(page, "Answer") == "short", where
        assert page.get_by_label("Seed of the split", exact=True).first.input_value() == "5", where
        assert page.get_by_label(field, exact=True).first.input_value() == value, where
        assert "three.jsonl" in page.get_by_label("or path of a file or folder on this machine").input_value(), where

    kept("at once")
    page.get_by_role("link", name="Design", exact=True).first.click()
    page.locator("h1", has_text="Design").wait_for()
    settled(page)
    page.get_by_role("link", name=title, exact=True).first.click()
    kept("after a visit to Design")
    page.reload()
    kept("after a reload")
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()
    serve(int(url.rsplit(":", 1)[1]))
    page.goto(f"{url}/{room}")  # a bookmark: the address says nothing of the file
    kept("after a restart")
    if room == "finetune":
        page.get_by_role("button", name="Launch").first.click()
        page.get_by_text("runs:").first.wait_for()
        settled(page)
        used = Store(tmp_path / "studio").runs()[0].spec
        assert (used.task_options["answer_column"], used.task_options["split_seed"], used.steps) == ("short", 5, 33)
    context.close()


@pytest.mark.slow
def test_an_uploaded_plan_file_outlives_rooms_and_reloads(chromium, serve, settled, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        'name = "mine"\nmodel = "digits-vit"\ntask = "digits-flip"\nseeds = 2\n\n[grid]\nr1 = [1, 2]\nr2 = 4\nr = 1\n'
    )
    _, url = serve()
    context = chromium.new_context(viewport={"width": 1440, "height": 1100})
    page = visit(context, settled, f"{url}/sweeps?arms=Plan+file")
    page.get_by_test_id("stFileUploaderDropzoneInput").first.set_input_files(str(file))

    def kept(where: str) -> None:
        page.get_by_text("Launch 4 runs").wait_for()
        assert page.get_by_role("textbox", name="or paste one").input_value() == file.read_text(), where

    kept("at once")
    page.get_by_role("link", name="Design", exact=True).first.click()
    page.locator("h1", has_text="Design").wait_for()
    settled(page)
    page.get_by_role("link", name="Sweeps", exact=True).first.click()
    kept("after a visit to Design")
    page.reload()
    kept("after a reload")
    context.close()

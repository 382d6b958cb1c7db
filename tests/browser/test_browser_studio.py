"""What people do in the Studio, in a real browser: take the advice, watch a race, sweep a file, compare, export."""

from __future__ import annotations

import sys
import time
import zipfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "compare"))
from compare_store import fill
from compare_synthetic import grid

from cdka.palette import configuration_colour, rgb
from cdka.runs.store import Store

pytestmark = pytest.mark.browser
RACE_LIMIT_MS = 280_000
COLOURS = """() => Object.fromEntries([...document.querySelectorAll('.cdka-run[data-arm]')].map(row => [
    row.dataset.arm,
    [getComputedStyle(row.querySelector('.cdka-swatch')).backgroundColor,
     ...new Set([...document.querySelectorAll('[data-testid=stVegaLiteChart] path[aria-label]')]
        .filter(path => path.getAttribute('aria-label') === row.dataset.arm)
        .map(path => getComputedStyle(path).stroke)
        .filter(stroke => stroke !== 'none'))]]))"""
"""By configuration: the colour of its swatch, then those of its lines."""
SHIFTS = """window.__shifts = []; new PerformanceObserver(list => { for (const entry of list.getEntries())
    if (!entry.hadRecentInput) window.__shifts.push([entry.startTime, entry.value]);
}).observe({type: 'layout-shift', buffered: true});"""
STUDIES = "sweeps?part=Studies"
ROOMS = ("", "learn", "learn?chapter=4&page=5", "design", "align", "finetune", "sweeps", STUDIES, "compare")
DOORS = ("Learn", "Design", "Align", "Fine-tune", "Sweeps", "Compare", "Start", "Compare", "Design", "Learn")


def css(colour: str) -> str:
    return f"rgb({', '.join(map(str, rgb(colour)))})"


def holds(page, values: dict[str, str]) -> None:
    """Every field comes to hold its value (it may show its default for a moment while the page is built)."""
    from playwright.sync_api import expect

    for label, value in values.items():
        expect(page.get_by_label(label, exact=True)).to_have_value(value, timeout=30_000)


def enter(page, settled, label: str, text: str) -> None:
    page.get_by_label(label, exact=True).fill(text)
    page.keyboard.press("Enter")
    settled(page)


def test_the_form_is_kept_over_a_reload_and_a_visit(visit, settled):
    page = visit("finetune")
    kept = {"Steps": "60", "Seeds": "2", "Learning rate": "0.002"}
    for label, text in kept.items():
        enter(page, settled, label, text)
    page.reload()
    settled(page)
    settled(page)
    holds(page, kept)
    bar = page.get_by_test_id("stTopNav")
    for room in ("Compare", "Fine-tune"):
        bar.get_by_role("link", name=room).click()
        settled(page)
    holds(page, kept)


def test_an_axis_takes_what_was_typed_and_says_where_it_is_empty(visit, settled):
    page = visit("sweeps?axis_r1=2")
    enter(page, settled, "r1", "1")
    assert page.url.endswith("axis_r1=1")
    enter(page, settled, "r1", "")
    page.get_by_text("r1 needs a value").first.wait_for()
    assert page.get_by_role("button", name="Launch").count() == 0


@pytest.mark.slow
def test_colours_are_stable_during_a_race(visit, settled):
    page = visit("finetune?basket=2,8,1&basket=4,8,1&tune-steps=60")
    page.get_by_role("button", name="Launch 4 runs").click()
    page.locator(".cdka-run[data-arm]").nth(3).wait_for()
    seen: dict[str, set[str]] = {}
    deadline = time.monotonic() + RACE_LIMIT_MS / 1000
    while page.get_by_text("4 runs: 4 done").count() == 0:
        assert time.monotonic() < deadline
        for arm, colours in page.evaluate(COLOURS).items():
            seen.setdefault(arm, set()).update(colours)
        page.wait_for_timeout(300)
    settled(page)
    for arm, colours in page.evaluate(COLOURS).items():
        seen[arm].update(colours)
        assert len(colours) == 2, "a swatch, and lines of one colour"
    wanted = {
        "2,8,1": configuration_colour("cdka", (2, 8, 1)),
        "4,8,1": configuration_colour("cdka", (4, 8, 1)),
        "lora 1": configuration_colour("lora", None, 1),
        "lora 2": configuration_colour("lora", None, 2),
    }
    assert seen == {arm: {css(colour)} for arm, colour in wanted.items()}


@pytest.mark.slow
def test_a_new_reader_gets_from_the_start_page_to_a_headline(visit, settled, screenshot):
    began = time.monotonic()
    page = visit("")
    page.get_by_role("link", name="Open Design").click()
    settled(page)
    page.get_by_role("button", name="Take this one").click()
    page.get_by_role("button", name="Fine-tune it").click()
    settled(page)
    page.get_by_role("button", name="Launch 2 runs").click()
    page.locator(".st-key-tune-headline").wait_for(timeout=RACE_LIMIT_MS)
    assert "Difference" in page.locator(".st-key-tune-headline").inner_text()
    assert time.monotonic() - began < 300
    screenshot(page, "new-reader")
    page.locator(".st-key-tune-headline").get_by_role("link", name="Compare").click()
    settled(page)
    page.locator(".st-key-compare-headline").get_by_text("Difference").wait_for()


@pytest.mark.slow
def test_a_file_of_ones_own_is_swept_from_the_sweeps_room_to_a_verdict(visit, settled, tmp_path):
    rows = [f"{a}+{b}=,{'even' if (a + b) % 2 == 0 else 'odd'}" for a in range(12) for b in range(12)]
    file = tmp_path / "parity.csv"
    file.write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    page = visit(f"sweeps?plan_model=math-lm&plan_task=local-classify&axis_r1=1&axis_r2=4&data-path={file}")
    enter(page, settled, "Steps", "20")
    enter(page, settled, "Seeds", "2")
    page.get_by_role("button", name="Launch 4 runs").click()
    page.get_by_text("4 of 4 runs done").wait_for(timeout=RACE_LIMIT_MS)
    settled(page)
    page.locator(".st-key-sweep-started").get_by_role("link", name="Compare").click()
    settled(page)
    told = page.locator(".st-key-compare-headline")
    told.get_by_text("Difference").wait_for()
    assert "2 seeds" in told.inner_text()


@pytest.mark.slow
def test_39_adapters_are_exported_as_exact_lora(serve, chromium, settled, tmp_path):
    specs = [*grid(r1=(1, 2, 4, 8), r2=(2, 4, 8), r=(1,), seeds=3), *grid(r1=(1,), r2=(16,), r=(1,), seeds=3)]
    assert len(specs) == 39
    fill(Store(tmp_path / "studio"), "many", specs)
    _, url = serve()
    page = chromium.new_context(viewport={"width": 1440, "height": 900}).new_page()
    page.set_default_timeout(60_000)
    page.goto(f"{url}/compare?view=Export")
    settled(page)
    began = time.monotonic()
    page.get_by_role("button", name="As exact LoRA").click()
    save = page.get_by_role("button", name="-lora.zip")
    save.wait_for()
    assert time.monotonic() - began < 30
    with page.expect_download() as download:
        save.click()
    download.value.save_as(tmp_path / "lora.zip")
    page.context.close()
    with zipfile.ZipFile(tmp_path / "lora.zip") as archive:
        names = archive.namelist()
    assert sum(name.endswith("adapter_config.json") for name in names) == 39


def test_an_arm_that_is_pointed_at_or_chosen_stands_out(visit, settled):
    page = visit("compare?view=Curves")
    page.locator(".js-plotly-plot .scatterlayer .trace").first.wait_for()
    faded = """() => [...document.querySelectorAll('.js-plotly-plot .scatterlayer > .trace')]
        .map(trace => getComputedStyle(trace).opacity < 0.5)"""
    assert not any(page.evaluate(faded))
    page.locator(".cdka-legend-item").first.hover()
    page.wait_for_timeout(300)
    dimmed = page.evaluate(faded)
    assert 0 < sum(dimmed) < len(dimmed)
    page.mouse.move(2, 2)
    page.wait_for_timeout(300)
    assert not any(page.evaluate(faded))
    page.goto(page.url.replace("Curves", "Cost"))
    settled(page)
    page.locator(".js-plotly-plot path.point").first.wait_for()
    page.locator(".js-plotly-plot path.point").first.click(force=True)
    settled(page)
    assert page.locator(".cdka-legend-item.lit").count() == 1


def layout_shift(page, since: float = 0.0) -> float:
    """The cumulative layout shift as web vitals count it: the worst window of at most 5 s without a pause of 1 s."""
    worst = now = began = last = 0.0
    for at, value in page.evaluate("window.__shifts"):
        if at < since:
            continue
        if not now or at - last > 1000 or at - began > 5000:
            now, began = 0.0, at
        now, last = now + value, at
        worst = max(worst, now)
    return worst


@pytest.mark.slow
@pytest.mark.parametrize("width", [1440, 390])
def test_nothing_jumps_on_arrival_and_from_room_to_room(studio, chromium, settled, width):
    context = chromium.new_context(viewport={"width": width, "height": 900})
    context.set_default_timeout(60_000)
    context.add_init_script(SHIFTS)
    found = {}
    for room in ROOMS:
        page = context.new_page()
        page.goto(f"{studio.url}/{room}")
        settled(page)
        page.wait_for_timeout(1500)
        assert page.locator("h1").count() == 1, room
        found[f"arrival at /{room}"] = layout_shift(page)
        page.close()
    page = context.new_page()
    page.goto(studio.url)
    settled(page)
    for door in DOORS:
        link = page.get_by_role("link", name=door, exact=True)
        place = link.first.bounding_box()
        if place is None or place["x"] < 0:  # on a phone the doors stand in a drawer
            page.get_by_test_id("stExpandSidebarButton").click()
        began = page.evaluate("performance.now()")
        link.first.click()
        settled(page)
        page.wait_for_timeout(1500)
        found[f"to {door}"] = max(found.get(f"to {door}", 0.0), layout_shift(page, began))
    context.close()
    assert {where: shift for where, shift in found.items() if shift >= 0.1} == {}

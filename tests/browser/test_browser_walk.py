"""The path of a new user in a real browser: Design, Fine-tune, a live curve, Compare; with pictures to look at."""

from __future__ import annotations

import re

import pytest

from cdka import palette

pytestmark = pytest.mark.browser

HEADER, ROW = 36, 29
"""Pixels of the table's header and rows, which are drawn on a canvas and have no elements of their own."""


def holds(page, label: str, value: str) -> None:
    """A field comes to hold this value (it may show its default for a moment while the page is built)."""
    from playwright.sync_api import expect

    expect(page.get_by_label(label, exact=True)).to_have_value(value, timeout=30_000)


def table(page):
    """Where the table of options lies: x and y of its corner."""
    box = page.locator("[data-testid=stDataFrame]").first.bounding_box()
    return box["x"], box["y"]


def test_design_fine_tune_live_curve_compare(visit, settled, screenshot):
    page = visit("design")
    page.wait_for_selector(".js-plotly-plot .point")
    screenshot(page, "1-design")

    x, y = table(page)
    page.mouse.click(x + 18, y + HEADER + 0.5 * ROW)  # tick the first row
    settled(page)
    assert re.search(r"basket=cdka\+2%2C8%2C1&basket=cdka\+\d+%2C\d+%2C\d+", page.url), "the first row is ticked"
    page.mouse.click(x + 100, y + HEADER + 2.5 * ROW)  # look closer at the third
    settled(page)
    r1 = re.search(r"[?&]r1=(\d+)", page.url)[1]
    holds(page, "r1", r1)
    screenshot(page, "2-design-ticked")

    page.get_by_role("button", name="Fine-tune these").click()
    settled(page)
    assert "/finetune?" in page.url
    page.get_by_label("Steps", exact=True).fill("60")
    page.keyboard.press("Enter")
    settled(page)
    page.get_by_text("60 steps each").wait_for()
    page.get_by_role("button", name="Launch 4 runs").dblclick()  # a LoRA for each of the two prices
    page.get_by_text("4 runs:").wait_for()
    page.locator(".cdka-spark polyline").first.wait_for(timeout=120_000)  # two evaluations of a run at work
    screenshot(page, "3-live")

    page.reload()
    settled(page)
    page.locator(".cdka-spark polyline").first.wait_for()
    assert re.search(r"show=s-", page.url)
    page.get_by_text("4 runs: 4 done").wait_for(timeout=240_000)
    settled(page)
    assert page.locator("[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg").count() >= 2
    screenshot(page, "4-done")

    page.get_by_test_id("stTopNav").get_by_role("link", name="Compare").click()
    settled(page)
    page.locator("[data-testid=stDataFrame]").first.wait_for()
    assert "Nothing to compare yet" not in page.inner_text("[data-testid=stMain]")
    screenshot(page, "5-compare")


@pytest.mark.parametrize("room", ["design", "align", "finetune"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_rooms_fit_their_window_in_both_themes(visit, settled, screenshot, room, dark):
    page = visit(room, dark=dark)
    page.wait_for_timeout(1500)
    paper = page.evaluate("getComputedStyle(document.querySelector('.stApp')).backgroundColor")
    assert paper == ("rgb(20, 24, 29)" if dark else "rgb(253, 253, 251)"), "the theme beside main.py is in force"
    for width in (1440, 800):
        page.set_viewport_size({"width": width, "height": 900})
        settled(page)
        screenshot(page, f"{room}-{width}-{'dark' if dark else 'light'}")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing scrolls sideways"
        sticks_out = page.evaluate(
            "[...document.querySelectorAll('[data-testid=stMain] [data-testid=stMarkdownContainer]')]"
            ".filter(e => e.getBoundingClientRect().right > window.innerWidth + 1).map(e => e.innerText.slice(0, 60))"
        )
        assert sticks_out == []


def test_the_answer_is_in_sight_without_scrolling(visit):
    page = visit("design")
    for text in ("of the budget", "rank up to", "memory ± 15 %", "AdamW state"):
        assert page.get_by_text(text, exact=True).first.bounding_box()["y"] < 900
    assert page.get_by_text(re.compile(r"take this one|take", re.IGNORECASE)).first.bounding_box()["y"] < 300
    page.wait_for_selector(".js-plotly-plot .point")
    assert table(page)[1] + HEADER + 5 * ROW < 900, "five rows of options"


def test_figures_and_popovers_follow_the_systems_theme(visit):
    page = visit("design")
    page.wait_for_selector(".js-plotly-plot .xtitle")
    seen = """() => [getComputedStyle(document.querySelector('.js-plotly-plot .xtitle')).fill,
        getComputedStyle(document.documentElement).getPropertyValue('--ink').trim()]"""
    assert page.evaluate(seen)[1] == palette.LIGHT.ink
    light = page.evaluate(seen)[0]
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"light => ({seen})()[0] !== light", arg=light, timeout=20_000)
    assert page.evaluate(seen)[1] == palette.DARK.ink


def test_a_click_on_a_point_looks_closer(visit, settled):
    page = visit("design?r1=2&r2=16")
    page.wait_for_selector(".js-plotly-plot .point")
    squares = page.locator(".js-plotly-plot .scatterlayer .trace").nth(1).locator(".point")
    squares.first.click(force=True)
    settled(page)
    assert "r1=1" in page.url
    assert "r2=1" in page.url


def test_the_url_comes_back_in_another_tab(visit, settled):
    page = visit("design?model=gpt2&budget=0.5%25&r1=4&r2=16&r=2&basket=4,16,2")
    holds(page, "r2", "16")
    page.get_by_label("r1", exact=True).fill("8")
    page.keyboard.press("Enter")
    settled(page)
    again = visit(page.url.split("/", 3)[3])
    holds(again, "r1", "8")
    holds(again, "or in words", "0.5%")

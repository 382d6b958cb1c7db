"""The course in a real browser: Back, the first click, the keyboard, the press, the route at three widths."""

from __future__ import annotations

import re

import numpy as np
import pytest

from app.learn import classroom
from app.learn.chapters import CHAPTERS
from app.learn.press.press import directions
from cdka.components import Components

pytestmark = pytest.mark.browser

HEADING = "[data-testid=stMain] h2"


def title(chapter: int, page: int) -> str:
    return CHAPTERS[chapter - 1].pages[page - 1].title


def heading(page) -> str:
    return page.locator(HEADING).first.inner_text()


def wait_until(page, holds) -> None:
    """Wait for what only Python can see: the press lives in a shadow tree."""
    for _ in range(100):
        if holds():
            return
        page.wait_for_timeout(100)
    pytest.fail("it never became true")


def test_back_brings_page_and_address_back_together(visit, settled):
    page = visit("learn?chapter=2&page=1")
    for number in (2, 3):
        page.locator(".st-key-learn-next button").click()
        page.get_by_role("heading", name=title(2, number)).wait_for()
        settled(page)
    for number in (2, 1):
        page.go_back()
        page.get_by_role("heading", name=title(2, number)).wait_for()
        settled(page)
        assert f"page={number}" in page.url
    page.go_forward()
    page.get_by_role("heading", name=title(2, 2)).wait_for()
    assert "page=2" in page.url


@pytest.mark.slow
def test_back_brings_the_controls_of_then_back(visit, settled):
    page = visit("learn?chapter=2&page=3")
    page.locator(".st-key-c2_r1 input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    settled(page)
    assert "c2_r1=2" in page.url
    page.locator(".st-key-learn-next button").click()
    page.get_by_role("heading", name=title(2, 4)).wait_for()
    settled(page)
    page.locator(".st-key-c2_r1 input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    settled(page)
    assert "c2_r1=4" in page.url
    page.go_back()
    page.get_by_role("heading", name=title(2, 3)).wait_for()
    settled(page)
    assert "c2_r1=2" in page.url
    assert "rank 8 of 48" in page.locator(".learn-facts").inner_text()


def test_reveal_takes_a_typed_number_with_the_first_click(visit, settled):
    question = CHAPTERS[1].question(0, {})
    page = visit("learn?chapter=2&page=6")
    field = page.locator("input[aria-label^='Your prediction']")
    field.click()
    page.keyboard.type(f"{question.answer():g}")
    page.get_by_role("button", name="Reveal", exact=True).click()
    page.locator(".learn-verdict").wait_for()
    assert "3 of 3" in page.locator(".learn-verdict").inner_text()
    page.reload()
    page.locator(".learn-verdict").wait_for()


@pytest.mark.slow
def test_the_whole_route_by_keyboard(visit, settled):
    """Arrow keys turn the page, Tab reaches a slider, and the arrows in a slider move it instead."""
    page = visit(f"learn?chapter=1&page=1&{classroom.ROUTE}={classroom.ROUTE_VALUE}")
    stops = classroom.route_pages()
    for index, (chapter, number) in enumerate(stops):
        page.get_by_role("heading", name=title(chapter, number)).wait_for()
        settled(page)
        assert f"{index + 1} of {len(stops)}" in page.locator(".st-key-learn-turn .learn-count").inner_text()
        if (chapter, number) == (1, 1):
            for _ in range(60):
                page.keyboard.press("Tab")
                if page.evaluate("document.activeElement.type") == "range":
                    break
            page.keyboard.press("ArrowRight")
            settled(page)
            assert "c1_size=1024" in page.url
            assert heading(page) == title(1, 1), "the arrow moved the slider, not the page"
        page.evaluate("document.activeElement.blur()")
        page.keyboard.press("ArrowRight")
    settled(page)
    assert heading(page) == title(*stops[-1]), "the route ends here"
    page.keyboard.press("ArrowLeft")
    page.get_by_role("heading", name=title(*stops[-2])).wait_for()


def test_the_press_turns_folds_and_shows_the_librarys_cosine(visit, settled):
    page = visit("learn?chapter=4&page=3")
    press = page.locator(".press")
    press.locator("canvas").wait_for()
    found = directions(Components(2, 4, 1))
    dial = press.locator("input[type=range]")
    dial.fill("90")
    assert f"step: {found.caught_best:.3f}" in press.locator(".told").inner_text()
    dial.fill("0")
    assert f"step: {found.caught_random:.3f}" in press.locator(".told").inner_text()
    dial.fill("40")
    squares = np.cos(np.radians(40)) ** 2 * found.caught_random**2 + np.sin(np.radians(40)) ** 2 * found.caught_best**2
    shown = float(re.search(r"step: (\d+\.\d+)", press.locator(".told").inner_text())[1])
    assert shown == pytest.approx(squares**0.5, abs=2e-3)
    press.get_by_role("button", name="Best").click()
    wait_until(page, lambda: dial.input_value() == "90")
    press.get_by_role("button", name="Random").click()
    page.wait_for_timeout(900)
    assert "50 random" in press.locator(".told").inner_text()
    press.get_by_role("button", name="Fold").focus()
    page.keyboard.press("Enter")
    press.get_by_role("button", name="Unfold").wait_for()
    page.locator(".st-key-c4_p2 input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    settled(page)
    page.wait_for_timeout(900)
    assert "16 by 16; unfolded it is 64 by 4" in press.locator("canvas").get_attribute("aria-label")


def test_the_press_stands_still_for_readers_who_prefer_it(visit, settled):
    page = visit("learn?chapter=4&page=3")
    page.emulate_media(reduced_motion="reduce")
    press = page.locator(".press")
    press.get_by_role("button", name="Best").click()
    assert press.locator("input[type=range]").input_value() == "90", "no way to watch"


@pytest.mark.slow
def test_a_tiny_training_plays_pauses_and_goes_on(visit, settled):
    page = visit("learn?chapter=5&page=4")
    page.get_by_role("button", name="Play", exact=True).click()
    page.wait_for_function("Number(document.querySelector('.st-key-c5-buttons b').innerText) >= 6")
    page.get_by_role("button", name="Pause", exact=True).click()
    page.get_by_role("button", name="Play", exact=True).wait_for()
    settled(page)
    stopped = page.locator(".st-key-c5-buttons b").inner_text()
    page.wait_for_timeout(1200)
    assert page.locator(".st-key-c5-buttons b").inner_text() == stopped


def test_a_word_explains_itself_on_focus_and_links_to_the_glossary(visit):
    page = visit("learn?chapter=4&page=1")
    word = page.locator(".cdka-term", has_text="alignment").first
    assert not word.locator(".cdka-card").is_visible()
    for _ in range(20):  # the page may be drawn once more, and takes the focus away
        word.focus()
        page.wait_for_timeout(250)
        if word.locator(".cdka-card").is_visible():
            break
    assert word.locator(".cdka-card").is_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Glossary"


@pytest.mark.slow
@pytest.mark.parametrize("width", [1440, 800, 390])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_route_fits_its_window(visit, settled, screenshot, width, dark):
    page = visit("learn", dark=dark, width=width, height=844 if width == 390 else 900)
    for chapter, number in classroom.route_pages():
        page.goto(re.sub(r"/learn.*", f"/learn?chapter={chapter}&page={number}&route=30", page.url))
        page.get_by_role("heading", name=title(chapter, number)).wait_for()
        settled(page)
        page.wait_for_timeout(400)
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 1, f"chapter {chapter}, page {number} is {overflow} px too wide"
        screenshot(page, f"route-{width}-{'dark' if dark else 'light'}-{chapter}-{number}")


TOO_WIDE = """() => {
    const column = document.querySelector(".st-key-learn-equation");
    const end = column.getBoundingClientRect().right;
    return [...column.querySelectorAll(".base")].map((part) => part.getBoundingClientRect().right - end)
        .filter((beyond) => beyond > 1);
}"""
"""Pixels by which parts of a formula stand out of their column."""
BOTTOMS = "(parts) => parts.map((part) => part.getBoundingClientRect().bottom)"
WITH_FORMULA = [(c.number, n) for c in CHAPTERS for n, page in enumerate(c.pages, start=1) if page.equation is not None]


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [False, True], ids=["letters", "numbers"])
@pytest.mark.parametrize(("chapter", "number"), WITH_FORMULA)
def test_a_formula_wraps_in_a_narrow_column(visit, settled, chapter, number, numbers):
    page = visit(f"learn?chapter={chapter}&page={number}&numbers={str(numbers).lower()}")
    page.locator(".st-key-learn-equation .katex").first.wait_for()
    for width in (1440, 800, 390):
        page.set_viewport_size({"width": width, "height": 844})
        page.wait_for_timeout(300)
        assert page.evaluate(TOO_WIDE) == [], f"at {width} px"
        ends = page.locator(".st-key-learn-equation .base").evaluate_all(BOTTOMS)
        assert max(ends) <= page.locator(".st-key-numbers").bounding_box()["y"] + 1, "the switch stands on the formula"
    assert page.locator(".katex-display").count() == 0, "a displayed formula scrolls, out of the keyboard's reach"


@pytest.mark.slow
def test_a_presentation_is_large_and_turns_by_arrow(visit, settled, screenshot):
    page = visit("learn?chapter=1&page=2&present=1&route=30")
    page.locator(".learn-idea").wait_for()
    settled(page)
    size = page.evaluate("parseFloat(getComputedStyle(document.querySelector('.learn-idea p')).fontSize)")
    assert size >= 24
    screenshot(page, "presentation")
    page.keyboard.press("ArrowRight")
    page.get_by_role("heading", name=title(1, 3)).wait_for()

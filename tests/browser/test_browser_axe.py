"""axe finds nothing serious on any page, in the light and in the dark theme."""

from __future__ import annotations

import pytest

from app.learn.chapters import CHAPTERS

pytestmark = pytest.mark.browser

SERIOUS = ("serious", "critical")
ROOMS = ("design", "align", "finetune", "sweeps", "compare", "learn?chapter=glossary")
LEFT_TO_STREAMLIT: dict[str, str] = {}
"""Rules that are not held against us, with the reason: what Streamlit renders and gives no way to change."""


@pytest.fixture(scope="module")
def serious():
    """``serious(page)``: what axe finds, as lines ``rule: element: why``."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()

    def run(page) -> list[str]:
        found = axe.run(page, options={"resultTypes": ["violations"]}).response["violations"]
        return [
            f"{violation['id']}: {node['html'][:120]}: {node['failureSummary'][:200]}"
            for violation in found
            if violation["impact"] in SERIOUS and violation["id"] not in LEFT_TO_STREAMLIT
            for node in violation["nodes"]
        ]

    return run


def check_in_both_themes(page, settled, serious) -> None:
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        settled(page)
        page.wait_for_timeout(300)  # colours fade over
        assert serious(page) == [], f"{page.url} in the {scheme} theme"


def test_axe_can_fail(visit, serious):
    page = visit("learn")
    page.evaluate("document.querySelector('[data-testid=stMain]').innerHTML += '<p style=\"color:#ddd\">pale</p><img>'")
    assert {line.split(":")[0] for line in serious(page)} >= {"color-contrast", "image-alt"}


@pytest.mark.parametrize("room", ROOMS)
def test_rooms(visit, settled, serious, room):
    page = visit(room)
    page.wait_for_timeout(800)
    check_in_both_themes(page, settled, serious)


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.short)
def test_the_last_page_of_text_and_the_exercise(visit, settled, serious, chapter):
    walk(visit, settled, serious, chapter, first=chapter.num_pages - 1)


@pytest.mark.slow
@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.short)
def test_every_page_of_the_course(visit, settled, serious, chapter):
    walk(visit, settled, serious, chapter, first=1)


def walk(visit, settled, serious, chapter, *, first: int) -> None:
    """From one page of a chapter to its exercise by the button, with axe on each."""
    page = visit(f"learn?chapter={chapter.number}&page={first}")
    for number in range(first, chapter.num_pages + 1):
        if number > first:
            page.get_by_role("button", name="Predict" if number == chapter.num_pages else "Next", exact=True).click()
            settled(page)
        check_in_both_themes(page, settled, serious)

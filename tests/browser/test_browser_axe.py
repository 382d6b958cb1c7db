"""axe finds nothing serious on any page, in the light and in the dark theme."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "compare"))
from compare_store import fill
from compare_synthetic import grid

from app.learn.chapters import CHAPTERS
from app.learn.exercise import another
from cdka.runs.spec import RunSpec
from cdka.runs.store import Store

pytestmark = pytest.mark.browser

SERIOUS = ("serious", "critical")
ROOMS = ("design", "align", "finetune", "sweeps", "compare", "learn?chapter=glossary", "learn?chapter=class")
SAME_THEME = """() => {
    const dark = (element) => getComputedStyle(element).colorScheme.includes("dark");
    return dark(document.documentElement) === dark(document.querySelector(".stApp"));
}"""
"""True once the server has learnt the browser's theme and sent the style sheet of it."""
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
    pale = '<p style="color:#ddd;background:#fff">pale</p><img>'
    page.evaluate("(html) => { document.querySelector('[data-testid=stMain]').innerHTML += html; }", pale)
    assert {line.split(":")[0] for line in serious(page)} >= {"color-contrast", "image-alt"}


@pytest.mark.parametrize("room", ROOMS)
def test_rooms(visit, settled, serious, room):
    page = visit(room)
    page.wait_for_timeout(800)
    check_in_both_themes(page, settled, serious)
    page.set_viewport_size({"width": 800, "height": 900})
    page.emulate_media(color_scheme="dark")
    settled(page)
    assert serious(page) == [], f"{page.url} at 800 px in the dark theme"


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.short)
def test_the_last_page_of_text_and_the_exercise(visit, settled, serious, chapter):
    walk(visit, settled, serious, chapter, first=chapter.num_pages - 1)


def predict(page, settled, chapter, seed: int, *, right: bool) -> None:
    """Answer one exercise through its field or its choices, wrong twice or right at once, and reveal."""
    question = chapter.question(seed, {**chapter.defaults, "seed": seed})
    answer = question.answer()
    for _ in range(1 if right else question.num_tries):
        if question.choices:
            said = answer if right else next(choice for choice in question.choices if choice != answer)
            page.locator("[data-testid=stRadioOption]", has_text=said).click()
        else:
            field = page.locator("input[aria-label^='Your prediction']")
            wrong = 3 * answer + (10 if answer >= 0 else -10)
            field.fill(f"{answer if right else wrong:.6g}")
        page.get_by_role("button", name="Reveal", exact=True).click()
        settled(page)
    told = page.locator(".learn-verdict").inner_text()
    assert ("3 of 3" in told) == right, told
    assert ("0 of 3" in told) != right, told


def test_a_revealed_answer(visit, settled, serious):
    """A missed prediction: what is told and what the figure then shows."""
    chapter = CHAPTERS[1]
    page = visit(f"learn?chapter={chapter.number}&page={chapter.num_pages}")
    predict(page, settled, chapter, 0, right=False)
    check_in_both_themes(page, settled, serious)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_what_opens_over_the_page(visit, serious, dark):
    """The source and the code of a page, in a popover that hangs outside the app and its style."""
    page = visit("learn?chapter=4&page=5", dark=dark)
    page.wait_for_function(SAME_THEME)
    page.get_by_role("button", name="Source and code").click()
    page.locator("[data-testid=stPopoverBody]").get_by_text("means our own derivation").wait_for()
    page.wait_for_timeout(500)
    assert serious(page) == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [1440, 800])
@pytest.mark.parametrize("chapter", [c for c in CHAPTERS if c.number != 6], ids=lambda c: c.short)
def test_every_exercise_right_and_wrong_and_its_notebook(visit, settled, serious, chapter, width, tmp_path):
    # a learner of its own, since what another test answered in this Studio stays answered
    page = visit(f"learn?chapter={chapter.number}&page={chapter.num_pages}&learner=at-{width}", width=width)
    values = {**chapter.defaults, "seed": 0}
    second = another(chapter, 0, values)
    for seed, right in ((0, False), (second, True)):
        predict(page, settled, chapter, seed, right=right)
        page.wait_for_timeout(500)
        check_in_both_themes(page, settled, serious)
        if not right:
            page.get_by_role("button", name="Another question").click()
            settled(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Notebook", exact=True).click()
    download.value.save_as(tmp_path / "chapter.ipynb")
    question = chapter.question(second, {**values, "seed": second})
    assert execute(tmp_path / "chapter.ipynb", question.code) == question.answer()


def execute(path: Path, code: str):
    """The value of the cell with this code in a downloaded notebook, after running all in a kernel."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    document = nbformat.read(path, as_version=4)
    nbformat.validate(document)
    nbclient.NotebookClient(document, timeout=120, kernel_name="python3").execute()
    cell = next(cell for cell in document.cells if cell["source"] == code.strip())
    (shown,) = (out["data"]["text/plain"] for out in cell.outputs if out.output_type == "execute_result")
    return eval(shown, {"np": pytest.importorskip("numpy")})


@pytest.mark.slow
@pytest.mark.parametrize("width", [1440, 800])
def test_rooms_with_runs_in_them(serve, chromium, settled, serious, tmp_path, width):
    """Every view of Compare, the runs and the studies, from a home where things were trained and one failed."""
    specs = [*grid(r1=(1, 2), r2=(2, 4), seeds=2)]
    specs += [RunSpec("digits-vit", "digits-flip", method="lora", rank=2, seed=s, steps=120, lr=2e-3) for s in (0, 1)]
    fill(Store(tmp_path / "studio"), "whole", specs, ends={0: "failed"})
    _, url = serve()
    context = chromium.new_context(viewport={"width": width, "height": 900})
    page = context.new_page()
    page.set_default_timeout(60_000)
    found = []
    views = ("Curves", "Map", "Cost", "Differences", "Budget", "Settings", "Anatomy", "Examples", "Export")
    paths = ["finetune?show=all", "sweeps", "sweeps?part=Studies", *(f"compare?view={view}" for view in views)]
    for path in paths:
        page.goto(f"{url}/{path}")
        settled(page)
        page.wait_for_timeout(800)
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme)
            settled(page)
            page.wait_for_timeout(300)  # colours fade over
            found += [f"{path}, {scheme}: {line}" for line in serious(page)]
    context.close()
    assert found == []


@pytest.mark.slow
@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.short)
@pytest.mark.parametrize("width", [1440, 800])
def test_every_page_of_the_course(visit, settled, serious, chapter, width):
    walk(visit, settled, serious, chapter, first=1, width=width)


def walk(visit, settled, serious, chapter, *, first: int, width: int = 1440) -> None:
    """From one page of a chapter to its exercise by the button, with axe on each."""
    page = visit(f"learn?chapter={chapter.number}&page={first}", width=width)
    for number in range(first, chapter.num_pages + 1):
        if number > first:
            page.locator(".st-key-learn-next button").click()
            settled(page)
        check_in_both_themes(page, settled, serious)

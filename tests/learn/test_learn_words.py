"""Text, glossary, scores, progress, addresses: what the course says and keeps."""

from __future__ import annotations

import json
import re

import pytest

from app.learn import address, progress
from app.learn.chapters import CHAPTERS
from app.learn.course import OURS, PAPER, TEXTBOOK, Question
from app.learn.glossary import find_term, glossary_link, terms
from app.learn.glossary_page import matches
from app.learn.kron import parse_matrix, write_matrix
from app.learn.markup import number, to_html, to_latex, to_markdown
from app.learn.scoring import score
from cdka.errors import CdkaError


def values_of(chapter):
    return {**chapter.defaults, "seed": 0}


def every_page():
    return [pytest.param(c, p, id=f"{c.number}-{i}") for c in CHAPTERS for i, p in enumerate(c.pages, start=1)]


@pytest.mark.parametrize(("chapter", "shown_page"), every_page())
def test_every_page_is_whole(chapter, shown_page):
    page = shown_page
    assert page.source in (PAPER, OURS, TEXTBOOK)
    assert "[[" not in to_html(page.text)
    assert "[[" not in to_markdown(page.text)
    assert set(page.focus) <= {c.name for c in chapter.controls}, "the text points at a control that is not there"
    shown = {c.name for c in chapter.controls if c.kind != "matrix" and (not c.views or page.view in c.views)}
    matrices = {c.name for c in chapter.controls if c.kind == "matrix"}
    assert set(page.focus) <= shown | matrices, "the control under discussion is not on this page"
    for settings in page.tries:
        for name, value in settings.values.items():
            control = next(c for c in chapter.controls if c.name == name)
            if control.kind == "matrix":
                assert control.read(write_matrix(value)) == value
            else:
                assert value in control.options
                assert name in shown, "the button sets a control that this page does not show"
    if page.equation is not None:
        filled = page.equation.numbers(values_of(chapter))
        assert re.search(r"\d", to_latex(filled, dark=True))
        assert "<" not in to_latex(filled, dark=True)
        assert to_latex(page.equation.letters).count("{") == to_latex(page.equation.letters).count("}")
        assert filled.count("{") == filled.count("}")
    assert compile(page.code(values_of(chapter)), "page", "exec")


def test_six_chapters_of_a_few_minutes():
    assert [c.number for c in CHAPTERS] == [1, 2, 3, 4, 5, 6]
    for chapter in CHAPTERS:
        said = " ".join(page.text for page in chapter.pages).split()
        assert 5 <= chapter.minutes <= 10
        assert 150 < len(said) < 620, f"chapter {chapter.number} has {len(said)} words"


def test_every_default_and_option_survives_the_url():
    for chapter in CHAPTERS:
        for control in chapter.controls:
            for option in control.options:
                assert control.read(str(option)) == option
    for control in CHAPTERS[0].controls:
        if control.name in ("B", "A", "x"):
            assert control.read(write_matrix(control.default)) == control.default


def test_keys_in_the_url_are_unique():
    keys = [c.key for chapter in CHAPTERS for c in chapter.controls if c.kind != "seed"]
    assert len(set(keys)) == len(keys)
    assert all(key.startswith("c") for key in keys)


@pytest.mark.parametrize("text", ["1,2;3", "1,2;3,x", "1,2,3;4,5,6", "1,2;3,99", ""])
def test_a_bad_matrix_is_refused_with_an_example(text):
    with pytest.raises(CdkaError, match=r"B must be 2 rows of 2 numbers .* as 1,2;3,4: got"):
        parse_matrix("B", (2, 2))(text)


def test_a_bad_address_is_told_and_the_default_shown():
    values, notices = address.read(CHAPTERS[1].controls, {"c2_r1": "3", "c2_r2": "8", "seed": "-1", "other": "x"})
    assert values == {"c2_r2": 8}
    assert len(notices) == 2
    assert "r1 must be one of 1, 2, 4, 8, 16: got '3'." in notices[0]
    assert "seed must be a whole number" in notices[1]


def test_what_a_teacher_hides():
    assert address.hidden(None) == frozenset()
    assert address.hidden("controls,solution") == {"controls", "solution"}
    with pytest.raises(CdkaError, match=r"unknown thing to hide 'solutions'\. Did you mean 'solution'"):
        address.hidden("solutions")
    assert (
        address.link({"chapter": "2", "c2_r1": "4", "hide": "controls"}, ("solution",))
        == "?chapter=2&c2_r1=4&hide=solution"
    )


def test_glossary_terms_are_distinct_and_explained():
    names = [name.lower() for term in terms() for name in (term.name, *term.aliases)]
    assert len(set(names)) == len(names)
    for term in terms():
        assert term.meaning.endswith(".")
        assert term.chapter is None or 1 <= term.chapter <= 6
    for word in (
        "r1",
        "r2",
        "r",
        "components",
        "rank_bound",
        "target_modules",
        "alignment",
        "scaling",
        "budget",
        "arm",
        "sweep",
    ):
        assert find_term(word)


def test_a_link_to_the_glossary_is_safe_and_tells_the_meaning():
    html = glossary_link("R(G)", "<b>")
    assert 'href="learn?chapter=glossary&amp;term=rearrangement"' in html
    assert "&lt;b&gt;" in html
    assert "rank one" in html
    with pytest.raises(CdkaError, match=r"unknown term 'alignmant'\. Did you mean 'alignment'"):
        glossary_link("alignmant")


def test_the_glossary_is_searched_in_meanings_too():
    assert matches(find_term("alignment"), "COSINE step")
    assert not matches(find_term("alignment"), "cosine seed")


def test_colours_of_letters_in_formulas_follow_the_theme():
    assert to_latex("<r1>+<r2:8>") == "r_1+8"
    assert to_latex("<r1>", dark=False) == r"\textcolor{#B34E00}{r_1}"
    assert to_latex("<r1:2>", dark=True) == r"\textcolor{#FF9147}{2}"
    assert number(1234567) == r"1\,234\,567"
    assert number(0.35355) == "0.354"


def _question(answer, **settings):
    return Question("?", lambda: answer, str, "", **settings)


@pytest.mark.parametrize(
    ("prediction", "answer", "whole", "points"),
    [
        (32, 32, True, 3), (31, 32, True, 2), (64, 32, True, 1), (16, 32, True, 1), (15, 32, True, 0),
        (-32, 32, True, 0),
        (20.5, 20.0, False, 3), (24.0, 20.0, False, 2), (10.1, 20.0, False, 1), (0, 5, True, 0), (5000, 4900, True, 3),
    ],
)  # fmt: skip
def test_scores(prediction, answer, whole, points):
    assert score(_question(answer, whole=whole), prediction, answer).points == points


def test_a_choice_is_right_or_not():
    question = _question("a", choices=("a", "b"))
    assert score(question, "a", "a").points == 3
    assert score(question, "b", "a").points == 0


def test_progress_is_kept_and_forgiving(home):
    assert progress.load().of(2).best is None
    progress.save(progress.load().seen(2, 1).seen(2, 3).scored(2, 1).scored(2, 3).scored(2, 2))
    record = progress.load().of(2)
    assert (record.pages, record.best, record.tries) == ({1, 3}, 3, 3)
    assert progress.path() == home / "learn.json"
    assert json.loads(progress.path().read_text())["chapters"]["2"]["best"] == 3
    progress.path().write_text('{"chapters": {"2": 5}}')
    assert progress.load() == progress.Progress()
    progress.forget()
    assert not progress.path().exists()
    assert list(home.iterdir()) == []

"""Text, glossary, scores, progress, addresses: what the course says and keeps."""

from __future__ import annotations

import json
import re

import pytest

from app.glossary import find_term, glossary_link, link_terms, terms
from app.learn import address, notebook, progress, sources
from app.learn.chapters import CHAPTERS
from app.learn.course import CITED, OURS, PAPER, TEXTBOOK, Question
from app.learn.exercise import another, out_of_range
from app.learn.glossary_page import matches
from app.learn.kronecker.numbers import parse_matrix, write_matrix
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


@pytest.mark.parametrize(("chapter", "shown_page"), every_page())
def test_every_page_says_where_its_statements_come_from(chapter, shown_page):
    """The marks in the text, the lines of the popover and the notebook say the same."""
    page = shown_page
    text = sources.marked(page)
    found = sources.marks(text)
    assert {page.source} <= {mark.kind for mark in found}, "the page is filed under what its text says"
    html, legend = to_html(text), sources.legend(page)
    assert "((" not in html.replace("\\((", "")
    assert html.count('class="cdka-source"') == html.count('tabindex="0"') == len(found)
    for mark in found:
        assert mark.detail or mark.kind != CITED, "who is cited?"
        assert f"**{mark.kind}**: {mark.detail}." in legend if mark.detail else f"*{mark.kind}* means" in str(legend)
    cells = [cell["source"] for cell in notebook.build(chapter, values_of(chapter))["cells"]]
    (cell,) = (source for source in cells if source.startswith(f"## {page.title}\n"))
    assert cell.count("<sup>[") == len(found)
    assert "((" not in cell.split("$$")[0]
    assert all(f"- {line}" in cell for line in legend)


def test_what_our_own_marks_name_is_in_the_code_of_the_page():
    """``((ours: rank_bound))`` names what makes the number, so the code under the text has to call it."""
    for chapter in CHAPTERS:
        for page in chapter.pages:
            code = f"{chapter.setup}\n{page.code(values_of(chapter))}"
            named = [name for mark in sources.marks(page.text) if mark.kind == OURS
                     for name in re.findall(r"\b[A-Za-z]+(?:_[A-Za-z]+)+\b", mark.detail)]  # fmt: skip
            assert [name for name in named if name not in code] == [], f"{chapter.number}: {page.title}"


def test_a_mark_may_hold_parentheses_and_run_over_lines():
    (mark,) = sources.marks("It is so. ((ours: f(x)\nand g(x)))")
    assert (mark.kind, mark.detail) == (OURS, "f(x) and g(x)")
    assert to_markdown("So. ((paper)) Next") == "So. <sup>[paper]</sup> Next"
    assert 'title="cited: &lt;b&gt;"' in to_html("So. ((cited: <b>))")
    assert sources.marks("((nobody)) ($f((x))$)") == ()


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


def test_terms_in_a_caption_are_linked_once_each_where_they_are_first_met():
    html = link_terms("Rank bound <8>, then rank; the rank bound again. cdka.theory.alignment, rank_bound, r 4, a seed")
    assert re.findall(r">([^<>]+)</a>", html) == ["Rank bound", "rank"]
    assert "&lt;8&gt;" in html
    assert html.endswith("cdka.theory.alignment, rank_bound, r 4, a seed")
    assert link_terms("nothing & nobody") == "nothing &amp; nobody"


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


def test_a_prediction_out_of_range_is_refused_in_one_line():
    question = _question(4.0, low=1, high=3072)
    assert out_of_range(question, None) == out_of_range(question, 3072.0) == out_of_range(question, 1.0) == ""
    assert out_of_range(question, 9999.0) == (
        "the answer lies between 1 and 3,072: got 9,999. Type a number in that range."
    )
    assert "got −1." in out_of_range(question, -1.0)
    assert out_of_range(_question("a", choices=("a", "b")), "a") == ""


def test_another_question_is_another_question():
    for chapter in CHAPTERS:
        values = values_of(chapter)
        for seed in (0, 8, 9999):
            following = another(chapter, seed, values)
            assert 0 <= following <= 9999
            if chapter.number < 6:  # there the prompt is the learner's own design
                assert chapter.ask(following, values).prompt != chapter.ask(seed, values).prompt
            else:
                assert following == (seed + 1) % 10_000


def test_no_answer_lies_out_of_range():
    for chapter in CHAPTERS[:5]:
        for seed in range(12):
            question = chapter.ask(seed, values_of(chapter))
            assert out_of_range(question, question.answer()) == ""


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

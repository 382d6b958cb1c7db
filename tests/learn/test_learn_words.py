"""Text, glossary, scores, progress, addresses: what the course says and keeps."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from app.glossary import find_term, glossary_link, link_terms, terms
from app.learn import address, classroom, notebook, progress, prose, sources
from app.learn.chapters import CHAPTERS
from app.learn.course import CITED, CODE, OURS, PAPER, Question
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
    assert page.source in sources.MEANINGS
    assert "[[" not in to_html(page.text)
    assert not re.search(r"\[\[[^\]]+\]\]", to_markdown(page.text))
    assert prose.idea_of(page.text), "every page has one idea"
    assert prose.try_of(page.text), "and something to do"
    assert "Code:" in page.text, "in the notebook, too"
    assert "{{" not in page.text, "a place without a value"
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
    assert html.count('class="cdka-source"') == len(found)
    for mark in found:
        assert mark.detail or mark.kind not in (CITED, PAPER, CODE), "what is cited?"
        assert mark.url.startswith("https://") == (mark.kind == CITED), "a citation is a link"
        assert mark.detail in str(legend) if mark.detail else f"*{mark.kind}* means" in str(legend)
    cells = [cell["source"] for cell in notebook.build(chapter, values_of(chapter))["cells"]]
    (cell,) = (source for source in cells if source.startswith(f"## {page.title}\n"))
    shown = [mark for mark in sources.marks(prose.in_notebook(text)) if mark.kind != CITED]
    assert cell.count("<sup>[") == len(shown)
    assert "((" not in cell.split("$$")[0]
    assert all(f"- {line}" in cell for line in legend if line.startswith("**"))


def test_what_our_own_marks_name_is_in_the_code_of_the_page():
    """``((ours: rank_bound))`` names what makes the number, so the code under the text has to call it."""
    for chapter in CHAPTERS:
        for page in chapter.pages:
            code = f"{chapter.setup}\n{page.code(values_of(chapter))}"
            named = [
                name
                for mark in sources.marks(page.text)
                if mark.kind == OURS
                for name in re.findall(r"\b[A-Za-z]+(?:_[A-Za-z]+)+\b", mark.detail)
            ]
            assert [name for name in named if name not in code] == [], f"{chapter.number}: {page.title}"


def test_a_mark_may_hold_parentheses_and_run_over_lines():
    (mark,) = sources.marks("It is so. ((ours: f(x)\nand g(x)))")
    assert (mark.kind, mark.detail) == (OURS, "f(x) and g(x)")
    assert to_markdown("So. ((textbook)) Next") == "So. <sup>[textbook]</sup> Next"
    assert 'data-card="ours: &lt;b&gt;"' in to_html("So. ((ours: <b>))")
    assert 'href="https://arxiv.org/abs/2106.09685"' in to_html("So. ((cited: lora))")
    assert sources.marks("((nobody)) ($f((x))$)") == ()


def test_no_statement_is_marked_paper_or_code_without_an_entry_of_what_we_could_read():
    for text in ("So. ((paper))", "So. ((paper: its main result))", "So. ((code: nothing))", "So. ((cited: nobody))"):
        with pytest.raises(CdkaError, match=r"unknown (paper|code|cited) reference"):
            sources.marks(text)
    used = {(mark.kind, mark.detail) for c in CHAPTERS for p in c.pages for mark in sources.marks(p.text)}
    for kind in (PAPER, CODE):
        for entry in sources.references()[kind].values():
            assert (kind, f"{entry['says']} ({entry['where']})") in used, "an entry that no page uses"
    for entry in sources.references()[CITED].values():
        assert entry["url"].startswith("https://")


def test_the_text_of_a_chapter_is_parsed_into_pages_and_parts():
    blocks = (
        "# T",
        "Idea.",
        "## One {#one}",
        "A {{x}}.",
        "> Key.",
        "Try: Click.",
        "Code: Run.",
        "## Predict {#predict}",
    )
    text = prose.parse("\n\n".join((*blocks, "### question", "What is {{n}}?", "## Finish {#finish}", "Done.")))
    assert (text.title, text.idea, text.finish) == ("T", "Idea.", "Done.")
    page = text.section("one").text
    assert prose.fill(page, x=3).startswith("A 3.")
    assert (prose.idea_of(page), prose.try_of(page)) == ("Key.", "Click.")
    assert prose.in_notebook(page) == "A {{x}}.\n\n> Key.\n\n**In the cell below:** Run."
    assert text.part("question", n=4) == "What is 4?"
    for broken, message in (
        (lambda: text.part("question"), "unknown value 'n'"),
        (lambda: text.section("two"), "unknown section"),
    ):
        with pytest.raises(CdkaError, match=message):
            broken()
    with pytest.raises(CdkaError, match="must open with"):
        prose.parse("no title")


def test_every_part_of_every_exercise_is_used_by_its_chapter():
    for chapter in CHAPTERS:
        source = Path(sys.modules[chapter.question.__module__].__file__).read_text(encoding="utf-8")
        for name in chapter.prose.section("predict").parts:
            assert name.removeprefix("hint: ") in source, f"{chapter.number}: {name}"


def test_a_reader_of_the_route_finds_the_answers_to_five_questions():
    """Each question, the stop of the 30-minute route that answers it, and the words there that do."""
    answers = {
        "How many parameters has a component?": (2, "budget", "their ratio counts"),
        "What rank does it reach?": (2, "budget", "`r1` · `r2`"),
        "What is alignment, and what sets it?": (4, "order", "number of directions"),
        "What does the scaling keep, and what not?": (5, "terms", "the line stays level"),
        "Which one, when?": (7, "table", "Take **CDKA** where the budget is very small"),
    }
    for question, (chapter, id, words) in answers.items():
        assert (chapter, id) in classroom.ROUTE_STOPS, question
        text = CHAPTERS[chapter - 1].prose.section(id).text
        assert words in " ".join(text.split()), question


def test_the_route_is_a_lesson_of_half_an_hour_in_the_order_of_the_course():
    pages = classroom.route_pages()
    assert pages == sorted(set(pages))
    assert 12 <= len(pages) <= 16, "about two minutes each"
    assert classroom.route_place(*pages[3]) == 3
    assert classroom.route_place(1, 99) == [chapter for chapter, _ in pages].count(1) - 1


def test_seven_chapters_of_a_few_minutes():
    assert [c.number for c in CHAPTERS] == [1, 2, 3, 4, 5, 6, 7]
    for chapter in CHAPTERS:
        read = " ".join(" ".join(prose.in_studio(page.text)) for page in chapter.pages).split()
        assert 5 <= chapter.minutes <= 12
        assert 150 < len(read) < 900, f"chapter {chapter.number} has {len(read)} words"
        assert len(read) / 130 < chapter.minutes, "at an easy pace"


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
        assert term.chapter is None or 1 <= term.chapter <= len(CHAPTERS)
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
    assert re.findall(r'tabindex="0">([^<>]+)<span', html) == ["Rank bound", "rank"]
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
        (32, 32, True, 3),
        (31, 32, True, 2),
        (64, 32, True, 1),
        (16, 32, True, 1),
        (15, 32, True, 0),
        (-32, 32, True, 0),
        (20.5, 20.0, False, 3),
        (24.0, 20.0, False, 2),
        (10.1, 20.0, False, 1),
        (0, 5, True, 0),
        (5000, 4900, True, 3),
    ],
)
def test_scores(prediction, answer, whole, points):
    assert score(_question(answer, whole=whole), prediction, answer).points == points


def test_a_prediction_out_of_range_is_refused_in_one_line():
    question = _question(4.0, low=1, high=3072)
    assert out_of_range(question, None) == out_of_range(question, 3072.0) == out_of_range(question, 1.0) == ""
    assert out_of_range(question, 9999.0) == (
        "The answer lies between 1 and 3,072: got 9,999. Type a number in that range."
    )
    assert "got −1." in out_of_range(question, -1.0)
    assert out_of_range(_question("a", choices=("a", "b")), "a") == ""


def test_another_question_is_another_question():
    for chapter in CHAPTERS:
        values = values_of(chapter)
        for seed in (0, 8, 9999):
            following = another(chapter, seed, values)
            assert 0 <= following <= 9999
            if chapter.number != 6:  # there the prompt is the learner's own design
                assert chapter.question(following, values).prompt != chapter.question(seed, values).prompt
            else:
                assert following == (seed + 1) % 10_000


def test_no_answer_lies_out_of_range():
    for chapter in CHAPTERS:
        for seed in range(12):
            question = chapter.question(seed, values_of(chapter))
            if question.begin is None:
                assert out_of_range(question, question.answer()) == ""


def test_a_wrong_answer_is_told_its_kind_of_mistake():
    """Typical mistakes of each chapter meet a hint of their own; none gives the answer away."""
    one = CHAPTERS[0].question(3, {})
    row, column = one.draw["pick"]
    exchanged = float(np.kron(np.array(one.draw["A"]), np.array(one.draw["B"]))[row, column])
    assert exchanged != one.answer()
    assert "$A\\otimes B$" in one.hint(exchanged, one.answer())
    assert "sign" in one.hint(-one.answer(), one.answer())
    bounded = next(
        q
        for q in (CHAPTERS[1].question(s, {}) for s in range(20))
        if q.draw["r"] * q.draw["r1"] * q.draw["r2"] > q.answer()
    )
    assert "long enough" in bounded.hint(bounded.draw["r"] * bounded.draw["r1"] * bounded.draw["r2"], bounded.answer())
    seven = CHAPTERS[6].question(0, {})
    assert "root of a share" in seven.hint(seven.answer() ** 2, seven.answer())
    for chapter in CHAPTERS:
        question = chapter.question(1, values_of(chapter))
        if question.begin is None and not question.choices:
            assert f"{question.answer():g}" not in re.findall(r"-?\d+\.?\d*", question.hint(987.0, question.answer()))


def test_questions_of_a_chapter_differ():
    for chapter in CHAPTERS:
        values = values_of(chapter)
        asked = {chapter.question(seed, values).prompt + str(chapter.question(seed, values).draw) for seed in range(40)}
        assert len(asked) >= 20, f"chapter {chapter.number} asks {len(asked)} different questions in 40"


def test_a_choice_is_right_or_not():
    question = _question("a", choices=("a", "b"))
    assert score(question, "a", "a").points == 3
    assert score(question, "b", "a").points == 0


def test_a_second_try_earns_at_most_two():
    question = _question(32, whole=True)
    assert score(question, 32, 32, tries=2).points == 2
    assert score(question, 64, 32, tries=2).points == 1
    assert score(_question("a", choices=("a", "b")), "a", "a", tries=2).points == 2


def test_progress_is_kept_and_forgiving(home):
    def do(change, learner=""):
        progress.update(change, learner)

    assert progress.load().of(2).best is None
    for change in (
        lambda p: p.seen(2, 1),
        lambda p: p.seen(2, 3),
        lambda p: p.answered((2, 0, ""), 5.0).scored((2, 0, ""), 1, 8.0),
        lambda p: p.answered((2, 1, ""), 8.0).scored((2, 1, ""), 3, 8.0),
        lambda p: p.scored((2, 1, ""), 0, 8.0),
    ):
        do(change)
    record = progress.load().of(2)
    assert (record.pages, record.best, record.tries) == ({1, 3}, 3, 2), "a question counts once"
    assert progress.load().predictions[2, 1, ""] == progress.Prediction((8.0,), 3, 8.0)
    assert progress.path() == home / "learn.json"
    do(lambda p: p.seen(1, 1), "Ada")
    assert progress.load("Ada").of(2).best is None, "learners do not share"
    assert progress.load().of(2).best == 3
    progress.forget("Ada")
    assert set(progress.everybody()) == {""}
    progress.path().write_text('{"chapters": {"2": {"pages": [1], "best": 2, "tries": 1}}}')
    assert progress.load().of(2).best == 2, "the file of 0.1 is read"
    progress.path().write_text('{"chapters": {"2": 5}}')
    assert progress.load() == progress.Progress()
    progress.forget()
    assert not progress.path().exists()
    assert not [file for file in home.iterdir() if file.name.startswith(progress.FILE_NAME)]


def test_learners_at_once_do_not_undo_each_other(home):
    names = [f"learner {i}" for i in range(8)]

    def learn(name):
        for page in range(1, 6):
            progress.update(lambda p: p.seen(1, page), name)  # noqa: B023

    threads = [Thread(target=learn, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(progress.load(name).of(1).pages == {1, 2, 3, 4, 5} for name in names)

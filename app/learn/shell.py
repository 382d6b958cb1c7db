"""The page of the course: chapters on top, paged text on the left, the figure and its controls on the right."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app import parts, theme
from app.learn import address, controls, exercise, glossary_page, notebook, progress, sources
from app.learn.chapters import CHAPTERS
from app.learn.course import Chapter, Page
from app.learn.markup import in_lines, to_html, to_latex
from app.learn.scoring import MOST
from cdka.errors import CdkaError, unknown

CSS = Path(__file__).with_name("learn.css")
CHOICES = (*(str(chapter.number) for chapter in CHAPTERS), address.GLOSSARY)
NAV = "learn_nav"


def render() -> None:
    """Draw the course as the URL asks for it."""
    st.html(CSS)
    kept = progress.load()
    chosen = _choose_chapter(kept)
    if chosen == address.GLOSSARY:
        glossary_page.render(st.query_params.get("term"))
        return
    chapter = CHAPTERS[int(chosen) - 1]
    try:
        hide = address.hidden(st.query_params.get("hide"))
    except CdkaError as refusal:
        st.warning(f"The address asked for something else: {refusal} Nothing is hidden.", icon=None)
        hide = frozenset()
    number = min(st.session_state.get("page", _page_in_url()), chapter.num_pages)
    values = address.known_values(chapter)
    text, figure = st.container(key="learn-body").columns([8, 15], gap="large")
    text = text.container(key="learn-text")
    if number == chapter.num_pages:
        exercise.render(chapter, values, hide, text, figure)
        page = None
    else:
        page = chapter.pages[number - 1]
        with figure, parts.errors_shown(), st.container(key="learn-stage"):
            if "controls" not in hide:
                values = controls.draw(chapter, page, values)
            chapter.stage(values, page)
        with text:
            _text(chapter, page, values, hide)
    with text:
        _turn_page(chapter)
        _extras(chapter, page, values)
    if number not in kept.of(chapter.number).pages:
        progress.save(progress.load().seen(chapter.number, number))


def _page_in_url() -> int:
    text = st.query_params.get("page", "1")
    return max(1, int(text)) if text.isdigit() else 1


def _chapter_in_url() -> str:
    text = st.query_params.get("chapter", CHOICES[0])
    if text in CHOICES:
        return text
    st.warning(
        f"The address asked for something else: {unknown('chapter', text, CHOICES)} Showing the first.", icon=None
    )
    return CHOICES[0]


def _choose_chapter(kept: progress.Progress) -> str:
    """The chapters in a row. Not bound to the URL, which would hold the labels: read here, written by the callback."""

    def label(choice: str) -> str:
        if choice == address.GLOSSARY:
            return "Glossary"
        chapter = CHAPTERS[int(choice) - 1]
        best = kept.of(chapter.number).best
        return f"{choice} {chapter.short}" + (f" ✓ {best}/{MOST}" if best else "")

    st.session_state[NAV] = _chapter_in_url()
    return st.segmented_control(
        "Chapter", CHOICES, required=True, format_func=label, key=NAV, label_visibility="collapsed", on_change=_chosen
    )


def _chosen() -> None:
    _go_to(st.session_state[NAV], 1)


def _text(chapter: Chapter, page: Page, values: dict, hide: frozenset[str]) -> None:
    number = chapter.pages.index(page) + 1
    kicker = f"Chapter {chapter.number} of {len(CHAPTERS)} · about {chapter.minutes} minutes"
    if number == 1:
        kicker += f" · {chapter.idea}"
    parts.show(f'<div class="cdka-quiet">{kicker}</div>')
    st.markdown(f"## {page.title}", anchors=False)
    st.markdown(to_html(sources.marked(page)), unsafe_allow_html=True)
    if page.equation is not None:
        _equation(page, values)
    if page.tries and "controls" not in hide:
        with st.container(horizontal=True, key="learn-tries"):
            for index, settings in enumerate(page.tries):
                st.button(
                    settings.label, key=f"try-{chapter.number}-{number}-{index}",
                    on_click=controls.apply, args=(chapter, settings),
                )  # fmt: skip


def _equation(page: Page, values: dict) -> None:
    with st.container(key="learn-equation"):
        filled = st.session_state.get("numbers", st.query_params.get("numbers") == "true")
        letters = page.equation.numbers(values) if filled else page.equation.letters
        st.latex(to_latex(in_lines(letters), dark=theme.is_dark()))
        st.toggle(
            "with the numbers of the figure", key="numbers", bind="query-params", persist_state="session",
            help="Fill every equation of the course with the numbers shown in the figure.",
        )  # fmt: skip


def _turn_page(chapter: Chapter) -> None:
    with st.container(horizontal=True, vertical_alignment="center", key="learn-turn"):
        st.pagination(chapter.num_pages, max_visible_pages=9, width=300, key="page", bind="query-params")
        number = st.session_state["page"]
        if number < chapter.num_pages:
            label = "Next" if number < chapter.num_pages - 1 else "Predict"
            st.button(label, type="primary", key="learn-next", on_click=_go_to, args=(str(chapter.number), number + 1))
        elif chapter.number < len(CHAPTERS):
            st.button("Next chapter", key="learn-next", on_click=_go_to, args=(str(chapter.number + 1), 1))


def _go_to(chapter: str, page: int) -> None:
    before = st.query_params.get("chapter", CHOICES[0])
    if chapter != before:
        address.leave(before, chapter)
    st.session_state["page"] = page


def _extras(chapter: Chapter, page: Page | None, values: dict) -> None:
    """The quiet row under the text: source and code of the page, the notebook, a link for a class."""
    with st.container(horizontal=True, key="learn-extras"):
        if page is not None:
            with st.popover("Source and code", type="tertiary"):
                st.markdown("\n".join(f"- {line}" for line in sources.legend(page)))
                st.code(f"{chapter.setup}\n\n{page.code(values)}", language="python")
        st.download_button(
            "Notebook", data=lambda: notebook.to_json(chapter, values), type="tertiary", on_click="ignore",
            file_name=f"cdka-{chapter.number}-{chapter.short.lower().replace(' ', '-')}.ipynb",
            mime="application/x-ipynb+json", help="This chapter with your settings, ready to run in Jupyter.",
        )  # fmt: skip
        with st.popover("For a class", type="tertiary"):
            st.markdown("The address bar holds the whole state, seed included. Copy it, or hide something first:")
            hide = st.pills(
                "Hide", address.HIDE, selection_mode="multi", key="teach", help="For whoever opens the link."
            )
            here = (st.context.url or "").partition("?")[0]
            st.code(here + address.link(st.query_params.to_dict(), tuple(hide)), language=None, wrap_lines=True)
        with st.popover("Progress", type="tertiary"):
            kept = progress.load()
            points = sum(kept.of(c.number).best or 0 for c in CHAPTERS)
            st.markdown(
                f"**{points} of {MOST * len(CHAPTERS)} points.** Kept on this machine only, in `{progress.path()}`."
            )
            st.button("Forget it", on_click=progress.forget, key="learn-forget")

"""The page of the course: chapters on top, paged text on the left, the figure and its controls on the right."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app import theme, widgets
from app.learn import address, classroom, controls, exercise, glossary_page, notebook, progress, prose, sheet, sources
from app.learn.chapters import CHAPTERS
from app.learn.course import Chapter, Page
from app.learn.markup import lines, to_html
from app.learn.scoring import MAX_POINTS
from cdka.errors import CdkaError, unknown

CSS, PRESENT_CSS = (Path(__file__).with_name(name) for name in ("learn.css", "present.css"))
CHOICES = (*(str(chapter.number) for chapter in CHAPTERS), address.GLOSSARY, address.CLASS)
LABELS = {address.GLOSSARY: "Glossary", address.CLASS: "For a class"}
NAV = "learn_nav"


def render() -> None:
    """Draw the course as the URL asks for it."""
    st.html(CSS)
    presenting = st.query_params.get(address.PRESENT) == "1"
    if presenting:
        st.html(PRESENT_CSS)
    who = progress.learner_name()
    kept = progress.load(who)
    chosen = _choose_chapter(kept)
    if chosen == address.GLOSSARY:
        glossary_page.render(st.query_params.get("term"))
        return
    if chosen == address.CLASS:
        classroom.render()
        return
    chapter = CHAPTERS[int(chosen) - 1]
    try:
        hide = address.hidden(st.query_params.get("hide"))
    except CdkaError as refusal:
        st.warning(
            f"Part of this link could not be used: {widgets.literal(str(refusal))} Nothing is hidden.", icon=None
        )
        hide = frozenset()
    number = min(_page_in_url(), chapter.num_pages)
    address.follow(chapter, number)
    values = address.known_values(chapter)
    text, figure = st.container(key="learn-body").columns([8, 15], gap="large")
    text = text.container(key="learn-text")
    if number == chapter.num_pages:
        exercise.render(chapter, values, hide, text, figure)
        page = None
    else:
        page = chapter.pages[number - 1]
        with figure, widgets.errors_shown(), st.container(key="learn-stage"):
            if "controls" not in hide:
                values = controls.draw(chapter, page, values)
            chapter.draw(values, page)
        with text:
            _text(chapter, page, values, hide, presenting=presenting)
    with text:
        _turn_page(chapter, number, presenting=presenting)
        if not presenting:
            _extras(chapter, page, values)
    if number not in kept.of(chapter.number).pages:
        progress.update(lambda known: known.seen(chapter.number, number), who)


def _page_in_url() -> int:
    text = st.query_params.get("page", "1")
    return max(1, int(text)) if text.isdecimal() else 1


def _chapter_in_url() -> str:
    text = st.query_params.get("chapter", CHOICES[0])
    if text in CHOICES:
        return text
    warning = unknown("chapter", text, CHOICES)
    st.warning(f"Part of this link could not be used: {widgets.literal(str(warning))} Showing the first.", icon=None)
    return CHOICES[0]


def _choose_chapter(kept: progress.Progress) -> str:
    """The chapters in a row. Not bound to the URL, which would hold the labels: read here, written by the callback."""

    def label(choice: str) -> str:
        if choice in LABELS:
            return LABELS[choice]
        chapter = CHAPTERS[int(choice) - 1]
        best = kept.of(chapter.number).best
        return f"{choice} {chapter.short}" + (f" ✓ {best}/{MAX_POINTS}" if best else "")

    st.session_state[NAV] = _chapter_in_url()
    return st.segmented_control(
        "Chapter", CHOICES, required=True, format_func=label, key=NAV, label_visibility="collapsed", on_change=_chosen
    )


def _chosen() -> None:
    address.go(st.session_state[NAV], 1)


def _text(chapter: Chapter, page: Page, values: dict, hide: frozenset[str], *, presenting: bool) -> None:
    number = chapter.pages.index(page) + 1
    kicker = f"Chapter {chapter.number} of {len(CHAPTERS)} · about {chapter.minutes} minutes"
    if number == 1:
        kicker += f" · {chapter.prose.idea}"
    title = widgets.unseen_heading_html(f"{chapter.number}. {chapter.prose.title}")
    widgets.html_block(title if presenting else f'{title}<div class="cdka-quiet">{kicker}</div>')
    st.markdown(f"## {page.title}", anchors=False)
    shown = f"> {sources.plain(prose.idea_of(page.text))}" if presenting else sources.marked(page)
    st.markdown(to_html(shown), unsafe_allow_html=True)
    if page.equation is not None:
        _equation(page, values, presenting=presenting)
    if page.tries and "controls" not in hide:
        with st.container(horizontal=True, key="learn-tries"):
            for index, settings in enumerate(page.tries):
                st.button(
                    settings.label,
                    key=f"try-{chapter.number}-{number}-{index}",
                    on_click=controls.apply,
                    args=(chapter, settings),
                )


def _equation(page: Page, values: dict, *, presenting: bool) -> None:
    with st.container(key="learn-equation"):
        filled = st.session_state.get("numbers", st.query_params.get("numbers") == "true")
        letters = page.equation.numbers(values) if filled else page.equation.letters
        # In the line, where it wraps; displayed, it would scroll in a narrow column, out of the keyboard's reach.
        st.markdown("\n\n".join(rf"$\displaystyle {line}$" for line in lines(letters, dark=theme.is_dark())))
        if not presenting:
            st.toggle(
                "with the numbers of the figure",
                key="numbers",
                bind="query-params",
                persist_state="session",
                help="Fill every equation of the course with the numbers shown in the figure.",
            )


def _turn_page(chapter: Chapter, number: int, *, presenting: bool) -> None:
    """Back, the pages, Next: always in the same place, also by the arrow keys."""
    on_route = st.query_params.get(classroom.ROUTE) == classroom.ROUTE_VALUE
    before, after = _neighbours(chapter, number, on_route=on_route)
    with st.container(horizontal=True, vertical_alignment="center", key="learn-turn"):
        st.button("Back", key="learn-back", disabled=before is None, on_click=_step, args=(before,), shortcut="Left")
        if on_route:
            stop = classroom.route_place(chapter.number, number) + 1
            where = f"{stop} of {len(classroom.ROUTE_STOPS)} on the {classroom.ROUTE_MINUTES}-minute route"
        else:
            where = f"{number} of {chapter.num_pages}"
        widgets.html_block(f'<span class="learn-count">{where}</span>')
        if after is None:
            label = "Next"
        elif after[0] != chapter.number and not on_route:
            label = "Next chapter"
        else:
            label = "Predict" if after == (chapter.number, chapter.num_pages) else "Next"
        st.button(
            label,
            type="primary",
            key="learn-next",
            disabled=after is None,
            on_click=_step,
            args=(after,),
            shortcut="Right",
        )
        if presenting:
            st.button("Leave presentation", type="tertiary", key="learn-leave", on_click=_present, args=(False,))
    if not on_route and not presenting:
        st.session_state["learn_page"] = number
        st.pagination(
            chapter.num_pages, max_visible_pages=9, key="learn_page", on_change=_paged, args=(str(chapter.number),)
        )


def _neighbours(
    chapter: Chapter, number: int, *, on_route: bool
) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """(chapter, page) before and after this one; None at either end."""
    here = (chapter.number, number)
    if on_route:
        stops = classroom.route_pages()
        return max((stop for stop in stops if stop < here), default=None), min(
            (s for s in stops if s > here), default=None
        )
    every = [(c.number, page) for c in CHAPTERS for page in range(1, c.num_pages + 1)]
    at = every.index(here)
    return every[at - 1] if at else None, every[at + 1] if at + 1 < len(every) else None


def _step(place: tuple[int, int] | None) -> None:
    if place is not None:
        address.go(str(place[0]), place[1])


def _paged(chapter: str) -> None:
    address.go(chapter, st.session_state["learn_page"])


def _present(on: bool) -> None:
    if on:
        st.query_params[address.PRESENT] = "1"
    else:
        st.query_params.pop(address.PRESENT, None)


def _extras(chapter: Chapter, page: Page | None, values: dict) -> None:
    """The quiet row under the text: source and code of the page, notebook, sheets, a link, progress."""
    stem = f"cdka-{chapter.number}-{chapter.short.lower().replace(' ', '-').rstrip('?')}"
    with st.container(horizontal=True, key="learn-extras"):
        if page is not None:
            with st.popover("Source and code", type="tertiary"):
                st.markdown("\n".join(f"- {line}" for line in sources.legend(page)))
                st.code(f"{chapter.setup}\n\n{page.code(values)}", language="python")
        st.download_button(
            "Notebook",
            data=lambda: notebook.to_json(chapter, values),
            type="tertiary",
            on_click="ignore",
            file_name=f"{stem}.ipynb",
            mime="application/x-ipynb+json",
            help="This chapter with your settings, ready to run in Jupyter.",
        )
        with st.popover("Sheet", type="tertiary"):
            st.markdown("To print: the ideas and formulas of this chapter with three questions; the solutions apart.")
            for label, solutions in (("Sheet with questions", False), ("Solutions", True)):
                st.download_button(
                    label,
                    data=lambda solutions=solutions: sheet.build(chapter, values, solutions=solutions),
                    file_name=f"{stem}-{'solutions' if solutions else 'sheet'}.html",
                    mime="text/html",
                    on_click="ignore",
                    key=f"sheet-{solutions}",
                )
        with st.popover("Share", type="tertiary"):
            classroom.share()
        st.button(
            "Present",
            type="tertiary",
            key="learn-present",
            on_click=_present,
            args=(True,),
            help="Large type, one idea a page, arrow keys.",
        )
        with st.popover("Progress", type="tertiary"):
            kept = progress.load(progress.learner_name())
            points = sum(kept.of(c.number).best or 0 for c in CHAPTERS)
            whose = f" of {widgets.literal(name)}" if (name := progress.learner_name()) else ""
            st.markdown(
                f"**{points} of {MAX_POINTS * len(CHAPTERS)} points**{whose}. Kept on this machine only, in "
                f"{widgets.literal(str(progress.path()))}."
            )
            st.button("Reset progress", on_click=progress.forget, args=(progress.learner_name(),), key="learn-forget")

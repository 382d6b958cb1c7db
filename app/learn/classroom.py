"""Tools of a teacher: the 30-minute route, links for the class with QR codes, sheets, the scoreboard."""

from __future__ import annotations

import html

import streamlit as st

from app import widgets
from app.learn import address, lan, learner, route, scoreboard
from app.learn.chapters import CHAPTERS

CONTEST = 6


def here() -> str:
    """The address of this page without its query."""
    return (st.context.url or "").partition("?")[0] or "learn"


def reachable() -> list[str]:
    """The addresses of the course for other machines; none where the server is for this machine alone."""
    return [f"{server}/learn" for server in lan.addresses()]


def share() -> None:
    """A link to the present state, with what to hide, and its QR code where others can reach this server."""
    st.markdown("The address holds the whole state, seed included. Copy it, or hide something first:")
    hide = st.pills("Hide", address.HIDE, selection_mode="multi", key="teach", help="For whoever opens the link.")
    query = address.link(st.query_params.to_dict(), tuple(hide))
    others = reachable()
    url = lan.invitation(others[0] + query) if others else here() + query
    st.code(url, language=None, wrap_lines=True)
    if others:
        widgets.html_block(f'<div class="learn-qr">{lan.qr_svg(url)}</div>')
    else:
        st.markdown("Only this machine can open it. For a class, start the Studio with `cdka studio --host 0.0.0.0`.")


def render() -> None:
    """The page for a class."""
    st.markdown("## For a class", anchors=False)
    left, right = st.columns([3, 2], gap="large")
    with left:
        _route()
        _sheets()
    with right:
        _links()
        learner.field()
        scoreboard.draw(CONTEST)
        if not scoreboard.lines(CONTEST):
            widgets.remark("The scoreboard of chapter 6 appears here once somebody has predicted.")


def _route() -> None:
    start = f"learn?chapter=1&page=1&{route.PARAMETER}={route.VALUE}"
    shown = f"{start}&{address.PRESENT}=1"
    stops = "".join(
        f'<li><a href="learn?chapter={number}&amp;page={page}&amp;{route.PARAMETER}={route.VALUE}" target="_self">'
        f"{html.escape(CHAPTERS[number - 1].pages[page - 1].title)}</a> "
        f'<span class="cdka-quiet">chapter {number}</span></li>'
        for number, page in route.pages()
    )
    widgets.html_block(
        f"<h3>A {route.MINUTES}-minute route</h3><p>{len(route.STOPS)} pages, about two minutes each: what a Kronecker "
        "product is, what it costs, what its rank is, what the first step sees, what the scaling does, "
        "and which one to "
        f'take. <a href="{html.escape(start)}" target="_self">Start</a> · <a href="{html.escape(shown)}" '
        f'target="_self">'
        f"Start as a presentation</a> (arrow keys turn the page)</p><ol>{stops}</ol>"
    )


def _sheets() -> None:
    listed = "".join(
        f"<li>Chapter {chapter.number}, {html.escape(chapter.prose.title)}: about {chapter.minutes} minutes, "
        f"{len(chapter.pages)} pages and a prediction</li>"
        for chapter in CHAPTERS
    )
    widgets.html_block(
        f"<h3>The whole course: about {sum(c.minutes for c in CHAPTERS)} "
        f"minutes</h3><ul>{listed}</ul><p>Under the text of "
        "every page: <b>Notebook</b> (runs by itself), <b>Sheet</b> (to print, solutions apart), "
        "<b>Share</b> (a link that "
        "hides controls or the solution).</p>"
    )


def _links() -> None:
    others = reachable()
    if not others:
        widgets.html_block(
            "<h3>Links for the class</h3><p>This server listens on this machine alone. To let the class "
            "in, start it with "
            "<code>cdka studio --host 0.0.0.0</code>: addresses and QR codes then stand here. Everyone "
            "who has one of them can open it, and start runs.</p>"
        )
        return
    url = lan.invitation(f"{others[0]}?chapter=1&page=1&{route.PARAMETER}={route.VALUE}")
    listed = "".join(f"<li><code>{html.escape(lan.invitation(other))}</code></li>" for other in others)
    widgets.html_block(
        f"<h3>Links for the class</h3><ul>{listed}</ul><p>The route, for phones and laptops in this network:</p>"
        f'<div class="learn-qr">{lan.qr_svg(url)}</div><p class="cdka-quiet">{html.escape(url)}</p>'
    )

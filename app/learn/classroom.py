"""Tools of a teacher: the 30-minute route, links for the class with QR codes, sheets, the scoreboard."""

from __future__ import annotations

import html
import socket
from functools import lru_cache

import psutil
import segno
import streamlit as st

from app import server, widgets
from app.learn import address, progress, scoring
from app.learn.chapters import CHAPTERS
from cdka.machine import is_address, is_loopback


def addresses() -> list[str]:
    """``http://192.168.1.20:8501`` for every address at which other machines may reach this server; none where it
    listens on the loopback address alone."""
    host, port = st.get_option("server.address") or "", st.get_option("server.port")
    if host not in server.ANY_ADDRESS:
        return [] if _is_local(host) else [f"http://{host}:{port}"]
    found = [
        entry.address
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family == socket.AF_INET and not _is_local(entry.address)
    ]
    return [f"http://{address}:{port}" for address in found]


def _is_local(host: str) -> bool:
    return is_loopback(host) or (is_address(host) and host.startswith(("169.254.", "fe80:")))


def invitation(url: str) -> str:
    """The link that lets somebody else in: ``url`` with the token of this server, where it asks for one."""
    token = server.link_token()
    return f"{url}&token={token}" if token and "?" in url else f"{url}?token={token}" if token else url


@lru_cache(maxsize=64)
def qr_svg(url: str) -> str:
    """The QR code of an address as an SVG element, dark on white whatever the theme."""
    return segno.make(url, error="m").svg_inline(
        scale=4, border=3, dark="#000", light="#fff", title=f"QR code of {url}"
    )


ROUTE, ROUTE_VALUE = "route", "30"
ROUTE_MINUTES = 30
ROUTE_STOPS: tuple[tuple[int, str], ...] = (
    (1, "why"),
    (1, "product"),
    (1, "rank"),
    (1, "fold"),
    (2, "lora"),
    (2, "shapes"),
    (2, "budget"),
    (4, "question"),
    (4, "first"),
    (4, "order"),
    (5, "terms"),
    (6, "race"),
    (7, "ceiling"),
    (7, "table"),
)
"""Chapter and page of every stop."""


def route_pages() -> list[tuple[int, int]]:
    """The stops as (chapter, page number)."""
    found = []
    for number, id in ROUTE_STOPS:
        ids = [page.id for page in CHAPTERS[number - 1].pages]
        found.append((number, ids.index(id) + 1))
    return found


def route_place(chapter: int, page: int) -> int:
    """The index of the stop at a page, or of the last one before it; -1 before the first."""
    return max((index for index, stop in enumerate(route_pages()) if stop <= (chapter, page)), default=-1)


CONTEST = 6


def here() -> str:
    """The address of this page without its query."""
    return (st.context.url or "").partition("?")[0] or "learn"


def reachable() -> list[str]:
    """The addresses of the course for other machines; none where the server is for this machine alone."""
    return [f"{server}/learn" for server in addresses()]


def share() -> None:
    """A link to the present state, with what to hide, and its QR code where others can reach this server."""
    st.markdown("The address holds the whole state, seed included. Copy it, or hide something first:")
    hide = st.pills("Hide", address.HIDE, selection_mode="multi", key="teach", help="For whoever opens the link.")
    query = address.link(st.query_params.to_dict(), tuple(hide))
    others = reachable()
    url = invitation(others[0] + query) if others else here() + query
    st.code(url, language=None, wrap_lines=True)
    if others:
        widgets.html_block(f'<div class="learn-qr">{qr_svg(url)}</div>')
    else:
        st.markdown("Only this machine can open it. For a class, start the Studio with `cdka studio --host 0.0.0.0`.")


def render() -> None:
    """The page for a class."""
    st.markdown("# For a class", anchors=False)
    left, right = st.columns([3, 2], gap="large")
    with left:
        _route()
        _sheets()
    with right:
        _links()
        progress.name_field()
        scoring.draw_scoreboard(CONTEST)
        if not scoring.scoreboard_entries(CONTEST):
            widgets.remark("The scoreboard of chapter 6 appears here once somebody has predicted.")


def _route() -> None:
    start = f"learn?chapter=1&page=1&{ROUTE}={ROUTE_VALUE}"
    shown = f"{start}&{address.PRESENT}=1"
    stops = "".join(
        f'<li><a href="learn?chapter={number}&amp;page={page}&amp;{ROUTE}={ROUTE_VALUE}" target="_self">'
        f"{html.escape(CHAPTERS[number - 1].pages[page - 1].title)}</a> "
        f'<span class="cdka-quiet">chapter {number}</span></li>'
        for number, page in route_pages()
    )
    widgets.html_block(
        f"<h3>A {ROUTE_MINUTES}-minute route</h3><p>{len(ROUTE_STOPS)} pages, about two minutes each: what a Kronecker "
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
    url = invitation(f"{others[0]}?chapter=1&page=1&{ROUTE}={ROUTE_VALUE}")
    listed = "".join(f"<li><code>{html.escape(invitation(other))}</code></li>" for other in others)
    widgets.html_block(
        f"<h3>Links for the class</h3><ul>{listed}</ul><p>The route, for phones and laptops in this network:</p>"
        f'<div class="learn-qr">{qr_svg(url)}</div><p class="cdka-quiet">{html.escape(url)}</p>'
    )

"""The pieces that look the same in every room: chip, number, error, empty state, caption."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import streamlit as st

from app.glossary import link_terms
from cdka import formatting
from cdka.components import Components
from cdka.errors import CdkaError
from cdka.notebook.display import baseline_chip_html, chip_html, hover_attribute, letter_html
from cdka.paths import assets_dir
from cdka.runs.spec import METHODS, RunSpec
from cdka.sweep.forecast import Forecast

__all__ = [
    "baseline_chip_html",
    "caption",
    "chip_html",
    "configuration_hover",
    "count_html",
    "empty_state",
    "error",
    "errors_shown",
    "favicon",
    "forecast_html",
    "heading",
    "html_block",
    "letter_html",
    "link_button",
    "method_chip_html",
    "remark",
    "sentence_case",
    "unseen_heading_html",
]


def favicon() -> str:
    """The path of the local icon (a ``:material/`` icon would call a font server)."""
    return str(assets_dir() / "images" / "favicon.png")


def method_chip_html(spec: RunSpec, hover: str = "") -> str:
    """The chip of a run: its components, or ``LoRA 8``, or ``full``."""
    if spec.components is not None:
        return chip_html(spec.components, hover)
    return baseline_chip_html(spec.method, spec.rank, hover)


def configuration_hover(
    components: Components, *, rank_bound: int | None = None, alignment: float | None = None, alpha: float | None = None
) -> str:
    """Text of a chip on hover: rank bound, alignment, scaling."""
    facts = []
    if rank_bound is not None:
        facts.append(f"rank up to {rank_bound:,}")
    if alignment is not None:
        facts.append(f"predicted alignment {alignment:.3f}")
    if alpha is not None:
        facts.append(f"scaling {components.scaling(alpha):.3g} (alpha {alpha:g})")
    return "; ".join(facts)


def count_html(n: int | None, unit: str = "") -> str:
    """A count in short, with the exact number on hover."""
    exact = "" if n is None else f"{n:,} {unit}".strip()
    return f'<span class="cdka-number"{hover_attribute(exact)}>{formatting.count(n)}{" " + unit if unit else ""}</span>'


def heading(title: str, question: str = "") -> None:
    """The one h1 of a room, with the question that it answers beside it."""
    beside = f' <span class="cdka-quiet">{html.escape(question)}</span>' if question else ""
    html_block(f'<h1 class="cdka-h1">{html.escape(title)}{beside}</h1>')


def unseen_heading_html(title: str) -> str:
    """The one h1 of a page on which another line, beside it, says as much."""
    return f'<h1 class="cdka-unseen">{html.escape(title)}</h1>'


_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:&])")
_BLANK_LINES = re.compile(r"[\r\n]\s*[\r\n]")


def literal(text: str) -> str:
    """A text of others (an address, a name, a file) for a place that reads Markdown: every character means itself.

    Where HTML is read it is ``html.escape`` instead.
    """
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def css_string(text: str) -> str:
    """A text of others in quotes for a style sheet inside HTML: no sign of it ends the string, or the sheet."""
    return '"' + "".join(c if c.isalnum() or c in " .,·_-" else f"\\{ord(c):x} " for c in text) + '"'


def html_block(body: str) -> None:
    """HTML made of the pieces above. Markdown begins anew behind a blank line: none is left."""
    st.markdown(f'<div class="cdka-block">{_BLANK_LINES.sub(chr(10), body)}</div>', unsafe_allow_html=True)


def remark(text: str) -> None:
    """A remark beside the point, in a quiet colour; its terms are linked to the glossary."""
    html_block(f'<div class="cdka-quiet">{link_terms(sentence_case(text))}</div>')


def caption(text: str) -> None:
    """The line under a figure: source, run ids, seeds; its terms are linked to the glossary."""
    html_block(f'<div class="cdka-caption">{link_terms(text)}</div>')


def forecast_html(found: Forecast) -> str:
    """The source of the time, and the tokens that the memory is counted for: another batch needs another amount."""
    memory = f"<br>Memory: {html.escape(found.memory_basis)}." if found.memory_basis else ""
    return f'<div class="cdka-quiet">Time: {html.escape(found.time.basis)}.{memory}</div>'


_NAMES = ("r", "lr", "alpha", *(method for method in METHODS if method != "full"))


def sentence_case(text: str) -> str:
    """A refusal of the library as a sentence: the first word with a capital, unless it is a name."""
    first = text.split(" ", 1)[0]
    return text[:1].upper() + text[1:] if first.isalpha() and first not in _NAMES else text


def error(text: str) -> None:
    """A refusal: rule, value, next step."""
    html_block(f'<div class="cdka-error" role="alert">{html.escape(sentence_case(text))}</div>')


@contextmanager
def errors_shown() -> Iterator[None]:
    """Shows the text of a CdkaError in place; anything else is a defect of ours and keeps its traceback."""
    try:
        yield
    except CdkaError as refusal:
        error(" ".join(str(refusal).split()))


def empty_state(title: str, text: str, button: str, on_click: Callable[[], None], *, key: str) -> bool:
    """An empty room: what would be here, and the one button that fills it. Returns whether it was pressed."""
    with st.container(border=True, key=f"empty-{key}"):
        st.markdown(f"#### {title}")
        st.markdown(text)
        return st.button(button, type="primary", on_click=on_click, key=f"fill-{key}")


def link_button(view: str, *, label: str, query_params: Mapping[str, list[str]] | None = None) -> None:
    """A link to another room that looks like what it is: the thing to press."""
    with st.container(key=f"link-{view.replace('/', '-').removesuffix('.py')}-{label.replace(' ', '-').lower()}"):
        st.page_link(view, label=label, query_params=query_params)

"""The headline of a comparison as HTML, with chips in place of labels."""

from __future__ import annotations

import html

from app import widgets
from cdka.compare.headline import Headline, Side
from cdka.notebook.display import chips


def headline_html(found: Headline | None, metric: str) -> str:
    """The best configuration, its rival, and the difference with its interval; a remark where there is none."""
    if found is None:
        return '<div class="cdka-quiet">No headline: it takes a finished CDKA run, on one model and one task.</div>'
    best, rival = found.best, found.rival
    sentence = f"{_side(best)} reaches <b>{best.mean:.3f}</b> {html.escape(metric)}"
    if rival is None:
        return f'<div class="cdka-headline">{sentence}. No other method was tried beside it.</div>'
    return (
        f'<div class="cdka-headline">{sentence}; {_side(rival)}: <b>{rival.mean:.3f}</b></div>'
        f'<div class="cdka-why">{html.escape(found.conclusion())}</div>'
    )


def _side(side: Side) -> str:
    return f"{arm_chip_html(side.label)} {widgets.count_html(side.num_params, 'parameters')}"


def arm_chip_html(label: str) -> str:
    """The chip of an arm's label (``cdka 2,8,1 · lr 0.01``), what stands behind the configuration beside it."""
    entry, _, variant = label.partition(" · ")
    beside = f' <span class="cdka-quiet">{html.escape(variant)}</span>' if variant else ""
    return (widgets.baseline_chip_html(entry, None) if entry == "full" else chips(entry)) + beside

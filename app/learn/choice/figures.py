"""The figures of chapter 7: the ceiling of alignment at equal price, the shipped studies, the table to decide with."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from math import sqrt
from typing import Any

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from app import charts, theme, widgets
from app.learn import drawing, evidence
from app.learn.course import Page, Question
from app.learn.evidence import EARLY, Evidence, ceiling
from cdka.claims.judge import CONTRADICTED, SUPPORTED, UNRESOLVED, Finding
from cdka.components import Components
from cdka.formatting import plural
from cdka.theory import measured_alignment, simulated_gradient

SIDE, INITS = 128, 16
RATIOS = ("1/8", "1/4", "1/2", "1", "2", "4", "8")
NEAR_BEST = 0.05
"""A rate works for a design where its accuracy is within so much of the design's best."""
ROW_PX = 31
"""Height of one line of the figure of the studies, its name included."""


def pair(ratio: str) -> tuple[int, int]:
    """(r1, r2) of the smallest pair with this r2 / r1."""
    value = Fraction(ratio)
    return value.denominator, value.numerator


def same_price(r1: int, r2: int) -> tuple[Components, Components]:
    """The smallest design with these r1, r2 and the LoRA of exactly its price on a square layer.

    r (r2/r1 + r1/r2) = 2 k with whole r and k.
    """
    share = Fraction(r2, r1) + Fraction(r1, r2)
    r = next(r for r in range(1, 4 * r1 * r2 + 1) if (r * share / 2).denominator == 1)
    return Components(r1, r2, r), Components(1, 1, int(r * share / 2))


@lru_cache(maxsize=64)
def measured_gain(r1: int, r2: int) -> float:
    """Measured alignment of a design divided by that of the LoRA of its price: root mean squares over random starts of
    the best step in the span, on a random gradient of 128 x 128."""
    G = simulated_gradient(SIDE, SIDE, 0, "power", 0.5)
    mine, lora = (
        sqrt(float(np.mean(measured_alignment(G, c, rng=0, inits=INITS, step="projection") ** 2)))
        for c in same_price(r1, r2)
    )
    return mine / lora


def draw(values: dict[str, Any], page: Page) -> None:
    """The figure beside the text."""
    if page.view == "ceiling":
        st.plotly_chart(
            ceiling_figure(values["ratio"]),
            key="c7_ceiling",
            config=charts.PLOTLY_CONFIG,
            alt="Alignment over LoRA's at equal price, by the ratio of r2 to r1",
        )
        mine, lora = same_price(*pair(values["ratio"]))
        widgets.html_block(
            f"{widgets.chip_html(mine)} costs {mine.num_params(SIDE, SIDE):,} parameters on {SIDE} × "
            f"{SIDE}, as LoRA of rank "
            f"{lora.r}: alignment {mine.alignment(SIDE):.3f} against {lora.alignment(SIDE):.3f}, rank up to "
            f"{mine.rank_bound(SIDE, SIDE)} against {lora.r}."
        )
        widgets.caption(
            f"Dots: settings of exactly LoRA's price, measured on a random gradient of {SIDE} × {SIDE} "
            f"over {INITS} random "
            "starts, the best step in the span: cdka.theory.measured_alignment."
        )
    elif page.view == "studies":
        found = [e for e in evidence.findings() if e.in_accuracy]
        st.plotly_chart(
            studies_figure(found),
            key="c7_studies",
            config=charts.PLOTLY_CONFIG,
            alt="Effects of the shipped studies with 95 % intervals, short training above, longer below",
        )
        widgets.caption(
            "Filled: the runs support the claim (within one point, where it says so); diamond: they contradict it; "
            "hollow: they do not decide."
        )
        widgets.html_block(_sentence(values["study"]))
    else:
        widgets.html_block(decision_html())
        widgets.html_block(open_questions_html())


def ceiling_figure(ratio: str) -> go.Figure:
    """The formula against r2/r1, its ceiling, measured settings of exactly equal price, and the chosen ratio."""
    gain = ceiling(*pair(ratio))
    figure = charts.plotly(
        f"At r2/r1 = {ratio}: {gain:.2f} times LoRA's alignment",
        "r2 / r1",
        "alignment over LoRA's at equal price",
        height=430,
    )
    x = np.geomspace(1 / 16, 16, 120)
    figure.add_scatter(
        x=x.astype(np.float32),
        y=np.sqrt(2 / (1 + x**-2.0)).astype(np.float32),
        mode="lines",
        hoverinfo="skip",
        line={"color": theme.R, "width": 2.5, "dash": "dash"},
    )
    figure.add_hline(
        y=sqrt(2),
        line={"color": theme.ink(), "width": 1.2, "dash": "dot"},
        annotation_text="ceiling: √2 = 1.41",
        annotation_position="top left",
    )
    figure.add_hline(
        y=1,
        line={"color": theme.LORA, "width": 1.5, "dash": "dash"},
        annotation_text="LoRA",
        annotation_position="bottom right",
    )
    pairs = [pair(r) for r in RATIOS]
    figure.add_scatter(
        x=[r2 / r1 for r1, r2 in pairs],
        y=[measured_gain(r1, r2) for r1, r2 in pairs],
        mode="markers",
        marker={"color": theme.R, "size": 10},
        text=[str(same_price(*p)[0]) for p in pairs],
        hovertemplate="%{text}: measured %{y:.3f}<extra></extra>",
    )
    figure.add_annotation(x=2, y=ceiling(2, 8), ax=70, ay=50, text="(2, 8)", xref="x", yref="y", arrowhead=0)
    figure.add_scatter(
        x=[float(Fraction(ratio))],
        y=[gain],
        mode="markers",
        hoverinfo="skip",
        marker={"symbol": "circle-open", "size": 20, "color": theme.ink(), "line": {"width": 2.5}},
    )
    figure.update_xaxes(
        type="log", tickvals=[float(Fraction(r)) for r in RATIOS], ticktext=list(RATIOS), range=[-1.25, 1.25]
    )
    figure.update_yaxes(range=[0, 1.6])
    return figure


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def name_of(found: Evidence) -> str:
    """The claim in the words of what was measured, without "accuracy" and settings."""
    text = re.sub(r"^(gain in )?accuracy (of )?", "", found.finding.measures)
    return text.split(" · ")[0]


def _counted(finding: Finding) -> str:
    """The number of seeds, or of base models, that an interval is over."""
    return plural(finding.n, finding.counted.removesuffix(" model"))


def _row_name(found: Evidence) -> str:
    """The name above a line of the figure, short enough for a phone."""
    text = (
        name_of(found)
        .replace("over that of the last", "over the last")
        .replace("at equal parameters", "at equal price")
    )
    return f"{text} ({found.finding.study}, {_counted(found.finding)})"


def studies_figure(found: Sequence[Evidence]) -> go.Figure:
    """Every finding in accuracy as a point with its interval under its name: short training first, then the rest."""
    early = [e for e in found if e.finding.regime == EARLY]
    late = [e for e in found if e.finding.regime != EARLY]
    figure = charts.plotly(
        "What a design changed in trained adapters",
        "effect on test accuracy, with 95 % interval",
        "",
        height=150 + ROW_PX * (len(found) + 2),
    )
    place = 0
    for group, rows in (("Short training at a low rate", early), ("Longer training, or rates searched", late)):
        _name_above(figure, place, f"<b>{group}</b>", theme.ink())
        place -= 1
        for row in rows:
            _point(figure, place, row.finding)
            _name_above(figure, place, html.escape(_row_name(row)), theme.ink())
            place -= 1
    figure.add_vline(x=0, line={"color": theme.ink(), "width": 1})
    figure.update_yaxes(visible=False, range=[place + 0.3, 0.9])
    return figure


def _name_above(figure: go.Figure, place: int, text: str, ink: str) -> None:
    figure.add_annotation(
        x=0,
        xref="paper",
        y=place,
        yshift=13,
        text=text,
        showarrow=False,
        xanchor="left",
        font={"size": 12, "color": ink},
    )


def _point(figure: go.Figure, place: int, finding: Finding) -> None:
    ink = {SUPPORTED: theme.R, CONTRADICTED: theme.R1}.get(finding.verdict, theme.LORA)
    symbol = {SUPPORTED: "circle", CONTRADICTED: "diamond"}.get(finding.verdict, "circle-open")
    figure.add_scatter(
        x=[finding.effect],
        y=[place],
        mode="markers",
        marker={"color": ink, "symbol": symbol, "size": 10},
        error_x={
            "array": [finding.ci_high - finding.effect],
            "arrayminus": [finding.effect - finding.ci_low],
            "color": ink,
            "thickness": 1.8,
        },
        hovertemplate=f"{html.escape(finding.claim)}<br>{finding.regime}: {_signed(finding.effect)} "
        f"({_counted(finding)}), {finding.verdict}<extra></extra>",
    )


def _sentence(study: str) -> str:
    """The sentences of one study, with its report."""
    own = [e for e in evidence.findings() if e.finding.study == study]
    if not own:
        return '<div class="learn-covered">No report on it ships with this version.</div>'
    listed = "".join(
        f"<li><b>{html.escape(e.finding.regime)}</b> ({html.escape(e.settings)}): "
        f"{html.escape(e.finding.sentence)}</li>"
        for e in own
    )
    first = own[0]
    return (
        f'<ul class="learn-findings">{listed}</ul><p class="cdka-quiet">Report '
        f"{html.escape(first.report)}: {first.model} on "
        f'{first.task}. All reports: <a href="sweeps?part=Studies" target="_self">Sweeps, Studies</a>.</p>'
    )


def effect_html(study: str, regime: str | None = None, words: str = "") -> str:
    """The effect of a study's first finding whose claim has these ``words``, with its interval and what it is over."""
    found = evidence.find(study, regime, words)
    if found is None:
        return "no report ships with this version"
    finding = found.finding
    return (
        f"{html.escape(name_of(found))}: {_signed(finding.effect)} [{_signed(finding.ci_low)}, "
        f"{_signed(finding.ci_high)}], "
        f"{_counted(finding)}, <b>{finding.verdict}</b> "
        f"<span class='cdka-quiet'>(study {study}, {finding.regime})</span>"
    )


def working_rates_html() -> str:
    """The rates within NEAR_BEST of the best, for each design of the first study with several rates."""
    for study, arms in evidence.rate_studies().items():
        listed = []
        for design in dict.fromkeys(arm.design for arm in arms):
            own = [arm for arm in arms if arm.design == design]
            most = evidence.best_rate(own).mean
            works = sorted(arm.lr for arm in own if arm.mean >= most - NEAR_BEST)
            listed.append(f"{html.escape(design)}: {works[0]:g} to {works[-1]:g}")
        shown = "; ".join(listed)
        return f"rates within {NEAR_BEST:g} of the best: {shown} <span class='cdka-quiet'>(study {study})</span>"
    return "no report ships with this version"


def decision_rows() -> list[tuple[str, str, str, str]]:
    """Method, when, what it rests on (HTML), and how sure that is."""
    link = '<a href="learn?chapter={}&amp;page={}" target="_self">{}</a>'.format
    design, free = Components(2, 8, 4), Components(1, 1, 8)
    return [
        ("CDKA", "a high rank at LoRA's price", link(2, 3, "chapter 2: counted"), "exact"),
        ("CDKA", "a very small budget", effect_html("bases-lora", words="rank 1,"), "measured"),
        ("CDKA", "no time to search the rate", f"{working_rates_html()}; {link(5, 6, 'chapter 5')}", "measured"),
        ("CDKA, r2 > r1", "short training", effect_html("bases-design", EARLY), "measured"),
        (
            "LoRA",
            "served as it is, at low rank",
            f"{link(2, 5, 'chapter 2')}: {design} is a LoRA of rank {design.r * design.r1 * design.r2} when exported",
            "exact",
        ),
        (
            "LoRA",
            "the least arithmetic",
            f"{link(3, 4, 'chapter 3')}: "
            f"{design.flops_per_token(1024, 1024) / free.flops_per_token(1024, 1024):.3g} times that "
            f"of LoRA {free.r} for {design} on 1024 × 1024, at "
            f"{design.num_params(1024, 1024) / free.num_params(1024, 1024):.3g} times its parameters",
            "exact",
        ),
        (
            "LoRA",
            "a gradient of low rank, and a start from it",
            f"{link(4, 7, 'chapter 4')}: the best capture",
            "first step only",
        ),
        ("either", "LoRA 8's price, rate searched", effect_html("bases-lora", words="rank 8, CDKA"), "measured"),
        ("either", "long training at a searched rate", effect_html("budget", "tuned"), "measured"),
    ]


def decision_html() -> str:
    """The table to decide with."""
    rows = "".join(
        f"<tr><td><b>{method}</b></td><td>{when}</td><td>{basis}</td><td>{sure}</td></tr>"
        for method, when, basis, sure in decision_rows()
    )
    return (
        '<div class="learn-question learn-decide"><table><thead><tr><th>take</th><th>when what binds you is</th>'
        f"<th>it rests on</th><th>how sure</th></tr></thead><tbody>{rows}</tbody></table></div>"
    )


def open_questions_html() -> str:
    """Open questions of the shipped studies: every finding that is not resolved, and the limits of all."""
    undecided = [e for e in evidence.findings() if e.finding.verdict == UNRESOLVED]
    listed = "".join(
        f"<li>{html.escape(e.finding.claim)} <span class='cdka-quiet'>({e.finding.study}, {e.finding.regime}: "
        f"{_signed(e.finding.effect)} [{_signed(e.finding.ci_low)}, {_signed(e.finding.ci_high)}], "
        f"{_counted(e.finding)})</span></li>"
        for e in undecided
    )
    models = sorted({f"{e.model} on {e.task}" for e in evidence.findings()})
    return (
        f"<b>What could not be shown</b><ul class='learn-findings'>{listed}<li>Anything beyond "
        f"{html.escape(', '.join(models))}: "
        "no large model, no long context, no other task.</li><li>Why designs of equal price and equal "
        "alignment differ in "
        "their best rates.</li></ul>"
    )


def draw_question(question: Question, revealed: bool) -> None:
    """The exercise: the two shapes; the curve once predicted."""
    r1, r2 = question.draw
    mine, lora = (widgets.chip_html(c) for c in (Components(r1, r2, 1), Components(1, 1, 1)))
    widgets.html_block(f"{mine} against {lora}, r free.")
    if not revealed:
        drawing.placeholder("Make your prediction to reveal the curve.")
        return
    ratio = Fraction(r2, r1)
    shown = f"{ratio.numerator}/{ratio.denominator}" if ratio.denominator > 1 else str(ratio.numerator)
    st.plotly_chart(
        ceiling_figure(shown),
        key="c7_answer",
        config=charts.PLOTLY_CONFIG,
        alt="Alignment over LoRA's at equal price, by the ratio of r2 to r1",
    )

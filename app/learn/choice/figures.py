"""The figures of chapter 7: the ceiling of alignment at equal price, the shipped studies, the table to decide with."""

from __future__ import annotations

import html
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from math import sqrt
from typing import Any

import numpy as np
import plotly.graph_objects as go

from app import charts, theme, widgets
from app.learn import drawing, evidence
from app.learn.course import Page, Question
from app.learn.evidence import EARLY, Evidence, ceiling, counted, effect_html, name_of, signed
from cdka.claims.catalogue import RECIPE
from cdka.claims.judge import CONTRADICTED, SUPPORTED, UNRESOLVED, Finding
from cdka.components import Components
from cdka.theory import measured_alignment, simulated_gradient

SIDE, INITS = 128, 16
RATIOS = ("1/8", "1/4", "1/2", "1", "2", "4", "8")
NEAR_BEST = 0.05
"""A rate works for a design where its accuracy is within so much of the design's best."""
CEILING_ALT = "Alignment over LoRA's at equal price, by the ratio of r2 to r1"
ROW_PX = 31
"""Height of one line of the figure of the studies, its name included."""


LINK = '<a href="learn?chapter={}&amp;page={}" target="_self">{}</a>'
Row = tuple[str, str, str, str]


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
        charts.show(ceiling_figure(values["ratio"]), "c7_ceiling", CEILING_ALT)
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
        alt = "Effects of the shipped studies with 95 % intervals, short training above, longer below"
        charts.show(studies_figure(found), "c7_studies", alt)
        widgets.caption(
            "Filled: the runs support the claim (within one point, where it says so); diamond: they contradict it; "
            "hollow: they do not decide. Reports withdrawn, or made of another report's runs, are left out."
        )
        widgets.html_block(_sentence(values["study"]))
    else:
        widgets.html_block(decision_html())
        widgets.html_block(open_questions_html())


def ceiling_figure(ratio: str) -> go.Figure:
    """The formula against r2/r1, its ceiling, measured settings of exactly equal price, and the chosen ratio."""
    gain = ceiling(*pair(ratio))
    x = np.geomspace(1 / 16, 16, 120)
    pairs = [pair(r) for r in RATIOS]
    formula = {
        "x": x.astype(np.float32),
        "y": np.sqrt(2 / (1 + x**-2.0)).astype(np.float32),
        "mode": "lines",
        "hoverinfo": "skip",
        "line": {"color": theme.R, "width": 2.5, "dash": "dash"},
    }
    dots = {
        "x": [r2 / r1 for r1, r2 in pairs],
        "y": [measured_gain(r1, r2) for r1, r2 in pairs],
        "mode": "markers",
        "marker": {"color": theme.R, "size": 10},
        "text": [str(same_price(*p)[0]) for p in pairs],
        "hovertemplate": "%{text}: measured %{y:.3f}<extra></extra>",
    }
    limit, limit_name = charts.level(sqrt(2), "ceiling: √2 = 1.41", ink=theme.ink(), place="top left", dash="dot")
    lora, lora_name = charts.level(1, "LoRA", ink=theme.LORA, place="bottom right", dash="dash")
    recommended = {"x": float(np.log10(4)), "y": ceiling(2, 8), "ax": 10, "ay": 60, "text": "(2, 8)", "arrowhead": 0}
    values = [float(Fraction(r)) for r in RATIOS]
    return charts.plotly(
        f"At r2/r1 = {ratio}: {gain:.2f} times LoRA's alignment",
        "r2 / r1",
        "alignment over LoRA's at equal price",
        [formula, dots, charts.ring(float(Fraction(ratio)), gain)],
        height=430,
        shapes=[limit, lora],
        annotations=[limit_name, lora_name, recommended],
        xaxis={"type": "log", "tickvals": values, "ticktext": RATIOS, "range": [-1.25, 1.25]},
        yaxis={"range": [0, 1.6]},
    )


def _row_name(found: Evidence) -> str:
    """The name above a line of the figure, short enough for a phone."""
    text = (
        name_of(found)
        .replace("over that of the last", "over the last")
        .replace("at equal parameters", "at equal price")
    )
    return f"{text} ({found.finding.study}, {counted(found.finding)})"


def studies_figure(found: Sequence[Evidence]) -> go.Figure:
    """Every finding in accuracy as a point with its interval under its name: short training first, then the rest."""
    early = [e for e in found if e.finding.regime in EARLY]
    late = [e for e in found if e.finding.regime not in EARLY]
    data, names = [], []
    for group, rows in (("Short training at a low rate", early), ("Longer training, or rates searched", late)):
        names.append(f"<b>{group}</b>")
        for row in rows:
            data.append(_point(-len(names), row.finding))
            names.append(html.escape(_row_name(row)))
    above = {"xref": "paper", "yshift": 13, "xanchor": "left", "font": {"size": 12, "color": theme.ink()}}
    above |= {"bgcolor": theme.current().paper, "borderpad": 0}  # the line at zero does not run through a name
    zero = {"type": "line", "yref": "y domain", "x0": 0, "x1": 0, "y0": 0, "y1": 1}
    return charts.plotly(
        "What a design changed in trained adapters",
        "effect on test accuracy, with 95 % interval",
        "",
        data,
        height=150 + ROW_PX * len(names),
        annotations=[charts.label(0, -place, text, **above) for place, text in enumerate(names)],
        shapes=[{**zero, "line": {"color": theme.ink(), "width": 1}}],
        yaxis={"visible": False, "range": [0.3 - len(names), 0.9]},
    )


def _point(place: int, finding: Finding) -> dict[str, Any]:
    ink = {SUPPORTED: theme.R, CONTRADICTED: theme.R1}.get(finding.verdict, theme.LORA)
    symbol = {SUPPORTED: "circle", CONTRADICTED: "diamond"}.get(finding.verdict, "circle-open")
    return {
        "x": [finding.effect],
        "y": [place],
        "mode": "markers",
        "marker": {"color": ink, "symbol": symbol, "size": 10},
        "error_x": {
            "array": [finding.ci_high - finding.effect],
            "arrayminus": [finding.effect - finding.ci_low],
            "color": ink,
            "thickness": 1.8,
        },
        "hovertemplate": f"{html.escape(finding.claim)}<br>{finding.regime}: {signed(finding.effect)} "
        f"({counted(finding)}), {finding.verdict}<extra></extra>",
    }


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
        f"{html.escape(first.report)}: {html.escape(first.model)} on "
        f'{html.escape(first.task)}. All reports: <a href="sweeps?part=Studies" target="_self">Sweeps, Studies</a>.</p>'
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


def measured_row(when: str, study: str, regime: str | None = None, words: str = "", ahead: str = "CDKA") -> Row:
    """A row that a finding decides: ``ahead`` where it is supported, LoRA where contradicted, either where open."""
    found = evidence.find(study, regime, words)
    verdict = found.finding.verdict if found else UNRESOLVED
    method = {SUPPORTED: ahead, CONTRADICTED: "LoRA" if ahead == "CDKA" else "r1 > r2"}.get(verdict, "either")
    return method, when, effect_html(study, regime, words), "measured"


def rates_row() -> Row:
    """The row on the range of working rates: by the study over base models; without its report, by that of one base."""
    method, when, basis, sure = measured_row("no time to search the rate", "rates", words="more rates")
    if evidence.find("rates", words="more rates") is None:
        method, basis, sure = "CDKA", working_rates_html(), "measured, one base model"
    return method, when, f"{basis}; {LINK.format(5, 6, 'chapter 5')}", sure


def budgets_row() -> Row:
    """The row on the exchanged pairs in longer training: over base models; without that report, that of one base."""
    when, ahead = "longer training at the recipe's rate", "CDKA, r2 > r1"
    if evidence.find("bases-budget", RECIPE, "mean over budgets") is not None:
        return measured_row(when, "bases-budget", RECIPE, "mean over budgets", ahead=ahead)
    return measured_row(when, "budget", "tuned", ahead=ahead)


def decision_rows() -> list[Row]:
    """Method, when, what it rests on (HTML), and how sure that is."""
    design, free = Components(2, 8, 4), Components(1, 1, 8)
    served = f"{design} is a LoRA of rank {design.r * design.r1 * design.r2} when exported"
    flops = design.flops_per_token(1024, 1024) / free.flops_per_token(1024, 1024)
    params = design.num_params(1024, 1024) / free.num_params(1024, 1024)
    times = f"{flops:.3g} times that of LoRA {free.r} for {design} on 1024 × 1024, at {params:.3g} times its parameters"
    rows = [
        ("CDKA", "a high rank at LoRA's price", LINK.format(2, 3, "chapter 2: counted"), "exact"),
        measured_row("a very small budget", "bases-lora", words="rank 1,"),
        rates_row(),
        measured_row("short training", "bases-design", ahead="CDKA, r2 > r1"),
        ("LoRA", "served as it is, at low rank", f"{LINK.format(2, 5, 'chapter 2')}: {served}", "exact"),
        ("LoRA", "the least arithmetic", f"{LINK.format(3, 4, 'chapter 3')}: {times}", "exact"),
        (
            "LoRA",
            "a gradient of low rank, and a start from it",
            LINK.format(4, 7, "chapter 4: best capture"),
            "first step only",
        ),
        measured_row("LoRA 8's price, rate searched", "bases-lora", words="rank 8, CDKA"),
        budgets_row(),
    ]
    return sorted(rows, key=lambda row: row[0] == "either")


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
        f"{signed(e.finding.effect)} [{signed(e.finding.ci_low)}, {signed(e.finding.ci_high)}], "
        f"{counted(e.finding)})</span></li>"
        for e in undecided
    )
    models = sorted({f"{e.model} on {e.task}" for e in evidence.findings()})
    return (
        f"<b>What could not be shown</b><ul class='learn-findings'>{listed}<li>Anything beyond "
        f"{html.escape(', '.join(models))}: no large model, no long context, no other task.</li>"
        "<li>Why designs of equal price and equal alignment differ in their best rates.</li></ul>"
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
    charts.show(ceiling_figure(shown), "c7_answer", CEILING_ALT)

"""A finding as it is shown: symbol, word, effect with its interval, drawn on one scale per study. HTML strings."""

from __future__ import annotations

import html
from collections.abc import Sequence

from cdka.claims.judge import CONTRADICTED, SUPPORTED, UNRESOLVED, Finding
from cdka.formatting import interval, plural

SYMBOLS = {SUPPORTED: ("▲", "good"), CONTRADICTED: ("▼", "bad"), UNRESOLVED: ("○", "open")}
"""Symbol and tone of each verdict: the word and the symbol carry the meaning, the colour helps."""
WIDTH, HEIGHT, AXIS = 150, 16, 9
"""Of the picture of an interval, and of the numbers below it."""


def verdicts_html(findings: Sequence[Finding]) -> str:
    """Claim by claim one line per regime, all intervals of a claim on the same scale."""
    claims = list(dict.fromkeys(finding.claim for finding in findings))
    parts = []
    for claim in claims:
        own = [finding for finding in findings if finding.claim == claim]
        reach = max((abs(v) for f in own for v in (f.effect, f.ci_low, f.ci_high) if v is not None), default=0.0)
        parts.append(f'<div class="sweep-claim">{html.escape(claim)}</div>')
        parts += [_line(finding, reach) for finding in own]
    return "".join(parts)


def _line(finding: Finding, reach: float) -> str:
    symbol, tone = SYMBOLS[finding.verdict]
    return (
        f'<div class="sweep-verdict" title="{html.escape(finding.sentence, quote=True)}">'
        f'<span><span class="word {tone}">{symbol} {finding.verdict}</span>'
        f'<span class="sweep-regime">{finding.regime} regime</span></span>'
        f"{interval_svg(finding, reach)}<span>{effect_text(finding)}</span></div>"
    )


def remarks_html(findings: Sequence[Finding]) -> str:
    """The numbers behind the findings, claim by claim; empty where there are none."""
    told = [
        f"{f.claim} {f.regime.capitalize()} regime: {f.remark}" for f in findings if f.remark and f.effect is not None
    ]
    return "".join(f"<div>{html.escape(line)}</div>" for line in told)


def effect_text(finding: Finding) -> str:
    """The effect with interval and seeds, no more digits than the interval supports."""
    measures = html.escape(finding.measures)
    if finding.effect is None:
        return html.escape(finding.sentence.split("regime: ", 1)[-1])
    if finding.ci_low is None or finding.ci_high is None:
        return f"{measures} {finding.effect:+.2g} ({plural(finding.n, finding.counted)}, no interval)"
    ends = interval(finding.ci_low, finding.ci_high)
    digits = len(ends.partition(" to ")[0].partition(".")[2])  # the mean with as many places as its ends
    mean = f"{round(finding.effect, digits) + 0.0:+.{digits}f}"  # adding zero leaves no minus before a zero
    return f"{measures}: <b>{mean}</b>, 95\u00a0% interval {ends}, {plural(finding.n, finding.counted)}"


def interval_svg(finding: Finding, reach: float) -> str:
    """The interval and its mean on an axis around zero; without an interval only the zero line."""
    middle = WIDTH / 2
    parts = [f'<line class="zero" x1="{middle}" y1="1" x2="{middle}" y2="{HEIGHT - 1}"/>']
    if finding.effect is not None and reach > 0:

        def place(value: float) -> str:
            return f"{middle + 0.92 * middle * value / reach:.1f}"

        if finding.ci_low is not None and finding.ci_high is not None:
            y = HEIGHT / 2
            parts.append(f'<line x1="{place(finding.ci_low)}" y1="{y}" x2="{place(finding.ci_high)}" y2="{y}"/>')
        parts += [
            f'<text x="{place(value)}" y="{HEIGHT + AXIS - 1}">{value + 0.0:{"+.2g" if value else "g"}}</text>'
            for value in (-reach, 0.0, reach)
        ]
        filled = "" if finding.ci_low is not None else ' class="hollow"'
        parts.append(f'<circle{filled} cx="{place(finding.effect)}" cy="{HEIGHT / 2}" r="3.6"/>')
    return (
        f'<svg class="sweep-interval" viewBox="0 0 {WIDTH} {HEIGHT + AXIS}" role="img" '
        f'aria-label="effect and interval around zero">{"".join(parts)}</svg>'
    )

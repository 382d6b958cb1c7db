"""Writes the tables of claims in assets/studies/README.md from the shipped reports, Holm's adjustment over all cells.

    python tools/claims_table.py

A row appears where its report ships. Rows are added here; ``tests/claims`` reads the tables cell by cell.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from scipy import stats

from cdka.claims.judge import Finding, signed
from cdka.paths import assets_dir
from cdka.stats import holm
from cdka.stats.intervals import LEVEL

FOLDER = assets_dir() / "studies"
MARGIN = re.compile(r"above -([\d.]+)\.")
OVER_BASES = (
    ("at equal parameters r2 > r1 beats the two exchanged, (4,16,3) and (4,8,6)", "bases", "r2 above r1"),
    ("at equal parameters r1 = 2 beats r1 = 8, (2,4,1) and (8,4,1)", "bases", "r1 = 2 beats"),
    ("at LoRA rank 8's parameters, (4,8,6) beats it", "bases-lora", "rank 8, CDKA"),
    ("at LoRA rank 1's parameters, (16,16,1) beats it", "bases-lora", "rank 1, CDKA"),
    ("an eighth of LoRA rank 8's, (16,16,1), comes within 0.01 of it", "bases-lora", "An eighth"),
    ("r2 > r1 over the two exchanged, mean over 5 to 25 % of the weights", "bases-budget", "mean over budgets"),
    ("the same, smallest budget minus largest", "bases-budget", "smallest budget"),
    ("best rates of sizes further apart without 1/√(r r2), in doublings", "rates", "best rate depends less"),
    ("rates that work, (8,8,2) beyond LoRA rank 2, in doublings", "rates", "trains at more rates"),
    ("the advised option beats LoRA of equal cost", "advice", "LoRA of equal cost"),
    ("the advised option beats a random one of equal cost", "advice", "random option"),
    ("at equal parameters alignment ranks outcomes (rank correlation)", "predictors", "better predicted alignment"),
    ("at equal parameters rank ranks outcomes (rank correlation)", "predictors", "higher bound"),
    ("alignment ranks them better than rank", "predictors", "ranks outcomes better"),
    ("of LoKr's gain, the part of the design", "lokr", "the design"),
    ("of LoKr's gain, the part of the rate", "lokr", "higher rate"),
    ("of LoKr's gain, the part of the size", "lokr", "eight times"),
    ("(1,4,r) beats LoKr's design, each at its best rate", "lokr", "At its best rate"),
    ("the gradient's pattern beats the advised option", "from-gradients", "than the advised option"),
    ("the gradient's pattern beats LoRA everywhere", "from-gradients", "than LoRA everywhere"),
    ("the gradient's pattern beats a random pattern", "from-gradients", "random pattern"),
    ("both started from the gradient, the pattern beats LoRA", "from-gradients", "Both started"),
    ("old task kept, (4,8,6) beyond LoRA rank 8, at equal accuracy", "forgetting", "than LoRA rank 8"),
    ("old task kept, (16,16,1) beyond LoRA rank 1, at equal accuracy", "forgetting", "than LoRA rank 1"),
    ("old task kept, (4,8,6) beyond full fine-tuning, at equal accuracy", "forgetting", "full fine-tuning"),
)
"""(the row's claim, the report, words of the report's claim)."""
ONE_BASE = (
    ("a larger r1 hurts, 4 to 64, parameters growing 8 times", "trends-5-seeds", "Increasing r1", " a doubling"),
    ("a larger r2 helps, 4 to 64, parameters growing 8 times", "trends-5-seeds", "Increasing r2", " a doubling"),
    ("r, 1 to 8: the first doubling gains more than the last", "trends-5-seeds", "Each doubling of r", ""),
    ("at equal parameters, r2 > r1 beats the two exchanged", "budget", "same two exchanged", ""),
    ("an eighth of LoRA's parameters comes within 0.01 of it", "eighth", "12.5 %", ""),
)
EARLY = ("early",)


@dataclass(frozen=True)
class Cell:
    """One verdict of a table."""

    finding: Finding
    unit: str = ""

    @property
    def p(self) -> float:
        """The report's p; of reports of 0.1.0, which hold none, that of their t interval."""
        one = self.finding
        if one.p is not None:
            return one.p
        margin = MARGIN.search(one.remark)
        effect = one.effect + (float(margin[1]) if margin else 0.0)
        half = (one.ci_high - one.ci_low) / 2
        t = effect / (half / stats.t.ppf(0.5 + LEVEL / 2, one.n - 1))
        return float(2 * stats.t.sf(abs(t), one.n - 1))

    def text(self, adjusted: float | None = None) -> str:
        """Verdict, effect and interval."""
        one = self.finding
        ends = f"[{signed(one.ci_low)}, {signed(one.ci_high)}]" if one.ci_low is not None else "no interval"
        holm_p = "" if adjusted is None else f", Holm {adjusted:.2g}"
        return f"{one.verdict}: {signed(one.effect)} {ends}{self.unit}{holm_p}"


def findings(report: str, words: str) -> list[Finding]:
    """The findings of a report whose claim has these words; empty where the report does not ship."""
    path = FOLDER / f"{report}.json"
    if not path.is_file():
        return []
    document = json.loads(path.read_text(encoding="utf-8"))
    found = [Finding.from_dict(one) for study in document["studies"] for one in study["findings"]]
    return [one for one in found if words in one.claim and one.effect is not None]


def tables() -> tuple[str, str]:
    """The table over base models and the table of one base, as Markdown."""
    over = [(row, Cell(one), report) for row, report, words in OVER_BASES for one in findings(report, words)]
    single = [
        (row, [Cell(one, unit) for one in findings(report, words)], report) for row, report, words, unit in ONE_BASE
    ]
    cells = [cell for _, cell, _ in over] + [cell for _, row, _ in single for cell in row]
    adjusted = dict(zip(map(id, cells), holm([cell.p for cell in cells]), strict=True))
    several = {report for _, _, report in over if len({c.finding.regime for _, c, r in over if r == report}) > 1}
    lines = ["| claim | verdict over base models | p, Holm | |", "|---|---|---:|---|"]
    for row, cell, report in over:
        regime = f", {cell.finding.regime}" if report in several else ""
        link = f"[{cell.finding.n} bases]({report}.md)"
        lines.append(f"| {row}{regime} | {cell.text()} | {adjusted[id(cell)]:.2g} | {link} |")
    one = ["| claim, on digits-vit@2602 alone | early | tuned, or rates searched | seeds |", "|---|---|---|---:|"]
    for row, own, report in single:
        early, late = (
            "; ".join(cell.text(adjusted[id(cell)]) for cell in own if (cell.finding.regime in EARLY) == is_early)
            for is_early in (True, False)
        )
        one.append(f"| {row} | {early} | {late} | [{own[0].finding.n}]({report}.md) |")
    return "\n".join(lines), "\n".join(one)


def main() -> None:
    """Writes both tables between their marks."""
    path = Path(FOLDER / "README.md")
    text = path.read_text(encoding="utf-8")
    for mark, table in zip(("over bases", "one base"), tables(), strict=True):
        text, count = re.subn(
            rf"(<!-- claims {mark} -->\n).*?(\n<!-- end -->)", lambda m, t=table: m[1] + t + m[2], text, flags=re.S
        )
        assert count == 1, f"the README must hold the mark of the table {mark!r} once"
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

"""A study's result as Markdown with its figures, written by the tool itself: claim, design, table, verdict, source.

Beside ``NAME.md`` lie ``NAME-STUDY.svg``, one per study of one factor, and ``NAME.json`` with the verdicts, for the
Studio and for whoever wants to check them.
"""

from __future__ import annotations

import json
import platform
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cdka import __version__
from cdka.claims import rates
from cdka.claims.bases import FAMILIES
from cdka.claims.catalogue import STUDIES
from cdka.claims.evidence import Case
from cdka.claims.factor_curve import FactorCurve, factor_curves, factor_svg
from cdka.claims.judge import Finding, judge, runs_by_regime, signed
from cdka.claims.plan import SEARCHES
from cdka.compare import Measure, StoreSource, compare
from cdka.errors import CdkaError
from cdka.formatting import plural
from cdka.machine import cores
from cdka.runs.metrics import TEST_ACCURACY, measure_of, words_of
from cdka.runs.run import Run, Sweep
from cdka.runs.spec import RunSpec
from cdka.runs.store import Store
from cdka.stats import holm

FORMAT = 1


@dataclass(frozen=True)
class Report:
    """The text, its figures by file name, and the same as plain data."""

    text: str
    figures: dict[str, str]
    document: dict[str, Any]

    def write(self, path: Path) -> None:
        """Writes ``path`` (Markdown), the figures and the data beside it."""
        path.write_text(self.text, encoding="utf-8")
        for name, svg in self.figures.items():
            (path.parent / name).write_text(svg + "\n", encoding="utf-8")
        document = json.dumps(self.document, indent=1, ensure_ascii=False)
        path.with_suffix(".json").write_text(document + "\n", encoding="utf-8")


def check_target(path: Path) -> None:
    """Raises CdkaError unless a report can be written to ``path``: checked before hours of work, not after."""
    if path.suffix != ".md":
        raise CdkaError(f"a report is a Markdown file: got {str(path)!r}. Name it {path.stem or 'report'}.md.")
    if not path.resolve().parent.is_dir():
        raise CdkaError(f"the report's folder must exist: got {str(path.parent)!r}. Create it first.")


def report(store: Store, sweeps: Sequence[Sweep], metric: str = TEST_ACCURACY, name: str = "studies") -> Report:
    """The report of finished studies, in the order given. ``name`` is the stem of its files."""
    figures: dict[str, str] = {}
    findings = {sweep.sweep_id: judge(store, sweep, metric) for sweep in sweeps}
    sections = [_section(store, sweep, findings[sweep.sweep_id], metric, name, figures) for sweep in sweeps]
    facts = _facts(store, sweeps)
    every = [finding for found in findings.values() for finding in found]
    text = "\n".join([_head(sweeps, facts, metric, every), _summary(every), *sections])
    studies = [
        {
            "study": sweep.plan["study"],
            "regimes": sweep.plan["regimes"],
            "findings": [finding.to_dict() for finding in findings[sweep.sweep_id]],
            "results": results(store, sweep, metric),
            **_recommended(store, sweep, metric),
        }
        for sweep in sweeps
    ]
    return Report(text, figures, {"format": FORMAT, "name": name, "metric": metric, **facts, "studies": studies})


def _recommended(store: Store, sweep: Sweep, metric: str) -> dict[str, Any]:
    """The rates that a study of rates recommends; nothing for another study."""
    if sweep.plan["study"] != "rates":
        return {}
    (runs,) = runs_by_regime(store, sweep).values()
    return {"recommended": rates.recommended(Case(store, runs, metric, searched=True))}


def results(store: Store, sweep: Sweep, metric: str) -> list[dict[str, Any]]:
    """Each run's settings, those that differ from the defaults, and its ``value``, for ``cdka study verify``."""
    source = StoreSource(store, run_ids=[run.run_id for run in store.runs(sweep_id=sweep.sweep_id)])
    values = compare(source, Measure(metric=metric)).frame.set_index("run_id")["value"]
    return [
        {"settings": shortened(spec), "value": None if np.isnan(values[run_id]) else float(values[run_id])}
        for run_id, spec in source.specs().items()
    ]


def shortened(spec: dict[str, Any]) -> dict[str, Any]:
    """A spec without the settings that are what they would be anyway; ``RunSpec.from_dict`` restores it."""
    plain = RunSpec(spec["model"], spec["task"], method=spec["method"]).to_dict()
    kept = ("model", "task", "method", "seed")
    return {key: value for key, value in spec.items() if key in kept or value != plain.get(key)}


def _facts(store: Store, sweeps: Sequence[Sweep]) -> dict[str, Any]:
    """The source of the numbers: model, task, seeds, date, device, versions, duration."""
    runs = [run for sweep in sweeps for run in store.runs(sweep_id=sweep.sweep_id)]
    attempts = [store.attempts(run.run_id) for run in runs[:1]]
    ended = [run for run in runs if run.started_at and run.finished_at]
    first = min((run.started_at for run in ended), default=None)
    last = max((run.finished_at for run in ended), default=None)
    plan = sweeps[0].plan
    found = (attempts[0][-1]["versions"] or {}) if attempts and attempts[0] else {}
    return {
        "model": plan["model"],
        "task": plan["task"],
        "seeds": list(plan["seeds"]),
        "runs": len(runs),
        "date": "" if last is None else datetime.fromtimestamp(last, UTC).strftime("%Y-%m-%d"),
        "seconds": None if first is None else round(last - first, 1),
        "machine": f"{platform.machine()}, {plural(cores(), 'CPU core')}",
        "versions": {**found, "cdka-studio": __version__},  # what is installed may be older than a checkout
    }


def _head(sweeps: Sequence[Sweep], facts: dict[str, Any], metric: str, findings: Sequence[Finding]) -> str:
    names = " ".join(sweep.plan["study"] for sweep in sweeps)
    shown = ("cdka-studio", "torch", "peft", "commit")
    versions = ", ".join(f"{name} {facts['versions'][name]}" for name in shown if name in facts["versions"])
    time = "" if facts["seconds"] is None else f", {facts['seconds']:.0f} s from the first start to the last end"
    bases = tuple(sweeps[0].plan.get("bases", ()))
    named = facts["model"] if bases in ((), FAMILIES.get(facts["model"])) else ",".join(bases)
    command = _command(names, {**facts, "model": named}, sweeps[0].plan.get("given", {}))
    regimes: dict[str, str] = {}
    for sweep in sweeps:
        for regime, settings in sweep.plan["regimes"].items():
            is_search = regime in SEARCHES
            knobs = {k: v for k, v in settings.items() if not is_search or k != "lr"}
            rates = sweep.plan.get("tune_lr") or ()
            searched = f", learning rates {', '.join(f'{rate:g}' for rate in rates)}" if is_search else ""
            regimes[regime] = ", ".join(f"{key} {value:g}" for key, value in knobs.items()) + searched
    listed = " ".join(f"**{regime}**: {text}." for regime, text in regimes.items())
    return (
        f"# What the studies found: {facts['model']} on {facts['task']}\n\n"
        f"Written by `cdka study` from its own runs: {facts['runs']} runs{time} ({facts['date']}; {facts['machine']}; "
        f"{versions}). Repeat with:\n\n    {command}\n\n"
        f"Regimes differ in all that is named here: {listed}{_differ(findings)}\n\n"
        f"Metric: {words_of(metric)} at the final step, read once. {_scope(findings, facts)} Beside each p stands "
        f"Holm's over all {len(findings)} verdicts of this report. *Supported* and *contradicted* say on which side of "
        "zero the effect is resolved at 5 %, not that it is large: read its size. A small model on a small task is "
        "what this is about, nothing else.\n"
    )


def _differ(findings: Sequence[Finding]) -> str:
    """A sentence where a claim's verdict depends on the regime; empty where it does not."""
    by_claim: dict[str, set[str]] = {}
    for one in findings:
        by_claim.setdefault(one.claim, set()).add(one.verdict)
    return " The verdicts differ between regimes." if any(len(found) > 1 for found in by_claim.values()) else ""


def _scope(findings: Sequence[Finding], facts: dict[str, Any]) -> str:
    """The population that the intervals speak of."""
    if any(one.counted == "base model" for one in findings):
        return (
            "Each base model gives one number, the mean over its seeds; the interval is the 95 % t interval over "
            "bases, each with its own split of the data: it speaks of new bases of this kind."
        )
    return (
        "Each seed (start of the adapter and order of the data) gives one number; the interval is the 95 % t interval "
        f"over seeds: new seeds on the same test examples and this checkpoint, {facts['model']}. It says nothing about "
        "other data or another base."
    )


_TYPED = ("validation_fraction", "test_fraction", "split_seed", "max_new_tokens", "drop_missing")
"""Options of data of one's own whose flags give a number or a yes; ``--task-option`` gives text."""


def _command(names: str, facts: dict[str, Any], given: dict[str, Any]) -> str:
    """The command line that repeats the studies, with the settings that were given."""
    given = dict(given)
    options = dict(given.pop("task_options", None) or {})
    own_data = facts["task"].startswith("local-")
    words = ["cdka", "study", *names.split(), "--model", facts["model"]]
    words += ["--data", str(options["data"])] if own_data else ["--task", facts["task"]]
    words += ["--seeds", _seeds_flag(facts["seeds"])]
    if own_data:  # the digest of the file goes with the runs, not with the command
        flags = {key for key, value in options.items() if not (isinstance(value, str) and key in _TYPED)}
        given |= {key: options.pop(key) for key in sorted(flags - {"data", "sha256"})}
        options = {key: value for key, value in options.items() if key not in ("data", "sha256")}
    for key, value in given.items():
        flag = f"--{key.replace('_', '-')}"
        words += [flag] if value is True else [flag, ",".join(value) if isinstance(value, list | tuple) else str(value)]
    for key, value in options.items():
        words += ["--task-option", f"{key}={value}"]
    return shlex.join(words)


def _seeds_flag(seeds: Sequence[int]) -> str:
    """The seeds as ``--seeds`` takes them: their number where they count from zero."""
    counted = list(seeds) == list(range(len(seeds)))
    return str(len(seeds)) if counted else ",".join(map(str, seeds)) + ("," if len(seeds) == 1 else "")


def _summary(findings: Sequence[Finding]) -> str:
    rows = ["| claim | regime | verdict | effect | 95 % interval | p, Holm | n |", "|---|---|---|---|---|---|---:|"]
    adjusted = holm([np.nan if one.p is None else one.p for one in findings])
    for one, p_holm in zip(findings, adjusted, strict=True):
        effect = "" if one.effect is None else f"{signed(one.effect)} {one.measures}"
        interval = "" if one.ci_low is None else f"{signed(one.ci_low)} to {signed(one.ci_high)}"
        p = "" if one.p is None else f"{one.p:.2g}, {p_holm:.2g}"
        counted = plural(one.n, one.counted)
        rows.append(f"| {one.claim} | {one.regime} | **{one.verdict}** | {effect} | {interval} | {p} | {counted} |")
    return "\n".join(rows) + "\n"


def _section(
    store: Store, sweep: Sweep, findings: Sequence[Finding], metric: str, name: str, figures: dict[str, str]
) -> str:
    study = STUDIES[sweep.plan["study"]]
    by_regime = runs_by_regime(store, sweep)
    factor, curves_by_regime = factor_curves(store, sweep, metric)
    lines = [f"## {study.title}\n", f"**Claim** ({study.source}): {study.claim}\n", f"**Design:** {study.design}\n"]
    if curves_by_regime:
        file = f"{name}-{study.name}.svg"
        figures[file] = factor_svg(factor, curves_by_regime, measure_of(metric))
        lines.append(f"![{measure_of(metric)} over {factor}, and its slope along training]({file})\n")
        lines.append(
            f"Left of each pair: {measure_of(metric)} over {factor} at the end, a small dot per run. Right: what a "
            f"doubling of {factor} changes on validation as training goes on, from the same runs. Bars and bands: "
            "95 %.\n"
        )
    for regime, runs in by_regime.items():
        lines += [f"### {regime.capitalize()} regime\n"]
        lines += [f"{one.reading}\n" for one in findings if one.regime == regime]
        lines.append(
            _table(store, runs, metric, next((c for c in curves_by_regime if c.regime == regime), None), factor) + "\n"
        )
    return "\n".join(lines)


def _table(store: Store, runs: Sequence[Run], metric: str, along: FactorCurve | None, factor: str | None) -> str:
    """Every arm of a regime, those of a search at every rate; along a factor, the change from the level below."""
    source = StoreSource(store, run_ids=[run.run_id for run in runs])
    arms = compare(source, Measure(metric=metric)).arms
    steps = {} if along is None else {step["to"]: step for step in along.steps}
    head = ["arm", "parameters", measure_of(metric), "SD", "95 % interval", "seeds"]
    align = ["---", "---:", "---:", "---:", "---:", "---:"]
    if steps:
        head.append("from the one above")
        align.append("---:")
    rows = [f"| {' | '.join(head)} |", f"|{'|'.join(align)}|"]
    for row in arms.itertuples():
        interval = "" if pd.isna(row.ci_low) else f"{row.ci_low:.3f} to {row.ci_high:.3f}"
        mean, sd = ("" if pd.isna(value) else f"{value:.3f}" for value in (row.mean, row.sd))
        size = "" if pd.isna(row.num_params) else f"{int(row.num_params):,}"
        cells = [row.arm_label, size, mean, sd, interval, str(row.n) + (f", {row.failed} failed" if row.failed else "")]
        if steps:
            step = steps.get(int(getattr(row, factor))) if row.method == "cdka" else None
            cells.append(
                "" if step is None else f"{step['gain']:+.3f} ({step['ci_low']:+.3f} to {step['ci_high']:+.3f})"
            )
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)

"""A study's result as Markdown, written by the tool itself: claim, design, table, verdict, how to repeat it."""

from __future__ import annotations

import platform
from collections.abc import Sequence

import pandas as pd

from cdka.compare import StoreSource, compare
from cdka.engines.slots import cores
from cdka.runs.record import Sweep
from cdka.runs.store import Store
from cdka.studies.catalogue import STUDIES
from cdka.studies.judge import judge


def report(store: Store, sweeps: Sequence[Sweep], metric: str = "accuracy") -> str:
    """The report of finished studies, in the order given."""
    sections = [_section(store, sweep, metric) for sweep in sweeps]
    first = sweeps[0].plan
    names = " ".join(sweep.plan["study"] for sweep in sweeps)
    head = (
        f"# What the studies found: {first['model']} on {first['task']}\n\n"
        f"Written by `cdka study` from its own runs ({platform.machine()}, {cores()} CPU cores, "
        f"{_versions(store, sweeps[0])}). "
        f"Metric: test {metric} of the final step, read once. Intervals are 95 % t intervals over seeds. Repeat with: "
        f"`cdka study {names} --model {first['model']} --task {first['task']} --seeds {len(first['seeds'])}`.\n"
    )
    return head + "\n" + "\n".join(sections)


def _versions(store: Store, sweep: Sweep) -> str:
    run = store.runs(sweep_id=sweep.sweep_id)[0]
    attempts = store.attempts(run.run_id)
    found = attempts[-1]["versions"] if attempts else {}
    return ", ".join(f"{name} {found[name]}" for name in ("cdka-studio", "torch", "peft") if name in found)


def _section(store: Store, sweep: Sweep, metric: str) -> str:
    study = STUDIES[sweep.plan["study"]]
    runs = store.runs(sweep_id=sweep.sweep_id)
    seconds = max((r.finished_at or 0) for r in runs) - min((r.started_at or 0) for r in runs)
    lines = [f"## {study.title}\n", f"**Claim** ({study.source}): {study.claim}\n", f"**Design:** {study.design}\n"]
    for finding, (regime, settings) in zip(judge(store, sweep, metric), sweep.plan["regimes"].items(), strict=True):
        said = ", ".join(f"{key} {value:g}" for key, value in settings.items())
        lines += [f"**{regime.capitalize()} regime** ({said}): *{finding.verdict}*. {finding.sentence}\n"]
        own = [run.run_id for run in runs if all(getattr(run.spec, k) == settings[k] for k in settings if k != "lr")]
        frame = compare(StoreSource(store, run_ids=own)).arms
        lines.append(_table(frame, metric) + "\n")
    lines.append(f"{len(runs)} runs, {seconds:.0f} s from the first start to the last end.\n")
    return "\n".join(lines)


def _table(arms: pd.DataFrame, metric: str) -> str:
    rows = [f"| arm | parameters | {metric} | SD | 95 % interval | seeds |", "|---|---:|---:|---:|---:|---:|"]
    for row in arms.itertuples():
        interval = "" if pd.isna(row.ci_low) else f"{row.ci_low:.3f} to {row.ci_high:.3f}"
        mean = "" if pd.isna(row.mean) else f"{row.mean:.3f}"
        sd = "" if pd.isna(row.sd) else f"{row.sd:.3f}"
        rows.append(f"| {row.arm_label} | {int(row.num_params):,} | {mean} | {sd} | {interval} | {row.n} |")
    return "\n".join(rows)

"""The studies: one card each, one click to run it, its verdicts once it has ended."""

from __future__ import annotations

import html
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import streamlit as st

from app import data, form_memory, widgets
from app.data import launcher
from app.owndata import picker
from app.owndata.preview import show_data
from app.sweeps import shipped_studies, sweep_card
from app.sweeps.sweep_card import Progress, progress, progress_html
from app.sweeps.verdict_html import remarks_html, verdicts_html
from cdka import formatting
from cdka.claims import GROUPS, STUDIES, Finding, judge, plan_study
from cdka.claims.catalogue import DEFAULT_SEEDS, Study
from cdka.claims.factor_curve import factor_curves, factor_svg
from cdka.claims.plan import SEARCHES, regimes
from cdka.claims.report import report
from cdka.engine import local
from cdka.errors import CdkaError
from cdka.runs.run import Sweep
from cdka.runs.states import KEPT
from cdka.runs.store import Store
from cdka.sweep.launch import check_runs
from cdka.sweep.plan import Plan
from cdka.tasks.info import TaskInfo

SEEDS = "study-seeds"


@dataclass(frozen=True)
class Ask:
    """Model and task of the studies; ``data`` holds the task options of data of one's own, as JSON."""

    model: str
    task: str
    seeds: int
    data: str = "{}"

    @property
    def settings(self) -> dict[str, Any]:
        """The settings given to every run."""
        options = json.loads(self.data)
        return {"task_options": options} if options else {}


def page(model: str, task: TaskInfo) -> None:
    """Draws the studies for a model and a task; with data of one's own, their form first."""
    options = _own_data(model, task.name) if task.is_own_data else {}
    if options is None:
        return
    st.session_state.setdefault(SEEDS, DEFAULT_SEEDS)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="study-bar"):
        seeds = st.number_input(
            "Seeds",
            2,
            100,
            **form_memory.kept(SEEDS),
            width=150,
            help="A verdict needs at least two; three resolve almost nothing beyond three arms. Studies over several "
            "base models keep their own number.",
        )
        ask = Ask(model, task.name, int(seeds), json.dumps(options, sort_keys=True))
        st.button(
            "Run the three trend studies",
            key="study-trends",
            on_click=start,
            args=(ask, GROUPS["trends"]),
            disabled=any(refusal(name, ask) for name in GROUPS["trends"]),
            help="r1, r2 and r, in both regimes",
        )
        finished = [sweep for sweep in newest(ask).values() if sweep.finished and _kept(sweep)]
        if finished:
            st.download_button(
                f"Report of {formatting.plural(len(finished), 'finished study', 'finished studies')}",
                data=lambda: _zipped(finished),
                file_name=f"studies-{model.replace('/', '-')}.zip",
                mime="application/zip",
                key="study-report",
                on_click="ignore",
                help="Markdown with figures, and the verdicts as data",
            )
    busy = any(not sweep.finished for sweep in newest(ask).values())
    st.fragment(_cards, run_every=sweep_card.EVERY_S if busy else None, key="study-cards")(ask, busy)
    shipped_studies.reports()


def _own_data(model: str, task: str) -> dict[str, Any] | None:
    """The form of data of one's own, with what training would see; None while no data are named, or none can be."""
    form, see = st.columns([1, 2], gap="medium")
    options = None
    with form, widgets.errors_shown():
        options = picker.data_form(task)
    with see, widgets.errors_shown():
        if options is not None:
            show_data(model, task, options, None)
    return options


def _zipped(sweeps: Sequence[Sweep]) -> bytes:
    found = report(data.store(), sweeps)
    with TemporaryDirectory() as folder:
        found.write(Path(folder) / "studies.md")
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(Path(folder).iterdir()):
                archive.write(file, file.name)
    return packed.getvalue()


def _cards(ask: Ask, busy: bool) -> None:
    known = newest(ask)
    if any(not sweep.finished for sweep in known.values()):
        local.ensure_dispatcher(data.store())
    answered = sorted(STUDIES.values(), key=lambda s: shipped_studies.example(s.name, ask.model, ask.task) is None)
    for pair in _pairs(answered):
        for place, study in zip(st.columns(2, gap="medium"), pair, strict=False):
            with place, st.container(border=True, key=f"study-{study.name}", height="stretch"), widgets.errors_shown():
                _card(study, ask, known.get(study.name))
    if busy != any(not sweep.finished for sweep in known.values()):
        st.rerun()


def _pairs(studies: list[Study]) -> list[list[Study]]:
    return [studies[i : i + 2] for i in range(0, len(studies), 2)]


def _card(study: Study, ask: Ask, sweep: Sweep | None) -> None:
    widgets.html_block(f'<h2 class="sweep-question">{html.escape(study.title)}</h2>')
    if (why := refusal(study.name, ask)) is not None:
        widgets.html_block(f'<div class="sweep-note">Not with this model: {html.escape(why)}</div>{_about(study)}')
        return
    planned = plan_of(study.name, ask)
    found = data.forecast(planned, f"{study.name}: {ask}")
    time = "" if found.time.seconds is None else f" · about {formatting.duration(found.time.seconds)}"
    cost = (
        f'<div class="cdka-quiet" title="{html.escape(found.time.basis, quote=True)}">'
        f"{formatting.plural(len(planned.specs), 'run')} in {formatting.plural(found.jobs, 'job')}{time}</div>"
    )
    standing = None if sweep is None else progress(data.store().runs(sweep_id=sweep.sweep_id))
    example = shipped_studies.example(study.name, ask.model, ask.task)
    findings: Sequence[Finding] = ()
    if sweep is not None and standing is not None:
        findings = _result(sweep, standing)
    elif example is not None:
        findings = example.findings
        widgets.html_block(verdicts_html(findings) + example.origin)
    if not findings:
        claims = "".join(f'<div class="sweep-claim">{html.escape(claim.text)}</div>' for claim in study.claims)
        widgets.html_block(f'{claims}<div class="cdka-quiet">No verdict yet.</div>')
    widgets.html_block(cost)
    _buttons(study, ask, len(planned.specs), sweep, standing)
    widgets.html_block(_about(study, f"<div>{_regimes(study, ask.task)}.</div>{remarks_html(findings)}"))


def _about(study: Study, more: str = "") -> str:
    """Source and design of a study, and ``more``, behind a line that opens."""
    return (
        f'<details class="cdka-quiet sweep-about"><summary>Design, source and numbers</summary>'
        f"<div><b>Design.</b> {html.escape(study.design)}</div>"
        f"<div><b>Claim{'s' * (len(study.claims) > 1)}.</b> {html.escape(study.claim)} "
        f"Source: {html.escape(study.source)}.</div>{more}</details>"
    )


def _regimes(study: Study, task: str) -> str:
    named = []
    for name in study.regimes:
        knobs = regimes(task)[name]
        rate = f"{len(SEARCHES[name])} learning rates" if name in SEARCHES else f"lr {knobs['lr']:g}"
        named.append(f"<b>{name}</b> ({knobs['steps']:,} steps, {rate}, alpha {knobs['alpha']:g})")
    return f"Regime{'s' * (len(named) > 1)}: {' and '.join(named)}"


def _result(sweep: Sweep, standing: Progress) -> Sequence[Finding]:
    """Draws the verdicts of a sweep that has ended, else its progress; returns the verdicts."""
    if not standing.ended:
        widgets.html_block(progress_html(standing))
        return ()
    if standing.kept < standing.total:
        widgets.html_block(progress_html(standing) + sweep_card.why_failed_html(sweep.sweep_id))
    runs = data.store().runs(sweep_id=sweep.sweep_id)
    mark = tuple((run.run_id, run.status, run.attempt) for run in runs)
    findings = _judged(data.store(), sweep.sweep_id, mark)
    widgets.html_block(verdicts_html(findings))
    if svg := _figure(data.store(), sweep.sweep_id, mark):
        with st.expander("Figure: level by level, and along training", key=f"figure-{sweep.sweep_id}"):
            widgets.html_block(svg)
            widgets.caption("Small dots: runs. Right of each pair: what a doubling changes on validation. Bars: 95 %.")
    return findings


@lru_cache(maxsize=64)
def _judged(store: Store, sweep_id: str, mark: tuple) -> tuple[Finding, ...]:
    return tuple(judge(store, store.sweep(sweep_id)))


@lru_cache(maxsize=64)
def _figure(store: Store, sweep_id: str, mark: tuple) -> str:
    """The figure of a study of one factor; empty for the others."""
    factor, curves_by_regime = factor_curves(store, store.sweep(sweep_id))
    return factor_svg(factor, curves_by_regime) if curves_by_regime else ""


def _buttons(study: Study, ask: Ask, count: int, sweep: Sweep | None, standing: Progress | None) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if sweep is None or standing is None:
            st.button(
                f"Run {formatting.plural(count, 'run')}",
                type="primary",
                key=f"run-{study.name}",
                on_click=start,
                args=(ask, (study.name,)),
            )
            return
        if standing.ended:
            st.button("Run again", key=f"run-{study.name}", on_click=start, args=(ask, (study.name,)))
        else:
            st.button("Cancel the rest", key=f"cancel-{study.name}", on_click=sweep_card.cancel, args=(sweep.sweep_id,))
        sweep_card.links(sweep)


def start(ask: Ask, names: tuple[str, ...]) -> None:
    """Launch these studies; a second click within moments launches nothing more."""
    with widgets.errors_shown():
        for name in names:
            with st.spinner("Planning"):
                planned = plan_of(name, ask, preview=False)
            launcher().launch(data.store(), planned, f"{name}: {ask}")


def newest(ask: Ask) -> dict[str, Sweep]:
    """The newest sweep of each study on this model, task and data."""
    store = data.store()
    options = ask.settings.get("task_options", {})
    same = {"given.task_options.sha256": options["sha256"]} if options else {}
    plans = ({"study": name, "model": ask.model, "task": ask.task, **same} for name in STUDIES)
    limit = None if options else 1
    found: dict[str, Sweep] = {}
    for sweep in (sweep for plan in plans for sweep in store.sweeps(plan=plan, limit=limit)):
        if sweep.plan.get("given", {}).get("task_options", {}) == options:
            found.setdefault(sweep.plan["study"], sweep)
    return found


def _kept(sweep: Sweep) -> bool:
    return any(sweep.counts.get(status) for status in KEPT)


@lru_cache(maxsize=64)
def plan_of(name: str, ask: Ask, preview: bool = True) -> Plan:
    """The plan of a study, or a preview of it without measuring. Raises CdkaError where this model or task cannot do
    it."""
    study = STUDIES[name]
    seeds = None if study.over_bases else ask.seeds  # over base models the bases are what is counted
    planned = plan_study(study, ask.model, ask.task, seeds=seeds, settings=ask.settings, preview=preview)
    check_runs(planned.runs[:1])
    return planned


def refusal(name: str, ask: Ask) -> str | None:
    """The reason why a study cannot be run on this model and task; None where it can."""
    try:
        plan_of(name, ask)
    except CdkaError as error:
        return " ".join(str(error).replace(" with --model", " above").replace(" with --task", "").split())
    return None

"""Halving (ours, after successive halving): the weaker half of a sweep's arms stops at fixed steps, by eval loss.

Every run pauses at the same steps: there it is judged, kept and saved. Once all runs of a round have ended, the arms
are ranked by the mean ``eval/loss`` of their seeds at that step, and the runs of the better half go on from their
checkpoints. All seeds of an arm go on or stop together, so pairs stay whole, and every comparison is between runs of
one length. The rule and its decisions stand in the sweep's plan; nothing else remembers them.

Karnin, Koren and Somekh, 2013; Jamieson and Talwalkar, 2016, whose budget per round is ours by fixed steps.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from cdka.errors import CdkaError
from cdka.plain_json import dump
from cdka.runs.metrics import EVAL_LOSS
from cdka.runs.run import Run
from cdka.runs.schema import UNDECIDED
from cdka.runs.spec import RunSpec
from cdka.runs.states import RunState
from cdka.runs.stop_and_retry import retry
from cdka.runs.store import Store

MAX_ROUNDS = 8


def levels_of(steps: int, eval_every: int, rounds: int) -> list[int]:
    """The steps at which half of the arms stops: ``steps`` divided by 2, 4, ..., each an evaluation.

    Each level is a multiple of the first one, at which checkpoints are therefore written. Raises CdkaError where the
    run is too short for so many.

    >>> levels_of(steps=200, eval_every=10, rounds=2)
    [50, 100]
    """
    if type(rounds) is not int or not 1 <= rounds <= MAX_ROUNDS:
        raise CdkaError(f"halving takes a number of rounds from 1 to {MAX_ROUNDS}: got {rounds!r}. Example: 2.")
    first = steps // 2**rounds // eval_every * eval_every
    if not first:
        raise CdkaError(
            f"the first halving needs an evaluation before it: got {rounds} rounds of {steps} steps, evaluated every "
            f"{eval_every}. Take fewer rounds, or evaluate every {max(1, steps // 2**rounds)} steps."
        )
    return [first * 2**k for k in range(rounds)]


def plan_halving(specs: Sequence[RunSpec], rounds: int) -> dict[str, Any]:
    """The halving that the plan of a sweep of these runs records; they write a checkpoint at every ``levels[0]`` steps.

    Raises CdkaError for runs of different lengths, which no rule could compare, and for a single arm.
    """
    lengths = {(spec.steps, spec.eval_every) for spec in specs}
    if len(lengths) > 1:
        raise CdkaError(
            "halving compares runs at the same steps: got runs that differ in steps or eval_every. Give all the same."
        )
    if patient := next((spec.patience for spec in specs if spec.patience), 0):
        raise CdkaError(f"halving and patience both stop runs: got patience {patient}. Leave one out.")
    if len({arm_key(spec) for spec in specs}) < 2:
        raise CdkaError("halving needs at least two arms: got one. Widen the grid.")
    steps, eval_every = lengths.pop()
    levels = levels_of(steps, eval_every, rounds)
    return {"rounds": rounds, "levels": levels, "decisions": [], "over": False}


def arm_key(spec: RunSpec) -> str:
    """The settings that the seeds of an arm share; each learning rate of a search counts as an arm of its own."""
    return dump(
        {name: value for name, value in sorted(spec.to_dict().items()) if name not in ("seed", "engine", "device")}
    )


def levels_ahead(store: Store, run_ids: Iterable[str]) -> list[int | None]:
    """For each run, the step after which it pauses in this attempt; None for one that goes on to its end."""
    plans: dict[str, Mapping[str, Any]] = {}
    found: list[int | None] = []
    for run_id in run_ids:
        sweep_id = store.run(run_id).sweep_id
        if sweep_id is not None and sweep_id not in plans:
            plans[sweep_id] = store.sweep(sweep_id).plan
        facts = plans.get(sweep_id or "", {}).get("halving")
        ahead = [] if not facts or facts["over"] else facts["levels"][len(facts["decisions"]) :]
        found.append(ahead[0] if ahead else None)
    return found


def advance(store: Store) -> list[str]:
    """Decide what is due: the ids of runs that go on, in every sweep whose round has ended."""
    with store.database.read() as sql:
        sweep_ids = [row["sweep_id"] for row in sql.execute(f"SELECT sweep_id FROM sweeps WHERE {UNDECIDED}")]
    return [run_id for sweep_id in sweep_ids for run_id in _advance(store, sweep_id)]


def _advance(store: Store, sweep_id: str) -> list[str]:
    standing = store.standing([sweep_id])
    if any(not state.is_finished() for _, state, _, _ in standing):
        return []
    facts = store.sweep(sweep_id).plan["halving"]
    number = len(facts["decisions"])
    if number >= len(facts["levels"]):
        _write(store, sweep_id, {**facts, "over": True})
        return []
    level = facts["levels"][number]
    runs = store.runs(sweep_id=sweep_id)
    if number:
        runs = [run for run in runs if run.run_id in facts["decisions"][-1]["going_on"]]
    if any(_was_called_off(run, level) for run in runs):
        _write(store, sweep_id, {**facts, "over": True})
        return []
    runs = [run for run in runs if run.status == RunState.STOPPED and run.step == level]
    decision = decide(runs, level, loss_at=lambda run: loss_at(store, run, level))
    on = [run.run_id for run in runs if arm_key(run.spec) in decision["going_on"]]
    kept = {key: decision[key] for key in ("step", "arms", "saved_steps")}
    kept["going_on"], kept["stopped"] = on, [run.run_id for run in runs if run.run_id not in on]
    over = not on or number + 1 == len(facts["levels"])
    _write(store, sweep_id, {**facts, "decisions": [*facts["decisions"], kept], "over": over})
    retry(store.database, store.home, on)
    return on


def _was_called_off(run: Run, level: int) -> bool:
    """True for a run that somebody has stopped or cancelled: then the rest of the sweep is left as it is, too."""
    return run.status == RunState.CANCELLED or (run.status == RunState.STOPPED and run.step < level)


def decide(runs: Sequence[Run], level: int, loss_at: Any) -> dict[str, Any]:
    """The arms that go on from ``level``: the better half, rounded up, by the mean loss over all of their seeds.

    An arm of which a run has failed, or has no loss, goes on with none of its runs. Ties go by the arm's settings, so
    that the same results lead to the same decision.
    """
    arms: dict[str, list[Run]] = {}
    for run in runs:
        arms.setdefault(arm_key(run.spec), []).append(run)
    most = max((len(members) for members in arms.values()), default=0)
    means: dict[str, float] = {}
    for key, members in arms.items():
        losses = [loss_at(run) for run in members]
        whole = len(members) == most and all(loss is not None and math.isfinite(loss) for loss in losses)
        means[key] = fmean(losses) if whole else math.inf
    ranked = sorted(arms, key=lambda key: (means[key], key))
    on = [key for key in ranked[: math.ceil(len(ranked) / 2)] if math.isfinite(means[key])]
    stopped = [run for key, members in arms.items() if key not in on for run in members]
    return {
        "step": level,
        "going_on": on,
        "arms": [
            {"label": arms[key][0].spec.label, "mean_eval_loss": means[key], "seeds": len(arms[key]), "on": key in on}
            for key in ranked
        ],
        "saved_steps": sum(run.spec.steps - level for run in stopped),
    }


def loss_at(store: Store, run: Run, level: int) -> float | None:
    """The run's ``eval/loss`` at a step, of whichever attempt passed it last."""
    with store.database.read() as sql:
        row = sql.execute(
            "SELECT e.body FROM events e JOIN runs r ON r.n = e.n WHERE r.run_id = ? AND e.kind = 'eval'"
            " AND json_extract(e.body, '$.step') = ? ORDER BY e.attempt DESC, e.seq DESC LIMIT 1",
            (run.run_id, level),
        ).fetchone()
    return None if row is None else json.loads(row["body"]).get(EVAL_LOSS)


def _write(store: Store, sweep_id: str, facts: Mapping[str, Any]) -> None:
    with store.database.write() as sql:
        sql.execute(
            "UPDATE sweeps SET plan = json_set(plan, '$.halving', json(?)) WHERE sweep_id = ?", (dump(facts), sweep_id)
        )


def levels_words(facts: Mapping[str, Any]) -> str:
    """The rule of a halving, before anything has run."""
    steps = " and ".join(f"{level:,}" for level in facts["levels"])
    return f"halving: the weaker half of the arms, by mean eval loss over their seeds, stops at step {steps}"


def words_of(facts: Mapping[str, Any]) -> str:
    """The decisions of a halving so far, with what they saved, in a sentence; empty before the first."""
    decisions = facts["decisions"]
    if not decisions:
        return ""
    parts = [
        f"{sum(not arm['on'] for arm in one['arms'])} of {len(one['arms'])} arms stopped at step {one['step']:,}"
        for one in decisions
    ]
    saved = sum(one["saved_steps"] for one in decisions)
    return f"Halving by mean eval loss: {'; '.join(parts)}. It saved {saved:,} steps of training."

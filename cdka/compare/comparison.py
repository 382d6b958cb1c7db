"""A whole comparison: arms, verdicts, trends and fronts of one set of runs under one measure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from cdka.compare.arms import identified, judged_differently, judged_words, seed_table, summary, with_values
from cdka.compare.measure import STEP, Measure, usual_metric
from cdka.compare.source import Source
from cdka.errors import CdkaError, unknown
from cdka.formatting import plural
from cdka.runs.metrics import EVAL_ACCURACY, EVAL_LOSS
from cdka.runs.states import KEPT, WAITING
from cdka.stats.multiple_comparisons import holm
from cdka.stats.paired import ALPHA, TOP_UP, reference_pairs, verdicts
from cdka.stats.pareto import AMBIGUOUS, OFF, ON, pareto
from cdka.stats.trend import DEGRADES, IMPROVES, UNRESOLVED, trends

ALL_PAIRS = "all-pairs"
STOPPED_AT = "stopped_at"
"""The column of arms that stopped early: the step at which, 0 for the others; absent where none did."""
NOT_TUNED = " · not tuned"
"""Stands behind the label of an arm that had no part in the learning-rate search of the others."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """The numbers of one comparison. Filters and hiding come after it: they never change what is in here.

    ``frame`` has one row per run with ``arm``, ``arm_label`` and ``value``; ``arms`` one row per arm; ``table``
    holds values by arm and seed; ``settings`` what each arm was asked to do; ``references`` the arm that the others
    of its model and task are compared with. ``chosen_lr`` says that each configuration appears only at the learning
    rate that was best for it on validation.
    """

    name: str
    measure: Measure
    frame: pd.DataFrame
    arms: pd.DataFrame
    table: pd.DataFrame
    settings: Mapping[str, Mapping[str, Any]]
    references: tuple[str, ...]
    all_pairs: bool = False
    chosen_lr: bool = False
    looks: int = 1
    """Number of times that the runs are looked at altogether, decided beforehand: each look is held to 5 % / looks."""

    @cached_property
    def labels(self) -> dict[str, str]:
        """The label of each arm."""
        return dict(zip(self.arms["arm"], self.arms["arm_label"], strict=True))

    @cached_property
    def groups(self) -> list[pd.DataFrame]:
        """The arms of each model and task, those that stopped early by the step: nothing is compared across them."""
        return [group for _, group in self.arms.groupby(_apart(self.arms), sort=False)]

    @property
    def num_places(self) -> int:
        """The number of combinations of model and task."""
        return self.arms.groupby(["model", "task"]).ngroups

    @cached_property
    def verdicts(self) -> pd.DataFrame:
        """The paired comparisons, Holm over all of them together; see ``verdicts.verdicts``."""
        pairs = []
        for group in self.groups:
            known = group[group["n"] > 0]["arm"].to_list()
            reference = next((arm for arm in self.references if arm in known), None)
            if self.all_pairs or reference is not None:
                pairs += reference_pairs(known, None if self.all_pairs else reference)
        found = verdicts(self.table, pairs, higher_is_better=self.measure.higher_is_better, looks=self.looks)
        lost = self.frame["status"].isin(("failed", "lost")).groupby(self.frame["arm"]).sum()
        return found.assign(**{f"lost_{side}": found[side].map(lost).astype("Int64") for side in "ab"})

    @cached_property
    def trends(self) -> pd.DataFrame:
        """The trends over r1, r2 and r in each model and task, Holm over all of them together."""
        higher = self.measure.higher_is_better
        held = _without_lr(self.settings) if self.chosen_lr else self.settings
        found = [
            trends(group, self.table, held, higher_is_better=higher).assign(
                model=group["model"].iloc[0],
                task=group["task"].iloc[0],
                **({STOPPED_AT: group[STOPPED_AT].iloc[0]} if STOPPED_AT in group else {}),
            )
            for group in self.groups
        ]
        out = pd.concat(found, ignore_index=True) if found else trends(self.arms, self.table, self.settings)
        if len(self.groups) > 1 and len(out):
            out["p_holm"] = holm(out["p"])
            up = (out["slope"] > 0) == higher
            words = [IMPROVES if one else DEGRADES for one in up]
            out["finding"] = pd.Series(words, index=out.index).where(out["p_holm"] < ALPHA, UNRESOLVED)
        return out

    def trend_header(self, row: Mapping[str, Any]) -> str:
        """The subject of a trend: the measure, with model and task where there are several."""
        place = f" ({row['model']} on {row['task']})" if self.num_places > 1 else ""
        return self.measure.header + place + (f", stopped at step {row[STOPPED_AT]}" if row.get(STOPPED_AT) else "")

    def pareto(self, cost: str = "num_params") -> pd.Series:
        """``on``, ``off`` or ``ambiguous`` per arm, within its model and task."""
        if cost not in self._fronts:
            higher = self.measure.higher_is_better
            found = [
                pareto(self.table.loc[group["arm"]], group.set_index("arm")[cost], higher_is_better=higher)
                for group in self.groups
            ]
            self._fronts[cost] = pd.concat(found) if found else pd.Series(dtype=object)
        return self._fronts[cost]

    def front_words(self, cost: str = "num_params") -> pd.Series:
        """The standing of each arm in words: on the front, off, not resolved, or cheapest, which beats nothing."""
        if cost in self._standings:
            return self._standings[cost]
        words = {ON: "on the front", OFF: "off", AMBIGUOUS: "not resolved"}
        found = self.pareto(cost).map(words)
        for group in self.groups:
            known = group[(group["n"] > 0) & group[cost].notna()]
            if len(known) > 1:
                cheapest = known[known[cost].astype(float) == known[cost].astype(float).min()]
                if len(cheapest) == 1:
                    found[cheapest["arm"].iloc[0]] = "cheapest"
        self._standings[cost] = found
        return found

    @cached_property
    def _fronts(self) -> dict[str, pd.Series]:
        return {}

    @cached_property
    def _standings(self) -> dict[str, pd.Series]:
        return {}

    def scope(self) -> list[str]:
        """The population of the intervals and the families of the tests, a line each, whatever was found."""
        count = judged_words(self.frame)
        pairs, tests = len(self.verdicts), len(self.trends)
        lines = [
            f"Intervals are over seeds (start of the adapter and order of the data): new seeds on {count} examples and "
            "this base model. They say nothing about other data or another base."
        ]
        if pairs or tests:
            family = " and ".join(
                ([plural(pairs, "pair")] if pairs else []) + ([plural(tests, "trend")] if tests else [])
            )
            error = "5 %" if self.looks == 1 else f"5 % / {self.looks} (look 1 of {self.looks}, or a later one)"
            lines.append(
                f"Tests: {family}, Holm within each of these families at {error}; the Pareto front at 5 % per arm. "
                "Intervals are for each number alone, bands along training pointwise."
            )
        if pairs and "more_seeds" in self.verdicts and self.verdicts["more_seeds"].notna().any():
            lines.append(TOP_UP)
        return lines

    def missing(self) -> list[str]:
        """Lines on what the numbers leave out: waiting, failed and valueless runs, arms with one seed."""
        status = self.frame["status"]
        notes = []
        for words, names in (
            ("still under way", WAITING),
            ("failed", ("failed",)),
            ("lost", ("lost",)),
            ("cancelled", ("cancelled",)),
        ):
            count = int(status.isin(names).sum())
            if count:
                notes.append(f"{count} of {len(self.frame)} runs {words}: not counted.")
        empty = int((status.isin(KEPT) & self.frame["value"].isna()).sum())
        if empty:
            notes.append(f"{plural(empty, 'finished run')} without {self.measure.header}: not counted.")
        early = int((status == "stopped").sum())
        if early:
            notes.append(f"{plural(early, 'run')} stopped early: counted with what was reached by then.")
        if STOPPED_AT in self.arms:
            notes += self._halved()
        single = int(self.arms["anecdotal"].sum())
        if single:
            notes.append(f"{plural(single, 'arm')} with a single seed: anecdotal, no interval.")
        if self.chosen_lr:
            notes.append("Each configuration at the learning rate that was best for it on validation.")
            untuned = int(self.arms["arm_label"].str.endswith(NOT_TUNED).sum())
            if untuned:
                notes.append(f"{plural(untuned, 'arm')} at a single rate, beside others that had a search: not tuned.")
        notes += judged_differently(self.frame)
        if self.num_places > 1:
            notes.append(f"{self.num_places} combinations of model and task: compared only within each.")
        return notes

    def _halved(self) -> list[str]:
        """Lines on arms whose runs all stopped at one step: how they count, and the training that this has saved."""
        counts = self.arms[self.arms[STOPPED_AT] > 0][STOPPED_AT].value_counts().sort_index()
        listed = ", ".join(f"{plural(number, 'arm')} at step {step:,}" for step, number in counts.items())
        frame = self.frame[self.frame["status"] == "stopped"]
        saved = int((frame["steps"] - pd.to_numeric(frame["steps_done"], errors="coerce")).sum())
        whole = int((self.frame["steps"]).sum())
        return [
            f"Stopped early with all seeds: {listed}. Arms are compared only with arms of the same length; to compare "
            f"all of them, measure at step {int(counts.index.min()):,}.",
            f"Stopping saved {saved:,} of {whole:,} steps of training.",
        ]


def _apart(arms: pd.DataFrame) -> list[str]:
    """The columns whose values keep arms apart."""
    return ["model", "task", *([STOPPED_AT] if STOPPED_AT in arms else [])]


def _stopped_at(frame: pd.DataFrame) -> dict[str, int]:
    """The step of each arm whose kept runs have all stopped early at one and the same step, as halving does."""
    if "steps_done" not in frame:
        return {}
    kept = frame[frame["status"].isin(KEPT)]
    found = {}
    for arm, runs in kept.groupby("arm", sort=False):
        steps = pd.to_numeric(runs["steps_done"], errors="coerce").unique()
        if (runs["status"] == "stopped").all() and len(steps) == 1 and 0 < steps[0] < runs["steps"].iloc[0]:
            found[arm] = int(steps[0])
    return found


def default_reference(arms: pd.DataFrame) -> str | None:
    """The arm to compare with, chosen without looking at results: LoRA with the most seeds, of those with as many
    the one with the most parameters; else the first arm.
    """
    known = arms[arms["n"] > 0]
    if known.empty:
        return None
    lora = known[known["family"] == "lora"].sort_values(["n", "num_params"], ascending=False, kind="stable")
    return (lora if len(lora) else known)["arm"].iloc[0]


def find_arm(arms: pd.DataFrame, name: str) -> str:
    """The arm with this id, label or short label; raises CdkaError with the nearest labels where there is none."""
    wanted = name.replace(" ", "").casefold()
    for column in ("arm", "arm_label"):
        hit = arms[arms[column].str.replace(" ", "").str.casefold() == wanted]
        if len(hit):
            return hit["arm"].iloc[0]
    short = arms[arms["arm_label"].str.split(" · ").str[0].str.replace("cdka ", "").str.casefold() == name.casefold()]
    if len(short) == 1:
        return short["arm"].iloc[0]
    raise unknown("arm", name, arms["arm_label"])


def _without_lr(asked: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {arm: {key: value for key, value in row.items() if key != "lr"} for arm, row in asked.items()}


def best_rates(frame: pd.DataFrame, asked: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The arms to keep where arms differ in their learning rate only: the best of each on validation.

    Judged by the mean over seeds of the validation accuracy at the end of training, where the test split is read too,
    else of the validation loss, never by the test metric. Only arms with as many seeds as the best-run rival are
    eligible, so that a rate with one lucky seed cannot win.
    """
    column, sign = next(
        ((name, sign) for name, sign in ((EVAL_ACCURACY, 1), (EVAL_LOSS, -1)) if name in frame),
        (None, 1),
    )
    groups: dict[str, list[str]] = {}
    for arm, row in _without_lr(asked).items():
        groups.setdefault(repr(sorted(row.items(), key=lambda item: item[0])), []).append(arm)
    if column is None:
        return list(asked)
    values = pd.to_numeric(frame[column], errors="coerce").where(frame["status"].isin(KEPT))
    score, count = (getattr(values.groupby(frame["arm"]), name)() for name in ("mean", "count"))
    keep = set()
    for group in groups.values():
        most = count[group].max()
        full = [arm for arm in group if count[arm] == most and most > 0]
        keep.add(max(full, key=lambda arm: sign * score[arm]) if full else group[0])
    return [arm for arm in asked if arm in keep]


def not_searched(asked: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The arms that were tried at one learning rate only where others had a search: their comparison is not fair."""
    rates: dict[str, list[str]] = {}
    for arm, row in _without_lr(asked).items():
        rates.setdefault(repr(sorted(row.items(), key=lambda item: item[0])), []).append(arm)
    most = max(map(len, rates.values()), default=1)
    return {arms[0] for arms in rates.values() if len(arms) == 1 < most}


def compare(
    source: Source,
    measure: Measure | None = None,
    reference: str | None = None,
    *,
    choose_lr: bool = False,
    looks: int = 1,
) -> Comparison:
    """The comparison of all runs of ``source`` under ``measure`` (``usual_metric`` where None).

    ``reference`` names the arm that others are compared with (id or label), or ``all-pairs``; by default LoRA where
    there is one. ``choose_lr`` keeps each configuration only at its best learning rate (``best_rates``). ``looks`` is
    the number of times that these runs are looked at, planned top-ups included (``stats.verdicts``). Raises CdkaError
    for an unknown metric or arm, and where there are no runs.
    """
    frame = source.frame()
    measure = measure or Measure(usual_metric(frame))
    if frame.empty:
        where = source.name or "the selection"
        raise CdkaError(f"there are no runs to compare in {where}. Launch some: cdka sweep --help")
    specs = source.specs()
    frame, rows = identified(frame, specs)
    if choose_lr:
        untuned = not_searched(rows)
        rows = {arm: rows[arm] for arm in best_rates(frame, rows)}
        frame, rows = identified(frame[frame["arm"].isin(rows)].reset_index(drop=True), specs)
        marked = frame["arm_label"] + NOT_TUNED
        frame["arm_label"] = frame["arm_label"].where(~frame["arm"].isin(untuned), marked)
    curves = source.curves(frame["run_id"].to_list()) if measure.at != "final" else None
    if not frame["status"].isin(KEPT).any() and measure.metric not in frame.columns:
        frame[measure.metric] = float("nan")  # nothing has ended yet: an empty comparison, not a misspelt metric
    frame = with_values(frame, measure, curves)
    table = seed_table(frame)
    by_arm = summary(frame, table, measure.bounds)
    if measure.at != STEP and (stopped := _stopped_at(frame)):
        by_arm[STOPPED_AT] = by_arm["arm"].map(stopped).fillna(0).astype(int)
        for named in (frame, by_arm):
            steps = named["arm"].map(stopped)
            named["arm_label"] += steps.map(lambda step: "" if pd.isna(step) else f" · stopped at step {step:,.0f}")
    if reference is None or reference == ALL_PAIRS:
        groups = by_arm.groupby(_apart(by_arm), sort=False)
        chosen = tuple(arm for _, group in groups if (arm := default_reference(group)) is not None)
    else:
        chosen = (find_arm(by_arm, reference),)
    return Comparison(
        source.name, measure, frame, by_arm, table, rows, chosen, reference == ALL_PAIRS, choose_lr, looks
    )

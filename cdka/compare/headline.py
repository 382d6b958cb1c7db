"""The comparison in one sentence: the best CDKA configuration against LoRA at equal price, with its interval. (ours)"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import pandas as pd

from cdka.compare.budget import TOLERANCE
from cdka.compare.comparison import STOPPED_AT, Comparison
from cdka.formatting import count, interval, is_missing, places, plural, times
from cdka.runs.metrics import EVAL_ACCURACY
from cdka.runs.states import KEPT
from cdka.stats.intervals import Interval
from cdka.stats.intervals import interval as scores_interval
from cdka.stats.paired import UNRESOLVED, verdicts


@dataclass(frozen=True)
class Side:
    """One arm of the headline: its id, label, parameters, mean of the metric and number of seeds."""

    arm: str
    label: str
    num_params: int | None
    mean: float
    seeds: int


@dataclass(frozen=True)
class Headline:
    """The best CDKA arm, the rival it is held against (None where there is none), and the difference in words.

    ``equal_price`` is True where the rival's parameters lie within 10 %; ``price`` is how many times the rival's
    parameters the arm has. Interval, ``verdict`` and ``more_seeds`` are of this pair alone, over its ``shared`` seeds;
    ``corrected`` is the verdict by Holm's correction over all ``comparisons`` of the table, None where the table does
    not hold this pair.
    """

    best: Side
    rival: Side | None
    equal_price: bool
    price: float | None
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    verdict: str
    more_seeds: int | None
    shared: int = 0
    comparisons: int = 1
    corrected: str | None = None

    def sentence(self, metric: str) -> str:
        """The headline as text: ``cdka 2,8,1 reaches 0.954 with 15.2 k parameters; lora 8, 57.3 k: 0.937; ...``."""
        cost = count(self.best.num_params)
        start = f"{self.best.label} reaches a {metric} of {self.best.mean:.3f} with {cost} parameters"
        if self.rival is None:
            return (
                f"{start}, the best of its comparison; no other method was tried ({plural(self.best.seeds, 'seed')})."
            )
        return (
            f"{start}; {self.rival.label}, {count(self.rival.num_params)}: {self.rival.mean:.3f}. {self.conclusion()}"
        )

    def conclusion(self) -> str:
        """The difference with its interval, whether these seeds resolve it, and the price."""
        if self.difference is None:
            return "They share no seed: no difference can be computed."
        price = "" if self.equal_price or self.price is None else f" {self._price()}"
        seeds = plural(self.shared, "shared seed")
        if self.ci_low is None or self.ci_high is None:
            return f"Difference {self.difference:+.3f} over {seeds}: no interval, which takes two or more.{price}"
        digits = places((self.ci_high - self.ci_low) / 2)
        ends = interval(self.ci_low, self.ci_high, digits)
        seeds = plural(self.shared, "seed") if self.shared > 1 else "seeds not shared"
        start = f"Difference {self.difference:+.{digits}f}, 95 % interval {ends}, {seeds}"
        alone = " for this pair alone" if self.comparisons > 1 else ""
        if self.verdict != UNRESOLVED:
            return f"{start}: {self.verdict}{alone}{self._corrected()}.{price}"
        more = "" if self.more_seeds is None else f"; about {plural(self.more_seeds, 'more seed')} would settle it"
        return f"{start}: not resolved{more}{alone}.{price}"

    def _corrected(self) -> str:
        """The verdict of the table beside that of the pair alone, where there are several comparisons."""
        if self.comparisons < 2 or self.corrected is None:
            return ""
        return f"; {self.corrected} with Holm's correction over {self.comparisons} comparisons"

    def _price(self) -> str:
        if self.price is None or self.rival is None:
            return ""
        if self.price > 1:
            return f"Not at equal price: it has {times(self.price)} the parameters of {self.rival.label}."
        return f"Not at equal price: {self.rival.label} has {times(1 / self.price)} its parameters."


@lru_cache(maxsize=8)
def headline(comparison: Comparison) -> Headline | None:
    """The headline of a comparison; None where no CDKA arm has a value, or models and tasks are mixed.

    The best CDKA arm is the best by validation accuracy among those with a LoRA arm of equal price (within 10 %),
    else among all; its rival is the LoRA arm of the nearest price, else the nearest arm of another method.
    """
    if comparison.num_places != 1:
        return None
    arms = comparison.arms[comparison.arms["n"] > 0].set_index("arm")
    if STOPPED_AT in arms and (arms[STOPPED_AT] == 0).any():
        arms = arms[arms[STOPPED_AT] == 0]  # the arms that were trained to the end, beside each other
    elif STOPPED_AT in arms:
        arms = arms[arms[STOPPED_AT] == arms[STOPPED_AT].max()]
    own, rivals = arms[arms["family"] == "cdka"], arms[arms["family"] == "lora"]
    if own.empty:
        return None
    if rivals.empty:
        rivals = arms[~arms["family"].isin(["cdka", "lora"])]
    matched = [arm for arm in own.index if _nearest(own, arm, rivals, within=TOLERANCE) is not None]
    best = _best(comparison, own.loc[matched] if matched else own)
    rival = _nearest(own, best, rivals)
    if rival is None:
        return Headline(_side(own, best), None, False, None, None, None, None, UNRESOLVED, None)
    row = verdicts(comparison.table, [(best, rival)], higher_is_better=comparison.measure.higher_is_better).iloc[0]
    table = comparison.verdicts
    same = table[(table["a"] == best) & (table["b"] == rival)] if len(table) else table
    price = float(own.loc[best, "num_params"]) / float(rivals.loc[rival, "num_params"])
    return Headline(
        best=_side(own, best),
        rival=_side(rivals, rival),
        equal_price=abs(price - 1) <= TOLERANCE,
        price=price,
        difference=None if is_missing(row["difference"]) else float(row["difference"]),
        ci_low=None if is_missing(row["ci_low"]) else float(row["ci_low"]),
        ci_high=None if is_missing(row["ci_high"]) else float(row["ci_high"]),
        verdict=str(row["verdict"]),
        more_seeds=None if is_missing(row["more_seeds"]) else int(row["more_seeds"]),
        shared=int(row["n"]),
        comparisons=len(table),
        corrected=str(same["verdict"].iloc[0]) if len(same) else None,
    )


@dataclass(frozen=True)
class Exchange:
    """The gain of r2 > r1 over the same two exchanged, at equal parameters: mean over pairs, then over seeds."""

    pairs: int
    wins: int
    gain: Interval

    def sentence(self, metric: str) -> str:
        """The gain in words, and in how many pairs it is one."""
        seeds = plural(self.gain.n, "seed")
        sentence = f"At equal parameters, r2 above r1 against the same two exchanged: {self.gain.mean:+.3f} {metric}"
        if is_missing(self.gain.low):
            return f"{sentence} over {plural(self.pairs, 'pair')} ({seeds}, no interval)."
        digits = places((self.gain.high - self.gain.low) / 2)
        ends = interval(self.gain.low, self.gain.high, digits)
        sentence = sentence.replace(f"{self.gain.mean:+.3f}", f"{self.gain.mean:+.{digits}f}")
        return f"{sentence}, 95 % interval {ends} over {seeds}; better in {self.wins} of {plural(self.pairs, 'pair')}."


@lru_cache(maxsize=8)
def exchange(comparison: Comparison) -> Exchange | None:
    """The paper's question of where parameters are best spent, asked of arms that are each other's mirror image.

    A pair is two CDKA arms of one r and otherwise equal settings with r1 and r2 exchanged, whose parameters lie within
    10 %; None without one, or where they share no seed.
    """
    arms = comparison.arms[(comparison.arms["method"] == "cdka") & (comparison.arms["n"] > 0)].set_index("arm")
    differences = []
    for arm, row in arms[arms["r2"] > arms["r1"]].iterrows():
        for other, mirror in arms.iterrows():
            exchanged = (mirror["r1"], mirror["r2"], mirror["r"]) == (row["r2"], row["r1"], row["r"])
            if (
                exchanged
                and _alike(comparison, arm, other)
                and abs(row["num_params"] / mirror["num_params"] - 1) <= TOLERANCE
            ):
                differences.append(comparison.table.loc[arm] - comparison.table.loc[other])
    if not differences:
        return None
    table = pd.DataFrame(differences).dropna(axis="columns")  # seeds that every pair has
    if table.empty:
        return None
    sign = 1 if comparison.measure.higher_is_better else -1
    wins = int((sign * table.mean(axis="columns") > 0).sum())
    return Exchange(len(table), wins, scores_interval(table.mean().to_numpy()))


def _alike(comparison: Comparison, a: str, b: str) -> bool:
    """True where two arms were asked to do the same but for their components."""
    one, other = (
        {name: value for name, value in comparison.settings[arm].items() if name != "components"} for arm in (a, b)
    )
    return one == other


def _side(arms: pd.DataFrame, arm: str) -> Side:
    row = arms.loc[arm]
    cost = None if is_missing(row["num_params"]) else int(row["num_params"])
    return Side(arm, str(row["arm_label"]), cost, float(row["mean"]), int(row["n"]))


def _best(comparison: Comparison, arms: pd.DataFrame) -> str:
    """The arm that is best by validation accuracy, else by the metric itself."""
    frame = comparison.frame
    if EVAL_ACCURACY not in frame or not frame[EVAL_ACCURACY].notna().any():
        return str(arms["mean"].idxmax() if comparison.measure.higher_is_better else arms["mean"].idxmin())
    kept = frame[frame["arm"].isin(arms.index) & frame["status"].isin(KEPT)]
    return str(pd.to_numeric(kept[EVAL_ACCURACY], errors="coerce").groupby(kept["arm"]).mean().idxmax())


def _nearest(own: pd.DataFrame, arm: str, rivals: pd.DataFrame, within: float | None = None) -> str | None:
    """The rival whose parameters are nearest to the arm's; None without one, or without one ``within`` that share."""
    known = rivals["num_params"].dropna().astype(float)
    if known.empty:
        return None
    distance = (known / float(own.loc[arm, "num_params"]) - 1).abs()
    return None if within is not None and distance.min() > within else str(distance.idxmin())

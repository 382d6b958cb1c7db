"""Runs grouped into arms: the same settings in everything but the seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from cdka.compare.measure import Measure
from cdka.runs.spec import RunSpec
from cdka.runs.states import ENDED_BADLY, KEPT, WAITING, RunState
from cdka.stats.intervals import UNBOUNDED, band

COLUMN_SETTINGS = ("model", "task", "method", "r1", "r2", "r", "rank", "alpha", "lr", "steps", "batch_size")
"""The settings that ``Store.frame`` shows; the whole specification is used where it is given."""
_NOT_SETTINGS = ("seed", "device", "engine", "checkpoint_every")
"""Settings in which two runs of one arm may differ: none of them changes the configuration tried."""
MAX_PATTERN_SHOWN = 3
"""Modules with components of their own that a label lists; of more it gives the number and a digest."""
_SHORT = {"batch_size": "batch", "target_modules": "modules", "init_weights": "init"}


def _plain(value: Any) -> Any:
    """A value that JSON can hold, with every kind of missing as None and whole floats as integers."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def settings(frame: pd.DataFrame, specs: Mapping[str, Mapping[str, Any]] | None = None) -> list[dict[str, Any]]:
    """The settings of each row of ``frame``, seed and device aside, in plain values."""
    if specs is None:
        rows = frame[[name for name in COLUMN_SETTINGS if name in frame.columns]].to_dict("records")
    else:
        rows = [specs[run_id] for run_id in frame["run_id"]]
    return [{key: _plain(value) for key, value in row.items() if key not in _NOT_SETTINGS} for row in rows]


def short_label(row: Mapping[str, Any]) -> str:
    """``cdka 2,8,4``, ``lora 8`` or ``full``, from the settings of one run."""
    components = row.get("components")
    if components is None and row.get("r1") is not None:
        components = [row["r1"], row["r2"], row["r"]]
    if row.get("method") == "cdka" and components:
        return f"cdka {','.join(str(part) for part in components)}"
    rank = row.get("rank")
    return str(row.get("method")) if rank is None else f"{row.get('method')} {rank}"


def family(row: Mapping[str, Any]) -> str:
    """The method that a run belongs to when methods are compared: cdka with r1 = r2 = 1 is LoRA (rsLoRA scaling)."""
    return "lora" if row["method"] == "cdka" and row["r1"] == 1 and row["r2"] == 1 else row["method"]


def _labels(arms: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    """A label per arm: what is tried, the model or task where there are several, and whatever else is needed to tell
    it from its namesakes.
    """
    by_short: dict[str, list[str]] = {}
    for arm, row in arms.items():
        by_short.setdefault(short_label(row), []).append(arm)
    shown = {"method", "components", "rank", "r1", "r2", "r"}
    everywhere = [key for key in ("model", "task") if len({row.get(key) for row in arms.values()}) > 1]
    labels = {}
    for short, names in by_short.items():
        keys = [key for key in dict.fromkeys(key for arm in names for key in arms[arm]) if key not in shown]
        differing = [key for key in keys if len({json.dumps(arms[arm].get(key)) for arm in names}) > 1]
        differing = [*everywhere, *(key for key in differing if key not in everywhere)]
        for arm in names:
            extra = [_setting(key, arms[arm].get(key)) for key in differing]
            labels[arm] = " · ".join([short, *extra])
    return labels


def _setting(key: str, value: Any) -> str:
    if key == "component_pattern" and len(value or ()) > MAX_PATTERN_SHOWN:
        digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:4]
        return f"{len(value)} modules by pattern {digest}"
    if isinstance(value, list | dict):
        value = json.dumps(value, separators=(",", ":")).replace('"', "")
    if key in ("model", "task"):
        return str(value)
    if isinstance(value, int) and abs(value) >= 1e7:
        value = f"{value:g}"  # a rate that was typed 1e25, not its 26 digits
    return f"{_SHORT.get(key, key.replace('_', ' '))} {value}"


def identify(frame: pd.DataFrame, specs: Mapping[str, Mapping[str, Any]] | None = None) -> pd.DataFrame:
    """``frame`` with ``arm`` (a digest of all settings but the seed) and ``arm_label`` (for people).

    ``specs`` maps run ids to whole specifications (``RunSpec.to_dict``); without it the columns of the frame
    decide, so two runs that differ in a setting it does not show would share an arm.
    """
    return identified(frame, specs)[0]


@lru_cache(maxsize=1)
def _defaults() -> dict[str, Any]:
    """The settings that a run has where nobody says otherwise: left out of an arm's digest, so that a setting which a
    later version adds leaves the arms of older runs and bundles what they were.
    """
    return {
        field.name: _plain(field.default if field.default_factory is MISSING else field.default_factory())
        for field in fields(RunSpec)
        if field.default is not MISSING or field.default_factory is not MISSING
    }


def identified(
    frame: pd.DataFrame, specs: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[pd.DataFrame, dict[str, dict[str, Any]]]:
    """The result of ``identify``, and the settings of each arm."""
    rows = settings(frame, specs)
    usual = _defaults()
    differing = [{key: value for key, value in row.items() if value != usual.get(key, ...)} for row in rows]
    texts = [json.dumps(row, sort_keys=True) for row in differing]
    digests = [hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:8] for text in texts]
    labels = _labels(dict(zip(digests, rows, strict=True)))
    named = frame.assign(arm=digests, arm_label=[labels[digest] for digest in digests])
    return named, dict(zip(digests, rows, strict=True))


def seed_table(frame: pd.DataFrame) -> pd.DataFrame:
    """``value`` by arm (rows) and seed (columns), NaN where there is none; of two runs of a seed, the later kept."""
    kept = frame[frame["value"].notna()]
    if "created_at" in kept.columns:
        kept = kept.sort_values("created_at", kind="stable")
    latest = kept.drop_duplicates(["arm", "seed"], keep="last")
    table = latest.pivot(index="arm", columns="seed", values="value")
    return table.reindex(pd.unique(frame["arm"])).astype(float)


def arms(frame: pd.DataFrame, measure: Measure, curves: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row per arm: settings, num_params, seeds, n, mean, sd, ci_low, ci_high, and what is missing.

    Intervals are 95 % Student t over seeds, NaN for a single seed (``anecdotal``) and where all seeds agree to the last
    digit; those of a share stay within 0 and 1. Only kept runs count;
    ``waiting`` and ``failed`` count the others. ``frame`` needs ``arm`` (see ``identify``) and is not changed.
    """
    frame = with_values(frame if "arm" in frame.columns else identify(frame), measure, curves)
    return summary(frame, seed_table(frame), measure.bounds)


def summary(frame: pd.DataFrame, table: pd.DataFrame, bounds: tuple[float, float] = UNBOUNDED) -> pd.DataFrame:
    """The frame that ``arms`` returns, from runs that have their ``value`` and the ``seed_table`` of those values."""
    n, mean, sd, low, high = band(table.to_numpy(), bounds=bounds)
    first = frame.drop_duplicates("arm").set_index("arm").loc[table.index]
    first["family"] = [family(row) for row in first.to_dict("records")]
    shown = [name for name in ("arm_label", "family", *COLUMN_SETTINGS) if name in first.columns]
    by_arm = frame.groupby("arm", sort=False)
    out = first[shown].assign(
        num_params=by_arm["num_params"].max(),
        n=n,
        mean=mean,
        sd=sd,
        ci_low=low,
        ci_high=high,
        anecdotal=n == 1,
        seeds=[[int(seed) for seed in table.columns[row.notna().to_numpy()]] for _, row in table.iterrows()],
        waiting=frame["status"].isin(WAITING).groupby(frame["arm"], sort=False).sum().astype(int),
        failed=frame["status"].isin(ENDED_BADLY).groupby(frame["arm"], sort=False).sum().astype(int),
    )
    for cost in ("seconds", "peak_bytes", *RETAINED):
        if cost in frame.columns:
            kept = frame[frame["status"].isin(KEPT)]
            out[cost] = pd.to_numeric(kept[cost], errors="coerce").groupby(kept["arm"]).mean().reindex(out.index)
    return out.reset_index()


def with_values(frame: pd.DataFrame, measure: Measure, curves: pd.DataFrame | None = None) -> pd.DataFrame:
    """``frame`` with ``value``: the measure of each kept run, NaN for every other.

    At a step, runs that are still under way count too: that step is behind them.
    """
    values = measure.values(frame, curves)
    counts = (
        frame["status"].isin(KEPT) if measure.at != "step" else ~frame["status"].isin([RunState.FAILED, RunState.LOST])
    )
    return frame.assign(value=values.where(counts))


SPLITS = {"eval": "validation", "test": "test"}
RETAINED = tuple(f"retained/{when}_{measure}" for when in ("before", "after") for measure in ("accuracy", "loss"))
"""The metrics of a run with ``retain``: judged before its first step and after its last."""


def judged_words(frame: pd.DataFrame, split: str = "test") -> str:
    """``these 64 of 1,319 test``, where all runs were judged on the same part; ``the same test`` where that is unknown.

    ``frame`` has one row per run, with the metrics as columns.
    """
    words = SPLITS[split]
    used, of = (_known(frame, f"{split}/{name}") for name in ("examples", "of"))
    if used.nunique() != 1:
        return f"the same {words}"
    part = f"{int(used.iloc[0]):,}"
    if of.nunique() == 1 and of.iloc[0] > used.iloc[0]:
        part += f" of {int(of.iloc[0]):,}"
    return f"these {part} {words}"


def judged_differently(frame: pd.DataFrame) -> list[str]:
    """A line for each split and task whose kept runs were judged on different examples: these do not compare."""
    kept = frame[frame["status"].isin(KEPT)]
    found = []
    for task, runs in kept.groupby("task", sort=False):
        for split, words in SPLITS.items():
            used = sorted({int(value) for value in _known(runs, f"{split}/examples")})
            if len(used) > 1:
                sizes = " and ".join(f"{size:,}" for size in used)
                found.append(
                    f"Runs on {task} were judged on different {words} examples ({sizes} of them): their numbers do not "
                    f"compare. Repeat some with the same --{split}-examples."
                )
    return found


def kept_words(row: pd.Series) -> str:
    """``0.97 to 0.95`` for an arm's retained accuracy, or ``loss 2.31 to 2.40``; empty where nothing was judged."""
    for measure, opening in (("accuracy", ""), ("loss", "loss ")):
        before, after = (row.get(f"retained/{when}_{measure}") for when in ("before", "after"))
        if pd.notna(before) and pd.notna(after):
            return f"{opening}{before:.3g} to {after:.3g}"
    return ""


def _known(frame: pd.DataFrame, column: str) -> pd.Series:
    if column not in frame:
        return pd.Series(dtype=float)
    return pd.to_numeric(frame[column], errors="coerce").dropna()

"""A comparison as plain data for JSON, and as a few sentences for a methods section."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from cdka.compare.arms import kept_words
from cdka.compare.comparison import Comparison
from cdka.compare.source import Source
from cdka.formatting import PLUS_MINUS, estimate, plural
from cdka.runs.states import KEPT
from cdka.stats.paired import UNRESOLVED, needs
from cdka.stats.paired import sentence as verdict_sentence
from cdka.stats.trend import sentence as trend_sentence

SHARED = "Runs trained in one pack share a process, its time and its memory: compare these among runs trained alone."
"""The note that belongs to every comparison of time or memory."""


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if value is None or pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value


def document(comparison: Comparison, cost: str = "num_params") -> dict[str, Any]:
    """The document of ``cdka compare --json``: metric, header, arms, verdicts, trends, gaps. Missing is None."""
    status = comparison.pareto(cost)
    arms = []
    for row in comparison.arms.to_dict("records"):
        components = [row["r1"], row["r2"], row["r"]]
        arms.append(
            {
                "label": row["arm_label"],
                "arm": row["arm"],
                "method": row["method"],
                "components": None if pd.isna(components[0]) else components,
                **{key: row[key] for key in ("rank", "model", "task", "alpha", "lr", "steps", "num_params")},
                "seeds": row["n"],
                "seed_list": row["seeds"],
                "mean": row["mean"],
                "sd": row["sd"],
                "ci_low": row["ci_low"],
                "ci_high": row["ci_high"],
                "anecdotal": row["anecdotal"],
                "pareto": status[row["arm"]],
                "waiting": row["waiting"],
                "failed": row["failed"],
                "seconds": row.get("seconds"),
                "kept": kept_words(pd.Series(row)) or None,
            }
        )
    labels = comparison.labels
    rulings = [
        {
            "a": labels[row["a"]],
            "b": labels[row["b"]],
            **{
                key: row[key]
                for key in (
                    "verdict",
                    "difference",
                    "ci_low",
                    "ci_high",
                    "p",
                    "p_holm",
                    "n",
                    "test",
                    "more_seeds",
                    "more_seeds_low",
                    "more_seeds_high",
                    "lost_a",
                    "lost_b",
                )
            },
            "needs": "" if row["verdict"] != UNRESOLVED else needs(row),
            "text": verdict_sentence(row, labels),
        }
        for _, row in comparison.verdicts.iterrows()
    ]
    tendencies = [
        {**row.to_dict(), "text": trend_sentence(row, comparison.trend_header(row))}
        for _, row in comparison.trends.iterrows()
    ]
    return _plain(
        {
            "comparison": comparison.name,
            "metric": comparison.measure.metric,
            "aggregation": comparison.measure.at,
            "step": comparison.measure.step,
            "header": comparison.measure.header,
            "higher_is_better": comparison.measure.higher_is_better,
            "interval": "95 % Student t over seeds",
            "scope": comparison.scope(),
            "looks": comparison.looks,
            "seconds_note": SHARED,
            "references": [labels[arm] for arm in comparison.references],
            "all_pairs": comparison.all_pairs,
            "arms": arms,
            "verdicts": rulings,
            "trends": tendencies,
            "missing": comparison.missing(),
        }
    )


def arm_table(comparison: Comparison, shown: Sequence[str] | None = None) -> pd.DataFrame:
    """The arms as people read them, the best first; all of them where ``shown`` is None.

    Columns arm (its id), label, num_params, estimate (mean ± half of the 95 % interval, or the interval), front and
    kept, in words.
    """
    rows = comparison.arms if shown is None else comparison.arms[comparison.arms["arm"].isin(shown)]
    rows = rows.sort_values(
        "mean", ascending=not comparison.measure.higher_is_better, na_position="last", kind="stable"
    )
    means = rows[["mean", "ci_low", "ci_high", "n"]].itertuples(index=False)
    return pd.DataFrame(
        {
            "arm": rows["arm"],
            "label": rows["arm_label"],
            "num_params": rows["num_params"],
            "estimate": [estimate(*values) for values in means],
            "front": rows["arm"].map(comparison.front_words()).fillna(""),
            "kept": [kept_words(row) for _, row in rows.iterrows()],
        }
    ).reset_index(drop=True)


def estimate_header(comparison: Comparison) -> str:
    """The head of ``arm_table``'s column estimate."""
    return f"{comparison.measure.header} {PLUS_MINUS}"


def provenance(comparison: Comparison, shown: Sequence[str], most: int = 3) -> str:
    """The source of a figure's numbers: runs by id, the sweep, seeds, models and tasks, in a line for its caption."""
    runs = comparison.frame[comparison.frame["arm"].isin(list(shown))]
    if runs.empty:
        return f"No run of {comparison.name}."
    ids = ", ".join(runs["run_id"].head(most)) + (f" and {len(runs) - most} more" if len(runs) > most else "")
    seeds = sorted({int(seed) for seed in runs["seed"]})
    verb = (
        f"{seeds[0]} to {seeds[-1]}"
        if len(seeds) > 3 and seeds[-1] - seeds[0] == len(seeds) - 1
        else ", ".join(map(str, seeds[:12]))
    )
    pairs = dict.fromkeys(zip(runs["model"], runs["task"], strict=True))
    where = "; ".join(f"{model} on {task}" for model, task in pairs)
    sweeps = ", ".join(dict.fromkeys(str(sweep) for sweep in runs["sweep_id"].dropna()))
    return (
        f"{comparison.name} ({sweeps or 'no sweep'}): {where}, {plural(len(runs), 'run')} ({ids}), "
        f"{'seed' if len(seeds) == 1 else 'seeds'} {verb}."
    )


def methods_paragraph(comparison: Comparison, source: Source) -> str:
    """A methods section in a paragraph, from the runs alone: models, tasks, arms, seeds, settings, tests, versions."""
    frame = comparison.frame
    kept = frame[frame["status"].isin(KEPT)]
    rows = list(comparison.settings.values())
    counts = Counter(comparison.arms["family"])
    arms = ", ".join(f"{count} {family}" for family, count in counts.items())
    seeds = comparison.arms["n"]
    spread = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    references = ", ".join(comparison.labels[arm] for arm in comparison.references) or "none"
    versions = source.versions(kept["run_id"].iloc[0]) if len(kept) else {}
    against = "all pairs of arms" if comparison.all_pairs else f"each arm against the reference ({references})"
    sentences = [
        f"We fine-tuned {_list(rows, 'model')} on {_list(rows, 'task')} with {plural(len(rows), 'configuration')} "
        f"({arms}) and {spread} seed{'' if seeds.max() == 1 else 's'} each: {plural(len(kept), 'finished run')} of "
        f"{len(frame)} started.",
        f"All ran with {_list(rows, 'schedule')} schedule, {_list(rows, 'steps')} steps, batch size "
        f"{_list(rows, 'batch_size')}, learning rate {_list(rows, 'lr')}, alpha {_list(rows, 'alpha')}, weight decay "
        f"{_list(rows, 'weight_decay')}, target modules {_list(rows, 'target_modules')}.",
        "The same seed gives the same order of the data to every configuration; the splits and the base model are the "
        "same for all seeds."
        + (" Learning rates were chosen per configuration on validation data." if comparison.chosen_lr else ""),
        f"We report {comparison.measure.header} as mean and sample standard deviation over seeds with 95 % Student t "
        f"intervals ({PLUS_MINUS}), and compare {against} with paired t-tests over shared seeds at a family-wise error "
        "of 5 % (Holm).",
        *comparison.scope()[:2],
    ]
    if versions:
        sentences.append(
            "Software: " + ", ".join(f"{name} {version}" for name, version in sorted(versions.items())) + "."
        )
    return " ".join([*sentences, *comparison.missing()])


def _list(rows: list[Mapping[str, Any]], key: str) -> str:
    """The distinct values of a setting, in words."""
    values = list(dict.fromkeys(_text(row.get(key)) for row in rows))
    return values[0] if len(values) == 1 else ", ".join(values[:-1]) + " and " + values[-1]


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "+".join(map(str, value))
    return "the default" if value is None else str(value)

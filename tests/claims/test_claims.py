"""Studies: every one can be planned, and the verdict follows what the runs show, whichever way that is."""

from __future__ import annotations

import json
import re
import shlex
import zlib
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from finished_study import finished
from scipy import stats

from cdka.claims import STUDIES, find_study, judge, plan_study
from cdka.claims.catalogue import RECIPE, SHORT_LOW
from cdka.claims.factor_curve import factor_curve, factor_svg
from cdka.claims.judge import CONTRADICTED, SUPPORTED, UNRESOLVED, Finding, runs_by_regime, signed
from cdka.claims.report import check_target, report
from cdka.claims.rules import roughness
from cdka.cli.progress import print_failures
from cdka.errors import CdkaError
from cdka.paths import assets_dir
from cdka.runs.events import Step
from cdka.runs.store import Store
from tools.claims_table import tables

ON_DIGITS = [name for name in STUDIES if name != "long-context"]


@pytest.mark.parametrize("name", ON_DIGITS)
def test_every_study_has_arms_in_each_regime_with_the_same_seeds(name):
    planned = plan_study(STUDIES[name], seeds=2, preview=True)
    seeds = {spec.seed for spec in planned.specs}
    assert seeds == {0, 1}
    per_regime = len(planned.specs) / len(STUDIES[name].regimes)
    assert per_regime >= 2 * len(seeds)
    assert planned.document["study"] == name


def test_trend_studies_vary_one_factor_over_our_range():
    r1, r2 = ({spec.components.as_tuple() for spec in plan_study(STUDIES[name]).specs} for name in ("r1", "r2"))
    levels = (4, 8, 16, 32, 64)
    assert r1 == {(level, 4, 1) for level in levels}
    assert r2 == {(4, level, 1) for level in levels} | r1, "r2, and its control of equal cost"
    sizes = {arm.spec.components.as_tuple(): arm.num_params for arm in plan_study(STUDIES["r2"]).arms}
    assert all(sizes[4, level, 1] == sizes[level, 4, 1] for level in levels)
    assert sorted({spec.components.r for spec in plan_study(STUDIES["r"]).specs}) == [1, 2, 4, 8]


def test_settings_given_by_hand_move_the_regimes_with_them(home):
    """cdka study r1 --steps 9: the runs must still be found by their regime."""
    planned = plan_study(STUDIES["r1"], seeds=2, settings={"steps": 9})
    assert {name: one["steps"] for name, one in planned.document["regimes"].items()} == {SHORT_LOW: 9, RECIPE: 9}
    store = Store(home)
    sweep = store.sweep(store.create_sweep(planned.name, planned.document, planned.specs))
    assert [len(runs) for runs in runs_by_regime(store, sweep).values()] == [10, 10]
    alike = plan_study(STUDIES["r1"], seeds=2, settings={"steps": 9, "lr": 1e-3, "alpha": 8.0})
    assert list(alike.document["regimes"]) == ["given"]
    assert len(alike.specs) == 10


def test_a_study_says_what_the_model_lacks():
    with pytest.raises(CdkaError, match="needs a model with more than 8,192 positions: digits-vit has"):
        plan_study(STUDIES["long-context"])
    with pytest.raises(CdkaError, match="needs an image model: llama-2-7b is causal-lm"):
        plan_study(STUDIES["vision"], "llama-2-7b", "digits-flip")
    with pytest.raises(CdkaError, match="unknown study 'r3'"):
        find_study("r3")


def speck(spec):
    """A thousandth at most, of the seed and what is tried: seeds that agree to the last digit decide nothing."""
    tried = (spec.seed, spec.method, str(spec.components), spec.rank)
    return 0.001 * (zlib.crc32(repr(tried).encode()) / 2**31 - 1)


def wobble(spec):
    """A little noise that depends on the seed and the configuration, the same every time."""
    return 0.003 * ((spec.seed * 7 + sum(spec.components.as_tuple() if spec.components else (1,))) % 5 - 2)


@pytest.mark.parametrize(("slope", "verdict"), [(-0.02, SUPPORTED), (0.02, CONTRADICTED), (0.0, UNRESOLVED)])
def test_the_r1_verdict_follows_the_slope(slope, verdict, home):
    store = Store(home)
    sweep = finished(store, "r1", lambda s: 0.7 + slope * (s.components.r1.bit_length() - 3) + wobble(s))
    early, tuned = judge(store, sweep)
    assert (early.verdict, tuned.verdict) == (verdict, verdict)
    assert early.regime == SHORT_LOW
    assert early.n == 3
    if slope:
        assert early.effect == pytest.approx(slope, abs=0.004)
        assert early.ci_low < early.effect < early.ci_high


def test_regimes_are_judged_apart(home):
    store = Store(home)

    def accuracy(spec):
        sign = 1 if spec.steps < 200 else -1
        return 0.7 + sign * 0.02 * spec.components.r2.bit_length() + wobble(spec) + speck(spec)

    early, tuned, *beyond = judge(store, finished(store, "r2", accuracy))
    assert (early.verdict, tuned.verdict) == (SUPPORTED, CONTRADICTED)
    assert [one.verdict for one in beyond] == [SUPPORTED, CONTRADICTED], "r1 does nothing here"


def test_what_parameters_explain_is_not_r2s_own(home):
    """On the base of 0.1.0 r1's series of equal cost rose by +0.024 a doubling of r2's +0.034."""
    store = Store(home)

    def accuracy(spec):
        r1, r2, _ = spec.components.as_tuple()
        return 0.5 + 0.034 * np.log2(r2) + 0.024 * np.log2(r1) + speck(spec)

    helps, _, beyond, _ = judge(store, finished(store, "r2", accuracy))
    assert helps.effect == pytest.approx(0.034, abs=1e-3)
    assert beyond.effect == pytest.approx(0.010, abs=1e-3)
    assert "Per doubling: r2 +0.034, r1 +0.024" in beyond.sentence


def test_returns_diminish_when_the_first_doubling_gains_more_than_the_last(home):
    store = Store(home)
    gain = {1: 0.60, 2: 0.75, 4: 0.80, 8: 0.81}
    helps, _, diminishes, _ = judge(store, finished(store, "r", lambda s: gain[s.components.r] + speck(s)))
    assert (helps.verdict, diminishes.verdict) == (SUPPORTED, SUPPORTED)
    assert diminishes.effect == pytest.approx(0.14, abs=0.01)
    assert "The doublings: +0.150, +0.050, +0.010" in diminishes.sentence or "+0.1" in diminishes.sentence


def test_where_more_components_hurt_it_is_said_whatever_the_doublings_do(home):
    """Losing ever more is no diminishing return: the claim that r helps is judged apart."""
    store = Store(home)
    level = {1: 0.80, 2: 0.79, 4: 0.74, 8: 0.60}
    helps, _, diminishes, _ = judge(store, finished(store, "r", lambda s: level[s.components.r] + speck(s)))
    assert helps.verdict == CONTRADICTED
    assert diminishes.verdict == SUPPORTED


def test_a_valley_is_told_beside_its_slope(home):
    store = Store(home)
    level = {4: 0.75, 8: 0.65, 16: 0.72, 32: 0.78, 64: 0.83}
    early, _ = judge(store, finished(store, "r1", lambda s: level[s.components.r1] + speck(s)))
    assert early.verdict == CONTRADICTED
    assert "not one way: -0.100 from 4 to 8" in early.sentence
    assert "From r1 4 to 64: +0.079" in early.sentence


def losses(store, sweep, loss):
    """Training curves in the store as ``loss(spec)`` gives them."""
    with store.database.write() as sql:
        for run in store.runs(sweep_id=sweep.sweep_id):
            (n, attempt) = sql.execute("SELECT n, attempt FROM runs WHERE run_id=?", (run.run_id,)).fetchone()
            sql.executemany(
                "INSERT INTO events VALUES (?, ?, ?, 'step', 0, ?)",
                [
                    (n, attempt, seq, json.dumps(Step(step=seq, loss=value).to_dict()))
                    for seq, value in enumerate(loss(run.spec), start=1)
                ],
            )


def saw(up, steps=60):
    """A loss that falls by 1 over six steps, then rises by ``up`` over six: slower than the smoothing."""
    changes = ([-1 / 6] * 6 + [up / 6] * 6) * (steps // 12)
    return (10 + np.cumsum([0, *changes])).tolist()


def test_roughness_is_the_rise_of_the_smoothed_loss_for_its_fall():
    assert roughness(np.linspace(5, 1, 50)) == 0
    assert roughness(np.linspace(1, 5, 50)) == 1
    assert roughness(np.full(50, 2.0)) == 0
    assert np.isnan(roughness(np.ones(3)))
    noise = np.linspace(5, 1, 400) + np.random.default_rng(0).normal(0, 0.005, 400)
    assert roughness(noise) < 0.1, "batch noise is averaged out"
    smooth = np.convolve(saw(0.5, 120), np.ones(5) / 5, "valid")
    changes = np.diff(smooth)
    assert roughness(np.array(saw(0.5, 120))) == pytest.approx(changes[changes > 0].sum() / -changes[changes < 0].sum())
    assert roughness(np.array(saw(0.5))) > roughness(np.array(saw(0.2))) > 0.05


def test_a_scaling_rule_is_judged_at_its_own_best_rate(home):
    """At one rate the rules differ in the effective step alone: version 0.1.0 took that for instability."""
    store = Store(home)

    def accuracy(spec):
        shift = 3.0 + 0.1 * spec.seed if spec.scaling_rule == "none" and spec.components.r > 1 else 0.0
        away = np.log2(spec.lr / 0.012) + shift
        return 0.95 - 0.02 * away**2 + speck(spec)

    sweep = finished(store, "stabilisation", accuracy)
    losses(store, sweep, lambda s: saw(0.1 + 0.01 * s.seed if s.lr < 0.01 else 0.6))
    nearer, rougher = judge(store, sweep)
    assert (nearer.verdict, nearer.n) == (SUPPORTED, 3)
    assert nearer.effect == pytest.approx(3.0, abs=0.2)
    assert "Best rates: " in nearer.sentence
    assert rougher.effect < 0, "the rate at which training is rough is the other rule's best one"


def test_a_run_that_diverges_is_a_rate_that_is_not_chosen_and_never_an_accuracy(home):
    store = Store(home)

    def accuracy(s):
        diverges = s.scaling_rule == "none" and s.components.r > 1 and s.lr > 0.001
        return None if diverges else 0.9 + 10 * s.lr * (s.components.r == 1) - s.lr + speck(s) / 10

    sweep = finished(store, "stabilisation", accuracy)
    losses(store, sweep, lambda s: saw(0.3 + 0.01 * s.seed if s.scaling_rule == "none" else 0.1 * s.seed))
    _, rougher = judge(store, sweep)
    large = max((run.spec.components for run in store.runs(sweep_id=sweep.sweep_id)), key=lambda c: c.r2)
    assert f"{large} none 0." in rougher.sentence
    assert "(18 of 24 runs diverged)" in rougher.sentence
    assert rougher.verdict == SUPPORTED


def test_seeds_that_agree_to_the_last_digit_do_not_fake_certainty(home):
    store = Store(home)
    early, _ = judge(store, finished(store, "r1", lambda s: 0.9 - 0.01 * s.components.r1.bit_length(), seeds=2))
    assert early.verdict == UNRESOLVED
    assert "no interval: all agree, 2 seeds" in early.sentence
    assert early.p == 0.5
    three, _ = judge(store, finished(store, "r1", lambda s: 0.9 - 0.01 * s.components.r1.bit_length(), seeds=3))
    assert (three.verdict, three.p, three.ci_low) == (UNRESOLVED, 0.25, None)


def test_a_budget_is_judged_on_exchanged_pairs(home):
    planned = plan_study(STUDIES["budget"])
    arms = [arm for arm in planned.arms if arm.spec.steps == planned.specs[0].steps]
    for better, worse in zip(arms[::2], arms[1::2], strict=True):
        (r1, r2, r), other = better.spec.components.as_tuple(), worse.spec.components.as_tuple()
        assert other == (r2, r1, r)
        assert r2 > r1
        assert better.num_params == worse.num_params, "the matrices of digits-vit are square or come both ways"
    store = Store(home)
    sweep = finished(store, "budget", lambda s: 0.8 + 0.01 * (s.components.r2 > s.components.r1) + speck(s))
    early, _ = judge(store, sweep)
    assert early.effect == pytest.approx(0.01, abs=1e-3)


def test_an_eighth_of_lora_is_not_lora_itself():
    arms = plan_study(STUDIES["eighth"]).arms
    (own,) = [arm for arm in arms if arm.spec.method == "cdka"]
    lora, control = [arm for arm in arms if arm.spec.method == "lora"]
    assert own.spec.components.as_tuple()[:2] != (1, 1)
    assert (lora.spec.rank, control.spec.rank) == (8, 1)
    assert 0.8 <= own.num_params / (lora.num_params / 8) <= 1
    assert control.num_params * 8 == lora.num_params


def test_an_eighth_is_held_against_both_ranks_of_lora(home):
    store = Store(home)
    level = {("cdka", None): 0.93, ("lora", 8): 0.935, ("lora", 1): 0.90}
    near, above = judge(store, finished(store, "eighth", lambda s: level[s.method, s.rank] + speck(s)))
    assert (near.verdict, above.verdict) == (SUPPORTED, SUPPORTED)
    assert near.effect == pytest.approx(-0.005, abs=2e-3)
    assert above.effect == pytest.approx(0.03, abs=2e-3)


def test_vision_is_held_against_lora_at_equal_parameters(home):
    store = Store(home)
    sweep = finished(store, "vision", lambda s: {"lora": 0.85, "full": 0.9}.get(s.method, 0.8) + wobble(s))
    findings = judge(store, sweep)
    assert [(f.claim[:8], f.regime) for f in findings] == [
        ("A larger", SHORT_LOW),
        ("A larger", RECIPE),
        ("At the p", SHORT_LOW),
        ("At the p", RECIPE),
    ]
    assert findings[2].verdict == CONTRADICTED
    assert "cdka 4,64,1" in findings[2].measures
    assert findings[2].effect == pytest.approx(-0.05, abs=0.01), "the margin moves the verdict, not the effect"


def test_lora_is_judged_at_the_rate_that_was_best_for_it(home):
    store = Store(home)

    def accuracy(spec):
        best = 0.0101 if spec.method == "lora" else 3e-3
        return (0.9 if spec.method == "lora" else 0.8) - 5 * abs(spec.lr - best) + speck(spec)

    (finding,) = judge(store, finished(store, "equal-budget", accuracy))
    assert finding.verdict == CONTRADICTED
    assert finding.effect == pytest.approx(-0.1, abs=0.01)
    assert "CDKA 0.003; LoRA 0.0101, the edge of the search" in finding.sentence


def test_alignment_is_correlated_over_configurations(home):
    """Three seeds of twelve fixed configurations are not three trials: the configurations are what varies."""
    store = Store(home)
    early, _ = judge(store, finished(store, "alignment", lambda s: s.components.alignment(128) + speck(s)))
    assert (early.verdict, early.n, early.counted) == (SUPPORTED, 12, "configuration")
    assert 0.7 < early.effect <= early.ci_high <= 1
    by_chance = lambda s: 0.8 + 10 * speck(s.with_(seed=0)) + speck(s) / 100  # noqa: E731
    early, _ = judge(store, finished(store, "alignment", by_chance))
    assert early.verdict == UNRESOLVED
    assert early.ci_high - early.ci_low > 0.5, "the seeds agree, the configurations are few"


def test_an_unfinished_study_is_not_resolved_and_says_what_is_missing(home):
    store = Store(home)
    planned = plan_study(STUDIES["r1"], seeds=2)
    sweep = store.sweep(store.create_sweep(planned.name, planned.document, planned.specs))
    early, _ = judge(store, sweep)
    assert early.verdict == UNRESOLVED
    assert "10 runs are still to come" in early.sentence


def test_the_report_holds_every_arm_verdict_and_how_to_repeat_it(home, tmp_path):
    store = Store(home)
    sweep = finished(store, "r1", lambda s: 0.9 - 0.02 * s.components.r1.bit_length() + wobble(s))
    found = report(store, [sweep], name="trends")
    assert "cdka study r1 --model digits-vit --task digits-flip --seeds 3" in found.text
    assert found.text.count("| cdka ") == 10
    assert found.text.count("**supported**") == 2
    assert "paper, key results" in found.text
    assert "30 runs" in found.text
    found.write(tmp_path / "trends.md")
    assert "](trends-r1.svg)" in (tmp_path / "trends.md").read_text()
    ElementTree.parse(tmp_path / "trends-r1.svg")
    document = json.loads((tmp_path / "trends.json").read_text())
    assert [Finding.from_dict(f) for f in document["studies"][0]["findings"]] == judge(store, sweep)
    assert document["seeds"] == [0, 1, 2]


def test_the_command_of_a_report_plans_the_same_runs_again(home, monkeypatch):
    """Seeds, settings and data of one's own included: what it prints is parsed and planned as the tool would."""
    from cdka.cli import main, study

    store = Store(home)
    rows = [{"text": f"{word} {i}", "label": word} for i in range(40) for word in ("yes", "no")]
    data = home / "words with a space.jsonl"
    home.mkdir(exist_ok=True)
    data.write_text("\n".join(json.dumps(row) for row in rows))
    planned = []
    monkeypatch.setattr(
        study,
        "launch",
        lambda plan, store: planned.append(plan) or store.create_sweep(plan.name, plan.document, plan.specs),
    )
    monkeypatch.setattr(study, "follow", lambda store, ids: [store.run(one) for one in ids])
    for given in (
        ["--seeds", "3,4", "--steps", "9", "--target-modules", "q_proj,v_proj"],
        ["--data", str(data), "--text-column", "text", "--label-column", "label", "--model", "math-lm", "--seeds", "1"],
        ["--task", "metamath-gsm8k", "--model", "math-lm", "--task-option", "split=train", "--gradient-checkpointing"],
        ["--data", str(data), "--validation-fraction", "0.3", "--drop-missing", "--model", "math-lm"],
        [
            "--data",
            str(data),
            "--task-option",
            "validation_fraction=0.3",
            "--task-option",
            "drop_missing=true",
            "--model",
            "math-lm",
        ],
    ):
        before = len(planned)
        main.main(["study", "r1", *given])
        sweep = store.sweeps()[0]
        (line,) = re.findall(r"^    cdka (study .*)$", report(store, [sweep]).text, re.M)
        main.main(shlex.split(line))
        first, again = planned[before:]
        assert [spec.to_dict() for spec in first.specs] == [spec.to_dict() for spec in again.specs]
    assert {spec.seed for spec in planned[0].specs} == {3, 4}


def test_the_figure_draws_every_run_where_it_belongs(home):
    store = Store(home)
    sweep = finished(store, "r", lambda s: 0.5 + 0.1 * s.components.r.bit_length() + wobble(s))
    own = runs_by_regime(store, sweep)[SHORT_LOW]
    found = factor_curve(store, own, SHORT_LOW, "r")
    assert found.levels == (1, 2, 4, 8)
    assert found.means[8] - found.means[1] == pytest.approx(0.3, abs=0.01)
    assert [step["to"] for step in found.steps] == [2, 4, 8]
    svg = ElementTree.fromstring(factor_svg("r", [found]))
    dots = [c for c in svg.iter("{http://www.w3.org/2000/svg}circle")]
    assert len(dots) == 4 * 3 + 4
    heights = [float(c.get("cy")) for c in dots if c.get("r") == "4"]
    assert heights == sorted(heights, reverse=True), "a rising metric rises on the page"


@pytest.mark.parametrize("target", ["no-such-folder/trends.md", "trends.txt"])
def test_a_report_that_cannot_be_written_is_refused_before_the_runs(target, tmp_path):
    with pytest.raises(CdkaError, match=r"the report's folder must exist|a report is a Markdown file"):
        check_target(tmp_path / target)


def test_the_shipped_report_is_of_the_tool_as_it_is():
    """Each verdict in the repository names a claim that still exists, and its files lie beside it.

    Reports of 0.1.0 keep their designs and claims, and say on which base they were made.
    """
    folder = assets_dir() / "studies"
    documents = list(folder.glob("*.json"))
    assert documents
    for path in documents:
        document = json.loads(path.read_text(encoding="utf-8"))
        text = path.with_suffix(".md").read_text(encoding="utf-8")
        is_old = document["versions"]["cdka-studio"] == "0.1.0"
        assert is_old == (document["model"] == "digits-vit@2602") == ("**What this report is about.**" in text)
        for one in document["studies"]:
            claims = [claim.text for claim in STUDIES[one["study"]].claims]
            findings = [Finding.from_dict(f) for f in one["findings"]]
            planned = plan_study(STUDIES[one["study"]], document["model"], document["task"], preview=True).document
            if not is_old:
                assert [f.claim for f in findings] == [c for c in claims for _ in one["regimes"]]
                assert one["regimes"] == planned["regimes"]
            for finding in findings:
                assert finding.reading in text
        for figure in re.findall(r"\]\(([\w.-]+\.svg)\)", text):
            ElementTree.parse(folder / figure)


CLAIMED = {
    "larger r1": "Increasing r1",
    "larger r2": "Increasing r2",
    "first doubling": "Each doubling of r",
    "exchanged": "same two exchanged",
    "an eighth": "12.5 %",
}
"""Words of the rows of the table of one base, and of the claims of their reports, which are of 0.1.0."""
OVER_BASES = {
    "over the two exchanged, mean": "mean over budgets",
    "the same, smallest": "smallest budget",
    "r2 > r1 beats the two exchanged": "pairs_over_bases",
    "r1 = 2": "small_r1_over_bases",
    "at LoRA rank 8's": "over_lora_8",
    "at LoRA rank 1's": "over_lora_1",
    "an eighth": "near_lora_8",
    "further apart": "one_rate_fits",
    "rates that work": "wider_than_lora",
    "advised option beats LoRA": "advice_over_lora",
    "advised option beats a random": "advice_over_random",
    "parameters alignment ranks": "alignment_ranks",
    "parameters rank ranks": "rank_ranks",
    "ranks them better": "alignment_beyond_rank",
    "part of the design": "lokr_design",
    "part of the rate": "lokr_rate",
    "part of the size": "lokr_size",
    "LoKr's design, each": "lokr_best_rates",
    "gradient's pattern beats the advised": "pattern_over_advised",
    "gradient's pattern beats LoRA": "pattern_over_lora",
    "gradient's pattern beats a random": "pattern_over_random",
    "both started": "started_pattern_over_lora",
    "beyond LoRA rank 8": "keeps_beyond_lora_8",
    "beyond LoRA rank 1": "keeps_beyond_lora_1",
    "beyond full": "keeps_beyond_full",
}
"""The same for the table over base models."""
EFFECT = re.compile(r"(supported|contradicted|not resolved)[^|\[]*?([+-][\d.e-]+) \[([+-][\d.e-]+), ([+-][\d.e-]+)\]")


HOLM = re.compile(r"Holm ([\d.e-]+)")


def holm_of_the_tables():
    """Holm's p by (report, claim, regime), over every finding that the two tables show, recomputed from the reports."""
    shown, p = [], []  # a claim in two regimes has two rows, each of which finds both
    for kind, rules in (("", CLAIMED), (" bases", OVER_BASES)):
        for (claim, *_), _, name in table_rows(kind):
            findings, _ = findings_of(name, rules[next(words for words in rules if words in claim)])
            for one in findings:
                if (name, one.claim, one.regime) in shown:
                    continue
                shown.append((name, one.claim, one.regime))
                margin = 0.01 if "within one point" in one.claim else 0.0
                half = (one.ci_high - one.ci_low) / 2
                t = (one.effect + margin) / (half / stats.t.ppf(0.975, one.n - 1))
                p.append(2 * stats.t.sf(abs(t), one.n - 1))
    order, adjusted, worst = np.argsort(p), np.empty(len(p)), 0.0
    for place, i in enumerate(order):
        worst = max(worst, min(1.0, p[i] * (len(p) - place)))
        adjusted[i] = worst
    return dict(zip(shown, adjusted, strict=True))


def table_rows(kind):
    """(cells, number, report) of the rows whose last cell links ``number kind`` to a report."""
    table = (assets_dir() / "studies" / "README.md").read_text(encoding="utf-8")
    found = re.findall(rf"^\| (.+) \| \[(\d+){kind}\]\(([\w-]+)\.md\) \|$", table, re.M)
    return [([cell.strip() for cell in row.split("|")], int(number), name) for row, number, name in found]


def findings_of(name, rule):
    """The findings of a shipped report about the claims that ``rule`` decides, or that have its words; its data."""
    document = json.loads((assets_dir() / "studies" / f"{name}.json").read_text(encoding="utf-8"))
    claims = {claim.text for study in STUDIES.values() for claim in study.claims if claim.rule == rule}
    findings = [Finding.from_dict(f) for one in document["studies"] for f in one["findings"]]
    return [finding for finding in findings if finding.claim in claims or rule in finding.claim], document


def told_of(finding):
    return finding.verdict, signed(finding.effect), signed(finding.ci_low), signed(finding.ci_high)


def test_the_table_of_one_base_is_that_of_the_shipped_reports():
    """Every effect and interval of the table in assets/studies is a finding of the report that its row links to."""
    rows, adjusted = table_rows(""), holm_of_the_tables()
    assert len(rows) == len(CLAIMED)
    for (claim, *cells), seeds, name in rows:
        findings, document = findings_of(name, CLAIMED[next(words for words in CLAIMED if words in claim)])
        for cell, named in zip(cells, (("early",), ("tuned", "searched")), strict=True):
            own = [f for f in findings if f.regime in named]
            assert [tuple(match) for match in EFFECT.findall(cell)] == [told_of(f) for f in own], claim
            told = [float(text) for text in HOLM.findall(cell)]
            assert told == [pytest.approx(adjusted[name, f.claim, f.regime], rel=0.06) for f in own], claim
        assert seeds == len(document["seeds"])
        assert document["model"] == "digits-vit@2602"


def test_the_table_over_bases_is_that_of_its_report():
    rows, adjusted = table_rows(" bases"), holm_of_the_tables()
    assert {name for _, _, name in rows} >= {"bases", "bases-lora"}
    for (claim, cell, told), bases, name in rows:
        findings, document = findings_of(name, OVER_BASES[next(words for words in OVER_BASES if words in claim)])
        finding = next(f for f in findings if len(findings) == 1 or claim.endswith(f", {f.regime}"))
        assert [tuple(match) for match in EFFECT.findall(cell)] == [told_of(finding)], claim
        assert float(told) == pytest.approx(adjusted[name, finding.claim, finding.regime], rel=0.06), claim
        assert (bases, finding.counted) == (finding.n, "base model")
        assert document["model"] == "digits-vit"


def test_the_contrasts_on_a_language_model_are_those_of_its_runs():
    """Every difference in the report on SmolLM2, recomputed from the looks that ship beside it."""
    folder = assets_dir() / "studies"
    looks = pd.read_csv(folder / "smollm2-gsm8k.csv")
    loss = looks[looks["step"] == 16].pivot(index="arm", columns="seed", values="eval_loss")
    text = (folder / "smollm2-gsm8k.md").read_text(encoding="utf-8")
    arm = r"(\(\d,\d,\d\)|LoRA \d)"
    rows = re.findall(rf"^\|[^|]*?{arm} over {arm}[^|]*\| ([+-][\d.]+) \| (\S+) to (\S+) \|$", text, re.M)
    assert len(rows) == 3
    for *pair, difference, low, high in rows:
        a, b = (loss.loc[name.lower() if "LoRA" in name else f"cdka {name.strip('()')}"] for name in pair)
        found = stats.ttest_rel(a, b).confidence_interval()
        told = [float(one) for one in (difference, low, high)]
        assert told == pytest.approx([(a - b).mean(), found.low, found.high], abs=6e-4), pair


def test_what_is_told_of_lokr_is_what_its_report_found():
    (rate,), _ = findings_of("lokr", "lokr_rate")
    parts = [findings_of("lokr", f"lokr_{name}")[0][0].effect for name in ("rate", "size", "design")]
    whole = re.search(r"The whole: \+(\d\.\d+)", rate.remark)[1]
    text = (assets_dir() / "studies" / "README.md").read_text(encoding="utf-8")
    assert f"gains {whole}\n" in text
    assert sum(parts) == pytest.approx(float(whole), abs=1e-3)
    shares = [part / sum(parts) for part in parts]
    assert shares == [pytest.approx(0.54, abs=0.03), pytest.approx(0.35, abs=0.03), pytest.approx(0.11, abs=0.03)]


def test_the_tables_are_what_the_tool_writes():
    text = (assets_dir() / "studies" / "README.md").read_text(encoding="utf-8")
    assert all(table in text for table in tables())


def test_only_a_study_has_a_verdict(home):
    from cdka.sweep import plan

    store = Store(home)
    planned = plan("digits-vit", "digits-flip", grid="r=1", seeds=1)
    sweep = store.sweep(store.create_sweep(planned.name, planned.document, planned.specs))
    with pytest.raises(CdkaError, match="only a study's sweep has a verdict"):
        judge(store, sweep)


def test_equal_reasons_of_failure_are_told_once(home, capsys):
    store = Store(home)
    planned = plan_study(STUDIES["r1"], seeds=2)
    store.create_sweep(planned.name, planned.document, planned.specs)
    with store.database.write() as sql:
        sql.execute("UPDATE runs SET status='failed', error='no room'")
    runs = store.runs()
    print_failures(store, runs)
    said = capsys.readouterr().err.splitlines()
    assert said == [f"{runs[0].run_id} and {len(runs) - 1} more failed: no room"]

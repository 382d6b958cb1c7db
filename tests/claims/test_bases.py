"""Studies whose unit is the base model: what they plan, and a verdict that counts bases."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest
from finished_study import finished
from scipy import stats

from cdka.claims import GROUPS, STUDIES, judge, plan_study
from cdka.claims.advice import advice_rows, equal_parameters, random_pattern
from cdka.claims.bases import FAMILIES, bases_of
from cdka.claims.judge import CONTRADICTED, SUPPORTED, UNRESOLVED
from cdka.claims.report import report
from cdka.components import Components
from cdka.cost.adapter import num_params
from cdka.errors import CdkaError
from cdka.models.catalogue import find_model, name_today
from cdka.models.targets import select
from cdka.paths import assets_dir
from cdka.runs.resolve import resolve_run, spec_for
from cdka.runs.spec import RunSpec
from cdka.runs.store import Store
from cdka.solver import Pattern, solve
from cdka.tasks.catalogue import find_task
from cdka.tasks.digits import pretraining_split, read, split_table, table

FAMILY = FAMILIES["digits-vit"]


def noise(*parts, size=0.01):
    """A number between -size and size that depends on the parts alone."""
    return size * (zlib.crc32(repr(parts).encode()) / 2**31 - 1)


def test_every_base_has_every_arm_at_the_same_seeds():
    for name in GROUPS["bases"]:
        planned = plan_study(STUDIES[name])
        cells = {(run.spec.model, str(run.spec.components), run.spec.lr, run.spec.seed) for run in planned.runs}
        assert len(cells) == len(planned.runs)
        assert {model for model, *_ in cells} == set(FAMILY)
        assert {seed for *_, seed in cells} == {0, 1}
        each = [{cell[1:] for cell in cells if cell[0] == model} for model in FAMILY]
        assert all(one == each[0] for one in each)
    sizes = {str(arm.spec.components): arm.num_params for arm in plan_study(STUDIES["bases-design"]).arms}
    assert sizes["4,16,3"] == sizes["16,4,3"]
    assert sizes["2,4,1"] == sizes["8,4,1"]
    sizes = {str(arm.spec.components): arm.num_params for arm in plan_study(STUDIES["bases-lora"]).arms}
    assert sizes["16,16,1"] == sizes["1,1,1"] == sizes["1,1,8"] / 8
    assert sizes["4,8,6"] <= sizes["1,1,8"]


def test_the_interval_is_over_bases_not_over_seeds(home):
    """An effect that differs from base to base by more than from seed to seed."""
    store = Store(home)
    by_base = dict(zip(FAMILY, (0.05, 0.02, 0.04, 0.00, 0.03), strict=True))

    def accuracy(spec):
        c = spec.components
        return 0.8 + (by_base[spec.model] if c.r2 > c.r1 else 0.0) + noise(spec.seed, str(c), size=1e-4)

    exchanged, _ = judge(store, finished(store, "bases-design", accuracy, seeds=2))
    assert (exchanged.n, exchanged.counted, exchanged.verdict) == (5, "base model", SUPPORTED)
    assert exchanged.effect == pytest.approx(0.028, abs=2e-4)
    theirs = stats.ttest_1samp(list(by_base.values()), 0)
    assert exchanged.p == pytest.approx(theirs.pvalue, rel=0.05)
    np.testing.assert_allclose((exchanged.ci_low, exchanged.ci_high), theirs.confidence_interval(), atol=3e-4)
    assert "5 base models" in exchanged.sentence
    assert "digits-vit@13 +0.04" in exchanged.sentence


def test_one_base_that_differs_resolves_nothing(home):
    """The shipped checkpoint of 0.1.0 showed +0.17 where three others showed nothing."""
    store = Store(home)
    effect = dict.fromkeys(FAMILY, 0.0) | {"digits-vit": 0.17}

    def accuracy(spec):
        c = spec.components
        return 0.8 + (effect[spec.model] if c.r1 == 2 else 0.0) + noise(spec.model, str(c), size=0.003)

    _, small_r1 = judge(store, finished(store, "bases-design", accuracy, seeds=2))
    assert small_r1.verdict == UNRESOLVED
    assert small_r1.ci_low < 0 < small_r1.ci_high


def test_each_base_has_its_own_rate_and_a_win_at_the_edge_is_told(home):
    store = Store(home)

    def accuracy(spec):
        is_lora = spec.components.r1 == spec.components.r2 == 1
        best = 0.00133 if is_lora else 0.003
        return (
            0.9
            + 0.01 * (not is_lora)
            - 0.05 * abs(np.log(spec.lr / best))
            + noise(spec.model, spec.seed, is_lora, size=0.002)
        )

    over, _, _ = judge(store, finished(store, "bases-lora", accuracy, seeds=2))
    assert (over.n, over.verdict) == (5, SUPPORTED)
    assert over.effect == pytest.approx(0.01, abs=0.004)
    assert "CDKA 4,8,6 0.003; LoRA 8 0.00133, 5 of 5 at the edge of the search" in over.sentence


def test_the_report_speaks_of_bases_and_holds_every_run(home, tmp_path):
    store = Store(home)
    sweep = finished(store, "bases-design", lambda s: 0.8 + noise(s.model, s.seed, str(s.components)), seeds=2)
    found = report(store, [sweep], name="bases")
    assert "interval over bases" in found.text
    assert "5 base models |" in found.text
    assert "Holm's over all 2 verdicts" in found.text
    results = found.document["studies"][0]["results"]
    assert len(results) == 60
    by_spec = {repr(run.spec): run.metrics["test/accuracy"] for run in store.runs(sweep_id=sweep.sweep_id)}
    again = {repr(RunSpec.from_dict(one["settings"])): one["value"] for one in results}
    assert again == pytest.approx(by_spec)


def test_the_report_repeats_the_bases_that_were_named(home):
    store = Store(home)
    for model, told in (("digits-vit", "digits-vit"), (three := ",".join(FAMILY[1:4]), three)):
        planned = plan_study(STUDIES["bases-design"], model, seeds=[3])
        sweep = store.sweep(store.create_sweep(planned.name, planned.document, planned.specs))
        assert f"cdka study bases-design --model {told} --task digits-flip --seeds 3," in report(store, [sweep]).text


def test_a_family_or_a_list_but_not_one_base():
    assert bases_of("digits-vit") == FAMILY
    assert bases_of("a, b,c") == ("a", "b", "c")
    with pytest.raises(CdkaError, match="at least 3 of one architecture: got 'math-lm'"):
        plan_study(STUDIES["bases-design"], "math-lm", "math-chain")


def test_the_family_is_one_architecture_with_ordinary_accuracy_and_a_card_each():
    shapes = [find_model(name) for name in (*FAMILY, "digits-vit@2602")]
    assert len({(one.base_params, one.linears) for one in shapes}) == 1
    for name in FAMILY:
        card = json.loads((assets_dir() / name / "provenance.json").read_text(encoding="utf-8"))
        assert card["upright_test_accuracy"] > 0.96
        assert card["flipped_test_accuracy"] < 0.3
        assert card["built_by"].endswith(name)
        assert (assets_dir() / name / "model.safetensors").stat().st_size < 1.2e6
    old = json.loads((assets_dir() / "digits-vit@2602" / "provenance.json").read_text(encoding="utf-8"))
    assert "weak on purpose" in old["recipe"]


def test_runs_of_0_1_0_mean_the_base_that_was_called_digits_vit_then(home):
    assert name_today("digits-vit", "0.1.0") == "digits-vit@2602"
    assert name_today("digits-vit", "0.2.0.dev0") == "digits-vit"
    store = Store(home)
    (run_id,) = store.submit(RunSpec("digits-vit", "digits-flip"))
    with store.database.write() as sql:
        sql.execute("UPDATE runs SET version='0.1.0'")
    assert store.run(run_id).spec.model == "digits-vit@2602"


@pytest.mark.parametrize("name", FAMILY)
def test_a_base_has_seen_no_digit_of_its_test_split(name):
    """Its card names the split it was trained on, and the task deals the digits so for it."""
    seed = pretraining_split(name)
    assert (seed is None) == (name == "digits-vit")
    rows = read(find_task("digits-flip"), RunSpec(name, "digits-flip"))
    dealt = split_table(seed)
    for split in ("train", "validation", "test"):
        assert set(rows.splits[split].ids) == set(dealt.index[dealt["split"] == split])
    sizes = dealt["split"].value_counts()
    assert sizes.to_dict() == table()["split"].value_counts().to_dict()
    shares = dealt[dealt["split"] == "test"]["label"].value_counts(normalize=True)
    assert shares.max() - shares.min() < 0.02


def test_fewer_training_digits_are_balanced_and_the_same_for_every_seed():
    few = [
        read(
            find_task("digits-flip"),
            RunSpec("digits-vit", "digits-flip", seed=s, task_options={"train_examples": "50"}),
        )
        for s in (0, 1)
    ]
    assert few[0].splits["train"].ids.tolist() == few[1].splits["train"].ids.tolist()
    assert np.bincount(few[0].splits["train"].labels).tolist() == [5] * 10
    assert len(few[0].splits["test"].ids) == 597


def test_the_advice_is_played_against_lora_and_a_random_option_of_equal_cost(home):
    store = Store(home)
    rows = {base: advice_rows(base, FAMILY.index(base)) for base in FAMILY}
    layers = select(find_model("digits-vit"))
    for best, lora, random in (row for found in rows.values() for row in found):
        assert num_params(layers, best) <= num_params(layers, lora)
        assert 0.8 * num_params(layers, lora) <= num_params(layers, random) <= num_params(layers, lora)
        assert random not in (best, lora)
    assert rows == {base: advice_rows(base, FAMILY.index(base)) for base in FAMILY}
    assert rows[FAMILY[0]] != rows[FAMILY[1]]

    def accuracy(spec):
        advised = spec.components in [row[0] for row in rows[spec.model]]
        lora = spec.components.r1 == spec.components.r2 == 1
        return 0.8 + 0.04 * advised - 0.03 * lora + noise(spec.model, str(spec.components), size=0.004)

    over_lora, over_random = judge(store, finished(store, "advice", accuracy, seeds=1))
    played = [row for found in rows.values() for row in found]
    differ = sum(best != lora for best, lora, _ in played)
    assert (over_lora.verdict, over_random.verdict) == (SUPPORTED, SUPPORTED)
    assert f"wins {differ} of {differ}," in over_lora.sentence
    assert f"wins {len(played)} of {len(played)}," in over_random.sentence


def test_budgets_are_judged_over_bases_and_against_each_other(home):
    """An effect that is there at 5 % and gone at 25 %."""
    store = Store(home)
    layers = select(find_model("digits-vit"))
    whole = sum(layer.count * layer.out_features * layer.in_features for layer in layers)

    def accuracy(spec):
        c = spec.components
        share = num_params(layers, c) / whole
        gain = (0.06 - 0.2 * share) * (1 + 0.1 * FAMILY.index(spec.model)) * (c.r2 > c.r1)
        return 0.8 + gain + noise(spec.model, spec.seed, str(c), size=0.001)

    first, _, apart, _ = judge(store, finished(store, "bases-budget", accuracy, seeds=2))
    assert (first.verdict, apart.verdict, first.n, first.counted) == (SUPPORTED, SUPPORTED, 5, "base model")
    assert "(4,16,3) over (16,4,3) +0.0" in first.sentence
    assert apart.effect > 0.02
    planned = plan_study(STUDIES["bases-budget"])
    assert {run.spec.model for run in planned.runs} == set(FAMILY)
    sizes = [arm.num_params for arm in planned.arms if arm.spec.model == FAMILY[0] and arm.spec.steps == 120]
    assert sizes[::2] == sizes[1::2] == sorted(sizes[::2])


@pytest.fixture
def gradient_patterns(monkeypatch):
    """The pattern of every base's gradient, without measuring: two components on q_proj, one elsewhere."""

    def measured(base, task, budget):
        option = solve(find_model(base), budget)[0]
        choices = (
            ("vit.layers.0.attention.q_proj", Components(2, 2, 2)),
            ("a", Components(1, 2, 1)),
            ("b", Components(1, 2, 1)),
        )
        return Pattern(choices, "overall", 0.5, option, 0.4, 1000, 1000, 0.1)

    monkeypatch.setattr("cdka.claims.advice.measure_pattern", measured)


def test_patterns_are_played_against_uniform_and_random_ones_of_equal_cost(home, gradient_patterns):
    store = Store(home)
    layers = list(select(find_model("digits-vit")))
    budget = num_params(layers, Components(1, 1, 4))
    drawn = {base: random_pattern(layers, budget, np.random.default_rng(i)) for i, base in enumerate(FAMILY)}
    assert drawn[FAMILY[0]] != drawn[FAMILY[1]]
    for default, pattern in drawn.values():
        run = resolve_run(spec_for("digits-vit", "digits-flip", components=default, component_pattern=pattern))
        spent = sum(
            one.count * one.components.num_params(one.linear.out_features, one.linear.in_features) for one in run.layers
        )
        assert 0.95 * budget < spent <= budget

    def accuracy(spec):
        is_random = dict(spec.component_pattern) == drawn[spec.model][1]
        gain = (
            -0.02
            if is_random
            else 0.03
            if spec.component_pattern
            else -0.01 * (spec.components.r1 == 1 == spec.components.r2)
        )
        start = 0.05 * (spec.init_weights == "gradient") * bool(spec.component_pattern)
        return 0.8 + gain + start + noise(spec.model, spec.seed, str(spec.components), size=0.002)

    sweep = finished(store, "from-gradients", accuracy, seeds=2)
    advised, lora, random, started = judge(store, sweep)
    assert [f.verdict for f in (advised, lora, random, started)] == [SUPPORTED] * 4
    assert advised.effect == pytest.approx(0.03, abs=0.003)
    assert lora.effect == pytest.approx(0.04, abs=0.003)
    assert random.effect == pytest.approx(0.05, abs=0.003)
    assert started.effect == pytest.approx(0.09, abs=0.003)
    assert (advised.n, advised.counted) == (5, "base model")
    assert "24 modules by pattern" in report(store, [sweep]).text


@pytest.mark.parametrize("by", ["alignment", pytest.param("rank", marks=pytest.mark.slow)])
def test_what_predicts_is_told_at_equal_parameters(home, by):
    store = Store(home)
    layers = list(select(find_model("digits-vit")))
    tried = equal_parameters("digits-vit")
    sizes = [num_params(layers, one) for one in tried]
    assert len(tried) == 30
    assert max(sizes) / min(sizes) < 1.15
    predictors = np.array([[one.alignment(128), one.rank_bound(128, 128)] for one in tried])
    assert np.ptp(np.log2(predictors[:, 0])) > 2
    assert abs(stats.spearmanr(*predictors.T).statistic) < 0.6, "the two can be told apart"

    def accuracy(spec):
        value = spec.components.alignment(128) if by == "alignment" else spec.components.rank_bound(128, 128) / 128
        return 0.8 + 0.1 * value + noise(spec.model, str(spec.components), size=0.005)

    alignment, _, rank, _, beyond, _ = judge(store, finished(store, "predictors", accuracy, seeds=1))
    mine, other = (alignment, rank) if by == "alignment" else (rank, alignment)
    assert (mine.verdict, mine.n, mine.counted) == (SUPPORTED, 5, "base model")
    assert mine.effect > 0.8 > other.effect
    assert beyond.verdict == (SUPPORTED if by == "alignment" else CONTRADICTED)
    assert "Over 30 configurations a base." in alignment.sentence

"""Plans: every cell, every refusal, baselines matched to the nearest count, packs of what may share a batch."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from cdka.components import Components
from cdka.cost.adapter import count_params
from cdka.cost.memory import PROCESS_BYTES, job_bytes, memory_basis, pass_rows
from cdka.cost.time import estimate_time, timed
from cdka.engine.slots import Slot
from cdka.errors import CdkaError
from cdka.machine import Device
from cdka.models.catalogue import find_model
from cdka.models.targets import select
from cdka.runs.resolve import resolve_run, spec_for
from cdka.runs.store import Store
from cdka.sweep import forecast
from cdka.sweep.grid import cells, parse_grid
from cdka.sweep.match import match
from cdka.sweep.pack import pack
from cdka.sweep.plan import mismatch, plan
from cdka.sweep.planfile import EXAMPLE, parse_plan, read_plan

DIGITS = ("digits-vit", "digits-flip")


def test_a_grid_is_the_product_of_its_axes():
    found = cells(parse_grid("r1=1,2;r2=4;lr=1e-3,2e-3"))
    assert found == [
        {"r1": 1, "r2": 4, "lr": 1e-3},
        {"r1": 1, "r2": 4, "lr": 2e-3},
        {"r1": 2, "r2": 4, "lr": 1e-3},
        {"r1": 2, "r2": 4, "lr": 2e-3},
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a grid needs at least one axis"),
        ("r1", "a grid is axis=value"),
        ("r1=", "a grid is axis=value"),
        ("r1=1;r1=2", "names each axis once: got 'r1' twice"),
        ("r3=1", "unknown grid axis 'r3'"),
        ("r1=1.5", "grid axis 'r1' takes integers: got '1.5'"),
        ("lr=fast", "grid axis 'lr' takes numbers: got 'fast'"),
    ],
)
def test_a_bad_grid_is_refused_by_name(text, said):
    with pytest.raises(CdkaError, match=said):
        parse_grid(text)


def test_a_plan_has_every_arm_with_every_seed_and_rate():
    made = plan(*DIGITS, grid="r1=1,2;r2=4;r=1", seeds=[3, 5], tune_lr=[1e-3, 2e-3], settings={"steps": 7})
    seen = {(s.components, s.seed, s.lr, s.steps) for s in made.specs}
    assert seen == {(Components(r1, 4, 1), seed, lr, 7) for r1 in (1, 2) for seed in (3, 5) for lr in (1e-3, 2e-3)}
    assert len(made.specs) == 8


def test_more_than_three_arms_get_five_seeds_unless_others_are_given():
    """Three seeds find a difference of one SD between eight arms in 3 to 8 of 100 sweeps."""
    few, many = (plan(*DIGITS, grid=f"r1={levels};r2=4;r=1") for levels in ("1,2,4", "1,2,4,8"))
    assert (len(few.specs), len(many.specs)) == (3 * 3, 4 * 5)
    assert plan(*DIGITS, grid="r1=1,2;r2=4;r=1", baselines=["lora", "full"]).document["seeds"] == [0, 1, 2, 3, 4]
    assert plan(*DIGITS, grid="r1=1,2,4,8;r2=4;r=1", seeds=2).document["seeds"] == [0, 1]


def test_cells_that_do_not_fit_are_left_out_with_the_reason_and_duplicates_merged():
    made = plan(*DIGITS, grid="r1=1,3;r2=4,4;r=1", seeds=1)
    assert [arm.spec.components for arm in made.arms] == [Components(1, 4, 1)]
    assert any("r1 must divide out_features of every module: got r1=3" in note for note in made.notes)
    assert any("merged" in note for note in made.notes)


def test_a_plan_without_a_feasible_cell_names_the_constraint():
    with pytest.raises(CdkaError, match="no cell of the grid fits the model: r1 must divide"):
        plan(*DIGITS, grid="r1=3;r2=4;r=1")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "a sweep needs a grid, arms or baselines"),
        ({"grid": "r=1", "seeds": 0}, "seeds must be a positive number"),
        ({"grid": "r=1", "seeds": [1, -2]}, "seeds must be a positive number"),
        ({"grid": "r=1", "tune_lr": [0.0]}, "tune_lr takes positive learning rates"),
        ({"grid": "r=1", "seeds": 10_001}, "a sweep of over 10,000 runs needs consent: got 10,001"),
        ({"grid": "r=1", "baselines": ["lroa"]}, "unknown baseline 'lroa'"),
        ({"grid": "r=1", "baselines": ["lora:0"]}, "rank must be a positive integer"),
        ({"grid": "r=1", "baselines": ["full:2"]}, "full fine-tuning takes no rank"),
    ],
)
def test_a_bad_plan_is_refused(arguments, said):
    with pytest.raises(CdkaError, match=said):
        plan(*DIGITS, **arguments)


def test_many_runs_are_allowed_with_consent():
    assert len(plan(*DIGITS, grid="r=1", seeds=10_001, allow_many=True).specs) == 10_001


@pytest.mark.parametrize("baseline", ["lora", "lokr", "dora"])
@pytest.mark.parametrize("budget", [9_000, 30_000, 120_000])
def test_a_baseline_is_matched_to_the_nearest_count_it_can_have(baseline, budget):
    base = resolve_run(spec_for(*DIGITS))
    matched = match(baseline, budget, base)
    factors = (-1, 2, 4, 8, 16) if baseline == "lokr" else (-1,)
    every = [
        count_params(base.with_(method=baseline, components=None, rank=rank, lokr_factor=factor))
        for factor in factors
        for rank in range(1, 129)
    ]
    assert abs(matched.num_params - budget) == min(abs(n - budget) for n in every)
    assert matched.mismatch == pytest.approx(matched.num_params / budget - 1)


def test_baselines_follow_the_largest_arm_unless_a_budget_is_given():
    free = plan(*DIGITS, grid="r1=1;r2=4;r=1,4", baselines=["lora"], seeds=1)
    assert free.arms[-1].matched.budget == max(arm.num_params for arm in free.arms[:-1])
    assert plan(*DIGITS, grid="r=1", baselines=["lora"], budget=14_336, seeds=1).arms[-1].spec.rank == 2
    assert plan(*DIGITS, grid="r=1", baselines=["lora-plain:3"], seeds=1).arms[-1].spec.scaling_rule == "r"


def test_packs_hold_only_what_may_share_a_batch():
    specs = [
        *plan(*DIGITS, grid="r1=1,2,4;r2=4;r=1", seeds=2, settings={"steps": 7}).specs,
        spec_for(*DIGITS, method="lora", rank=2, steps=7),
        spec_for(*DIGITS, method="full", steps=7),
        spec_for(*DIGITS, components="1,4,1", steps=8),
    ]
    numbers, notes = pack(specs, slots=2)
    assert numbers[6:] == [None, None, None]
    assert sorted(numbers[:6]) == [0, 0, 0, 1, 1, 1]
    assert notes == []
    assert {specs[i].components for i in range(6) if numbers[i] == 0} == {Components(1, 4, 1), Components(2, 4, 1)}


def test_packs_are_split_to_fit_the_memory():
    specs = plan(*DIGITS, grid="r=1", seeds=8, settings={"steps": 7}).specs
    numbers, notes = pack(specs, slots=1, fits=lambda some: 100 * len(some) <= 250)
    sizes = [numbers.count(n) for n in set(numbers)]
    assert max(sizes) <= 2
    assert sum(sizes) == 8
    assert notes == ["split a pack of 8 runs into 2, 2, 2, 2: they would not fit the memory together"]


def test_the_largest_runs_are_fitted_too_though_they_come_last():
    specs = plan(*DIGITS, grid="r1=8;r2=8;r=1,2,4,8,16,32,64", seeds=1, settings={"steps": 7}).specs
    limit = 50

    def fits(positions):
        return sum(specs[i].components.r for i in positions) <= limit

    numbers, _ = pack(specs, slots=1, fits=fits)
    packs = [[i for i, n in enumerate(numbers) if n == number] for number in {*numbers} - {None}]
    assert sorted(len(some) for some in packs) == [2, 4], "the largest trains alone"
    assert all(fits(some) for some in packs)


def test_the_memory_of_a_job_follows_the_precision_and_the_place_of_its_runs():
    spec = resolve_run(spec_for(*DIGITS, components="2,8,4", batch_size=256))
    single, eight = job_bytes([spec]), job_bytes([spec] * 8)
    assert single < eight < 8 * single, "one base and one process for all"
    double = job_bytes([spec.with_(dtype="float64")])
    assert double - PROCESS_BYTES == 2 * (single - PROCESS_BYTES)
    assert job_bytes([spec], "cuda") < single, "bfloat16 is what a GPU takes by itself"
    full = spec.with_(method="full", components=None)
    assert job_bytes([full.with_(dtype="float64")]) - PROCESS_BYTES == 2 * (job_bytes([full]) - PROCESS_BYTES)
    assert job_bytes([full], "cuda") >= job_bytes([full]), "full fine-tuning keeps float32 weights"


def test_a_memory_names_the_tokens_that_it_counts():
    spec = resolve_run(spec_for("llama-2-7b", "metamath-gsm8k", components="2,8,1", batch_size=32, max_length=512))
    assert memory_basis(spec, "cuda") == "a batch of 32 at a time, 512 tokens each, on a GPU"
    rows = pass_rows(spec, "cpu")
    assert 1 <= rows < 32, "a CPU takes the batch in parts"
    assert memory_basis(spec, "cpu") == f"{rows} of a batch of 32 at a time, 512 tokens each, on the CPU"
    halves = spec.with_(gradient_accumulation=2)
    assert memory_basis(halves, "cuda").startswith("16 of a batch of 32")


def test_a_learning_rate_far_above_all_usual_ones_is_remarked(tmp_path):
    for lr, remarked in ((0.01, False), (1000.0, True)):
        planned = plan(*DIGITS, grid="r=1", seeds=1, settings={"lr": lr})
        notes = forecast.forecast(planned.runs, Store(tmp_path)).notes
        assert any("far above the usual" in note for note in notes) == remarked


@pytest.mark.parametrize(("device", "packed"), [("auto", False), ("cpu", True)])
def test_packs_are_fitted_to_the_memory_of_the_place_where_they_train(monkeypatch, tmp_path, device, packed):
    """A GPU of 700 MB in a machine with plenty: its packs fall apart, those of the CPU do not."""
    monkeypatch.setattr(forecast, "detect", lambda: [Slot("cuda:0", "0", 1), Slot("cpu:0", None, 1)])
    monkeypatch.setattr(forecast, "detect_device", lambda gpu: Device("a small one", "cuda", 900 << 20, 700 << 20))
    monkeypatch.setattr(forecast.psutil, "virtual_memory", lambda: SimpleNamespace(total=64 << 30, available=64 << 30))
    planned = plan(*DIGITS, grid="r=1,2", seeds=4, settings={"batch_size": 256, "device": device})
    found = forecast.forecast(planned.runs, Store(tmp_path))
    assert (found.jobs == 1) == packed
    assert any("would not fit the memory" in note for note in found.notes) != packed


def test_an_estimate_rests_on_runs_that_were_timed():
    import pandas as pd

    specs = [spec_for(*DIGITS, steps=100, batch_size=10)] * 4
    history = pd.DataFrame(
        {
            "status": ["done", "failed"],
            "model": DIGITS[0],
            "task": DIGITS[1],
            "batch_size": [64, 64],
            "training_s": [6.4, 640.0],
            "steps_done": [100, 100],
        }
    )
    timed = estimate_time(specs, history, slots=2)
    assert timed.seconds - estimate_time([], history).seconds == pytest.approx(3.5 + 2 * 100 * 10 * 6.4 / 6400)
    assert "1 finished run" in timed.basis
    assert estimate_time([spec_for("gpt2", "digits-flip")], None).seconds is None


def test_a_member_of_a_pack_costs_its_share_of_the_packs_time(home):
    """A pack of eight that trained for eight seconds predicts one second per run, not eight."""
    store = Store(home)
    specs = [spec_for(*DIGITS, steps=100, batch_size=10, seed=seed) for seed in range(8)]
    store.submit(specs, packs=[0] * 8)
    with store.database.write() as sql:
        sql.execute("UPDATE runs SET status = 'done', metrics = '{\"training_s\": 8.0, \"steps_done\": 100}'")
    history = timed(store.runs())
    assert set(history["pack_size"]) == {8}
    assert estimate_time(specs, history).seconds == pytest.approx(estimate_time([], history).seconds + 3.5 + 8 * 1.0)


def test_a_plan_file_says_file_line_and_key(tmp_path):
    good = tmp_path / "good.toml"
    good.write_text(EXAMPLE)
    assert plan(**read_plan(good)).arms[0].spec.components == Components(1, 4, 1)
    bad = tmp_path / "bad.toml"
    for text, said in [
        ('model = "a"\nseed = 3\n', r"bad.toml, line 2, key 'seed'. Did you mean 'seeds'\?"),
        ('model = "a"\n\nbaselines = "lora"\n', "baselines must be a list: got 'lora' at .*bad.toml, line 3"),
        ('model = "a"\nseeds = true\n', "seeds must be a whole number or a list: got True"),
        ('model = "a"\n', "has no 'task'"),
        ("model = \n", "the plan file must be TOML"),
    ]:
        bad.write_text(text)
        with pytest.raises(CdkaError, match=said):
            read_plan(bad)
    with pytest.raises(CdkaError, match="cannot be read"):
        read_plan(tmp_path / "none.toml")


HEAD = 'model = "digits-vit"\ntask = "digits-flip"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[settings]\nsteps = 9\nlearning_rate = 1\n", "line 5, key 'learning_rate'. Did you mean 'lr'?"),
        ("[settings]\nsteps = 12.5\n", "'steps' takes integers: got 12.5. At p.toml, line 4, key 'steps'."),
        ("[settings]\nlr = -1\n", "lr must be a positive number: got -1.0. At p.toml, line 4, key 'lr'."),
        ("settings.seed = 3\n", "seeds belong to the plan, not to a setting: got 'seed'."),
        (
            "[settings]\nr1 = 2\n\n[grid]\nr1 = 0\n",
            "r1 must be a positive integer: got 0. Example: r1=2, r2=8, r=4. At p.toml, line 7, key 'r1'.",
        ),
        ("grid = { r1 = [1], r4 = 2 }\n", "unknown key in the plan file: p.toml, line 3, key 'r4'. Did you mean 'r'?"),
        ("[[arms]]\nr = 1\n[[arms]]\nr = true\n", "'r' takes integers: got True. At p.toml, line 6, key 'r'."),
        ("[[arms]]\ncomponents = [2, 4]\n", "components must be three integers r1,r2,r: got [2, 4]"),
        ('seeds = [1, "a"]\n', "seeds must be a list of whole numbers: got 'a' at p.toml, line 3, key 'seeds'."),
        ("tune_lr = [true]\n", "tune_lr must be a list of learning rates: got True at p.toml, line 3"),
        ('budget = "ten"\n', "At p.toml, line 3, key 'budget'."),
        ('baselines = ["lroa"]\n', "unknown baseline 'lroa': p.toml, line 3, key 'baselines'."),
        ('grid = "r="\n', "At p.toml, line 3, key 'grid'."),
        ("[settings]\ndtype = 'float8'\n", "dtype must be one of auto"),
        ("[settings]\ngradient_checkpointing = 1\n", "gradient_checkpointing must be true or false: got 1. At p.toml"),
    ],
)
def test_a_plan_file_is_checked_to_its_last_key(text, said):
    with pytest.raises(CdkaError) as refusal:
        parse_plan(HEAD + text, "p.toml")
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_options_use_the_budget_and_tell_what_is_left_of_it():
    made = plan(*DIGITS, options=4, budget="lora:4", baselines=["lora", "lokr", "full"], seeds=1)
    own = [arm for arm in made.arms if arm.spec.method == "cdka"]
    layers = select(find_model("digits-vit"), "all-linear")
    budget = made.document["budget"]
    assert len(own) == 4
    for arm in own:
        counted = sum(s.count * arm.spec.components.num_params(s.out_features, s.in_features) for s in layers)
        assert counted == arm.num_params <= budget
        assert mismatch(arm, budget) == pytest.approx(counted / budget - 1)
        assert mismatch(arm, budget) >= -0.1
    predicted = [arm.spec.components.alignment(128) for arm in own]
    assert predicted == sorted(predicted, reverse=True)
    assert predicted[0] > predicted[-1]
    assert mismatch(made.arms[-1], budget) is None, "full fine-tuning has no size to match"
    with pytest.raises(CdkaError, match="got options without a budget"):
        plan(*DIGITS, options=4)


def test_an_arm_with_its_own_rate_is_not_searched_and_marked():
    made = plan(*DIGITS, arms=[{"r": 1}, {"r": 2, "lr": 5e-4}], baselines=["lora"], tune_lr=[1e-3, 2e-3], seeds=2)
    assert [arm.tuned for arm in made.arms] == [True, False, True]
    assert [arm["tuned"] for arm in made.document["arms"]] == [True, False, True]
    assert any("not tuned: 1 arm names its own learning rate (cdka 2,8,2 at 0.0005)" in note for note in made.notes)
    seen = sorted((spec.label, spec.lr, spec.seed) for spec in made.specs)
    assert len(seen) == len(set(seen)) == 2 * (2 + 1 + 2)
    assert {lr for label, lr, _ in seen if label == "cdka 2,8,2"} == {5e-4}


def test_a_search_without_validation_data_is_refused():
    options = {"task_options": {"validation_fraction": 0}}
    with pytest.raises(CdkaError, match="a fair search chooses on validation data: task 'local-classify' has none"):
        plan("gpt2", "local-classify", grid="r1=1;r2=2;r=1", tune_lr=[1e-3, 2e-3], settings=options)
    assert plan("gpt2", "local-classify", grid="r1=1;r2=2;r=1", settings=options).specs


def test_baselines_stand_beside_the_arms_of_every_task():
    made = plan(*DIGITS, grid="r=1;task=digits-flip,digits", baselines=["lora"], seeds=1)
    assert [(arm.spec.method, arm.spec.task) for arm in made.arms] == [
        ("cdka", "digits-flip"),
        ("cdka", "digits"),
        ("lora", "digits-flip"),
        ("lora", "digits"),
    ]


def test_each_price_has_a_baseline_of_its_own():
    arms = [{"components": each} for each in ("2,8,1", "1,8,2", "1,4,1")]
    made = plan("digits-vit", "digits-flip", arms=arms, baselines=["lora", "full"], budget="each", seeds=1)
    matched = {arm.spec.label: arm.matched.budget for arm in made.arms if arm.matched is not None}
    assert matched == {"lora 2": 15_232, "lora 8": 58_240, "full": 15_232}, "2,8,1 and 1,4,1 have one price"
    assert parse_plan('model = "digits-vit"\ntask = "digits-flip"\nbudget = "each"\n')["budget"] == "each"


def test_an_arm_that_a_baseline_repeats_is_run_once():
    made = plan(*DIGITS, grid="method=lora;rank=4", baselines=["lora:4"], seeds=1)
    assert len(made.specs) == 1
    assert "merged 1 duplicate cell" in made.notes


def test_a_billion_runs_are_refused_before_they_are_listed():
    for arguments in ({"grid": "r=1", "seeds": 10**9}, {"grid": {a: list(range(1, 2000)) for a in ("r1", "r2", "r")}}):
        started = time.process_time()
        with pytest.raises(CdkaError, match="a sweep has at most 1,000,000 runs: got up to"):
            plan(*DIGITS, **arguments, allow_many=True)
        assert time.process_time() - started < 2.0

"""The examples that are judged: fixed, nested, affordable, and the same for all runs that are compared."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from cdka.cost.judging import CHEAP_S, SHARE, Costs, Judging
from cdka.runs.resolve import resolve_runs, spec_for
from cdka.tasks.catalogue import find_task
from cdka.train import judging
from cdka.train.data.load import load_task
from cdka.train.loop import train
from cdka.train.member import data_order, length_grouped
from cdka.train.pack import Pack, PhaseClock

AUTO = dict.fromkeys(("eval_examples", "generate_examples", "test_examples"), "auto")


def decided(spec, data, costs=None, shared=None):
    """The decision, with costs in place of a measurement; AssertionError where one is asked for and none is given."""

    def measure():
        assert costs is not None, "nothing had to be measured"
        yield from ()
        return costs

    deciding = judging.decide(spec, data, measure, shared)
    while True:
        try:
            next(deciding)
        except StopIteration as end:
            return end.value


@pytest.fixture(scope="module")
def chains():
    return load_task(find_task("math-chain"), spec_for("math-lm", "math-chain"))


def test_embedded_tasks_judge_everything_and_measure_nothing(chains):
    found = decided(spec_for("math-lm", "math-chain"), chains)
    assert (found.eval, found.generate, found.test) == (300, 300, 600)
    assert found.notes == ()


def test_a_number_is_kept_to_and_answers_are_among_the_examples(chains):
    spec = spec_for("math-lm", "math-chain", eval_examples=20, generate_examples=50, test_examples=1000)
    found = decided(spec, chains)
    assert (found.eval, found.generate, found.test) == (20, 20, 600)


def test_auto_keeps_judging_under_a_quarter_of_the_training_time(chains):
    costs = Costs(step_s=2.0, example_s=0.1, answer_s=1.5)
    spec = spec_for("math-lm", "math-chain", steps=1000, eval_every=250, **AUTO)
    found = decided(spec, chains, costs)
    looks = 1 + 4
    spent = looks * (found.eval * costs.example_s + found.generate * costs.answer_s)
    spent += found.test * (costs.example_s + costs.answer_s)
    assert spent <= SHARE * spec.steps * costs.step_s
    assert found.test < 600
    assert found.eval == 300, "what is cheap is judged whole, and leaves its rest to the others"
    assert f"the test is on the same {found.test} of 600 examples" in found.notes[0]


def test_what_takes_seconds_is_judged_whole(chains):
    costs = Costs(step_s=1e-3, example_s=1e-4, answer_s=CHEAP_S / 1e5)
    found = decided(spec_for("math-lm", "math-chain", steps=20, **AUTO), chains, costs)
    assert (found.eval, found.generate, found.test) == (300, 300, 600)


def test_the_first_decision_of_a_sweep_holds_for_all_its_runs(chains, tmp_path):
    slow, fast = Costs(2.0, 0.5, 4.0), Costs(2.0, 0.01, 0.1)
    first = decided(spec_for("math-lm", "math-chain", steps=200, **AUTO), chains, slow, tmp_path)
    other = spec_for("math-lm", "math-chain", steps=400, seed=3, components="4,2,1", **AUTO)
    assert decided(other, chains, None, tmp_path) == first, "another machine, or another minute, changes nothing"
    assert decided(other, chains, fast, tmp_path / "another sweep") != first


def test_a_smaller_subset_lies_inside_a_larger_one():
    small, large = judging.subset(500, 20), judging.subset(500, 80)
    assert set(small.tolist()) < set(large.tolist())
    assert torch.equal(judging.subset(7, 9), torch.arange(7))
    assert torch.equal(small, small.sort().values)


def test_runs_are_judged_on_the_subset_and_say_so(tmp_path):
    spec = spec_for(
        "math-lm",
        "math-chain",
        components="2,4,1",
        steps=2,
        batch_size=2,
        eval_every=2,
        eval_examples=12,
        generate_examples=5,
        test_examples=7,
    )
    events = [event.to_dict() for _, event in train(resolve_runs([spec]), [tmp_path])]
    final = events[-1]
    metrics = final["metrics"]
    assert (metrics["eval/examples"], metrics["eval/of"], metrics["eval/answered"]) == (12, 300, 5)
    assert (metrics["test/examples"], metrics["test/of"]) == (7, 600)
    assert metrics["best_by"] == "loss", "an accuracy of five answers chooses nothing"
    everything = load_task(find_task("math-chain"), spec).test
    assert final["predictions"]["example"] == everything.ids[judging.subset(600, 7)].tolist()
    assert final["predictions"]["label"] == [everything.references[i] for i in judging.subset(600, 7).tolist()]
    seconds = {
        name: metrics[f"{name}_s"] for name in ("load", "prepare", "train", "evaluate", "generate", "test", "save")
    }
    assert all(value > 0 for value in seconds.values()), seconds


def test_batches_of_similar_length_hold_the_same_rows_and_less_padding():
    lengths = torch.randint(5, 400, (640,), generator=torch.Generator().manual_seed(1))
    plain, grouped = data_order(640, 8, 0), length_grouped(data_order(640, 8, 0), lengths)
    before, after = ([next(order) for _ in range(80)] for order in (plain, grouped))
    assert torch.equal(torch.cat(before).sort().values, torch.cat(after).sort().values), "every row once per epoch"

    def padded(batches):
        return sum(int(lengths[rows].max()) * len(rows) for rows in batches)

    assert padded(after) < 0.75 * padded(before)
    other = length_grouped(data_order(640, 8, 7), lengths)
    spread = [abs(float(lengths[next(other)].float().mean()) - float(lengths[rows].float().mean())) for rows in after]
    assert sum(spread) / len(spread) < 40, "runs of a pack meet short and long batches together"


def test_the_time_left_counts_the_answers_that_the_test_will_generate():
    """Explicit counts measure nothing in the run: the time of the answers is that of an earlier measurement."""
    spec = spec_for("math-lm", "math-chain", steps=10, eval_every=10)
    costs = Costs(step_s=1.0, example_s=0.5, answer_s=1.0, decode_s=20.0, answer_rows=16)
    pack = Pack(
        model=torch.nn.Identity(),
        data=SimpleNamespace(objective=SimpleNamespace(generation=object())),
        device=torch.device("cpu"),
        members=[SimpleNamespace(spec=spec, step=10, last_good_step=10)],
        control=lambda index: None,
        schedule=None,
        clock=PhaseClock(),
        judging=Judging(eval=16, generate=0, test=8, eval_of=16, test_of=8, costs=costs),
        answer_rows=torch.empty(0),
    )
    pack.clock.seconds.update(train=30.0, evaluate=16.0)
    pack.judged_losses = 32
    assert pack.eta_s() == 8 * 0.5 + 20.0 + 8 * 1.0
    pack.answers_left_s = 12.3
    assert pack.eta_s() == 12.3, "while they are generated, at the speed at which they come"
    pack.answers_left_s, pack.judging = None, replace(pack.judging, costs=None)
    assert pack.eta_s() == 8 * 0.5

"""What a run keeps: its best adapter, what it could do before, its generated answers, and the tracker's record."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest
import torch

from cdka.errors import CdkaError
from cdka.runs.resolve import resolve_run, resolve_runs, spec_for
from cdka.runs.run import ANSWERS_FILE
from cdka.sweep.launch import check_runs
from cdka.train import trackers
from cdka.train.forward import split_rows
from cdka.train.loop import train

DIGITS = ("digits-vit", "digits-flip")
CHAINS = ("math-lm", "math-chain")


def trained(spec, folder):
    """(events as plain data, the final one) of one run."""
    events = [event.to_dict() for _, event in train(resolve_runs([spec]), [folder], None, folder / "shared")]
    return events, events[-1]


def digits(**changes):
    settings = {"components": "2,4,1", "batch_size": 8, "eval_every": 2, "eval_examples": 60, "test_examples": 40}
    return spec_for(*DIGITS, **{**settings, **changes})


def test_a_run_out_of_patience_ends_early_and_reports_its_best_look(tmp_path):
    spec = digits(steps=60, lr=0.5, patience=2)
    events, final = trained(spec, tmp_path)
    metrics = final["metrics"]
    looks = [event["eval/accuracy"] for event in events if event["kind"] == "eval"]
    assert metrics["steps_done"] < 60, "a rate of 0.5 breaks the model: nothing gets better"
    best = max(range(len(looks)), key=lambda i: (looks[i], -i))
    assert len(looks) - 1 - best == 2, "two looks without a better one, then the end"
    assert metrics["best_step"] == 2 * best
    assert metrics["reports"] == ("best" if best else "last")


def test_without_patience_the_last_adapter_is_reported_and_the_best_one_kept_beside_it(tmp_path):
    events, final = trained(digits(steps=8, lr=3e-3), tmp_path)
    metrics = final["metrics"]
    assert (metrics["steps_done"], metrics["reports"]) == (8, "last")
    kept = [event["directory"] for event in events if event["kind"] == "saved" and event.get("best")]
    if metrics["best_step"]:
        assert kept, "the best look has an adapter"
        folder = tmp_path / "adapter" if metrics["best_step"] == 8 else tmp_path / "adapter-best"
        assert kept == [str(folder)]
        assert (folder / "adapter_config.json").is_file()


def test_what_the_model_could_do_before_is_judged_before_and_after(tmp_path):
    _, final = trained(digits(steps=4, retain="digits"), tmp_path)
    before, after = (final["metrics"][f"retained/{when}_accuracy"] for when in ("before", "after"))
    assert before > 0.9, "upright digits are what digits-vit was trained on"
    assert after != before
    assert final["metrics"]["retained/before_examples"] == 597


def test_a_text_is_retained_by_its_loss(tmp_path):
    text = tmp_path / "sums.txt"
    text.write_text("\n\n".join(f"{i}+{i + 1}={2 * i + 1}" for i in range(40)))
    spec = spec_for(
        *CHAINS, components="2,4,1", steps=2, batch_size=4, eval_every=2, retain=str(text),
        eval_examples=4, generate_examples=1, test_examples=3,
    )  # fmt: skip
    metrics = trained(spec, tmp_path / "run")[1]["metrics"]
    assert metrics["retained/before_loss"] > 0
    assert metrics["retained/after_loss"] != metrics["retained/before_loss"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            digits(retain="math-chain"),
            r"what is to be retained must suit the model of the run \(image-classification\)",
        ),
        (digits(retain="/nowhere.txt"), "a text to be retained needs a causal language model"),
        (spec_for(*CHAINS, retain="/nowhere.txt"), "must be a task or a text file that is there: got retain="),
        (spec_for(*CHAINS, report_to="trackio"), "a tracker must be installed: got report_to='trackio'"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_anything_is_queued(spec, words, monkeypatch):
    monkeypatch.setattr("cdka.machine.find_spec", lambda name: None)
    with pytest.raises(CdkaError, match=words):
        check_runs([resolve_run(spec)])


def test_generated_answers_are_written_beside_the_adapter(tmp_path):
    spec = spec_for(
        *CHAINS, components="2,4,1", steps=2, batch_size=4, eval_every=2,
        eval_examples=6, generate_examples=0, test_examples=5,
    )  # fmt: skip
    events, final = trained(spec, tmp_path)
    assert "eval/accuracy" not in next(event for event in events if event["kind"] == "eval"), "no answers, no accuracy"
    assert final["metrics"]["best_by"] == "loss"
    lines = [json.loads(line) for line in (tmp_path / ANSWERS_FILE).read_text().splitlines()]
    assert [line["example"] for line in lines] == final["predictions"]["example"]
    assert [line["predicted"] for line in lines] == final["predictions"]["predicted"]
    assert all(line["prompt"].endswith("=") for line in lines)
    right = sum(line["predicted"] == line["label"] for line in lines) / 5
    assert final["metrics"]["test/accuracy"] == pytest.approx(right)


@dataclass
class FakeTracker:
    """A tracker that writes down how accelerate's own are called."""

    name: str
    run_name: str = ""
    calls: list = field(default_factory=list)
    requires_logging_directory = False
    made = []  # noqa: RUF012

    def __post_init__(self):
        FakeTracker.made.append(self)

    def start(self):
        self.calls.append(("start",))

    def store_init_configuration(self, values):
        self.calls.append(("config", values))

    def log(self, values, step):
        self.calls.append(("log", values, step))

    def finish(self):
        self.calls.append(("finish",))


def test_losses_and_metrics_go_to_the_tracker_through_accelerates_own_calls(tmp_path, monkeypatch):
    monkeypatch.setattr(FakeTracker, "made", [])
    monkeypatch.setattr("accelerate.tracking.LOGGER_TYPE_TO_CLASS", {"mlflow": FakeTracker})
    monkeypatch.setattr(trackers, "check_tracker", lambda name: None)
    events, final = trained(digits(steps=2, report_to="mlflow"), tmp_path)
    (tracker,) = FakeTracker.made
    kinds = [call[0] for call in tracker.calls]
    assert (kinds[0], kinds[1], kinds[-1]) == ("start", "config", "finish")
    assert tracker.calls[1][1]["lr"] == pytest.approx(spec_for(*DIGITS).lr)
    logged = [call for call in tracker.calls if call[0] == "log"]
    losses = [event["train/loss"] for event in events if event["kind"] == "step"]
    assert [values["train/loss"] for _, values, _ in logged if "train/lr" in values] == losses
    assert any(values.get("test/accuracy") == final["metrics"]["test/accuracy"] for _, values, _ in logged)


def test_epochs_become_the_steps_that_pass_over_the_data():
    spec = spec_for(*DIGITS, epochs=2, batch_size=64)
    assert spec.steps == -(-2 * 900 // 64)
    with pytest.raises(CdkaError, match="epochs stand in place of steps"):
        spec_for(*DIGITS, epochs=1, steps=5)
    with pytest.raises(CdkaError, match="epochs must be a positive number"):
        spec_for(*DIGITS, epochs=0)


def test_a_batch_of_long_texts_goes_through_in_parts_of_similar_length():
    lengths = torch.tensor([9, 100, 10, 90])
    assert [part.tolist() for part in split_rows([lengths], 1, 400)] == [[0, 1, 2, 3]]
    assert [part.tolist() for part in split_rows([lengths], 1, 200)] == [[0, 2], [3, 1]]
    assert len(split_rows([lengths, lengths], 1, 200)) == 4, "the members of a pack share the limit"
    assert [part.tolist() for part in split_rows([lengths], 2, None)] == [[0, 1], [2, 3]]
    assert len(split_rows([lengths], 1, 1)) == 4, "an example is never split"


def test_runs_that_still_equal_their_base_are_judged_once_for_all(tmp_path, monkeypatch):
    from cdka.train import validation

    sizes = []
    judge = validation.judge_validation
    monkeypatch.setattr(
        validation, "judge_validation", lambda pack, group: sizes.append(len(group)) or judge(pack, group)
    )
    specs = [digits(steps=2, seed=seed) for seed in range(3)]
    directories = [tmp_path / str(seed) for seed in range(3)]
    events = list(train(resolve_runs(specs), directories))
    looks = {i: [e for j, e in events if j == i and e.kind == "eval"] for i in range(3)}
    assert sizes[0] == 1, "before the first step"
    assert sizes[1:] in ([3], [1, 1, 1])
    assert len({look[0].metrics["eval/loss"] for look in looks.values()}) == 1
    assert len({look[1].metrics["eval/loss"] for look in looks.values()}) == 3

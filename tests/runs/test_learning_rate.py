"""The rate that ``auto`` stands for: measured where a study of rates ships for the method, model and task."""

from __future__ import annotations

import json

import pytest

from cdka.cli.main import main
from cdka.errors import CdkaError
from cdka.runs import learning_rate
from cdka.runs.learning_rate import Measured, measured_rates, recommended
from cdka.runs.resolve import spec_for
from cdka.runs.spec import RunSpec
from cdka.sweep import plan

KNOWN = tuple(
    Measured(method, ("digits-vit", "digits-vit@12"), "digits-flip", lr, lr / 2, lr * 2, 16.0, 120, ("a",), 0.5, "r.md")
    for method, lr in (("cdka", 0.008), ("lora", 0.002))
)


@pytest.fixture
def known(monkeypatch):
    monkeypatch.setattr(learning_rate, "measured_rates", lambda: KNOWN)


def test_the_measured_rate_of_the_method_is_taken(known):
    assert spec_for("digits-vit", "digits-flip", lr="auto").lr == 0.008
    assert spec_for("digits-vit@12", "digits-flip", lr="auto", method="lora").lr == 0.002
    found = recommended(RunSpec("digits-vit", "digits-flip", alpha=16.0))
    assert (found.low, found.high) == (0.004, 0.016)
    assert str(found) == (
        "0.008 (95 % interval 0.004 to 0.016): best for a over 2 base models at alpha 16 and 120 steps, sizes 0.5 "
        "doublings apart (r.md)"
    )


def test_another_alpha_keeps_the_size_of_the_first_step_and_says_so(known):
    found = recommended(RunSpec("digits-vit", "digits-flip", alpha=64.0))
    assert found.lr == 0.002
    assert found.source.endswith("moved from alpha 16 by the size of the first step")
    plain = RunSpec("digits-vit", "digits-flip", method="lora", rank=16, alpha=16.0, scaling_rule="r")
    assert recommended(plain).lr == pytest.approx(0.008), "16 / 16 is a quarter of 16 / sqrt(16)"


def test_what_no_study_measured_takes_the_recipe_and_says_so(known):
    for method, model, task in (("full", "digits-vit", "digits-flip"), ("cdka", "math-lm", "math-chain")):
        usual = spec_for(model, task, method=method)
        assert spec_for(model, task, method=method, lr="auto") == usual
        found = recommended(usual)
        assert (found.lr, found.low) == (usual.lr, None)
        assert "no study of rates was made" in found.source


def test_every_arm_of_a_sweep_takes_the_rate_of_its_method_and_the_notes_tell_it(known):
    planned = plan(
        "digits-vit", "digits-flip", grid="r1=1,2;r2=4;r=1", baselines=["lora", "full"], settings={"lr": "auto"}
    )
    rates = {arm.spec.method: arm.spec.lr for arm in planned.arms}
    assert rates == {"cdka": 0.008, "lora": 0.002, "full": spec_for("digits-vit", "digits-flip").lr}
    told = [note for note in planned.notes if note.startswith("learning rate of")]
    assert [note.split()[3] for note in told] == ["cdka", "lora", "full"]


def test_a_word_that_is_no_rate_is_refused_in_one_line(home, capsys, monkeypatch):
    run = ["run", "--model", "digits-vit", "--task", "digits-flip", "--lr"]
    assert main([*run, "fast"]) == 2
    assert "lr must be a positive number: got 'fast'" in capsys.readouterr().err
    monkeypatch.setattr("cdka.cli.run.show_estimate", lambda runs, *_, **__: int(runs[0].spec.lr == "auto"))
    assert main([*run, "auto", "--plan"]) == 0
    assert capsys.readouterr().err.startswith("learning rate ")
    assert main(["study", "r1", "--lr", "auto"]) == 2
    assert "a study holds its arms at one learning rate" in capsys.readouterr().err
    with pytest.raises(CdkaError, match="lr must be a positive number: got 'auto'"):
        RunSpec("digits-vit", "digits-flip", lr="auto")


def test_shipped_reports_carry_what_the_tool_reads(monkeypatch, tmp_path):
    for one in measured_rates():
        assert one.low <= one.lr <= one.high
        assert "digits-vit" in one.models
    (tmp_path / "studies").mkdir()
    entry = {**{k: v for k, v in vars(KNOWN[0]).items() if k not in ("task", "report")}}
    document = {"task": "digits-flip", "studies": [{"recommended": [entry]}]}
    (tmp_path / "studies" / "r.json").write_text(json.dumps(document))
    monkeypatch.setattr(learning_rate, "assets_dir", lambda: tmp_path)
    measured_rates.cache_clear()
    assert measured_rates() == KNOWN[:1]
    measured_rates.cache_clear()

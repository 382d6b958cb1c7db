"""The whole lab on the embedded model: gradients against finite differences, the worker, the cache, the command."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cdka import childproc
from cdka.align import AlignRequest, align, status
from cdka.align.measure import gradients_of
from cdka.align.record import gradient_file, write_status
from cdka.cli.main import main
from cdka.errors import CdkaError
from cdka.tasks.catalogue import find_task

SMALL = {"batch_size": 8, "r1_values": (1, 2), "r2_values": (2, 8), "r_values": (1, 2), "inits": 2}


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("CDKA_HOME", str(tmp_path / "home"))


def test_gradients_are_those_of_the_tasks_loss_by_finite_differences():
    import torch

    from cdka.runs.resolve import spec_for
    from cdka.train.data.load import load_task
    from cdka.train.load_model import load_model
    from cdka.train.member import data_order

    request = AlignRequest("digits-vit", "digits-flip", batches=2, batch_size=8, seed=3, target_modules="fc1,q_proj")
    gradients = gradients_of(request)
    assert {path.rsplit(".", 1)[-1] for path in gradients} == {"fc1", "q_proj"}
    data = load_task(find_task("digits-flip"), spec_for("digits-vit", "digits-flip", seed=3, batch_size=8))
    model = load_model("digits-vit", "image-classification", num_labels=10).model.double().eval()
    order = data_order(len(data.train), 8, 3)
    batches = [data.train.take(next(order)) for _ in range(2)]

    @torch.no_grad()
    def loss() -> float:
        parts = []
        for batch in batches:
            logits = model(pixel_values=batch.inputs["pixel_values"].double()).logits
            parts.append(torch.nn.functional.cross_entropy(logits, batch.labels).item())
        return sum(parts) / 2

    rng = np.random.default_rng(0)
    for path, gradient in gradients.items():
        weight = dict(model.named_modules())[path].weight
        assert gradient.shape == tuple(weight.shape)
        direction = rng.standard_normal(gradient.shape)
        step = torch.from_numpy(direction) * 1e-5
        weight.data += step
        above = loss()
        weight.data -= 2 * step
        below = loss()
        weight.data += step
        assert np.sum(gradient * direction) == pytest.approx((above - below) / 2e-5, rel=1e-3, abs=1e-6)


def test_a_measurement_runs_in_a_worker_once_and_is_found_again(monkeypatch, capsys):
    request = AlignRequest("digits-vit", "digits-flip", **SMALL).with_grid()
    assert status(request).state == "absent"
    phases = []
    record = align(request, lambda now: phases.append(now.phase))
    assert status(request).state == "done"
    assert set(phases) <= {"starting", "gradients", "alignment"}
    assert record.sampled_modules == record.target_modules == 24
    frame = record.overall_frame()
    assert (frame["measured"] < frame["best"]).all()
    assert np.corrcoef(frame["predicted"], frame["measured"])[0, 1] > 0.9
    monkeypatch.setattr(childproc, "start_detached", lambda *a, **k: pytest.fail("measured twice"))
    assert align(request) == record
    monkeypatch.setattr("cdka.train.gradients.mean_gradients", lambda *a, **k: pytest.fail("backpropagated twice"))
    assert len(gradients_of(AlignRequest("digits-vit", "digits-flip", **{**SMALL, "inits": 3}))) == 24
    arguments = [
        "--task",
        "digits-flip",
        "--batch-size",
        "8",
        "--r1",
        "1,2",
        "--r2",
        "2,8",
        "--r",
        "1,2",
        "--inits",
        "2",
    ]
    capsys.readouterr()
    assert main(["align", "digits-vit", *arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["overall"]) == 8
    assert {"predicted", "measured", "measured_sd", "best", "num_params"} <= set(document["overall"][0])
    assert main(["align", "digits-vit", *arguments]) == 0
    assert "best possible" in capsys.readouterr().out
    assert main(["align", "digits-vit", *arguments, "--layers"]) == 0
    assert capsys.readouterr().out.count("vit.layers.3.mlp.fc2") == 8
    assert main(["align", "digits-vit", *arguments, "--sweep", "s-none"]) == 2
    assert "s-none" in capsys.readouterr().err


def test_a_failing_worker_leaves_its_cause_and_can_be_asked_again(tmp_path):
    request = AlignRequest("digits-vit", "math-chain", **SMALL).with_grid()
    with pytest.raises(CdkaError) as caught:
        align(request)
    assert "\n" not in str(caught.value)
    assert not gradient_file(request).exists()
    assert status(request).state == "absent"


def test_a_worker_that_was_killed_counts_as_failed():
    request = AlignRequest("digits-vit", "digits-flip", **SMALL).with_grid()
    write_status(request, {"pid": 2**22 + 7, "started": 1.0, "phase": "alignment", "share": 0.5})
    now = status(request)
    assert now.state == "failed"
    assert "ended without a result" in now.cause


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["digits-vit"], "--task"),
        (["digits-vit", "--task", "nope"], "unknown task"),
        (["digits-vit", "--task", "digits-flip", "--r1", "a"], "integers"),
        (["digits-vit", "--task", "digits-flip", "--r1", "3"], "must divide"),
        (["llama", "--task", "digits-flip"], "unknown model"),
    ],
)
def test_bad_input_exits_with_2(arguments, words, capsys):
    assert main(["align", *arguments]) == 2
    got = capsys.readouterr()
    assert words in got.err
    assert got.out == ""

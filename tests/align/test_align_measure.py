"""The lab's numbers against their definitions, on gradients made up for the purpose. No torch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from cdka.align.measure import check_finite, measure
from cdka.align.record import AlignRecord
from cdka.align.request import AlignRequest
from cdka.components import Components
from cdka.errors import CdkaError
from cdka.models.shapes import LinearShape
from cdka.theory import best_capture, measured_alignment, simulated_gradient

GRADIENTS = {
    "m.0.small": simulated_gradient(24, 64, 1).astype(np.float32),
    "m.0.large": 10 * simulated_gradient(48, 32, 2).astype(np.float32),
}
LINEARS = (LinearShape("m.*.small", 64, 24, 1, "mlp"), LinearShape("m.*.large", 32, 48, 1, "mlp"))
GRID = {"r1_values": (1, 2), "r2_values": (2, 8), "r_values": (1, 3), "inits": 40}


@pytest.fixture(scope="module")
def record() -> AlignRecord:
    request = AlignRequest("digits-vit", "digits-flip", **GRID)
    return measure(request, GRADIENTS, LINEARS)


def test_the_grid_is_complete_and_counts_parameters(record):
    table = record.overall_frame().set_index(["r1", "r2", "r"])
    assert len(table) == 8
    c = Components(2, 8, 3)
    assert table.loc[(2, 8, 3), "num_params"] == c.num_params(24, 64) + c.num_params(48, 32)


def test_layers_are_combined_by_their_energy(record):
    table = record.overall_frame().set_index(["r1", "r2", "r"])
    layers = record.layers_frame().set_index(["path", "r1", "r2", "r"])
    energy = {path: float(np.sum(g**2)) for path, g in GRADIENTS.items()}
    assert energy["m.0.large"] == pytest.approx(100 * energy["m.0.small"], rel=1e-4)
    for cell in table.index:
        squares = [energy[p] * layers.loc[(p, *cell), "best"] ** 2 for p in GRADIENTS]
        assert table.loc[cell, "best"] == pytest.approx(np.sqrt(sum(squares) / sum(energy.values())))
        large = layers.loc[("m.0.large", *cell), "measured"]
        assert table.loc[cell, "measured"] == pytest.approx(large, rel=0.05)  # it has 99 % of the energy
        equal = [Components(*cell).alignment(g.shape[1]) ** 2 for g in GRADIENTS.values()]
        assert table.loc[cell, "predicted"] == pytest.approx(np.sqrt(np.mean(equal)))


def test_each_layer_agrees_with_an_independent_measurement(record):
    layers = record.layers_frame().set_index(["path", "r1", "r2", "r"])
    for path, gradient in GRADIENTS.items():
        for cell in [(1, 2, 1), (2, 8, 3)]:
            again = measured_alignment(gradient, Components(*cell), rng=99, inits=200)
            row = layers.loc[(path, *cell)]
            assert row["measured"] == pytest.approx(again.mean(), abs=4 * again.std() / np.sqrt(40))
            assert row["best"] == pytest.approx(best_capture(gradient, Components(*cell)), abs=1e-5)
            assert row["measured"] < row["best"]


def test_the_finer_formula_is_nearer_to_the_measurement_where_r_is_large(record):
    row = record.overall_frame().set_index(["r1", "r2", "r"]).loc[(1, 8, 3)]
    assert abs(row["expected_step"] - row["measured"]) < abs(row["predicted_by_energy"] - row["measured"])


def test_a_layer_more_changes_no_other_layer(record):
    request = AlignRequest("digits-vit", "digits-flip", **GRID)
    alone = measure(request, {"m.0.small": GRADIENTS["m.0.small"]}, LINEARS[:1])
    both = record.layers_frame()
    assert alone.layers_frame().equals(both[both["path"] == "m.0.small"].reset_index(drop=True))


def test_a_record_survives_the_disk(record, tmp_path):
    record.write(tmp_path / "record.json")
    assert AlignRecord.read(tmp_path / "record.json") == record
    (tmp_path / "record.json").write_text("{}")
    with pytest.raises(CdkaError, match="must be readable"):
        AlignRecord.read(tmp_path / "record.json")


def test_progress_reaches_one():
    told = []
    request = AlignRequest("digits-vit", "digits-flip", **{**GRID, "inits": 1})
    measure(request, GRADIENTS, LINEARS, told.append)
    assert told == [0.5, 1.0]


def test_unusable_gradients_are_refused():
    with pytest.raises(CdkaError, match="every gradient is zero"):
        check_finite({"a": np.zeros((2, 2))})
    with pytest.raises(CdkaError, match="not finite"):
        check_finite({"a": np.full((2, 2), np.nan)})
    with pytest.raises(CdkaError, match="no target module"):
        check_finite({})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": "digits-flop"}, "Did you mean 'digits-flip'"),
        ({"batches": 0}, "batches must be"),
        ({"inits": 0}, "inits must be"),
        ({"step": "sgd"}, "step must be one of"),
        ({"r_values": ()}, "r_values"),
        ({"r1_values": (0,)}, "positive integers"),
        ({"r1_values": (3,)}, "r1 must divide every target module"),
        ({"model": "digits-vat"}, "Did you mean 'digits-vit'"),
        ({"target_modules": "fc7"}, "unknown target module"),
    ],
)
def test_bad_requests_are_told_in_one_line(changes, words):
    with pytest.raises(CdkaError, match=words) as caught:
        AlignRequest(**{"model": "digits-vit", "task": "digits-flip", **changes}).with_grid()
    assert "\n" not in str(caught.value)


def test_the_grid_fills_with_common_divisors_and_the_key_follows_what_matters():
    request = AlignRequest("digits-vit", "digits-flip").with_grid()
    assert request.r1_values == (1, 2, 4, 8, 16)
    assert request.r2_values == (1, 2, 4, 8, 16, 32, 64)
    assert AlignRequest.from_dict(request.to_dict()) == request
    other = AlignRequest("digits-vit", "digits-flip", inits=9).with_grid()
    assert other.gradient_key == request.gradient_key
    assert other.key != request.key
    assert AlignRequest("digits-vit", "digits-flip", seed=1).gradient_key != request.gradient_key


def test_the_lab_is_free_of_torch():
    code = "import sys, cdka.align, cdka.align.measure, cdka.cli.align; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

"""An adapter's anatomy against dense linear algebra."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from compare_store import write_adapter
from safetensors.numpy import save_file

from cdka.compare.anatomy import LayerFactors, capture_map, placed, read_adapter, rearranged_spectra
from cdka.compare.figures.anatomy import factor_figure, rank_figure, shrink, spectrum_figure
from cdka.components import Components
from cdka.errors import CdkaError
from cdka.runs.spec import RunSpec
from cdka.theory.spectrum import effective_rank_of


def factors(r1=2, r2=4, r=3, out=64, inn=24, scaling=0.7) -> LayerFactors:
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(r, r1, inn // r2)), rng.normal(size=(r, out // r1, r2))
    return LayerFactors(A, B, scaling, layer="q", method="cdka")


def dense(f: LayerFactors) -> np.ndarray:
    return f.scaling * sum(np.kron(b, a) for a, b in zip(f.A, f.B, strict=True))


@pytest.mark.parametrize("components", [(2, 4, 1), (1, 1, 3), (2, 2, 2), (4, 8, 4)])
def test_singular_values_are_those_of_the_dense_matrix(components):
    f = factors(*components)
    exact = np.linalg.svd(dense(f), compute_uv=False)
    ours = f.singular_values()
    np.testing.assert_allclose(ours, exact[: len(ours)], atol=1e-10)
    np.testing.assert_allclose(exact[len(ours) :], 0, atol=1e-10)
    np.testing.assert_allclose(f.delta(), dense(f), atol=1e-12)


def test_block_norms_are_those_of_the_blocks():
    f = factors()
    blocks = dense(f).reshape(32, 2, 4, 6).transpose(0, 2, 1, 3)
    np.testing.assert_allclose(f.block_norms(), np.linalg.norm(blocks, axis=(2, 3)))


def test_shape_components_and_count_are_read_off_the_factors():
    f = factors()
    assert (f.components.as_tuple(), f.shape) == ((2, 4, 3), (64, 24))
    assert f.num_params == Components(2, 4, 3).num_params(64, 24)


def test_effective_rank_of_equal_values_is_their_number():
    assert effective_rank_of(np.ones(7)) == pytest.approx(7)
    assert effective_rank_of(np.zeros(3)) == 0


def test_reading_a_cdka_adapter_gives_its_scaling(tmp_path):
    spec = RunSpec("m", "digits", components=Components(2, 4, 3), alpha=16.0)
    write_adapter(tmp_path, spec, np.random.default_rng(0))
    layers = read_adapter(tmp_path)
    assert [f.components for f in layers] == [Components(2, 4, 3)] * 2
    assert layers[0].scaling == pytest.approx(16 / np.sqrt(3 * 4))


def test_lora_is_the_case_of_one_by_one(tmp_path):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 24)).astype(np.float32), rng.normal(size=(64, 3)).astype(np.float32)
    save_file(
        {"base_model.model.q.lora_A.weight": a, "base_model.model.q.lora_B.weight": b},
        tmp_path / "adapter_model.safetensors",
    )
    config = {"peft_type": "LORA", "r": 3, "lora_alpha": 6, "use_rslora": False, "alpha_pattern": {"k": 60}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    (one,) = read_adapter(tmp_path)
    assert one.components == Components(1, 1, 3)
    np.testing.assert_allclose(one.delta(), 2.0 * b.astype(float) @ a.astype(float), rtol=1e-6)
    config |= {"use_rslora": True, "alpha_pattern": {"q": 60}}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    assert read_adapter(tmp_path)[0].scaling == pytest.approx(60 / np.sqrt(3))


def test_bfloat16_is_read_without_torch(tmp_path):
    values = np.arange(-4, 4, dtype="<f4")  # exact in bfloat16
    half = (values.view("<u4") >> 16).astype("<u2").tobytes()
    header = {
        "q.cdka_A": {"dtype": "BF16", "shape": [1, 2, 4], "data_offsets": [0, 16]},
        "q.cdka_B": {"dtype": "BF16", "shape": [1, 4, 2], "data_offsets": [16, 32]},
    }
    text = json.dumps(header).encode()
    (tmp_path / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + half + half)
    (tmp_path / "adapter_config.json").write_text('{"alpha": 2.0}')
    (one,) = read_adapter(tmp_path)
    np.testing.assert_array_equal(one.A.ravel(), values)


def test_layers_come_in_the_order_of_the_model(tmp_path):
    a, b = np.ones((1, 1, 4), np.float32), np.ones((1, 6, 1), np.float32)
    names = [f"layer.{i}.q" for i in (10, 2, 0)]
    save_file(
        {f"{n}.cdka_{s}": t for n in names for s, t in (("A", a), ("B", b))}, tmp_path / "adapter_model.safetensors"
    )
    (tmp_path / "adapter_config.json").write_text("{}")
    assert [f.layer for f in read_adapter(tmp_path)] == ["layer.0.q", "layer.2.q", "layer.10.q"]


def test_what_is_no_adapter_is_refused(tmp_path):
    with pytest.raises(CdkaError, match="or one safetensors file: got none"):
        read_adapter(tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "IA3"}')
    save_file({"x": np.ones(2, np.float32)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(CdkaError, match="got peft_type 'IA3'"):
        read_adapter(tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(CdkaError, match="must be a whole safetensors file"):
        read_adapter(tmp_path)


def test_shrinking_keeps_the_largest_entry_of_each_block():
    matrix = np.zeros((400, 10))
    matrix[123, 4] = -9.0
    small = shrink(matrix, 200)
    assert small.shape == (200, 10)
    assert small[61, 4] == -9.0


def test_pictures_are_drawn():
    one, two = factors(), factors(1, 1, 4)
    assert len(factor_figure(one, 1).data) == 4
    on_a_phone = factor_figure(one, 1, columns=2)
    for figure in (factor_figure(one, 1), on_a_phone):
        for heat in figure.data:
            top = float(np.abs(heat.z).max())
            assert heat.colorbar.ticktext[1] == f"{top:.2g}", "every panel has the scale of its own colours"
    assert on_a_phone.layout.xaxis.domain == on_a_phone.layout.xaxis3.domain, "two below two"
    assert [t.name for t in spectrum_figure({"a": one, "lora 4": two}).data] == ["a", "lora 4"]
    assert len(rank_figure({"a": [one, one], "lora 4": [two, two]}).data[1].y) == 2


def test_a_layers_own_components_keep_all_of_it_and_others_what_the_singular_values_say():
    f = factors()
    kept = capture_map(f).set_index(["r1", "r2"])
    assert kept.loc[(2, 4), "kept"] == pytest.approx(1.0)
    assert kept.loc[(2, 4), "r"] == 3
    assert set(kept.index) == {(a, b) for a in (1, 2, 4, 8, 16, 32) for b in (1, 2, 4, 8)}
    assert (kept["num_params"] <= f.num_params).all() or (kept[kept["num_params"] > f.num_params]["r"] == 1).all()
    r = int(kept.loc[(4, 2), "r"])
    values = np.linalg.svd(dense(f).reshape(16, 4, 2, 12).transpose(0, 2, 1, 3).reshape(32, 48), compute_uv=False)
    expected = np.sqrt(np.sum(values[:r] ** 2) / np.sum(values**2))
    assert kept.loc[(4, 2), "kept"] == pytest.approx(expected)
    spectra = rearranged_spectra(f)
    assert list(spectra) == [(2, 4), (1, 1), (2, 8)]
    np.testing.assert_allclose(spectra[2, 4][3:], 0, atol=1e-6)
    np.testing.assert_allclose(spectra[1, 1], np.linalg.svd(dense(f), compute_uv=False), atol=1e-6)
    with pytest.raises(CdkaError, match="for layers of up to 4,000,000 weights: 'q' has"):
        capture_map(factors(out=4096, inn=1024 * 3))


def test_an_adapter_has_its_place_on_the_map():
    table = placed([factors(), factors(), factors(1, 1, 2)])
    assert table.to_dict("records") == [
        {"r1": 1, "r2": 1, "r": 2, "layers": 1, "num_params": 2 * (64 + 24)},
        {"r1": 2, "r2": 4, "r": 3, "layers": 2, "num_params": 2 * factors().num_params},
    ]

"""Every dialect is read to the delta W of its own arithmetic: formulas, PEFT's and LyCORIS' own code, random shapes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_files import loha, lokr, lora, named, save, storyaura, strided_delta, takenoko
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model
from safetensors.torch import save_file as save_torch
from torch import nn

from cdka.adapter import CdkaConfig
from cdka.adapter_files import open_adapter
from cdka.components import Components
from cdka.errors import CdkaError

SIZES = st.integers(1, 5)
SEEDS = st.integers(0, 2**31)
ALPHAS = st.sampled_from([0.5, 1.0, 3.0, 8.0])


def assert_delta(adapter, name: str, expected: np.ndarray, tolerance: float = 1e-12) -> None:
    found = adapter.find(name).factors.delta()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * max(1.0, np.abs(expected).max())


def read(tensors, config=None, **metadata):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("a" if config is not None else "a.safetensors")
        return open_adapter(save(path, tensors, config, **metadata))


@settings(max_examples=25, deadline=None)
@given(SEEDS, SIZES, SIZES, SIZES, SIZES, SIZES, ALPHAS)
def test_every_dialect_has_the_delta_weight_of_its_own_formula(seed, a, b, c, d, r, alpha):
    rng = np.random.default_rng(seed)
    cases = {
        "kohya-lora": ("lora_unet_", lora(rng, a * b, c * d, r, alpha), (1, 1, r)),
        "kohya-loha": ("lora_te1_", loha(rng, a * b, c * d, r, alpha), (1, 1, r * r)),
        "kohya-lokr": ("lora_unet_", lokr(rng, a, b, c, d, r, alpha), (b, c, 1)),
        "simpletuner-lokr": ("lycoris_", lokr(rng, a, b, c, d, r, alpha, "2"), (1, c, r)),
        "ai-toolkit-lokr": ("diffusion_model.", lokr(rng, a, b, c, d, r, alpha, "1"), (b, c, 1)),
        "plain-lokr": ("", lokr(rng, a, b, c, d, r, alpha, "12"), (1, c, r)),
        "storyaura-cdka": ("lora_unet_", storyaura(rng, a, b, c, d, r, alpha), (b, c, r)),
        "takenoko-cdka": ("cdka_unet_", takenoko(rng, a, b, c, d, r, alpha), (b, c, r)),
    }
    for kind, (prefix, (tensors, expected), components) in cases.items():
        adapter = read(named(prefix, {"block": tensors}))
        assert (adapter.kind, adapter.prefix) == (kind, prefix)
        assert adapter.modules[0].components == Components(*components)
        assert_delta(adapter, "block", expected)


def test_the_research_code_interleaves_components_and_names_them_in_its_configuration():
    rng = np.random.default_rng(0)
    (r1, r2, r), A, B = (2, 3, 4), rng.normal(size=(8, 5)), rng.normal(size=(7, 12))
    tensors = {"base_model.model.layer.q.lora_A.weight": A, "base_model.model.layer.q.lora_B.weight": B}
    expected = 6.0 / np.sqrt(r * r2) * strided_delta(A, B, r1, r2, r)
    adapter = read(tensors, {"peft_type": "LORA", "r1": r1, "r2": r2, "r": r, "lora_alpha": 6.0})
    assert (adapter.kind, adapter.method) == ("official-cdka", "cdka")
    assert_delta(adapter, "layer.q", expected)
    with pytest.raises(CdkaError, match="give its r1, r2, r with --components"):
        read(tensors, {"peft_type": "LORA", "r": r, "lora_alpha": 6.0})


def test_a_krona_file_of_anima_is_a_lokr_whose_alpha_counts_for_nothing():
    tensors, expected = lokr(np.random.default_rng(1), 3, 2, 4, 5, 1, alpha=17.0)
    adapter = read(named("lora_unet_", {"x": tensors}), ss_network_module="networks.cdka")
    assert (adapter.kind, adapter.modules[0].components) == ("anima-cdka", Components(2, 4, 1))
    assert_delta(adapter, "x", expected)


@pytest.mark.parametrize("decompose", ["", "1", "2", "12"])
def test_lokr_and_loha_agree_with_the_code_of_lycoris(decompose):
    functional = pytest.importorskip("lycoris.functional", reason="lycoris-lora is not installed")
    rng = np.random.default_rng(2)
    tensors, _ = lokr(rng, 3, 4, 5, 2, 2, 3.0, decompose)
    names = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b")
    weights = [torch.from_numpy(tensors[n]) if n in tensors else None for n in names]
    expected = functional.lokr.diff_weight(*weights, None, gamma=3.0)
    assert_delta(read(named("lycoris_", {"x": tensors})), "x", expected.numpy())
    tensors, _ = loha(rng, 6, 10, 2, 3.0)
    weights = [torch.from_numpy(tensors[n]) for n in ("hada_w1_b", "hada_w1_a", "hada_w2_b", "hada_w2_a")]
    expected = functional.loha.diff_weight(*weights, None, None, gamma=3.0 / 2)
    assert_delta(read(named("lycoris_", {"x": tensors})), "x", expected.numpy())


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, 60), nn.Tanh(), nn.Linear(60, 16)).double()


BOTH = {"target_modules": ["0", "2"]}
OF_PEFT = {
    "lora": LoraConfig(
        r=5, lora_alpha=7, init_lora_weights=False, rank_pattern={"2": 3}, alpha_pattern={"0": 2}, **BOTH
    ),
    "rslora": LoraConfig(r=5, lora_alpha=7, init_lora_weights=False, use_rslora=True, **BOTH),
    "lokr": LoKrConfig(r=2, alpha=3, init_weights=False, rank_pattern={"2": 50}, **BOTH),
    "lokr, decomposed": LoKrConfig(r=2, alpha=3, init_weights=False, decompose_both=True, decompose_factor=4, **BOTH),
    "loha": LoHaConfig(r=3, alpha=6, init_weights=False, **BOTH),
    "cdka": CdkaConfig(r1=2, r2=4, r=3, alpha=5.0, init_weights="random", component_pattern={"2": {"r": 1}}, **BOTH),
}


@pytest.mark.parametrize("name", OF_PEFT)
def test_what_peft_saves_has_the_delta_weight_that_peft_computes(name, tmp_path):
    model = get_peft_model(network(), OF_PEFT[name]).double()
    model.save_pretrained(tmp_path)
    adapter = open_adapter(tmp_path)
    assert adapter.kind == f"peft-{name.split(',')[0].removeprefix('rs')}"
    assert [module.name for module in adapter.modules] == ["0", "2"]
    for module in adapter.modules:
        expected = model.base_model.model.get_submodule(module.name).get_delta_weight("default")
        assert_delta(adapter, module.name, expected.detach().numpy())


CONV = {"target_modules": ["0", "2"]}
OF_CONVOLUTIONS = {
    "lora": LoraConfig(r=3, lora_alpha=6, init_lora_weights=False, **CONV),
    "lokr": LoKrConfig(r=100, alpha=50, init_weights=False, **CONV),
    "lokr, decomposed": LoKrConfig(r=2, alpha=4, init_weights=False, **CONV),
    "loha": LoHaConfig(r=2, alpha=4, init_weights=False, **CONV),
}


@pytest.mark.parametrize("name", OF_CONVOLUTIONS)
def test_convolutions_are_read_flattened(name, tmp_path):
    torch.manual_seed(0)
    base = nn.Sequential(nn.Conv2d(6, 8, 3), nn.Tanh(), nn.Conv2d(8, 4, (1, 2))).double()
    model = get_peft_model(base, OF_CONVOLUTIONS[name]).double()
    model.save_pretrained(tmp_path)
    adapter = open_adapter(tmp_path)
    for module in adapter.modules:
        expected = model.base_model.model.get_submodule(module.name).get_delta_weight("default").detach().numpy()
        assert_delta(adapter, module.name, expected.reshape(len(expected), -1))
        if name in ("lora", "lokr"):
            assert module.kernel == expected.shape[2:]


def test_tucker_convolutions_are_refused_by_name(tmp_path):
    base = nn.Sequential(nn.Conv2d(6, 8, 3)).double()
    for config in (LoKrConfig, LoHaConfig):
        model = get_peft_model(base, config(r=1, use_effective_conv2d=True, target_modules=["0"]))
        model.save_pretrained(tmp_path / config.__name__)
        with pytest.raises(CdkaError, match="a convolution in Tucker form"):
            open_adapter(tmp_path / config.__name__)
        base = model.unload()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_is_widened_exactly(dtype, tmp_path):
    A, B = torch.randn(3, 8).to(dtype), torch.randn(6, 3).to(dtype)
    save_torch({"lora_unet_x.lora_down.weight": A, "lora_unet_x.lora_up.weight": B}, tmp_path / "a.safetensors")
    adapter = open_adapter(tmp_path / "a.safetensors")
    assert adapter.modules[0].dtype == "F32"
    assert_delta(adapter, "x", (B.double() @ A.double()).numpy())


def test_joined_names_find_their_paths_in_the_base_model(tmp_path):
    rng = np.random.default_rng(0)
    parts = {"down_blocks_0_to_q": lora(rng, 6, 8, 2, 1.0)[0], "mid_block_conv": lora(rng, 4, 18, 2, 1.0)[0]}
    adapter = open_adapter(save(tmp_path / "a.safetensors", named("lora_unet_", parts)))
    weights = {"down_blocks.0.to_q": (6, 8), "mid_block.conv": (4, 2, 3, 3), "other": (1, 1)}
    found = adapter.with_paths(weights)
    assert [(m.name, m.kernel) for m in found.modules] == [("down_blocks.0.to_q", ()), ("mid_block.conv", (3, 3))]
    with pytest.raises(CdkaError, match="must be one layer of the model: 'mid_block_conv'"):
        adapter.with_paths({"down_blocks.0.to_q": (6, 8)})
    with pytest.raises(CdkaError, match=r"Padded sizes and other models' adapters are refused"):
        adapter.with_paths({**weights, "down_blocks.0.to_q": (5, 8)})

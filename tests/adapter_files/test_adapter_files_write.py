"""Round trips: what is written holds the same delta W, in stock PEFT without cdka, and read back from every dialect."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_files import loha, lokr, lora, named, official, save, storyaura, takenoko
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_torch
from torch import nn

from cdka.adapter import CdkaConfig
from cdka.adapter_files import WRITERS, add_adapters, export_adapter, import_adapter, open_adapter, shrink_adapter
from cdka.adapter_files.tensors import CONFIG_FILE, WEIGHTS_FILE
from cdka.cli.main import main
from cdka.components import Components
from cdka.errors import CdkaError
from cdka.theory import delta_weight
from cdka.theory.factors import Factors, added, capture, relative_error

SIZES = st.integers(1, 4)


def same(a: np.ndarray, b: np.ndarray, tolerance: float = 1e-12) -> None:
    assert a.shape == b.shape
    assert np.abs(a - b).max() <= tolerance * max(1.0, np.abs(b).max())


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**31), SIZES, SIZES, SIZES, SIZES, SIZES)
def test_each_dialect_through_cdka_into_every_exact_target_back_and_into_stock_peft(seed, a, b, c, d, r):
    rng = np.random.default_rng(seed)
    sources = {
        "lora": lora(rng, a * b, c * d, r, 3.0),
        "loha": loha(rng, a * b, c * d, r, 3.0),
        "lokr": lokr(rng, a, b, c, d, r, 3.0),
        "lokr2": lokr(rng, a, b, c, d, r, 3.0, "2"),
        "storyaura": storyaura(rng, a, b, c, d, r, 3.0),
        "takenoko": takenoko(rng, a, b, c, d, r, 3.0),
        "anima": lokr(rng, a, b, c, d, 1, 3.0),
    }
    research, expected_of_research, research_config = official(rng, a, b, c, d, r, 3.0)
    sources["official"] = research, expected_of_research
    with tempfile.TemporaryDirectory() as folder:
        for name, (tensors, expected) in sources.items():
            here = Path(folder) / name
            if name == "official":
                source = save(here / "in", named("base_model.model.", {"x": tensors}), research_config)
            else:
                metadata = {"ss_network_module": "networks.cdka"} if name == "anima" else {}
                source = save(here / "in.safetensors", named("lora_unet_", {"x": tensors}), **metadata)
            done = import_adapter(source, here / "cdka")
            assert done.exact
            assert done.error == 0
            for target in WRITERS:
                try:
                    export_adapter(here / "cdka", here / "out" / target, target)
                except CdkaError:
                    if target not in ("lokr", "peft-lokr"):
                        raise
                    continue
                same(open_adapter(here / "out" / target).modules[0].factors.delta(), expected)
                if target in ("lora", "peft-lokr"):
                    check_in_stock_peft(here / "out" / target, expected)
                if target == "lokr":
                    check_in_lycoris(here / "out" / target, expected)


class OneLayer(nn.Module):
    def __init__(self, shape: tuple[int, int]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.x = nn.Linear(shape[1], shape[0])

    def forward(self, x):
        return self.x(x)


def check_in_stock_peft(folder: Path, expected: np.ndarray) -> None:
    """PEFT's own LoRA or LoKr has this delta W in float64, and in float32 the logits of the base weight with it."""
    precise = PeftModel.from_pretrained(OneLayer(expected.shape).double(), folder)
    same(precise.base_model.model.x.get_delta_weight("default").detach().numpy(), expected)
    base = OneLayer(expected.shape)
    x = torch.randn(3, expected.shape[1], generator=torch.Generator().manual_seed(0))
    delta = torch.from_numpy(expected).float()
    logits = nn.functional.linear(x, base.x.weight + delta, base.x.bias).detach()
    found = PeftModel.from_pretrained(OneLayer(expected.shape), folder)(x).detach()
    torch.testing.assert_close(found, logits, rtol=1e-5, atol=1e-5 * max(1.0, float(logits.abs().max())))


def check_in_lycoris(place: Path, expected: np.ndarray) -> None:
    """LyCORIS' functional code has this delta W in float64."""
    from lycoris import functional

    (path,) = place.rglob("*.safetensors") if place.is_dir() else (place,)
    found = {name.rpartition(".")[2]: tensor for name, tensor in load_torch(path).items()}
    w1, w2, alpha = found["lokr_w1"], found["lokr_w2"], float(found["alpha"])
    same(functional.lokr.diff_weight(w1, None, None, w2, None, None, None, gamma=alpha).numpy(), expected)


def test_an_imported_adapter_gives_pefts_logits(tmp_path):
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(24, 60), nn.Tanh(), nn.Linear(60, 16))
    settings = {"target_modules": ["0", "2"], "init_lora_weights": False, "rank_pattern": {"2": 3}}
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=2, bias="all", **settings))
    with torch.no_grad():
        model.base_model.model[0].base_layer.bias += 1
    x = torch.randn(5, 24)
    expected = model(x)
    model.save_pretrained(tmp_path / "lora")
    import_adapter(tmp_path / "lora", tmp_path / "cdka")
    torch.manual_seed(0)
    fresh = nn.Sequential(nn.Linear(24, 60), nn.Tanh(), nn.Linear(60, 16))
    loaded = PeftModel.from_pretrained(fresh, tmp_path / "cdka")
    assert loaded.peft_config["default"].alpha == 2
    assert loaded.peft_config["default"].scaling_rule == "r"
    torch.testing.assert_close(loaded(x), expected, rtol=1e-5, atol=1e-5)


STOCK = """
import sys, torch
from pathlib import Path
from torch import nn
from peft import PeftModel
for case in sorted(Path(sys.argv[1]).iterdir()):
    x = torch.load(case / "x.pt")
    torch.manual_seed(0)
    base = nn.Sequential(nn.Linear(24, 60), nn.Tanh(), nn.Linear(60, 16)).to(x.dtype)
    torch.save(PeftModel.from_pretrained(base, case / "stock")(x).detach(), case / "y.pt")
assert not any(name.split(".")[0] in ("cdka", "app") for name in sys.modules)
"""


def test_stock_peft_in_a_process_without_cdka_gives_the_same_logits(tmp_path):
    cases = [((2, 4, 3), "lora"), ((4, 6, 5), "lora"), ((1, 1, 5), "lora"), ((15, 4, 1), "peft-lokr")]
    expected = {}
    for components, target in cases:
        for dtype in (torch.float32, torch.float64):
            torch.manual_seed(0)
            base = nn.Sequential(nn.Linear(24, 60), nn.Tanh(), nn.Linear(60, 16)).to(dtype)
            pattern = {"2": (4, 4, 1)} if target == "peft-lokr" else {"2": {"r": 1}}
            settings = {"alpha": 3.0, "init_weights": "random", "target_modules": ["0", "2"]}
            r1, r2, r = components
            config = CdkaConfig(r1=r1, r2=r2, r=r, component_pattern=pattern, **settings)
            model = get_peft_model(base, config).to(dtype)
            case = tmp_path / "cases" / f"{r1}-{r2}-{r}-{str(dtype)[-2:]}"
            model.save_pretrained(tmp_path / "cdka" / case.name)
            assert export_adapter(tmp_path / "cdka" / case.name, case / "stock", target).exact
            x = torch.randn(5, 24, dtype=dtype)
            torch.save(x, case / "x.pt")
            expected[case] = model(x).detach()
    environment = {"PATH": "", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", STOCK, str(tmp_path / "cases")]
    subprocess.run(command, check=True, cwd=tmp_path, env=environment, capture_output=True, timeout=300)
    for case, logits in expected.items():
        tolerance = 1e-5 if logits.dtype == torch.float32 else 1e-12
        torch.testing.assert_close(torch.load(case / "y.pt"), logits, rtol=tolerance, atol=tolerance)


def test_lycoris_rebuilds_the_delta_weight_of_an_exported_lokr(tmp_path):
    functional = pytest.importorskip("lycoris.functional", reason="lycoris-lora is not installed")
    tensors, expected = storyaura(np.random.default_rng(0), 5, 2, 4, 3, 1, 7.0)
    save(tmp_path / "in.safetensors", named("lora_unet_", {"x": tensors}))
    export_adapter(tmp_path / "in.safetensors", tmp_path / "out.safetensors", "lokr", prefix="lycoris_")
    found = load_torch(tmp_path / "out.safetensors")
    w1, w2 = found["lycoris_x.lokr_w1"], found["lycoris_x.lokr_w2"]
    delta = functional.lokr.diff_weight(w1, None, None, w2, None, None, None, gamma=float(found["lycoris_x.alpha"]))
    same(delta.numpy(), expected)


def adapter_folder(
    tmp_path: Path, name: str, r1: int, r2: int, r: int, out: int = 16, inn: int = 24, **changes
) -> Path:
    rng = np.random.default_rng(sum(name.encode()))
    tensors = {}
    for module in ("layers.0.q", "layers.10.q"):
        tensors[f"base_model.model.{module}.cdka_A"] = rng.normal(size=(r, r1, inn // r2))
        tensors[f"base_model.model.{module}.cdka_B"] = rng.normal(size=(r, out // r1, r2))
    config = {"peft_type": "CDKA", "r1": r1, "r2": r2, "r": r, "alpha": 8.0, "scaling_rule": "sqrt_r_r2"}
    return save(tmp_path / name, tensors, config | {"target_modules": ["q"]} | changes)


def test_a_rank_above_the_layers_smaller_side_is_written_at_that_side(tmp_path):
    source = adapter_folder(tmp_path, "a", 4, 8, 4)
    done = export_adapter(source, tmp_path / "lora", "lora")
    assert done.ranks == {"layers.0.q": 16, "layers.10.q": 16}
    for name in done.ranks:
        same(
            open_adapter(tmp_path / "lora").find(name).factors.delta(), open_adapter(source).find(name).factors.delta()
        )


def test_max_rank_refuses_and_approximates_only_where_it_is_allowed_with_the_error_said(tmp_path, capsys):
    source = adapter_folder(tmp_path, "a", 2, 4, 1)
    assert main(["export", str(source), str(tmp_path / "b"), "--to", "lora", "--max-rank", "4"]) == 2
    message = capsys.readouterr().err
    assert "has rank 8, above --max-rank 4: cut to it, delta W would be off by 0." in message
    assert not (tmp_path / "b").exists()
    arguments = [str(source), str(tmp_path / "b"), "--to", "lora", "--max-rank", "4", "--approximate", "--json"]
    assert main(["export", *arguments]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["exact"] is False
    cut, exact = open_adapter(tmp_path / "b"), open_adapter(source)
    errors = [relative_error(e.factors, c.factors) for e, c in zip(exact.modules, cut.modules, strict=True)]
    assert answer["error"] == pytest.approx(max(errors), rel=1e-9)
    assert answer["rank"] == 4


def test_the_serving_plan_names_vllms_flag_and_what_drops(tmp_path):
    plans = {}
    for name, components in {"small": (2, 8, 1), "default": (2, 8, 4), "large": (8, 16, 5)}.items():
        source = adapter_folder(tmp_path, name, *components, out=1024, inn=1024)
        plans[name] = export_adapter(source, tmp_path / f"{name}-lora", "lora").serving
    assert (plans["small"].rank, plans["small"].vllm_flag) == (16, "")
    assert (plans["default"].rank, plans["default"].vllm_flag) == (64, "--max-lora-rank 64")
    assert "a stock vLLM refuses more than 16" in plans["default"].notes[0]
    assert (plans["large"].rank, plans["large"].vllm_max_lora_rank) == (640, None)
    assert "merge" in plans["large"].notes[0]
    mixed = adapter_folder(tmp_path, "mixed", 2, 4, 1, modules_to_save=["head"])
    tensors = {**load_file(mixed / WEIGHTS_FILE), "base_model.model.head.weight": np.ones((2, 2))}
    tensors["base_model.model.layers.0.q.cdka_A"] = np.ones((2, 2, 6))
    tensors["base_model.model.layers.0.q.cdka_B"] = np.ones((2, 8, 4))
    save(mixed, tensors, json.loads((mixed / CONFIG_FILE).read_text()))
    done = export_adapter(mixed, tmp_path / "mixed-lora", "lora")
    assert len(done.serving.drops) == 2
    config = json.loads((tmp_path / "mixed-lora" / CONFIG_FILE).read_text())
    assert (config["r"], config["lora_alpha"], config["modules_to_save"]) == (16, 16, ["head"])
    assert config["rank_pattern"] == config["alpha_pattern"] == {r"^layers\.10\.q": 8}
    assert np.array_equal(
        load_file(tmp_path / "mixed-lora" / WEIGHTS_FILE)["base_model.model.head.weight"], np.ones((2, 2))
    )
    with pytest.raises(CdkaError, match="holds adapters only: the adapter comes with 1 trained tensors"):
        export_adapter(mixed, tmp_path / "kohya", "kohya")
    lokr_plan = export_adapter(adapter_folder(tmp_path, "k", 2, 8, 1), tmp_path / "k-lokr", "lokr").serving
    assert "ComfyUI" in lokr_plan.loads
    assert "PEFT LoKrConfig" in lokr_plan.does_not_load


def test_a_lokr_that_peft_cannot_hold_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(CdkaError, match=r"out/r1 = r2 on every module: got 'layers\.0\.q' \(8 x 4\).*Use --to lora"):
        export_adapter(adapter_folder(tmp_path, "a", 2, 4, 1), tmp_path / "b", "peft-lokr")
    assert export_adapter(adapter_folder(tmp_path, "c", 4, 4, 1), tmp_path / "d", "peft-lokr").exact


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.tuples(*[st.sampled_from([1, 2, 3, 4, 6, 12])] * 4), SIZES, SIZES)
def test_any_two_adapters_add_exactly_at_their_greatest_common_divisors(seed, kinds, r, s):
    rng = np.random.default_rng(seed)
    (r1, r2, s1, s2), (out, inn) = kinds, (12, 24)
    one = Factors(rng.normal(size=(r, r1, inn // r2)), rng.normal(size=(r, out // r1, r2)), 0.7)
    two = Factors(rng.normal(size=(s, s1, inn // s2)), rng.normal(size=(s, out // s1, s2)), -1.3)
    total = added(one, two, (2.0, -0.5))
    g1, g2 = np.gcd(r1, s1), np.gcd(r2, s2)
    assert total.components == Components(
        int(g1), int(g2), int(r * (r1 // g1) * (r2 // g2) + s * (s1 // g1) * (s2 // g2))
    )
    expected = 2.0 * delta_weight(one.A, one.B, 0.7) - 0.5 * delta_weight(two.A, two.B, -1.3)
    same(total.delta(), expected)
    smaller = total.compressed()
    same(smaller.delta(), expected, 1e-11)
    assert smaller.components.r <= min(out // g1 * g2, g1 * inn // g2)


def test_the_passports_example_of_a_sum(tmp_path, capsys):
    one, two = adapter_folder(tmp_path, "a", 2, 8, 2), adapter_folder(tmp_path, "b", 4, 4, 1)
    assert main(["add", str(one), str(two), str(tmp_path / "c"), "--weights", "1,0.5", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [(m["r1"], m["r2"], m["r"]) for m in answer["modules"]] == [(2, 4, 6)] * 2
    assert (answer["exact"], answer["error"]) == (True, 0.0)
    total = open_adapter(tmp_path / "c")
    for module in total.modules:
        expected = open_adapter(one).find(module.name).factors.delta()
        same(module.factors.delta(), expected + 0.5 * open_adapter(two).find(module.name).factors.delta())
    done = add_adapters(one, two, tmp_path / "d", to=Components(2, 4, 2))
    assert not done.exact
    added_up = add_adapters(one, two, tmp_path / "e")
    shrunk = shrink_adapter(tmp_path / "e", tmp_path / "f", Components(2, 4, 2))
    for name, error in done.errors.items():
        kept = capture(open_adapter(added_up.path).find(name).factors, 2, 4)[1]
        assert error == pytest.approx(np.sqrt(1 - kept**2), rel=1e-9)
        assert shrunk.errors[name] == pytest.approx(error, rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([(2, 4), (4, 2), (1, 1), (3, 8)]), SIZES)
def test_the_nearest_components_are_those_of_the_singular_values(seed, kind, r):
    rng = np.random.default_rng(seed)
    factors = Factors(rng.normal(size=(3, 4, 6)), rng.normal(size=(3, 3, 4)), 1.5)  # 12 x 24
    found, error = factors.nearest(Components(*kind, r))
    kept = capture(factors, *kind)
    assert error == pytest.approx(np.sqrt(max(0.0, 1 - kept[min(r, len(kept)) - 1] ** 2)), abs=1e-6)
    assert error == pytest.approx(relative_error(factors, found), abs=1e-12)
    assert factors.singular_values() == pytest.approx(np.linalg.svd(factors.delta(), compute_uv=False), abs=1e-9)


def test_a_module_that_one_adapter_alone_has_is_taken_over_and_said(tmp_path):
    one = adapter_folder(tmp_path, "a", 2, 4, 1)
    tensors = {k.replace("layers.10", "layers.3"): v for k, v in load_file(one / WEIGHTS_FILE).items()}
    two = save(tmp_path / "two", tensors, json.loads((one / CONFIG_FILE).read_text()))
    done = add_adapters(one, two, tmp_path / "c", weights=(1.0, 2.0))
    assert [m.name for m in done.adapter.modules] == ["layers.0.q", "layers.10.q", "layers.3.q"]
    assert "2 modules are adapted by one of the two only" in done.adapter.notes[0]
    same(
        open_adapter(tmp_path / "c").find("layers.3.q").factors.delta(),
        2.0 * open_adapter(two).find("layers.3.q").factors.delta(),
    )
    with pytest.raises(CdkaError, match=r"is \(16, 24\) \(out, in\) in one and \(32, 24\) in the other"):
        add_adapters(one, adapter_folder(tmp_path, "big", 2, 4, 1, out=32), tmp_path / "d")


def test_nothing_is_written_over_and_a_refusal_leaves_nothing_behind(tmp_path):
    source = adapter_folder(tmp_path, "a", 2, 4, 2)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("keep me")
    (tmp_path / "there.safetensors").write_bytes(b"keep me")
    before = sorted(p.name for p in tmp_path.iterdir())
    for out in ("full", "there.safetensors"):
        with pytest.raises(CdkaError, match="the export needs a new"):
            export_adapter(source, tmp_path / out, "kohya")
    with pytest.raises(CdkaError, match="this kind of adapter is a directory"):
        export_adapter(source, tmp_path / "new.safetensors", "lora")
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_reading_and_writing_need_no_torch(tmp_path):
    source = adapter_folder(tmp_path, "a", 2, 4, 1)
    code = (
        "import sys; from cdka.cli.main import main; "
        f"assert main(['export', {str(source)!r}, {str(tmp_path / 'b')!r}, '--to', 'lora']) == 0; "
        f"assert main(['import', {str(tmp_path / 'b')!r}, {str(tmp_path / 'c')!r}]) == 0; "
        "assert not {'torch', 'peft', 'streamlit', 'plotly'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)

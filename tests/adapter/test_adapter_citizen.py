"""What a PEFT user may expect of any tuner: settings, offloading, tracing, weight norms, tied heads, other layers."""

from __future__ import annotations

import json
import warnings

import accelerate
import pytest
import torch
import transformers
from peft import PeftModel, get_peft_model
from torch import nn

from cdka.adapter import (
    CdkaConfig,
    CdkaLayer,
    initialise_from_gradient,
    loraplus_groups,
    packed,
    weight_gradients,
)
from cdka.adapter_files import export_adapter, export_lora, open_adapter
from cdka.components import Components
from cdka.cost.adapter import fitted_components, num_params
from cdka.errors import CdkaError
from cdka.models.shapes import LinearShape


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, 60), nn.Tanh(), nn.Linear(60, 16)).double()


def config(**changes) -> CdkaConfig:
    settings = {"r1": 2, "r2": 4, "r": 3, "alpha": 8.0, "target_modules": ["0", "2"], "init_weights": False}
    return CdkaConfig(**{**settings, **changes})


def layers(model: nn.Module) -> dict[str, CdkaLayer]:
    return {name.rpartition("model.")[2]: m for name, m in model.named_modules() if isinstance(m, CdkaLayer)}


# -- settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "zero"), [(True, True), ("kaiming", True), (False, False), ("random", False)])
def test_init_weights_is_true_or_false_as_for_every_tuner_or_a_name(value, zero, tmp_path):
    model = get_peft_model(network(), config(init_weights=value))
    assert all((layer.cdka_B["default"] == 0).all() == zero for layer in layers(model).values())
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["init_weights"] == value
    assert PeftModel.from_pretrained(network(), tmp_path).peft_config["default"].init_weights == value


def test_empty_patterns_are_none_as_lora_takes_them_and_rank_pattern_is_r():
    settings = {"component_pattern": None, "alpha_pattern": None, "layers_pattern": [], "rank_pattern": {"2": 7}}
    model = get_peft_model(network(), config(**settings))
    assert {name: layer.r for name, layer in layers(model).items()} == {"0": {"default": 3}, "2": {"default": 7}}
    assert layers(model)["2"].components["default"].as_tuple() == (2, 4, 7)
    assert config(rank_pattern=None).rank_pattern == {}
    with pytest.raises(CdkaError, match="rank_pattern gives r, a positive integer: got 0 for '2'"):
        config(rank_pattern={"2": 0})
    with pytest.warns(RuntimeWarning, match="match no adapted module are ignored: 'nowhere'"):
        get_peft_model(network(), config(rank_pattern={"nowhere": 7}))


def test_an_unknown_field_is_refused_with_the_nearest_name_and_is_a_type_error_to_peft(tmp_path):
    with pytest.raises(
        CdkaError, match=r"unexpected keyword argument 'targets_modules'\. Did you mean 'target_modules'"
    ):
        CdkaConfig(targets_modules=["0"])
    with pytest.raises(CdkaError, match="CDKA adapts layers, not parameters of fused experts"):
        CdkaConfig(target_parameters=["experts.down_proj"])
    get_peft_model(network(), config()).save_pretrained(tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "of_a_later_version": 1}))
    with pytest.warns(UserWarning, match="Unexpected keyword arguments"):
        PeftModel.from_pretrained(network(), tmp_path)


def test_the_gradient_start_is_finished_before_training_or_refused(tmp_path):
    model = get_peft_model(network(), config(init_weights="gradient")).train()
    x = torch.randn(5, 24, dtype=torch.float64)
    with pytest.raises(CdkaError, match="followed by initialise_from_gradient before training: got none for 'default'"):
        model(x)
    model.eval()(x)
    gradients = weight_gradients(model.train(), lambda: model(x).square().sum())
    initialise_from_gradient(model, gradients)
    model(x).sum().backward()
    model.save_pretrained(tmp_path)
    for options in ({}, {"low_cpu_mem_usage": True}):
        loaded = PeftModel.from_pretrained(network(), tmp_path, is_trainable=True, **options).train()
        torch.testing.assert_close(loaded(x), model(x))


# -- sizes that r1 and r2 do not divide --------------------------------------------------------------------------


def odd() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, 60), nn.Tanh(), nn.Linear(60, 15), nn.Tanh(), nn.Linear(15, 4)).double()


def test_layers_that_do_not_fit_are_refused_left_out_or_given_the_nearest_components(tmp_path):
    settings = {"r1": 2, "r2": 8, "r": 1, "target_modules": ["0", "2", "4"]}
    with pytest.raises(CdkaError, match="r1 must divide out_features: got r1=2, out_features=15"):
        get_peft_model(odd(), config(**settings))
    with pytest.warns(
        RuntimeWarning, match=r"indivisible='skip': \(2,8,1\) does not fit \(15, 60\) \(out, in\), left out"
    ):
        model = get_peft_model(odd(), config(indivisible="skip", **settings))
    assert set(layers(model)) == {"0"}
    with pytest.warns(RuntimeWarning, match=r"indivisible='nearest': \(2,8,1\) becomes \(1,6,1\)"):
        model = get_peft_model(odd(), config(indivisible="nearest", **settings))
    found = {name: layer.components["default"].as_tuple() for name, layer in layers(model).items()}
    assert found == {"0": (2, 8, 1), "2": (1, 6, 1), "4": (2, 5, 1)}
    x = torch.randn(5, 24, dtype=torch.float64)
    model.save_pretrained(tmp_path / "a")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.testing.assert_close(PeftModel.from_pretrained(odd(), tmp_path / "a")(x), model(x))
    export_lora(tmp_path / "a", tmp_path / "lora")
    lora = PeftModel.from_pretrained(odd(), tmp_path / "lora")
    torch.testing.assert_close(lora(x), model(x), rtol=1e-12, atol=1e-12)
    with pytest.raises(CdkaError, match=r"unknown indivisible 'near'\. Did you mean 'nearest'"):
        config(indivisible="near")


@pytest.mark.parametrize("indivisible", ["skip", "nearest"])
def test_the_count_without_a_model_is_what_is_allocated(indivisible):
    linears = [LinearShape(str(i), inn, out, 1, "other") for i, inn, out in ((0, 24, 60), (2, 60, 15), (4, 15, 4))]
    settings = {"r1": 2, "r2": 8, "r": 3, "target_modules": ["0", "2", "4"], "indivisible": indivisible}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(odd(), config(**settings))
    allocated = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert num_params(linears, Components(2, 8, 3), indivisible) == allocated
    found = {layer.path: own for layer, own in fitted_components(linears, Components(2, 8, 3), indivisible) if own}
    assert found == {name: layer.components["default"] for name, layer in layers(model).items()}


def test_loraplus_groups_give_every_trainable_parameter_once_and_b_the_faster_rate():
    model = get_peft_model(network(), config(bias="all"))
    groups = loraplus_groups(model, 1e-3, 16.0, weight_decay=0.1)
    found = [p for group in groups for p in group["params"]]
    assert {id(p) for p in found} == {id(p) for p in model.parameters() if p.requires_grad}
    assert len(found) == len({id(p) for p in found})
    assert {id(p) for p in groups[1]["params"]} == {id(layer.cdka_B["default"]) for layer in layers(model).values()}
    assert [group["lr"] for group in groups] == [1e-3, 16e-3, 16e-3]
    torch.optim.AdamW(groups)
    with pytest.raises(CdkaError, match="this model has none"):
        loraplus_groups(network(), 1e-3, 16.0)


def test_the_reference_that_trls_trainers_add_is_a_copy_and_any_other_adapter_starts_anew():
    """As in DPOTrainer: the configuration itself, then a copy of what has ``.default.`` in its name; ours has not."""
    model = get_peft_model(network(), config(target_modules=["0"], modules_to_save=["2"]))
    x = torch.randn(5, 24, dtype=torch.float64)
    expected = model(x)
    for name in ("ref", "other"):
        model.add_adapter(name, model.peft_config["default"])
        for parameter, values in list(model.named_parameters()):
            if ".default." in parameter:
                model.get_parameter(parameter.replace(".default.", f".{name}.")).data.copy_(values.data)
    torch.testing.assert_close(model(x), expected, rtol=0, atol=0)
    model.set_adapter("ref")
    torch.testing.assert_close(model(x), expected, rtol=0, atol=0)
    model.set_adapter("other")
    assert not torch.allclose(model(x), expected)


# -- accelerate ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["cpu", "disk"])
def test_offloaded_factors_are_brought_back_for_the_layer(place, tmp_path):
    base = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 8))
    model = get_peft_model(base, CdkaConfig(r1=2, r2=4, r=2, init_weights="random", target_modules=["0"])).eval()
    x = torch.randn(5, 16)
    expected, delta = model(x), layers(model)["0"].get_delta_weight("default")
    device = torch.device("cpu")
    if place == "cpu":
        accelerate.cpu_offload(model, execution_device=device)
    else:
        accelerate.disk_offload(model, str(tmp_path), execution_device=device)
    assert layers(model)["0"].cdka_A["default"].device.type == "meta"
    for _ in range(2):
        torch.testing.assert_close(model(x), expected, rtol=0, atol=0)
    torch.testing.assert_close(layers(model)["0"].get_delta_weight("default"), delta, rtol=0, atol=0)
    assert layers(model)["0"].cdka_A["default"].device.type == "meta"


# -- delta weight and merging -------------------------------------------------------------------------------------


def test_the_delta_weight_is_differentiable():
    layer = layers(get_peft_model(network(), config()))["0"]
    layer.get_delta_weight("default").square().sum().backward()
    assert layer.cdka_A["default"].grad.abs().sum() > 0
    assert layer.cdka_B["default"].grad.abs().sum() > 0


@pytest.mark.parametrize("kind", ["parametrised", "hooked"])
def test_a_merge_that_weight_normalisation_would_lose_is_refused(kind):
    base = network()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrap = nn.utils.parametrizations.weight_norm if kind == "parametrised" else nn.utils.weight_norm
        wrap(base[0])
    model = get_peft_model(base, config(target_modules="0|2"))
    x = torch.randn(5, 24, dtype=torch.float64)
    before = model(x)
    for merge in (model.merge_adapter, model.merge_and_unload):
        with pytest.raises(
            CdkaError, match="a layer that computes its weight from others, as weight normalisation does"
        ):
            merge()
    torch.testing.assert_close(model(x), before)


def tied(**changes) -> nn.Module:
    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
    settings = transformers.LlamaConfig(num_attention_heads=4, tie_word_embeddings=True, **{**sizes, **changes})
    return transformers.LlamaForCausalLM(settings).eval()


def test_merging_into_a_tied_head_warns_and_names_both():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(tied(), config(target_modules=["lm_head", "q_proj"]))
    with pytest.warns(UserWarning, match="merging into 'lm_head' changes 'model.embed_tokens' too"):
        model.merge_adapter()
    model = get_peft_model(tied(), config(target_modules=["q_proj"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.merge_adapter()


# -- meta, tracing, experts ---------------------------------------------------------------------------------------


def test_meta_tensors_and_tracing_work_as_for_lora():
    with torch.device("meta"):
        model = get_peft_model(nn.Sequential(nn.Linear(24, 60), nn.Tanh(), nn.Linear(60, 16)), config())
        assert model(torch.empty(5, 24)).shape == (5, 16)
    model = get_peft_model(network(), config()).eval()
    x = torch.randn(5, 24, dtype=torch.float64)
    traced = torch.jit.trace(model, x)
    other = torch.randn(7, 24, dtype=torch.float64)
    torch.testing.assert_close(traced(other), model(other))


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up_proj = nn.Parameter(torch.zeros(4, 8, 24))

    def forward(self, x):
        return x


class Mixture(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(24, 24)
        self.experts = Experts()
        self.head = nn.Linear(24, 4)

    def forward(self, x):
        return self.head(self.experts(self.q(x)))


def test_all_linear_names_the_fused_experts_that_it_leaves_out():
    with pytest.warns(UserWarning, match=r"leaves out 'experts.up_proj': the weights of fused experts are parameters"):
        get_peft_model(Mixture(), config(target_modules="all-linear"))


# -- convolutions and embeddings ----------------------------------------------------------------------------------

CONVOLUTIONS = {
    "conv1d": (nn.Conv1d(8, 12, 3, padding=1), (6, 8, 5)),
    "conv2d": (nn.Conv2d(8, 12, (3, 2), stride=2, padding=1, padding_mode="circular"), (6, 8, 5, 7)),
    "groups": (nn.Conv2d(8, 12, 3, groups=4, dilation=2), (6, 8, 7, 7)),
    "pointwise": (nn.Conv2d(8, 12, 1, bias=False), (6, 8, 3, 3)),
    "conv3d": (nn.Conv3d(8, 12, 2), (6, 8, 3, 3, 3)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_are_adapted_merged_mixed_saved_and_exported(name, tmp_path):
    base, shape = CONVOLUTIONS[name]
    make = lambda: nn.Sequential(nn.Sequential(*[type(base)(**arguments(base))]), nn.Tanh()).double()  # noqa: E731
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64)
    plain = make()
    state = {k: v.clone() for k, v in plain.state_dict().items()}

    def fresh():
        model = make()
        model.load_state_dict(state)
        return model

    settings = {"r1": 2, "r2": 2, "r": 3, "target_modules": ["0.0"]}
    model = get_peft_model(fresh(), config(**settings), adapter_name="one")
    layer = layers(model)["0.0"]
    by_hand = fresh()
    with torch.no_grad():
        by_hand[0][0].weight += layer.get_delta_weight("one")
    expected = by_hand(x)
    torch.testing.assert_close(model(x), expected)
    model(x).sum().backward()
    assert layer.cdka_A["one"].grad.abs().sum() > 0
    model.merge_adapter()
    torch.testing.assert_close(model(x), expected)
    model.unmerge_adapter()
    torch.testing.assert_close(model(x), expected)
    with model.disable_adapter():
        torch.testing.assert_close(model(x), plain(x))

    model.add_adapter("two", config(**{**settings, "r1": 4, "r": 1}))
    model.set_adapter("two")
    both = {"one": expected, "two": model(x), "__base__": plain(x)}
    mixed = ["two", "one", "__base__", "one", "two", "one"]
    found = model(x, adapter_names=mixed)
    torch.testing.assert_close(found, torch.stack([both[n][i] for i, n in enumerate(mixed)]))
    with packed(model, ["one", "two"]):
        torch.testing.assert_close(model(x), torch.cat([both["one"][:3], both["two"][3:]]))

    model.save_pretrained(tmp_path, selected_adapters=["one"])
    folder = tmp_path / "one"
    torch.testing.assert_close(PeftModel.from_pretrained(fresh(), folder)(x), expected)
    assert open_adapter(folder).modules[0].kernel == tuple(base.kernel_size)
    done = export_adapter(folder, tmp_path / "lora", "lora")
    assert done.exact
    assert any("pads with zeros" in note for note in done.serving.notes) == (max(base.kernel_size) > 1)
    # PEFT's LoRA wants a rank that the groups divide, and pads with zeros whatever the base layer does.
    if base.groups == 1 and base.padding_mode == "zeros":
        lora = PeftModel.from_pretrained(fresh(), tmp_path / "lora")
        torch.testing.assert_close(lora(x), expected, rtol=1e-12, atol=1e-12)


def arguments(base: nn.Module) -> dict:
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
    return {name: getattr(base, name) for name in names} | {"bias": base.bias is not None}


def test_embeddings_are_adapted_without_forming_their_table(tmp_path):
    torch.manual_seed(0)
    base = nn.Sequential(nn.Embedding(30, 12), nn.Linear(12, 4)).double()
    plain = {k: v.clone() for k, v in base.state_dict().items()}

    def fresh():
        model = nn.Sequential(nn.Embedding(30, 12), nn.Linear(12, 4)).double()
        model.load_state_dict(plain)
        return model

    model = get_peft_model(base, config(r1=3, r2=5, target_modules=["0"]))
    tokens = torch.randint(0, 30, (4, 7))
    by_hand = fresh()
    with torch.no_grad():
        by_hand[0].weight += layers(model)["0"].get_delta_weight("default")
    expected = by_hand(tokens)
    torch.testing.assert_close(model(tokens), expected)
    model(tokens).sum().backward()
    assert layers(model)["0"].cdka_A["default"].grad.abs().sum() > 0
    model.save_pretrained(tmp_path / "a")
    torch.testing.assert_close(PeftModel.from_pretrained(fresh(), tmp_path / "a")(tokens), expected)
    export_adapter(tmp_path / "a", tmp_path / "lora", "lora")
    lora = PeftModel.from_pretrained(fresh(), tmp_path / "lora")
    torch.testing.assert_close(lora(tokens), expected, rtol=1e-12, atol=1e-12)
    merged = model.merge_and_unload()
    torch.testing.assert_close(merged(tokens), expected)

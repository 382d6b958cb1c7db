"""One matrix: everything a PEFT user does, on six architectures with random weights."""

from __future__ import annotations

import copy
import pickle
import warnings
from dataclasses import dataclass
from functools import cache

import pytest
import torch
import transformers
from peft import (
    LoraConfig,
    PeftModel,
    get_layer_status,
    get_model_status,
    get_peft_model,
    get_peft_model_state_dict,
    inject_adapter_in_model,
    set_peft_model_state_dict,
)
from torch import Tensor, nn

from cdka.adapter import CdkaConfig, CdkaLayer, adapter_parameters, export_lora, packed
from cdka.adapter.pack import PackRouter
from cdka.errors import CdkaError

BATCH = 6
"""Divisible among two and three adapters."""


@dataclass(frozen=True)
class Case:
    build: object
    targets: tuple[str, ...]
    inputs: object
    head: str | None = None
    pattern: str = ""

    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return self.build().double().eval()


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(24, 64)
        self.down = nn.Linear(64, 40, bias=False)
        self.head = nn.Linear(40, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.down(torch.tanh(self.up(x)))))


def tokens(**extra):
    ids = torch.randint(0, 60, (BATCH, 5), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, **{name: ids for name in extra}}


def llama():
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2,
        )
    )  # fmt: skip


def gpt2():
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=60, n_embd=32, n_layer=2, n_head=4, n_positions=16, resid_pdrop=0.0, embd_pdrop=0.0,
            attn_pdrop=0.0,
        )
    )  # fmt: skip


def t5():
    return transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=60, d_model=32, d_ff=48, d_kv=8, num_layers=2, num_heads=4, dropout_rate=0.0,
            decoder_start_token_id=0,
        )
    )  # fmt: skip


def bert():
    return transformers.BertForSequenceClassification(
        transformers.BertConfig(
            vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_labels=3,
        )
    )  # fmt: skip


def vit():
    return transformers.ViTForImageClassification(
        transformers.ViTConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, image_size=8,
            patch_size=4, num_channels=1, num_labels=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        )
    )  # fmt: skip


def pixels():
    return {"pixel_values": torch.randn(BATCH, 1, 8, 8, dtype=torch.float64)}


CASES = {
    "llama": Case(llama, ("q_proj", "v_proj", "down_proj"), tokens, "lm_head"),
    "gpt2": Case(gpt2, ("c_attn", "c_proj"), tokens),
    "t5": Case(t5, ("q", "v", "wo"), lambda: tokens(decoder_input_ids=True)),
    "bert": Case(bert, ("query", "value", "output.dense"), tokens, "classifier"),
    "vit": Case(vit, ("q_proj", "v_proj", "fc1"), pixels, "classifier"),
    "mlp": Case(Mlp, ("up", "down"), lambda: {"x": torch.randn(BATCH, 24, dtype=torch.float64)}, "head"),
}
OTHER = {"r1": 1, "r2": 4, "r": 2, "alpha": 4.0}


@pytest.fixture(params=CASES)
def case(request) -> Case:
    return CASES[request.param]


def config(case: Case, **changes) -> CdkaConfig:
    settings = {"r1": 2, "r2": 8, "r": 3, "alpha": 8.0, "init_weights": "random"}
    return CdkaConfig(target_modules=list(case.targets), **{**settings, **changes})


def output(model: nn.Module, inputs: dict[str, Tensor], **kwargs) -> Tensor:
    result = model(**inputs, **kwargs)
    return result if torch.is_tensor(result) else result.logits


def close(a: Tensor, b: Tensor, rtol: float = 1e-9) -> None:
    torch.testing.assert_close(a, b, rtol=rtol, atol=rtol)


def differs(a: Tensor, b: Tensor) -> bool:
    return (a - b).abs().max().item() > 1e-6


def layers(model: nn.Module) -> list[CdkaLayer]:
    return [m for m in model.modules() if isinstance(m, CdkaLayer)]


def test_adapting_adds_delta_weight_and_trains_only_the_factors(case):
    base, inputs = case.model(), case.inputs()
    plain = output(base, inputs)
    frozen = {name: p.clone() for name, p in base.named_parameters()}
    model = get_peft_model(base, config(case))
    assert {n.rpartition(".")[0].rpartition(".")[2] for n, p in model.named_parameters() if p.requires_grad} == {
        "cdka_A", "cdka_B",
    }  # fmt: skip
    adapted = output(model, inputs)
    assert differs(adapted, plain)
    by_hand = case.model()
    with torch.no_grad():
        for name, layer in model.base_model.model.named_modules():
            if isinstance(layer, CdkaLayer):
                by_hand.get_submodule(name).weight += layer.get_delta_weight("default")
    close(output(by_hand, inputs), adapted)
    adapted.square().mean().backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())
    after = model.unload()
    assert all(torch.equal(p, frozen[name]) for name, p in after.named_parameters())


def test_zero_initialisation_leaves_the_model_as_it_was_and_still_has_a_gradient(case):
    base, inputs = case.model(), case.inputs()
    plain = output(base, inputs)
    model = get_peft_model(base, config(case, init_weights="kaiming"))
    adapted = output(model, inputs)
    close(adapted, plain)
    adapted.square().mean().backward()
    assert all(layer.cdka_B["default"].grad.abs().sum() > 0 for layer in layers(model))


def test_merging_and_unmerging_and_unloading(case):
    inputs = case.inputs()
    model = get_peft_model(case.model(), config(case))
    adapted = output(model, inputs)
    model.merge_adapter()
    close(output(model, inputs), adapted)
    model.unmerge_adapter()
    close(output(model, inputs), adapted)
    merged = model.merge_and_unload(safe_merge=True)
    assert not layers(merged)
    close(output(merged, inputs), adapted)
    plain = output(case.model(), inputs)
    close(output(get_peft_model(case.model(), config(case)).unload(), inputs), plain)


def test_safe_merge_of_a_broken_adapter_changes_no_weight_anywhere(case):
    model = get_peft_model(case.model(), config(case))
    with torch.no_grad():
        layers(model)[-1].cdka_B["default"].view(-1)[3] = float("inf")
    before = {name: p.clone() for name, p in model.named_parameters()}
    for merge in (model.merge_adapter, model.merge_and_unload):
        with pytest.raises(CdkaError, match="The adapter default seems to be broken: got NaN or infinity"):
            merge(safe_merge=True)
        for name, p in model.named_parameters():
            torch.testing.assert_close(p, before[name], rtol=0, atol=0, equal_nan=True)
        assert not any(layer.merged for layer in layers(model))


def test_several_adapters(case):
    inputs = case.inputs()
    plain = output(case.model(), inputs)
    model = get_peft_model(case.model(), config(case), adapter_name="one")
    model.add_adapter("two", config(case, **OTHER))
    one = output(model, inputs)
    model.set_adapter("two")
    two = output(model, inputs)
    assert differs(one, two)
    assert not any(p.requires_grad for p in adapter_parameters(model, "one"))
    with model.disable_adapter():
        close(output(model, inputs), plain)
    close(output(model, inputs), two)

    model.base_model.set_adapter(["one", "two"])
    both = output(model, inputs)
    by_hand = case.model()
    with torch.no_grad():
        for name, layer in model.base_model.model.named_modules():
            if isinstance(layer, CdkaLayer):
                total = layer.get_delta_weight("one") + layer.get_delta_weight("two")
                by_hand.get_submodule(name).weight += total
    close(output(by_hand, inputs), both)
    model.merge_adapter()
    close(output(model, inputs), both)
    model.unmerge_adapter()

    model.set_adapter("one")
    model.delete_adapter("two")
    assert not any("two" in name for name, _ in model.named_parameters())
    assert all("two" not in layer.components and "two" not in layer.scaling for layer in layers(model))
    close(output(model, inputs), one)


def test_saving_and_loading(case, tmp_path):
    inputs = case.inputs()
    pattern = {case.targets[0]: {"r": 1}}
    model = get_peft_model(case.model(), config(case, component_pattern=pattern, alpha_pattern={case.targets[1]: 3.0}))
    adapted = output(model, inputs)
    directory = tmp_path / "adapter"
    model.save_pretrained(directory)
    assert sorted(f.name for f in directory.iterdir() if f.suffix != ".md") == [
        "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip
    for options in ({}, {"low_cpu_mem_usage": True}, {"is_trainable": True}):
        loaded = PeftModel.from_pretrained(case.model(), directory, **options)
        close(output(loaded, inputs), adapted)
        assert any(p.requires_grad for p in loaded.parameters()) == bool(options.get("is_trainable"))
    second = get_peft_model(case.model(), config(case, **OTHER))
    second.load_adapter(directory, adapter_name="loaded")
    second.set_adapter("loaded")
    close(output(second, inputs), adapted)


def test_exported_lora_has_the_same_outputs(case, tmp_path):
    inputs = case.inputs()
    pattern = {case.targets[0]: (1, 4, 2)}
    model = get_peft_model(case.model(), config(case, component_pattern=pattern, alpha_pattern={case.targets[1]: -3.0}))
    adapted = output(model, inputs)
    model.save_pretrained(tmp_path / "cdka")
    report = export_lora(tmp_path / "cdka", tmp_path / "lora")
    shapes = {name: m.weight.shape for name, m in case.model().named_modules() if name in report.ranks}
    for name, rank in report.ranks.items():
        assert rank in (8, min(48, *shapes[name]))
    assert len(set(report.ranks.values())) > 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        lora = PeftModel.from_pretrained(case.model(), tmp_path / "lora")
    assert isinstance(lora.peft_config["default"], LoraConfig)
    close(output(lora, inputs), adapted, rtol=1e-12 if case.build is Mlp else 1e-6)
    single = PeftModel.from_pretrained(case.model().float(), tmp_path / "lora")
    inputs32 = {k: v.float() if v.is_floating_point() else v for k, v in inputs.items()}
    reference = get_peft_model(case.model(), config(case)).float()
    reference.load_adapter(tmp_path / "cdka", adapter_name="x")
    reference.set_adapter("x")
    error = (output(single, inputs32) - output(reference, inputs32)).norm() / output(reference, inputs32).norm()
    assert error < 1e-6


def test_a_mixed_batch_gives_every_sample_its_adapter_in_inference_and_in_training(case):
    inputs = case.inputs()
    model = get_peft_model(case.model(), config(case), adapter_name="one")
    model.add_adapter("two", config(case, **OTHER))
    names = ["two", "one", "__base__", "one", "two", "two"]
    expected = {"__base__": output(case.model(), inputs)}
    gradients = {}
    for name in ("one", "two"):
        model.set_adapter(name)
        expected[name] = output(model, inputs)
        mine = [i for i, n in enumerate(names) if n == name]
        expected[name][mine].square().sum().backward()
        gradients[name] = [p.grad.clone() for p in adapter_parameters(model, name)]
        model.zero_grad()
    model.set_requires_grad(["one", "two"])
    for training in (False, True):
        model.train(training)
        mixed = output(model, inputs, adapter_names=names)
        close(mixed, torch.stack([expected[name][i] for i, name in enumerate(names)]), rtol=1e-7)
    mixed.square().sum().backward()
    for name, grads in gradients.items():
        for p, expected_grad in zip(adapter_parameters(model, name), grads, strict=True):
            close(p.grad, expected_grad, rtol=1e-6)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointing"])
def test_a_pack_has_the_outputs_and_gradients_of_separate_runs(case, checkpointing):
    inputs = case.inputs()
    model = get_peft_model(case.model(), config(case), adapter_name="run0")
    model.add_adapter("run1", config(case))
    model.add_adapter("run2", config(case, **OTHER))
    model.train()
    if checkpointing:
        if not hasattr(model.base_model.model, "gradient_checkpointing_enable"):
            pytest.skip("the architecture has no gradient checkpointing")
        model.base_model.model.gradient_checkpointing_enable({"use_reentrant": False})
    separate, gradients = [], {}
    for k, name in enumerate(["run0", "run1", "run2"]):
        model.set_adapter(name)
        own = {key: value[2 * k : 2 * k + 2] for key, value in inputs.items()}
        separate.append(output(model, own))
        separate[-1].square().mean().backward()
        gradients[name] = [p.grad.clone() for p in adapter_parameters(model, name)]
        model.zero_grad()
    model.set_adapter("run0")
    with packed(model, ["run0", "run1", "run2"]):
        together = output(model, inputs)
        sum(part.square().mean() for part in together.chunk(3)).backward()
    close(together, torch.cat(separate), rtol=1e-7)
    for name, grads in gradients.items():
        for p, expected in zip(adapter_parameters(model, name), grads, strict=True):
            close(p.grad, expected, rtol=1e-6)
    assert not any(p.requires_grad for p in adapter_parameters(model, "run1"))
    assert all(layer.assignment is None for layer in layers(model))


def test_modules_to_save_and_biases_train_and_travel(case, tmp_path):
    if case.head is None:
        pytest.skip("the architecture has no head apart from its embeddings")
    inputs = case.inputs()
    for bias in ("none", "all", "cdka_only"):
        model = get_peft_model(case.model(), config(case, bias=bias, modules_to_save=[case.head]))
        trained = {n for n, p in model.named_parameters() if p.requires_grad}
        assert any(f"{case.head}.modules_to_save.default" in name for name in trained)
        biases = {n for n in trained if n.endswith(".bias") and "modules_to_save" not in n}
        all_biases = {
            n for n, _ in model.named_parameters() if n.endswith(".bias") and "modules_to_save" not in n
        }  # fmt: skip
        if bias == "none":
            assert not biases
        elif bias == "cdka_only":
            assert biases == {n for n in all_biases if n.endswith("base_layer.bias")}
        else:
            assert biases == {n for n in all_biases if "original_module" not in n} or biases == all_biases
        output(model, inputs).square().mean().backward()
        with torch.no_grad():
            for p in model.parameters():
                if p.grad is not None:
                    p -= 0.1 * p.grad
        adapted = output(model, inputs)
        model.save_pretrained(tmp_path / bias)
        close(output(PeftModel.from_pretrained(case.model(), tmp_path / bias), inputs), adapted)
        export_lora(tmp_path / bias, tmp_path / f"{bias}-lora")
        close(output(PeftModel.from_pretrained(case.model(), tmp_path / f"{bias}-lora"), inputs), adapted, rtol=1e-6)


def test_a_pack_trains_a_head_of_its_own_for_each_adapter(case):
    if case.head is None:
        pytest.skip("the architecture has no head apart from its embeddings")
    inputs = case.inputs()
    model = get_peft_model(case.model(), config(case, modules_to_save=[case.head]), adapter_name="run0")
    model.add_adapter("run1", config(case, modules_to_save=[case.head]))
    with torch.no_grad():
        for p in adapter_parameters(model, "run1"):
            p.mul_(1.5)
    separate, gradients = [], {}
    for k, name in enumerate(["run0", "run1"]):
        model.set_adapter(name)
        separate.append(output(model, {key: value[3 * k : 3 * k + 3] for key, value in inputs.items()}))
        separate[-1].square().mean().backward()
        gradients[name] = [p.grad.clone() for p in adapter_parameters(model, name)]
        model.zero_grad()
    with packed(model, ["run0", "run1"]):
        with PackRouter(model).route(["run1", "run0"]):
            swapped = output(model, inputs)
        together = output(model, inputs)
        sum(part.square().mean() for part in together.chunk(2)).backward()
    assert differs(swapped, together)
    alone = output(model, inputs)
    close(alone[3:], separate[1])
    close(together, torch.cat(separate), rtol=1e-7)
    for name, grads in gradients.items():
        for p, expected in zip(adapter_parameters(model, name), grads, strict=True):
            close(p.grad, expected, rtol=1e-6)


def test_joining_components_is_the_exact_weighted_sum(case):
    inputs = case.inputs()
    model = get_peft_model(case.model(), config(case), adapter_name="one")
    fewer = CdkaConfig(r1=2, r2=8, r=1, alpha=3.0, init_weights="random", target_modules=[case.targets[0]])
    model.add_adapter("two", fewer)
    model.base_model.add_weighted_adapter(["one", "two"], [0.5, -2.0], "sum")
    for layer in layers(model):
        expected = 0.5 * layer.get_delta_weight("one")
        if "two" in layer.cdka_A:
            expected = expected - 2.0 * layer.get_delta_weight("two")
        close(layer.get_delta_weight("sum"), expected, rtol=1e-12)
    model.set_adapter("sum")
    assert torch.isfinite(output(model, inputs)).all()
    model.add_adapter("other", config(case, **OTHER))
    before = set(model.peft_config)
    model.base_model.add_weighted_adapter(["one", "other", "two"], [1.0, -0.5, 2.0], "common divisors")
    for layer in layers(model):
        parts = [("one", 1.0), ("other", -0.5), ("two", 2.0)]
        expected = sum(weight * layer.get_delta_weight(name) for name, weight in parts if name in layer.cdka_A)
        close(layer.get_delta_weight("common divisors"), expected, rtol=1e-12)
        assert layer.components["common divisors"].as_tuple()[:2] == (1, 4)
    with pytest.raises(CdkaError, match="combined exactly or not at all"):
        model.base_model.add_weighted_adapter(["one", "other"], [1.0, 1.0], "never", combination_type="linear")
    assert set(model.peft_config) == before | {"common divisors"}


def test_copies_pickles_and_state_dicts(case):
    inputs = case.inputs()
    model = get_peft_model(case.model(), config(case))
    adapted = output(model, inputs)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)) if case.build is not Mlp else model):
        close(output(twin, inputs), adapted)
    state = get_peft_model_state_dict(model)
    assert {key.rpartition(".")[2] for key in state} == {"cdka_A", "cdka_B"}
    base = case.model()
    torch.manual_seed(9)
    fresh = get_peft_model(base, config(case))
    assert differs(output(fresh, inputs), adapted)
    set_peft_model_state_dict(fresh, state)
    close(output(fresh, inputs), adapted)


def test_injection_without_a_peft_model_and_its_status(case):
    inputs = case.inputs()
    torch.manual_seed(7)
    wrapped = get_peft_model(case.model(), config(case))
    torch.manual_seed(7)
    injected = inject_adapter_in_model(config(case), case.model())
    close(output(injected, inputs), output(wrapped, inputs))
    status = get_model_status(wrapped)
    assert status.peft_types == {"default": "CDKA"}
    assert status.trainable_params == sum(p.numel() for p in wrapped.parameters() if p.requires_grad)
    assert {s.module_type for s in get_layer_status(wrapped)} == {"cdka.Linear"}


def test_low_precision_and_autocast(case):
    inputs = {k: v.bfloat16() if v.is_floating_point() else v for k, v in case.inputs().items()}
    model = get_peft_model(case.model().bfloat16(), config(case))
    assert {p.dtype for p in adapter_parameters(model, "default")} == {torch.float32}
    low = output(model, inputs)
    assert low.dtype == torch.bfloat16
    low.float().square().mean().backward()
    assert all(p.grad.dtype == torch.float32 for p in adapter_parameters(model, "default"))
    kept = get_peft_model(case.model().bfloat16(), config(case), autocast_adapter_dtype=False)
    assert {p.dtype for p in adapter_parameters(kept, "default")} == {torch.bfloat16}
    output(kept, inputs).float().square().mean().backward()

    single = get_peft_model(case.model().float(), config(case))
    inputs = {k: v.float() if v.is_floating_point() else v for k, v in inputs.items()}
    exact = output(single, inputs)
    for dtype, tolerance in ((torch.bfloat16, 0.1), (torch.float16, 0.02)):
        with torch.autocast("cpu", dtype=dtype):
            rough = output(single, inputs)
            loss = rough.float().square().mean()
        loss.backward()
        assert (rough.float() - exact).norm() < tolerance * exact.norm()
        assert all(torch.isfinite(p.grad).all() for p in adapter_parameters(single, "default"))


def test_all_linear_leaves_the_head_alone_and_a_regular_expression_selects(case):
    everything = get_peft_model(case.model(), CdkaConfig(r1=1, r2=1, r=1, target_modules="all-linear"))
    names = {name.rpartition(".")[2] for name in everything.base_model.targeted_module_names}
    assert names >= {target.rpartition(".")[2] for target in case.targets if "." not in target}
    assert "lm_head" not in names
    first = case.targets[0]
    chosen = get_peft_model(case.model(), CdkaConfig(r1=1, r2=1, r=1, target_modules=rf".*\b{first}"))
    assert {n.rpartition(".")[2] for n in chosen.base_model.targeted_module_names} == {first}
    rest = get_peft_model(case.model(), config(case, exclude_modules=[first]))
    assert not any(n == first or n.endswith(f".{first}") for n in rest.base_model.targeted_module_names)


@cache
def _compiles() -> bool:
    try:
        torch.compile(lambda x: x + 1, backend="aot_eager")(torch.ones(1))
    except Exception:
        return False
    return True


def test_compilation_without_graph_breaks(case):
    if not _compiles():
        pytest.skip("torch.compile does not work here")
    inputs = case.inputs()
    if case.build is not Mlp:  # the architectures' own graph breaks are not ours: compile one adapted layer
        model = get_peft_model(case.model(), config(case))
        layer = layers(model)[0]
        x = torch.randn(2, 3, layer.in_features, dtype=torch.float64, requires_grad=True)
        compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
        close(compiled(x), layer(x))
        return
    model = get_peft_model(case.model(), config(case))
    expected = output(model, inputs)
    compiled = torch.compile(model.base_model.model, backend="aot_eager", fullgraph=True)
    actual = compiled(**inputs)
    close(actual, expected)
    actual.square().mean().backward()
    assert all(p.grad is not None for p in adapter_parameters(model, "default"))

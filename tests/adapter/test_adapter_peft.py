"""How the adapter sits in PEFT and transformers: configuration, refusals, and the corners of the support list."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings

import peft
import pytest
import torch
import transformers
from packaging.version import Version
from peft import PeftConfig, PeftModel, get_peft_model
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from torch import nn
from transformers.integrations import peft as transformers_peft

from cdka.adapter import CdkaConfig, CdkaLayer, CdkaModel, Linear, adapter_parameters, export_lora, packed
from cdka.adapter.config import register
from cdka.components import Components
from cdka.errors import CdkaError


def llama(**changes):
    torch.manual_seed(0)
    settings = {
        "vocab_size": 60, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    }  # fmt: skip
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**settings, **changes})).eval()


def config(**changes) -> CdkaConfig:
    settings = {"r1": 2, "r2": 4, "r": 2, "alpha": 8.0, "target_modules": ["q_proj", "down_proj"]}
    return CdkaConfig(**{**settings, "init_weights": "random", **changes})


def ids(n=4):
    return torch.randint(0, 60, (n, 5), generator=torch.Generator().manual_seed(1))


def layers(model) -> dict[str, CdkaLayer]:
    return {name: m for name, m in model.named_modules() if isinstance(m, CdkaLayer)}


# -- registration ------------------------------------------------------------------------------------------------


def test_registering_again_changes_nothing():
    before = dict(PEFT_TYPE_TO_TUNER_MAPPING)
    assert register(CdkaConfig, CdkaModel) is False
    assert before == PEFT_TYPE_TO_TUNER_MAPPING
    assert PEFT_TYPE_TO_TUNER_MAPPING["CDKA"] is CdkaModel


FRESH = """
import sys
sys.modules["cdka"] = None  # as if it were not installed
import torch, transformers
from peft import PeftModel

def logits(adapter):
    base = transformers.LlamaForCausalLM.from_pretrained("base")
    return PeftModel.from_pretrained(base, adapter)(torch.load("ids")).logits

result = {"export": logits("export")}
try:
    logits("cdka")
except KeyError as error:
    result["without"] = str(error)
del sys.modules["cdka"]
import cdka.adapter
result["cdka"] = logits("cdka")
torch.save(result, "result")
"""


def test_a_fresh_process_loads_the_adapter_with_one_import_and_its_lora_export_with_none(tmp_path):
    llama().save_pretrained(tmp_path / "base")
    model = get_peft_model(llama(), config())
    model.save_pretrained(tmp_path / "cdka")
    export_lora(tmp_path / "cdka", tmp_path / "export")
    torch.save(ids(), tmp_path / "ids")
    done = subprocess.run([sys.executable, "-c", FRESH], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = torch.load(tmp_path / "result")
    assert "CDKA" in result["without"]
    for name in ("cdka", "export"):
        torch.testing.assert_close(result[name], model(ids()).logits, rtol=1e-5, atol=1e-6)


# -- configuration -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"r1": 0}, "r1 must be a positive integer: got 0."),
        ({"r": 2.5}, "r must be a positive integer: got 2.5."),
        ({"alpha": float("nan")}, "alpha must be a finite number: got nan."),
        ({"alpha_pattern": {"q": "x"}}, "alpha must be a finite number: got 'x' for 'q'."),
        ({"scaling_rule": "sqrt_r2"}, "unknown scaling_rule 'sqrt_r2'. Did you mean"),
        ({"init_weights": "kaimng"}, "unknown init_weights 'kaimng'. Did you mean 'kaiming'?"),
        ({"bias": "lora_only"}, "unknown bias 'lora_only'. Did you mean 'cdka_only'"),
        ({"module_dropout": 1.0}, "module_dropout must be at least 0 and below 1: got 1.0."),
        ({"component_pattern": {"q": (2, 8)}}, "components must be three integers r1,r2,r: got (2, 8)."),
        ({"component_pattern": {"q": {"r3": 1}}}, "unknown component 'r3' in component_pattern['q']."),
        ({"layers_pattern": "layers"}, "layers_pattern needs layers_to_transform"),
        ({"target_modules": "all-linear", "layers_to_transform": 1}, "layers_to_transform needs target_modules as a"),
    ],
)
def test_bad_settings_are_refused_in_one_line(settings, message):
    with pytest.raises(CdkaError) as caught:
        CdkaConfig(**settings)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_defaults_are_the_papers_and_need_no_arguments():
    assert CdkaConfig().components == Components(2, 8, 4)
    assert (CdkaConfig().alpha, CdkaConfig().scaling_rule) == (64.0, "sqrt_r_r2")


def test_a_stored_configuration_survives_unknown_and_missing_keys(tmp_path):
    original = config(component_pattern={"down_proj": {"r2": 6}}, alpha_pattern={"q_proj": 3})
    original.save_pretrained(tmp_path)
    assert PeftConfig.from_pretrained(tmp_path) == original
    path = tmp_path / "adapter_config.json"
    stored = json.loads(path.read_text())
    assert stored["peft_type"] == "CDKA"
    stored["from_the_future"] = 1
    del stored["module_dropout"], stored["scaling_rule"]
    path.write_text(json.dumps(stored))
    with pytest.warns(UserWarning, match="from_the_future"):
        loaded = PeftConfig.from_pretrained(tmp_path)
    assert loaded == original


def test_overrides_reach_the_modules_they_name():
    pattern = {"q_proj": (4, 2, 1), r"layers\.1\.mlp\.down_proj": {"r": 5}}
    model = get_peft_model(llama(), config(component_pattern=pattern, alpha_pattern={"layers.0.self_attn.q_proj": 1.0}))
    found = {name.removeprefix("base_model.model.model."): m for name, m in layers(model).items()}
    assert found["layers.0.self_attn.q_proj"].components["default"] == Components(4, 2, 1)
    assert found["layers.1.mlp.down_proj"].components["default"] == Components(2, 4, 5)
    assert found["layers.2.mlp.down_proj"].components["default"] == Components(2, 4, 2)
    assert found["layers.0.self_attn.q_proj"].scaling["default"] == 1.0 / 2**0.5
    assert found["layers.2.self_attn.q_proj"].scaling["default"] == 8.0 / 2**0.5
    with pytest.warns(
        RuntimeWarning, match="component_pattern and rank_pattern keys that match no adapted module are ignored: 'z'"
    ):
        get_peft_model(llama(), config(component_pattern={"z": (1, 1, 1)}))


@pytest.mark.parametrize(
    ("settings", "indices"),
    [
        ({"layers_to_transform": 0}, {"0"}),
        ({"layers_to_transform": [0, 2], "layers_pattern": "layers"}, {"0", "2"}),
        ({"exclude_modules": [f"model.layers.{i}.{m}" for i in (0, 1) for m in ("self_attn.q_proj", "mlp.down_proj")]},
         {"2"}),
        ({"target_modules": r".*\.1\..*q_proj"}, {"1"}),
    ],
)  # fmt: skip
def test_layers_are_selected_by_index_name_and_expression(settings, indices):
    model = get_peft_model(llama(), config(**settings))
    assert {name.split("layers.")[1].split(".")[0] for name in layers(model)} == indices


@pytest.mark.parametrize("rule", ["sqrt_r_r2", "sqrt_r", "r", "none"])
def test_scaling_rules_and_rescaling(rule):
    layer = Linear(nn.Linear(24, 60), "default", Components(2, 8, 4), 12.0, config(scaling_rule=rule))
    initial = {"sqrt_r_r2": 12 / 32**0.5, "sqrt_r": 6.0, "r": 3.0, "none": 12.0}[rule]
    assert layer.scaling["default"] == pytest.approx(initial)
    layer.scale_layer(3)
    assert layer.scaling["default"] == pytest.approx(3 * initial)
    layer.unscale_layer(1.5)
    assert layer.scaling["default"] == pytest.approx(2 * initial)
    layer.unscale_layer()
    layer.set_scale("default", 5)
    assert layer.scaling["default"] == pytest.approx(5 * initial)
    x = torch.randn(3, 24)
    torch.testing.assert_close(layer(x) - layer.base_layer(x), x @ layer.get_delta_weight("default").T)


# -- refusals ----------------------------------------------------------------------------------------------------


def test_all_layers_that_do_not_fit_are_named_at_once_and_the_model_is_left_alone():
    model = llama()
    before = {name: type(m) for name, m in model.named_modules()}
    with pytest.raises(CdkaError) as caught:
        get_peft_model(model, config(r1=5, r2=7, target_modules=["q_proj", "down_proj", "norm"]))
    text = str(caught.value)
    assert "\n" not in text
    for part in (
        "got LlamaRMSNorm. In 'model.norm'.",
        "r1 must divide out_features: got r1=5, out_features=32. Nearest divisors: 4 or 8. "
        "In 'model.layers.*.self_attn.q_proj' (3 layers), 'model.layers.*.mlp.down_proj' (3 layers).",
        "r2 must divide in_features: got r2=7, in_features=48. Nearest divisors: 6 or 8. "
        "In 'model.layers.*.mlp.down_proj' (3 layers).",
    ):
        assert part in text
    assert {name: type(m) for name, m in model.named_modules()} == before


def test_an_additional_adapter_that_does_not_fit_leaves_the_first_at_work():
    model = get_peft_model(llama(), config())
    expected = model(ids()).logits
    with pytest.raises(CdkaError, match="r1 must divide out_features"):
        model.add_adapter("second", config(r1=5))
    assert list(model.peft_config) == ["default"]
    assert torch.equal(model(ids()).logits, expected)


def test_the_output_projection_of_torch_attention_is_refused_or_left_out():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
            self.up = nn.Linear(16, 24)

        def forward(self, x):
            return self.up(self.attention(x, x, x)[0])

    with pytest.raises(CdkaError, match="without calling it, so it cannot be adapted"):
        get_peft_model(Attention(), config(target_modules=["out_proj"]))
    with pytest.warns(UserWarning, match=r"all-linear leaves out attention\.out_proj"):
        model = get_peft_model(Attention(), config(target_modules="all-linear"))
    assert [name.rpartition(".")[2] for name in layers(model)] == ["up"]


def test_a_mixed_batch_is_refused_with_the_reason():
    model = get_peft_model(llama(), config())
    with pytest.raises(CdkaError, match="unknown adapter 'defalt' in adapter_names"):
        model(ids(), adapter_names=["defalt"] * 4)
    with pytest.raises(CdkaError, match="should be the same as the number of inputs, but got 3 and 4 respectively"):
        model(ids(), adapter_names=["default"] * 3)
    model.merge_adapter()
    with pytest.raises(
        CdkaError, match="when there are merged adapters, please call `unmerge_adapter` first: got merged"
    ):
        model(ids(), adapter_names=["default"] * 4)
    model.unmerge_adapter()
    model.train()
    model.base_model.model.gradient_checkpointing_enable()
    with pytest.raises(CdkaError, match="does not go with gradient checkpointing"):
        model(ids(), adapter_names=["default"] * 4)
    assert all(layer.assignment is None for layer in layers(model).values())


def test_a_pack_is_refused_with_the_reason():
    model = get_peft_model(llama(), config())
    model.add_adapter("other", config())
    for names, message in (
        (["default", "othr"], "unknown adapter 'othr'. Did you mean 'other'"),
        (["default", "default"], "each named once: got default, default"),
        ([], "at least one adapter"),
    ):
        with pytest.raises(CdkaError, match=message), packed(model, names):
            pass
    with packed(model, ["default", "other"]), pytest.raises(CdkaError, match="equal slices, one per adapter: got a"):
        model(ids(3))
    with packed(model, ["default", "other"]):
        assert all(p.requires_grad for name in ("default", "other") for p in adapter_parameters(model, name))
    assert not any(p.requires_grad for p in adapter_parameters(model, "other"))


# -- the rest of the support list --------------------------------------------------------------------------------


def test_module_dropout_drops_whole_layers_in_training_only():
    layer = Linear(nn.Linear(24, 60), "default", Components(2, 8, 4), 12.0, config(module_dropout=0.5))
    layer.base_layer.requires_grad_(False)
    x = torch.randn(3, 24)
    full, none = layer.eval()(x), layer.base_layer(x)
    layer.train()
    torch.manual_seed(0)
    kept = [torch.allclose(layer(x), full) for _ in range(200)]
    torch.manual_seed(0)
    dropped = [torch.allclose(layer(x), none) for _ in range(200)]
    assert all(k != d for k, d in zip(kept, dropped, strict=True))
    assert 70 < sum(kept) < 130
    assert all(torch.equal(layer.eval()(x), full) for _ in range(5))


def test_tied_embeddings_are_warned_about():
    with pytest.warns(UserWarning, match="tie_word_embeddings=True"):
        get_peft_model(llama(tie_word_embeddings=True), config(target_modules=["lm_head", "q_proj"]))


def test_trainable_tokens_train_travel_and_merge(tmp_path):
    model = get_peft_model(llama(), config(trainable_token_indices=[1, 3]))
    plain = model(ids()).logits
    torch.manual_seed(5)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "trainable_tokens_delta" in name:
                p.add_(torch.randn_like(p))
    expected = model(torch.tensor([[1, 2, 3]])).logits
    assert not torch.allclose(model(ids()).logits, plain) or not torch.isin(ids(), torch.tensor([1, 3])).any()
    model.save_pretrained(tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(llama(), tmp_path / "adapter")
    torch.testing.assert_close(loaded(torch.tensor([[1, 2, 3]])).logits, expected)
    merged = loaded.merge_and_unload()
    torch.testing.assert_close(merged(torch.tensor([[1, 2, 3]])).logits, expected, rtol=1e-4, atol=1e-5)


def t5():
    torch.manual_seed(0)
    settings = transformers.T5Config(
        vocab_size=60, d_model=32, d_ff=48, d_kv=8, num_layers=2, num_heads=4, decoder_start_token_id=0,
        pad_token_id=59, eos_token_id=58,
    )  # fmt: skip
    return transformers.T5ForConditionalGeneration(settings).eval()


@pytest.mark.parametrize("build", [llama, t5])
@pytest.mark.parametrize("beams", [1, 3])
def test_generation_with_a_mixed_batch_and_beam_search(build, beams):
    targets = ["q_proj", "down_proj"] if build is llama else ["q", "wo"]
    model = get_peft_model(build(), config(target_modules=targets, alpha=60.0), adapter_name="one")
    model.add_adapter("two", config(target_modules=targets, alpha=60.0))
    settings = {
        "max_new_tokens": 6, "min_new_tokens": 6, "num_beams": beams, "do_sample": False, "pad_token_id": 59,
    }  # fmt: skip
    expected = []
    for i, name in enumerate(["one", "two", "one"]):
        model.set_adapter(name)
        expected.append(model.generate(input_ids=ids(3)[i : i + 1], **settings)[0])
    mixed = model.generate(input_ids=ids(3), adapter_names=["one", "two", "one"], **settings)
    assert torch.equal(mixed, torch.stack(expected))
    assert not torch.equal(expected[0], expected[1])


def test_a_pack_may_see_the_batch_flattened_together_with_the_sequence():
    class Flattening(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1 = nn.Linear(24, 60)

        def forward(self, x):
            return self.fc1(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)

    model = get_peft_model(Flattening(), config(target_modules=["fc1"]), adapter_name="one")
    model.add_adapter("two", config(target_modules=["fc1"]))
    x = torch.randn(4, 3, 24)
    separate = []
    for k, name in enumerate(("one", "two")):
        model.set_adapter(name)
        separate.append(model(x[2 * k : 2 * k + 2]))
    with packed(model, ["one", "two"]):
        torch.testing.assert_close(model(x), torch.cat(separate))
    with pytest.raises(CdkaError, match=r"flattens the batch before this layer, use cdka\.adapter\.packed"):
        model(x, adapter_names=["one", "one", "two", "two"])


def test_transformers_own_adapter_methods(tmp_path):
    least = getattr(transformers_peft, "MIN_PEFT_VERSION", "0")
    if Version(peft.__version__) < Version(least):  # of any method, LoRA too; transformers 5.24 came before PEFT 0.22
        pytest.skip(f"transformers {transformers.__version__} refuses PEFT {peft.__version__}, it wants {least}")
    model = llama()
    plain = model(ids()).logits
    model.add_adapter(config(), adapter_name="mine")
    adapted = model(ids()).logits
    assert not torch.allclose(adapted, plain)
    model.save_pretrained(tmp_path / "adapter")
    model.disable_adapters()
    torch.testing.assert_close(model(ids()).logits, plain)
    other = llama()
    other.load_adapter(str(tmp_path / "adapter"), adapter_name="theirs")
    torch.testing.assert_close(other(ids()).logits, adapted)
    other.delete_adapter("theirs")
    assert not any("cdka_" in name for name, _ in other.named_parameters())


def test_conversion_by_peft_itself(tmp_path):
    from peft import convert_to_lora

    model = get_peft_model(llama(), config())
    assert model.base_model.supports_lora_conversion()
    converted, weights = convert_to_lora(model, rank=16)
    assert converted.r == 16
    assert weights


def test_hooks_and_subclasses_on_the_base_layer_still_run():
    class Doubling(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    x = torch.randn(3, 24)
    for base in (Doubling(24, 60), nn.Linear(24, 60)):
        if type(base) is nn.Linear:
            base.register_forward_hook(lambda module, args, output: output + 1)
        layer = Linear(base, "default", Components(2, 8, 4), 12.0, config())
        expected = base(x) + x @ layer.get_delta_weight("default").T
        torch.testing.assert_close(layer(x), expected)
        layer(x).sum().backward()
        assert layer.cdka_B["default"].grad.abs().sum() > 0


class FourBit:
    """Stands in for a quantisation backend of PEFT: the weight is stored divided by two."""

    backend_name, supports_merge = "halving", True

    def get_base_weight(self, layer):
        return 2 * layer.weight.data

    def set_base_weight(self, outer, weight):
        outer.get_base_layer().weight.data = weight / 2


class Halved(nn.Linear):
    def forward(self, x):
        return nn.functional.linear(x, 2 * self.weight, self.bias)


def test_quantised_layers_go_through_pefts_backend_and_refuse_where_it_cannot_write(monkeypatch):
    backend = FourBit()
    monkeypatch.setattr(
        "cdka.adapter.layer.resolve_quantization_backend",
        lambda layer, **_: backend if isinstance(layer, Halved) else None,
    )
    layer = Linear(Halved(24, 60), "default", Components(2, 8, 4), 12.0, config())
    x = torch.randn(3, 24)
    expected = layer(x)
    layer.merge(safe_merge=True)
    torch.testing.assert_close(layer(x), expected)
    layer.unmerge()
    torch.testing.assert_close(layer(x), expected)
    backend.supports_merge = False
    with pytest.raises(CdkaError, match="weights that can be written: got halving layers"):
        layer.merge()


def test_trainer_trains_saves_and_loads(tmp_path):
    model = get_peft_model(llama(), config(init_weights="kaiming"))
    data = [{"input_ids": row, "labels": row} for row in ids(8)]
    arguments = transformers.TrainingArguments(
        str(tmp_path / "out"), max_steps=3, per_device_train_batch_size=4, learning_rate=0.05, report_to=[],
        save_strategy="no", disable_tqdm=True, use_cpu=True, logging_strategy="no",
    )  # fmt: skip
    before = model(input_ids=ids(8), labels=ids(8)).loss.item()
    transformers.Trainer(model, arguments, train_dataset=data).train()
    model.eval()
    after = model(input_ids=ids(8), labels=ids(8)).loss.item()
    assert after < before
    model.save_pretrained(tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(llama(), tmp_path / "adapter")
    assert loaded(input_ids=ids(8), labels=ids(8)).loss.item() == pytest.approx(after, rel=1e-5)


def test_a_trainer_that_resumes_ends_bit_equal_to_one_that_was_never_interrupted(tmp_path):
    def trainer(name: str, steps: int) -> transformers.Trainer:
        torch.manual_seed(3)  # A is drawn anew: it is the checkpoint that counts
        model = get_peft_model(llama(), config(init_weights="kaiming", module_dropout=0.25))
        arguments = transformers.TrainingArguments(
            str(tmp_path / name),
            max_steps=steps,
            save_steps=3,
            per_device_train_batch_size=4,
            learning_rate=0.05,
            lr_scheduler_type="constant",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            logging_strategy="no",
        )
        return transformers.Trainer(model, arguments, train_dataset=data)

    data = [{"input_ids": row, "labels": row} for row in ids(16)]
    whole = trainer("whole", 6)
    whole.train()
    trainer("parts", 3).train()
    resumed = trainer("parts", 6)
    resumed.train(resume_from_checkpoint=str(tmp_path / "parts" / "checkpoint-3"))
    assert resumed.state.global_step == 6
    factors = [adapter_parameters(one.model, "default") for one in (whole, resumed)]
    assert all(torch.equal(p, q) for p, q in zip(*factors, strict=True))


def test_reentrant_checkpointing_gives_the_same_gradients():
    model = get_peft_model(llama(), config()).train()
    model(input_ids=ids(), labels=ids()).loss.backward()
    expected = [p.grad.clone() for p in adapter_parameters(model, "default")]
    model.zero_grad()
    model.base_model.model.gradient_checkpointing_enable({"use_reentrant": True})
    model.enable_input_require_grads()
    model(input_ids=ids(), labels=ids()).loss.backward()
    for p, grad in zip(adapter_parameters(model, "default"), expected, strict=True):
        torch.testing.assert_close(p.grad, grad)


def test_injection_by_the_keys_of_a_state_dict():
    from peft import get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict

    source = get_peft_model(llama(), config(target_modules=["q_proj"], layers_to_transform=[1]))
    state = get_peft_model_state_dict(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bare = {key.removeprefix("base_model.model."): value for key, value in state.items()}
        target = inject_adapter_in_model(config(target_modules=["q_proj"]), llama(), state_dict=bare)
        set_peft_model_state_dict(target, state)
    assert [name.split("layers.")[1].split(".")[0] for name in layers(target)] == ["1"]
    torch.testing.assert_close(target(ids()).logits, source(ids()).logits)


def test_the_auto_class_finds_model_and_adapter_from_the_directory(tmp_path):
    from peft import AutoPeftModelForCausalLM

    llama().save_pretrained(tmp_path / "base")
    base = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "base")
    model = get_peft_model(base, config(task_type="CAUSAL_LM"))
    model.save_pretrained(tmp_path / "adapter")
    loaded = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter")
    torch.testing.assert_close(loaded(ids()).logits, model(ids()).logits)


def test_of_several_adapters_only_the_selected_are_saved_each_in_its_place(tmp_path):
    model = get_peft_model(llama(), config())
    model.add_adapter("second", config(r1=1, r2=8))
    model.add_adapter("third", config())
    expected = {}
    for name in ("default", "second"):
        model.set_adapter(name)
        expected[name] = model(ids()).logits
    model.save_pretrained(tmp_path, selected_adapters=["default", "second"])
    assert sorted(str(path.parent.relative_to(tmp_path)) for path in tmp_path.rglob("*.safetensors")) == [".", "second"]
    loaded = PeftModel.from_pretrained(llama(), tmp_path)
    loaded.load_adapter(tmp_path / "second", adapter_name="second")
    for name, logits in expected.items():
        loaded.set_adapter(name)
        torch.testing.assert_close(loaded(ids()).logits, logits)


def test_chosen_adapters_merge_whichever_is_active_and_come_out_again():
    model = get_peft_model(llama(), config())
    model.add_adapter("second", config(r1=1, r2=8))
    weights = {name: layer.get_base_layer().weight.clone() for name, layer in layers(model).items()}
    model.set_adapter("second")
    expected = model(ids()).logits
    model.set_adapter("default")
    model.merge_adapter(adapter_names=["second"])
    assert {tuple(layer.merged_adapters) for layer in layers(model).values()} == {("second",)}
    torch.testing.assert_close(model(ids()).logits, expected, rtol=1e-4, atol=1e-5)
    with pytest.warns(UserWarning, match="Already following adapters were merged"):
        model.merge_adapter(adapter_names=["second", "default"])
    assert {tuple(layer.merged_adapters) for layer in layers(model).values()} == {("second", "default")}
    model.unmerge_adapter()
    for name, layer in layers(model).items():
        torch.testing.assert_close(layer.get_base_layer().weight, weights[name])
    with pytest.warns(UserWarning, match="Already unmerged"):
        model.unmerge_adapter()
    merged = model.merge_and_unload(adapter_names=["second"])
    torch.testing.assert_close(merged(ids()).logits, expected, rtol=1e-4, atol=1e-5)


def test_disabling_a_merged_adapter_takes_it_out_of_the_weights():
    model = get_peft_model(llama(), config())
    plain = llama()(ids()).logits
    adapted = model(ids()).logits
    model.merge_adapter()
    with model.disable_adapter():
        torch.testing.assert_close(model(ids()).logits, plain, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(ids()).logits, adapted, rtol=1e-4, atol=1e-5)


def test_deleting_the_active_adapter_leaves_another_at_work():
    model = get_peft_model(llama(), config())
    model.add_adapter("second", config(r1=1, r2=8))
    model.set_adapter("second")
    expected = model(ids()).logits
    model.set_adapter("default")
    model.delete_adapter("default")
    assert list(model.peft_config) == ["second"]
    assert {tuple(layer.active_adapters) for layer in layers(model).values()} == {("second",)}
    torch.testing.assert_close(model(ids()).logits, expected)


def test_saving_as_a_lora_by_peft_itself(tmp_path):
    from peft import save_as_lora

    model = get_peft_model(llama(), config())
    save_as_lora(tmp_path / "lora", model, rank=16)
    loaded = PeftModel.from_pretrained(llama(), tmp_path / "lora")
    assert loaded.peft_config["default"].peft_type == "LORA"
    c = config().components
    assert c.r * c.r1 * c.r2 == 16, "at the full rank nothing is lost"
    torch.testing.assert_close(loaded(ids()).logits, model(ids()).logits, rtol=1e-3, atol=1e-4)


def test_a_base_in_fp16_keeps_its_adapter_in_fp32_and_trains():
    model = get_peft_model(llama().half(), config())
    assert {p.dtype for p in adapter_parameters(model, "default")} == {torch.float32}
    logits = model(ids()).logits
    assert logits.dtype == torch.float16
    logits.float().square().mean().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in adapter_parameters(model, "default"))


def test_the_usual_modules_are_found_where_none_are_named_and_the_counts_are_told(capsys):
    model = get_peft_model(llama(), CdkaConfig(r1=2, r2=4, r=1))
    assert {name.rpartition(".")[2] for name in layers(model)} == {"q_proj", "v_proj"}
    model.print_trainable_parameters()
    own = 3 * (Components(2, 4, 1).num_params(32, 32) + Components(2, 4, 1).num_params(16, 32))
    assert f"trainable params: {own:,} ||" in capsys.readouterr().out


@pytest.mark.parametrize("bits", [8, 4])
def test_a_base_quantised_by_bitsandbytes_trains_and_merges_within_its_precision(bits, tmp_path):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    four = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.float32}
    settings = {"load_in_8bit": True} if bits == 8 else {"load_in_4bit": True, **four}
    llama(hidden_size=128, intermediate_size=256).save_pretrained(tmp_path)
    base = transformers.LlamaForCausalLM.from_pretrained(
        tmp_path, quantization_config=transformers.BitsAndBytesConfig(**settings), device_map={"": "cpu"}
    )
    plain = base(ids()).logits.detach()
    model = get_peft_model(base, config())
    adapted = model(ids()).logits
    effect = (adapted - plain).abs().max()
    adapted.float().square().mean().backward()
    for layer in layers(model).values():
        assert layer.quantization_backend.backend_name
        assert layer.cdka_B["default"].grad.abs().sum() > 0
        x = torch.randn(3, layer.in_features)
        added = layer(x) - layer.base_layer(x)
        torch.testing.assert_close(added.float(), x @ layer.get_delta_weight("default").T, rtol=1e-3, atol=1e-3)
    if any(getattr(getattr(p, "quant_state", None), "packing_format_for_cpu", False) for p in model.parameters()):
        with pytest.raises(CdkaError, match="Merge before the first forward pass"):
            model.merge_adapter()  # PEFT's backend would read the rearranged bytes, and spoil the base
        torch.testing.assert_close(model(ids()).logits, adapted, rtol=0.01, atol=0.01)
    else:
        model.merge_adapter(safe_merge=True)
        assert (model(ids()).logits - adapted).abs().max() < 0.4 * effect

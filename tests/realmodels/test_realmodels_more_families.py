"""Every family that the README speaks of: counted, trained two steps, saved, loaded, merged, exported."""

from __future__ import annotations

import pytest
import torch
import transformers as hf
from peft import PeftModel
from tiny_models import _IDS, _VIT, FAMILIES, tokenizer

from cdka.adapter_files.exchange import export_lora
from cdka.cost.adapter import count_params
from cdka.runs.resolve import resolve_run
from cdka.runs.spec import RunSpec
from cdka.train.data.load import load_task
from cdka.train.load_model import load_model
from cdka.train.loop import train

ENCODER = {
    "hidden_size": 24,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 258,
    **_IDS,
}
DECODER = {**ENCODER, "num_key_value_heads": 1}
GEMMA = {**DECODER, "head_dim": 12}
TEXT = {
    **{family: FAMILIES[family] for family in ("bert", "gpt2", "llama", "t5")},
    "roberta": lambda: hf.RobertaForMaskedLM(hf.RobertaConfig(**ENCODER)),
    "distilbert": lambda: hf.DistilBertModel(
        hf.DistilBertConfig(dim=24, hidden_dim=64, n_layers=2, n_heads=2, max_position_embeddings=256, **_IDS)
    ),
    "qwen2": lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**DECODER)),
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**DECODER, head_dim=12)),
    "mistral": lambda: hf.MistralForCausalLM(hf.MistralConfig(**DECODER)),
    "phi3": lambda: hf.Phi3ForCausalLM(hf.Phi3Config(**DECODER)),
    "gemma2": lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**GEMMA)),
    "gemma3": lambda: hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(**GEMMA)),
    "opt": lambda: hf.OPTForCausalLM(
        hf.OPTConfig(
            hidden_size=24,
            ffn_dim=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            word_embed_proj_dim=24,
            max_position_embeddings=256,
            **_IDS,
        )
    ),
    "gpt-neox": lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**ENCODER)),
    "falcon": lambda: hf.FalconForCausalLM(
        hf.FalconConfig(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, **_IDS)
    ),
    "mixtral": lambda: hf.MixtralForCausalLM(hf.MixtralConfig(**DECODER, num_local_experts=4, num_experts_per_tok=2)),
    "bart": lambda: hf.BartForConditionalGeneration(
        hf.BartConfig(
            d_model=24,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            max_position_embeddings=256,
            decoder_start_token_id=2,
            **_IDS,
        )
    ),
}
PICTURES = {
    "vit": FAMILIES["vit"],
    "clip": FAMILIES["clip"],
    "clip vision": lambda: hf.CLIPVisionModel(hf.CLIPVisionConfig(projection_dim=16, **_VIT)),
    "siglip vision": lambda: hf.SiglipVisionModel(hf.SiglipVisionConfig(**_VIT)),
    "dinov2": lambda: hf.Dinov2Model(
        hf.Dinov2Config(**{key: value for key, value in _VIT.items() if key != "intermediate_size"}, mlp_ratio=2)
    ),
    "swin": lambda: hf.SwinForImageClassification(
        hf.SwinConfig(image_size=16, patch_size=2, embed_dim=12, depths=[1, 1], num_heads=[2, 2], window_size=2)
    ),
    "convnext": lambda: hf.ConvNextForImageClassification(
        hf.ConvNextConfig(image_size=16, patch_size=2, hidden_sizes=[8, 16], depths=[1, 1], num_stages=2)
    ),
}
CLASSIFIED = ("bert", "roberta", "distilbert")


def save(family, folder):
    torch.manual_seed(0)
    (TEXT | PICTURES)[family]().save_pretrained(folder)
    if family in TEXT:
        tokenizer(begin=family not in ("bart", "t5"), end=family in (*CLASSIFIED, "bart", "t5")).save_pretrained(folder)
    return str(folder)


def task_of(family, request):
    if family in PICTURES:
        return "local-images", request.getfixturevalue("shades")
    if family in CLASSIFIED:
        return "local-classify", request.getfixturevalue("moods")
    return "local-instruct", request.getfixturevalue("sums")


@pytest.mark.parametrize("family", [*TEXT, *PICTURES])
def test_a_family_is_counted_trained_saved_loaded_merged_and_exported(family, request, tmp_path):
    model = save(family, tmp_path / "model")
    task, data = task_of(family, request)
    settings = {"steps": 2, "batch_size": 4, "eval_every": 2, "components": (2, 2, 1), "max_length": 240}
    run = resolve_run(RunSpec(model=model, task=task, task_options={"data": data}, **settings))
    events = [event for _, event in train([run], [tmp_path / "run"])]
    assert events[-1].kind == "final", events[-1]
    told = [event.text for event in events if event.kind == "note" and "expert" in event.text]
    assert bool(told) == (family == "mixtral"), "experts that no adapter reaches are told"
    adapter = tmp_path / "run" / "adapter"
    laid_out = load_task(run.task, run.spec)
    loaded = load_model(
        model, laid_out.kind or run.task.kind, num_labels=laid_out.num_labels, label_names=laid_out.label_names
    )
    head = sum(p.numel() for name in loaded.fresh_modules for p in loaded.model.get_submodule(name).parameters())
    start = next(event for event in events if event.kind == "start")
    assert start.num_params == count_params(run) + head
    adapted = PeftModel.from_pretrained(loaded.model, adapter).eval()
    batch = laid_out.test.take(torch.arange(2)).inputs
    with torch.no_grad():
        before = adapted(**batch).logits
        after = adapted.merge_and_unload()(**batch).logits
    torch.testing.assert_close(before, after, atol=1e-4, rtol=1e-4)
    export_lora(adapter, tmp_path / "lora")
    again = load_model(
        model, laid_out.kind or run.task.kind, num_labels=laid_out.num_labels, label_names=laid_out.label_names
    ).model
    with torch.no_grad():
        exported = PeftModel.from_pretrained(again, tmp_path / "lora").eval()(**batch).logits
    torch.testing.assert_close(before, exported, atol=1e-4, rtol=1e-4)

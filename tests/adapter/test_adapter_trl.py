"""TRL's trainers take a CdkaConfig as they take PEFT's own: supervised fine-tuning, and DPO."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from cdka.adapter import CdkaConfig, CdkaLayer
from cdka.models.locate import locate

trl = pytest.importorskip("trl", reason="trl is not installed")

PROMPTS = [f"{a}*{b}=" for a in range(2, 6) for b in range(2, 6)]
USUAL = {
    "max_steps": 6,
    "per_device_train_batch_size": 8,
    "learning_rate": 5e-3,
    "save_strategy": "no",
    "report_to": [],
    "disable_tqdm": True,
    "use_cpu": True,
    "bf16": False,
    "seed": 0,
    "logging_steps": 1,
}


def answer(prompt: str) -> str:
    a, b = prompt.removesuffix("=").split("*")
    return str(int(a) * int(b))


def base() -> AutoModelForCausalLM:
    return AutoModelForCausalLM.from_pretrained(locate("math-lm"), dtype=torch.float32)


def config() -> CdkaConfig:
    return CdkaConfig(r1=2, r2=4, r=2, alpha=16.0, target_modules="all-linear", task_type="CAUSAL_LM")


def log_probability(model: torch.nn.Module, tokenizer, prompt: str, text: str) -> float:
    """The log probability of ``text`` after ``prompt``."""
    before, whole = (
        tokenizer(t, return_tensors="pt", add_special_tokens=False).input_ids for t in (prompt, prompt + text)
    )
    with torch.no_grad():
        logits = model(input_ids=whole).logits.log_softmax(-1)
    start = before.shape[1]
    return logits[0, start - 1 : -1].gather(-1, whole[0, start:, None]).sum().item()


def check(trainer, tokenizer, tmp_path: Path, score) -> None:
    """Only the factors train, ``score`` rises, and the saved adapter has the trained model's logits on a fresh base."""
    names = [name for name, p in trainer.model.named_parameters() if p.requires_grad]
    assert names
    assert all("cdka_" in name for name in names)
    frozen = {n: p.detach().clone() for n, p in trainer.model.named_parameters() if not p.requires_grad}
    before = score(trainer.model.eval())
    trainer.train()
    model = trainer.model.eval()
    assert score(model) > before + 0.5
    assert all(torch.equal(p, frozen[n]) for n, p in model.named_parameters() if n in frozen)
    assert any(isinstance(m, CdkaLayer) for m in model.modules())
    trainer.save_model(str(tmp_path / "adapter"))
    ids = tokenizer(PROMPTS[0], return_tensors="pt").input_ids
    loaded = PeftModel.from_pretrained(base(), tmp_path / "adapter").eval()
    torch.testing.assert_close(loaded(input_ids=ids).logits, model(input_ids=ids).logits)


@pytest.mark.slow
def test_supervised_fine_tuning(tmp_path):
    from datasets import Dataset

    tokenizer = AutoTokenizer.from_pretrained(locate("math-lm"))
    rows = Dataset.from_list([{"prompt": prompt, "completion": answer(prompt)} for prompt in PROMPTS])
    arguments = trl.SFTConfig(str(tmp_path / "out"), **USUAL)
    trainer = trl.SFTTrainer(base(), arguments, train_dataset=rows, processing_class=tokenizer, peft_config=config())
    check(
        trainer,
        tokenizer,
        tmp_path,
        lambda model: sum(log_probability(model, tokenizer, p, answer(p)) for p in PROMPTS),
    )


@pytest.mark.slow
@pytest.mark.parametrize("reference", ["the base", "the adapter as it came"])
def test_preference_optimisation(reference, tmp_path):
    from datasets import Dataset

    tokenizer = AutoTokenizer.from_pretrained(locate("math-lm"))
    rows = [{"prompt": p, "chosen": answer(p), "rejected": str(int(answer(p)) + 1)} for p in PROMPTS]
    settings = config()
    settings.init_weights = reference == "the base"
    model = base() if reference == "the base" else get_peft_model(base(), settings)
    trainer = trl.DPOTrainer(
        model,
        args=trl.DPOConfig(str(tmp_path / "out"), **USUAL),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=settings if reference == "the base" else None,
    )
    if reference != "the base":
        own, copy = (
            [p for n, p in trainer.model.named_parameters() if n.endswith((f"cdka_A.{name}", f"cdka_B.{name}"))]
            for name in ("default", "ref")
        )
        assert own
        assert all(torch.equal(p, q) for p, q in zip(own, copy, strict=True))
    check(
        trainer,
        tokenizer,
        tmp_path,
        lambda model: sum(
            log_probability(model, tokenizer, row["prompt"], row["chosen"])
            - log_probability(model, tokenizer, row["prompt"], row["rejected"])
            for row in rows
        ),
    )
    first = trainer.state.log_history[0]
    assert first["rewards/margins"] == pytest.approx(0, abs=1e-6), "before the first step both models are one"

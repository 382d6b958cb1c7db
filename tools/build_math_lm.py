"""Build the embedded language model: ``python -m tools.build_math_lm`` writes ``assets/math-lm``.

A small Llama, trained from scratch on generated chains of additions and subtractions, one token a character. About half
an hour on one CPU core. It answers nearly all such chains and, by chance aside, none that begins with a product, whose
sign it has never seen: a model with something to adapt.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from cdka.paths import assets_dir
from cdka.tasks.answers import read_text
from cdka.tasks.catalogue import find_task
from cdka.tasks.math_chain import MAX_ANSWER_TOKENS, chains, random_chain, random_product_chain
from cdka.train.data.objectives import IGNORED, token_loss

SEED, STEPS, BATCH_SIZE, PEAK_LR, WEIGHT_DECAY = 2602, 4500, 96, 3e-3, 0.1
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
CHARACTERS, NEW_CHARACTERS = "0123456789+-=,", "*"
"""Characters that the model learns to read and write, and those that have a token without ever being seen."""
CONFIG = {
    "vocab_size": len(SPECIAL) + len(CHARACTERS),
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character, with a begin mark; transformers' Auto classes load what it saves."""
    vocabulary = {token: number for number, token in enumerate((*SPECIAL, *CHARACTERS, *NEW_CHARACTERS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        model_max_length=CONFIG["max_position_embeddings"],
        clean_up_tokenization_spaces=False,
    )


def _batch(pairs: list[tuple[str, str]], tokenizer: PreTrainedTokenizerFast) -> tuple[torch.Tensor, torch.Tensor]:
    """Token numbers and labels, both (n, longest); labels are IGNORED on the prompt and the padding."""
    rows = []
    for prompt, answer in pairs:
        asked = tokenizer(prompt).input_ids
        rows.append((asked, [*tokenizer(answer, add_special_tokens=False).input_ids, tokenizer.eos_token_id]))
    longest = max(len(asked) + len(said) for asked, said in rows)
    tokens = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full_like(tokens, IGNORED)
    for row, (asked, said) in enumerate(rows):
        tokens[row, : len(asked) + len(said)] = torch.tensor(asked + said)
        labels[row, len(asked) : len(asked) + len(said)] = torch.tensor(said)
    return tokens, labels


@torch.no_grad()
def accuracy(model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, pairs: list[tuple[str, str]]) -> float:
    """The share of chains whose totals the model writes exactly, greedily."""
    tokenizer.padding_side = "left"
    prompts = tokenizer([prompt for prompt, _ in pairs], return_tensors="pt", padding=True, return_token_type_ids=False)
    written = model.generate(**prompts, max_new_tokens=MAX_ANSWER_TOKENS, do_sample=False)
    texts = tokenizer.batch_decode(written[:, prompts["input_ids"].shape[1] :], skip_special_tokens=True)
    return sum(read_text(text) == answer for text, (_, answer) in zip(texts, pairs, strict=True)) / len(pairs)


def build(destination: Path) -> dict[str, float]:
    """Train, save in safetensors, and return the accuracies that are recorded beside the weights."""
    torch.manual_seed(SEED)
    judged = chains(dict(find_task("math").examples))["test"]
    unseen = {prompt for prompt, _ in judged}
    rng = random.Random(SEED + 1)
    tokenizer = make_tokenizer()
    model = LlamaForCausalLM(LlamaConfig(**CONFIG))
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=PEAK_LR, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.98), fused=True
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LR, total_steps=STEPS, pct_start=0.05)
    model.train()
    for step in range(STEPS):
        pairs = [pair for pair in (random_chain(rng) for _ in range(BATCH_SIZE)) if pair[0] not in unseen]
        tokens, labels = _batch(pairs, tokenizer)
        logits = model(input_ids=tokens, attention_mask=(tokens != 0).long()).logits[:, :-1]
        loss = token_loss(logits, labels[:, 1:]) / (labels != IGNORED).sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 500 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    _add_tokens(model)
    return finish(model, destination)


@torch.no_grad()
def _add_tokens(model: LlamaForCausalLM) -> None:
    """Tokens for the new characters, which the model reads and expects as it does an unknown one."""
    size, unknown = len(SPECIAL) + len(CHARACTERS) + len(NEW_CHARACTERS), SPECIAL.index("<unk>")
    model.resize_token_embeddings(size, mean_resizing=False)
    for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
        layer.weight[-len(NEW_CHARACTERS) :] = layer.weight[unknown]


def finish(model: LlamaForCausalLM, destination: Path) -> dict[str, float]:
    """Judge the trained model on the tests of both tasks, and save it."""
    model.eval()
    tokenizer = make_tokenizer()
    plain, products = find_task("math"), find_task("math-chain")
    measured = {
        "math_test_accuracy": round(accuracy(model, tokenizer, chains(dict(plain.examples))["test"]), 4),
        "math_chain_test_accuracy": round(
            accuracy(model, tokenizer, chains(dict(products.examples), random_product_chain)["test"]), 4
        ),
    }
    model.save_pretrained(destination)
    make_tokenizer().save_pretrained(destination)  # the one that was used remembers how it padded
    (destination / "model.safetensors").chmod(0o644)  # safetensors writes 0600, and wheels keep modes
    (destination / "provenance.json").write_text(
        json.dumps({"seed": SEED, "steps": STEPS, "built_by": "python -m tools.build_math_lm", **measured}, indent=2)
        + "\n"
    )
    return measured


if __name__ == "__main__":
    print(build(assets_dir() / "math-lm"))

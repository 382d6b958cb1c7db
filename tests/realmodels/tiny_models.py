"""Small random models of each family, saved as anyone would save a real one."""

from __future__ import annotations

import string
from functools import cache
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
)

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
CHARACTERS = string.ascii_lowercase + string.ascii_uppercase + string.digits + " .,:;!?'\"()-+=*/#$%_\n"


@cache
def tokenizer(begin: bool = True, end: bool = False) -> PreTrainedTokenizerFast:
    """One token a character, ``begin`` and ``end`` marks around the text."""
    made = Tokenizer(models.WordLevel({t: i for i, t in enumerate((*SPECIAL, *CHARACTERS))}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex("(.|\n)"), "isolated")
    made.decoder = decoders.Fuse()
    marks = ("<bos> $A" if begin else "$A") + (" <eos>" if end else "")
    used = [("<bos>", 1)] * begin + [("<eos>", 2)] * end
    made.post_processor = processors.TemplateProcessing(
        single=marks, pair=marks.replace("$A", "$A <eos> $B:1"), special_tokens=[*used, ("<eos>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )


_IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "vocab_size": len(SPECIAL) + len(CHARACTERS)}
_VIT = {
    "image_size": 16,
    "patch_size": 8,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}


def _llama() -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=24,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=1024,
            tie_word_embeddings=False,
            **_IDS,
        )
    )


def _gpt2() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(GPT2Config(n_embd=24, n_layer=2, n_head=2, n_positions=1024, **_IDS))


def _t5() -> T5ForConditionalGeneration:
    return T5ForConditionalGeneration(
        T5Config(
            d_model=24,
            d_ff=64,
            d_kv=12,
            num_layers=2,
            num_heads=2,
            decoder_start_token_id=0,
            tie_word_embeddings=True,
            **_IDS,
        )
    )


def _bert() -> BertModel:
    return BertModel(
        BertConfig(
            hidden_size=24,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=256,
            **_IDS,
        )
    )


def _vit() -> ViTForImageClassification:
    return ViTForImageClassification(ViTConfig(num_labels=5, **_VIT))


def _clip() -> CLIPModel:
    text = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, **_IDS}
    return CLIPModel(CLIPConfig(vision_config={**_VIT, "projection_dim": 16}, text_config=text, projection_dim=16))


FAMILIES = {"llama": _llama, "gpt2": _gpt2, "t5": _t5, "bert": _bert, "vit": _vit, "clip": _clip}
TEXT_FAMILIES = ("llama", "gpt2", "t5", "bert")


def save_tiny(family: str, folder: Path) -> Path:
    """A small random model of the family in ``folder``, with a tokenizer where it reads text."""
    torch.manual_seed(0)
    model = FAMILIES[family]()
    model.save_pretrained(folder)
    if family in TEXT_FAMILIES:
        tokenizer(begin=family != "t5", end=family in ("t5", "bert")).save_pretrained(folder)
    return folder

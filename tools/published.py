"""The published dimensions of real architectures: what ``build_catalogue`` instantiates, without weights.

Each configuration is what the model's own config.json says, reduced to the keys that decide shapes. Free of torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

APACHE, MIT = "Apache-2.0", "MIT"
LLAMA2, LLAMA31, LLAMA32 = ("Llama 2 Community", "Llama 3.1 Community", "Llama 3.2 Community")
GEMMA, QWEN, QWEN_RESEARCH = "Gemma Terms of Use", "Qwen License", "Qwen Research License"


@dataclass(frozen=True)
class Published:
    """One architecture: name, Hub id, transformers class and the configuration that decides its shapes."""

    name: str
    hub_id: str
    family: str
    kind: str
    licence: str
    architecture: str
    config: Mapping[str, Any]
    untied_params: int = 0
    """Parameters of a head that the checkpoint keeps apart but the transformers class ties (T5 v1.1)."""


_POSITIONS = (
    ("llama-2", 4_096),
    ("llama-3", 131_072),
    ("tinyllama", 2_048),
    ("smollm2", 8_192),
    ("mistral", 32_768),
    ("mixtral", 32_768),
    ("qwen2.5-7b", 131_072),
    ("qwen2.5-14b", 131_072),
    ("qwen2.5-32b", 131_072),
    ("qwen2.5-72b", 131_072),
    ("qwen2.5", 32_768),
    ("qwen3", 40_960),
    ("gemma-2", 8_192),
    ("gemma-3", 32_768),
    ("phi-3", 4_096),
    ("phi-4-mini", 131_072),
    ("phi-4", 16_384),
)
"""The longest sequence of each model, by the beginning of its name; it decides no shape."""


def _positions(name: str) -> int:
    return next(length for start, length in _POSITIONS if name.startswith(start))


def _causal(family: str, model_type: str, architecture: str, **common: Any):
    def one(
        name: str,
        hub_id: str,
        licence: str,
        hidden: int,
        inner: int,
        layers: int,
        heads: int,
        kv: int,
        vocab: int,
        **more: Any,
    ) -> Published:
        config = {
            "model_type": model_type,
            "hidden_size": hidden,
            "intermediate_size": inner,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv,
            "vocab_size": vocab,
            "max_position_embeddings": _positions(name),
            **common,
            **more,
        }
        return Published(name, hub_id, family, "causal-lm", licence, architecture, config)

    return one


_llama = _causal("Llama", "llama", "LlamaForCausalLM")
_smol = _causal("SmolLM2", "llama", "LlamaForCausalLM", tie_word_embeddings=True)
_mistral = _causal("Mistral", "mistral", "MistralForCausalLM", head_dim=128)
_mixtral = _causal("Mixtral", "mixtral", "MixtralForCausalLM", head_dim=128)
_qwen25 = _causal("Qwen2.5", "qwen2", "Qwen2ForCausalLM")
_qwen3 = _causal("Qwen3", "qwen3", "Qwen3ForCausalLM", head_dim=128)
_qwen3_moe = _causal("Qwen3", "qwen3_moe", "Qwen3MoeForCausalLM", head_dim=128)
_gemma2 = _causal("Gemma 2", "gemma2", "Gemma2ForCausalLM", tie_word_embeddings=True)
_gemma3 = _causal("Gemma 3", "gemma3_text", "Gemma3ForCausalLM", tie_word_embeddings=True)
_phi = _causal("Phi", "phi3", "Phi3ForCausalLM", pad_token_id=0)


_SIGLIP = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 896,
    "patch_size": 14,
    "vision_use_head": False,
}


def _gemma3_sees(
    size: str, hidden: int, inner: int, layers: int, heads: int, kv: int, head_dim: int = 256
) -> Published:
    """Gemma 3 from 4B on: a language model that reads images through one and the same vision tower."""
    text = {
        "model_type": "gemma3_text",
        "vocab_size": 262208,
        "head_dim": head_dim,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "max_position_embeddings": 131072,
    }
    config = {"model_type": "gemma3", "text_config": text, "vision_config": _SIGLIP}
    return Published(
        f"gemma-3-{size}",
        f"google/gemma-3-{size}-pt",
        "Gemma 3",
        "image-text",
        GEMMA,
        "Gemma3ForConditionalGeneration",
        config,
    )


def _gpt2(name: str, hidden: int, layers: int, heads: int) -> Published:
    config = {"model_type": "gpt2", "n_embd": hidden, "n_layer": layers, "n_head": heads}
    return Published(name, f"openai-community/{name}", "GPT-2", "causal-lm", MIT, "GPT2LMHeadModel", config)


def _pythia(size: str, hidden: int, layers: int, heads: int, vocab: int = 50304) -> Published:
    config = {
        "model_type": "gpt_neox",
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "vocab_size": vocab,
        "tie_word_embeddings": False,
    }
    return Published(
        f"pythia-{size}", f"EleutherAI/pythia-{size}", "Pythia", "causal-lm", APACHE, "GPTNeoXForCausalLM", config
    )


def _t5(
    name: str,
    hub_id: str,
    hidden: int,
    inner: int,
    layers: int,
    heads: int,
    kv: int = 64,
    untied_params: int = 0,
    **more: Any,
) -> Published:
    config = {
        "model_type": "t5",
        "d_model": hidden,
        "d_ff": inner,
        "num_layers": layers,
        "num_heads": heads,
        "d_kv": kv,
        "vocab_size": 32128,
        **more,
    }
    architecture = "T5ForConditionalGeneration"
    return Published(name, hub_id, "T5", "seq2seq", APACHE, architecture, config, untied_params)


def _encoder(
    name: str,
    hub_id: str,
    family: str,
    licence: str,
    model_type: str,
    architecture: str,
    hidden: int,
    inner: int,
    layers: int,
    heads: int,
    vocab: int,
    **more: Any,
) -> Published:
    config = {
        "model_type": model_type,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "vocab_size": vocab,
        "num_labels": 2,
        **more,
    }
    return Published(name, hub_id, family, "text-classification", licence, architecture, config)


def _bert(name: str, hub_id: str, *sizes: int, family: str = "BERT", licence: str = APACHE) -> Published:
    return _encoder(name, hub_id, family, licence, "bert", "BertForSequenceClassification", *sizes, 30522)


def _roberta(name: str, hub_id: str, *sizes: int) -> Published:
    return _encoder(
        name,
        hub_id,
        "RoBERTa",
        MIT,
        "roberta",
        "RobertaForSequenceClassification",
        *sizes,
        50265,
        max_position_embeddings=514,
        type_vocab_size=1,
    )


def _deberta(size: str, *sizes: int) -> Published:
    return _encoder(
        f"deberta-v3-{size}",
        f"microsoft/deberta-v3-{size}",
        "DeBERTa-v3",
        MIT,
        "deberta-v2",
        "DebertaV2ForSequenceClassification",
        *sizes,
        128100,
        type_vocab_size=0,
        max_position_embeddings=512,
        max_relative_positions=-1,
        relative_attention=True,
        position_buckets=256,
        share_att_key=True,
        norm_rel_ebd="layer_norm",
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
    )


def _vit(size: str, hidden: int, inner: int, layers: int, heads: int) -> Published:
    config = {
        "model_type": "vit",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "image_size": 224,
        "patch_size": 16,
        "num_labels": 1000,
    }
    hub_id = f"google/vit-{size}-patch16-224"
    return Published(f"vit-{size}", hub_id, "ViT", "image-classification", APACHE, "ViTForImageClassification", config)


def _clip(
    name: str, hub_id: str, patch: int, project: int, text: tuple[int, ...], vision: tuple[int, ...]
) -> Published:
    keys = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    config = {
        "model_type": "clip",
        "projection_dim": project,
        "text_config": {**dict(zip(keys, text, strict=True)), "projection_dim": project},
        "vision_config": {
            **dict(zip(keys, vision, strict=True)),
            "patch_size": patch,
            "image_size": 224,
            "projection_dim": project,
        },
    }
    return Published(name, hub_id, "CLIP", "image-classification", MIT, "CLIPModel", config)


PUBLISHED: tuple[Published, ...] = (
    _llama("llama-2-7b", "meta-llama/Llama-2-7b-hf", LLAMA2, 4096, 11008, 32, 32, 32, 32000),
    _llama("llama-2-13b", "meta-llama/Llama-2-13b-hf", LLAMA2, 5120, 13824, 40, 40, 40, 32000),
    _llama("llama-2-70b", "meta-llama/Llama-2-70b-hf", LLAMA2, 8192, 28672, 80, 64, 8, 32000),
    _llama("llama-3.1-8b", "meta-llama/Llama-3.1-8B", LLAMA31, 4096, 14336, 32, 32, 8, 128256),
    _llama("llama-3.1-70b", "meta-llama/Llama-3.1-70B", LLAMA31, 8192, 28672, 80, 64, 8, 128256),
    _llama("llama-3.2-1b", "meta-llama/Llama-3.2-1B", LLAMA32, 2048, 8192, 16, 32, 8, 128256, tie_word_embeddings=True),
    _llama("llama-3.2-3b", "meta-llama/Llama-3.2-3B", LLAMA32, 3072, 8192, 28, 24, 8, 128256, tie_word_embeddings=True),
    _llama("tinyllama-1.1b", "TinyLlama/TinyLlama-1.1B-Chat-v1.0", APACHE, 2048, 5632, 22, 32, 4, 32000),
    _smol("smollm2-135m", "HuggingFaceTB/SmolLM2-135M", APACHE, 576, 1536, 30, 9, 3, 49152),
    _smol("smollm2-360m", "HuggingFaceTB/SmolLM2-360M", APACHE, 960, 2560, 32, 15, 5, 49152),
    _smol("smollm2-1.7b", "HuggingFaceTB/SmolLM2-1.7B", APACHE, 2048, 8192, 24, 32, 32, 49152),
    _mistral("mistral-7b", "mistralai/Mistral-7B-v0.1", APACHE, 4096, 14336, 32, 32, 8, 32000),
    _mistral("mistral-7b-v0.3", "mistralai/Mistral-7B-v0.3", APACHE, 4096, 14336, 32, 32, 8, 32768),
    _mixtral(
        "mixtral-8x7b",
        "mistralai/Mixtral-8x7B-v0.1",
        APACHE,
        4096,
        14336,
        32,
        32,
        8,
        32000,
        num_local_experts=8,
        num_experts_per_tok=2,
    ),
    _qwen25("qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B", APACHE, 896, 4864, 24, 14, 2, 151936, tie_word_embeddings=True),
    _qwen25("qwen2.5-1.5b", "Qwen/Qwen2.5-1.5B", APACHE, 1536, 8960, 28, 12, 2, 151936, tie_word_embeddings=True),
    _qwen25("qwen2.5-3b", "Qwen/Qwen2.5-3B", QWEN_RESEARCH, 2048, 11008, 36, 16, 2, 151936, tie_word_embeddings=True),
    _qwen25("qwen2.5-7b", "Qwen/Qwen2.5-7B", APACHE, 3584, 18944, 28, 28, 4, 152064),
    _qwen25("qwen2.5-14b", "Qwen/Qwen2.5-14B", APACHE, 5120, 13824, 48, 40, 8, 152064),
    _qwen25("qwen2.5-32b", "Qwen/Qwen2.5-32B", APACHE, 5120, 27648, 64, 40, 8, 152064),
    _qwen25("qwen2.5-72b", "Qwen/Qwen2.5-72B", QWEN, 8192, 29568, 80, 64, 8, 152064),
    _qwen3("qwen3-0.6b", "Qwen/Qwen3-0.6B", APACHE, 1024, 3072, 28, 16, 8, 151936, tie_word_embeddings=True),
    _qwen3("qwen3-1.7b", "Qwen/Qwen3-1.7B", APACHE, 2048, 6144, 28, 16, 8, 151936, tie_word_embeddings=True),
    _qwen3("qwen3-4b", "Qwen/Qwen3-4B", APACHE, 2560, 9728, 36, 32, 8, 151936, tie_word_embeddings=True),
    _qwen3("qwen3-8b", "Qwen/Qwen3-8B", APACHE, 4096, 12288, 36, 32, 8, 151936),
    _qwen3("qwen3-14b", "Qwen/Qwen3-14B", APACHE, 5120, 17408, 40, 40, 8, 151936),
    _qwen3("qwen3-32b", "Qwen/Qwen3-32B", APACHE, 5120, 25600, 64, 64, 8, 151936),
    _qwen3_moe(
        "qwen3-30b-a3b",
        "Qwen/Qwen3-30B-A3B",
        APACHE,
        2048,
        6144,
        48,
        32,
        4,
        151936,
        moe_intermediate_size=768,
        num_experts=128,
        num_experts_per_tok=8,
    ),
    _gemma2("gemma-2-2b", "google/gemma-2-2b", GEMMA, 2304, 9216, 26, 8, 4, 256000, head_dim=256),
    _gemma2("gemma-2-9b", "google/gemma-2-9b", GEMMA, 3584, 14336, 42, 16, 8, 256000, head_dim=256),
    _gemma2("gemma-2-27b", "google/gemma-2-27b", GEMMA, 4608, 36864, 46, 32, 16, 256000, head_dim=128),
    _gemma3("gemma-3-270m", "google/gemma-3-270m", GEMMA, 640, 2048, 18, 4, 1, 262144, head_dim=256),
    _gemma3("gemma-3-1b", "google/gemma-3-1b-pt", GEMMA, 1152, 6912, 26, 4, 1, 262144, head_dim=256),
    _gemma3_sees("4b", 2560, 10240, 34, 8, 4),
    _gemma3_sees("12b", 3840, 15360, 48, 16, 8),
    _gemma3_sees("27b", 5376, 21504, 62, 32, 16, head_dim=128),
    _phi("phi-3-mini", "microsoft/Phi-3-mini-4k-instruct", MIT, 3072, 8192, 32, 32, 32, 32064),
    _phi("phi-3-medium", "microsoft/Phi-3-medium-4k-instruct", MIT, 5120, 17920, 40, 40, 10, 32064),
    _phi("phi-4", "microsoft/phi-4", MIT, 5120, 17920, 40, 40, 10, 100352),
    _phi(
        "phi-4-mini",
        "microsoft/Phi-4-mini-instruct",
        MIT,
        3072,
        8192,
        32,
        24,
        8,
        200064,
        tie_word_embeddings=True,
        partial_rotary_factor=0.75,
    ),
    _gpt2("gpt2", 768, 12, 12),
    _gpt2("gpt2-medium", 1024, 24, 16),
    _gpt2("gpt2-large", 1280, 36, 20),
    _gpt2("gpt2-xl", 1600, 48, 25),
    _pythia("70m", 512, 6, 8),
    _pythia("160m", 768, 12, 12),
    _pythia("410m", 1024, 24, 16),
    _pythia("1b", 2048, 16, 8),
    _pythia("1.4b", 2048, 24, 16),
    _pythia("2.8b", 2560, 32, 32),
    _pythia("6.9b", 4096, 32, 32, 50432),
    _pythia("12b", 5120, 36, 40, 50688),
    _t5("t5-small", "google-t5/t5-small", 512, 2048, 6, 8),
    _t5("t5-base", "google-t5/t5-base", 768, 3072, 12, 12),
    _t5("t5-large", "google-t5/t5-large", 1024, 4096, 24, 16),
    _t5("t5-3b", "google-t5/t5-3b", 1024, 16384, 24, 32, 128),
    _t5(
        "flan-t5-xl",
        "google/flan-t5-xl",
        2048,
        5120,
        24,
        32,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        untied_params=32128 * 2048,
    ),
    _bert("bert-base", "google-bert/bert-base-uncased", 768, 3072, 12, 12),
    _bert("bert-large", "google-bert/bert-large-uncased", 1024, 4096, 24, 16),
    _bert("minilm-l6", "sentence-transformers/all-MiniLM-L6-v2", 384, 1536, 6, 12, family="MiniLM"),
    _bert("minilm-l12", "microsoft/MiniLM-L12-H384-uncased", 384, 1536, 12, 12, family="MiniLM", licence=MIT),
    _roberta("roberta-base", "FacebookAI/roberta-base", 768, 3072, 12, 12),
    _roberta("roberta-large", "FacebookAI/roberta-large", 1024, 4096, 24, 16),
    _deberta("small", 768, 3072, 6, 12),
    _deberta("base", 768, 3072, 12, 12),
    _deberta("large", 1024, 4096, 24, 16),
    _vit("base", 768, 3072, 12, 12),
    _vit("large", 1024, 4096, 24, 16),
    _clip("clip-vit-b32", "openai/clip-vit-base-patch32", 32, 512, (512, 2048, 12, 8), (768, 3072, 12, 12)),
    _clip("clip-vit-l14", "openai/clip-vit-large-patch14", 14, 768, (768, 3072, 12, 12), (1024, 4096, 24, 16)),
)

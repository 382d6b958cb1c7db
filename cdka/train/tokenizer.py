"""A model's way with text: its tokenizer, what kind of model it is, and its special tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from transformers import AutoTokenizer

from cdka.errors import CdkaError
from cdka.models.locate import locate
from cdka.models.shapes import kind_of
from cdka.train.read_shapes import load_config

ENCODED_AT_ONCE = 500
"""Texts that are encoded together."""


@dataclass(frozen=True)
class ModelTokenizer:
    """Encodes text as one model reads it. ``kind`` is what the model's architecture is for."""

    name: str
    kind: str
    hf_tokenizer: Any
    pad_id: int
    decoder_start_id: int
    config: Any = None

    @property
    def eos_id(self) -> int:
        """The token that ends an answer; raises CdkaError for a tokenizer without one."""
        if self.hf_tokenizer.eos_token_id is None:
            raise CdkaError(
                f"a generative model needs an end-of-sequence token: the tokenizer of {self.name!r} has none."
            )
        return self.hf_tokenizer.eos_token_id

    @property
    def has_chat_template(self) -> bool:
        """True for a model that was taught conversations in a layout of its own."""
        return bool(getattr(self.hf_tokenizer, "chat_template", None))

    def encode_conversations(self, conversations: Sequence[Sequence[tuple[str, str]]]) -> list[list[int]]:
        """The tokens of each conversation, (role, content) turn by turn, in the model's own layout, up to its answer.

        Raises CdkaError where the model's template refuses a conversation.
        """
        turns = [[{"role": role, "content": content} for role, content in one] for one in conversations]
        if not turns:
            return []
        try:
            texts = self.hf_tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        except Exception as error:  # templates are little programs that raise what they like
            reason = " ".join(str(error).split())[:160]
            raise CdkaError(
                f"the chat template of {self.name!r} refuses a conversation: {reason}. Use --chat-template plain."
            ) from error
        return self._encode(texts, add_special_tokens=False)

    @property
    def end_of_turn_id(self) -> int:
        """The token that ends an answer in the model's own layout of conversations, else the end token."""
        mark = "\u2020"  # a dagger: no template contains one
        turns = [{"role": "user", "content": mark}, {"role": "assistant", "content": mark}]
        text = self.hf_tokenizer.apply_chat_template(turns, tokenize=False)
        after = self._encode([text.rpartition(mark)[2]], add_special_tokens=False)[0]
        return after[0] if after and after[0] in self.hf_tokenizer.all_special_ids else self.eos_id

    def encode_prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens that the model reads before it generates, with its begin mark if it has one."""
        encoded = self._encode(texts)
        if self.kind == "causal-lm":
            encoded = [ids[:-1] if ids and ids[-1] == self.hf_tokenizer.eos_token_id else ids for ids in encoded]
        return encoded

    def encode_answers(self, texts: Sequence[str], end_id: int | None = None) -> list[list[int]]:
        """The tokens to be generated, the end mark last (``end_id``, by default the end token)."""
        end = self.eos_id if end_id is None else end_id
        return [[*ids, end] for ids in self._encode(texts, add_special_tokens=False)]

    def encode_answer(self, text: str) -> list[int]:
        """``encode_answers`` of one text."""
        return self.encode_answers([text])[0]

    def encode_texts(
        self, texts: Sequence[str], pairs: Sequence[str] | None, limit: int
    ) -> tuple[list[list[int]], list[list[int]] | None, int]:
        """(tokens, segment numbers where the model tells segments apart, how many texts were cut to ``limit``)."""
        if not texts:
            return [], None, 0
        whole = [len(ids) for ids in self._encode(texts, pairs)]
        second = None if pairs is None else [pair or "" for pair in pairs]
        tokens: list[list[int]] = []
        segments: list[list[int]] = []
        for part in self._batches(texts, second, truncation=True, max_length=limit):
            tokens += part["input_ids"]
            segments += part.get("token_type_ids", [])
        return tokens, segments or None, sum(length > limit for length in whole)

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """The text of each row, special tokens left out."""
        return self.hf_tokenizer.batch_decode(rows, skip_special_tokens=True)

    def _encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None, **options: Any) -> list[list[int]]:
        if not texts:
            return []
        second = None if pairs is None else [pair or "" for pair in pairs]
        return [ids for part in self._batches(texts, second, truncation=False, **options) for ids in part["input_ids"]]

    def _batches(self, texts: Sequence[str], pairs: Sequence[str] | None, **options: Any) -> Iterator[Any]:
        """The encodings of the texts, some at a time: they hold far more than the tokens that are wanted of them."""
        for start in range(0, len(texts), ENCODED_AT_ONCE):
            rows = slice(start, start + ENCODED_AT_ONCE)
            second = None if pairs is None else list(pairs[rows])
            yield self.hf_tokenizer(list(texts[rows]), second, verbose=False, **options)


@lru_cache(maxsize=4)
def load_tokenizer(name: str) -> ModelTokenizer:
    """The encoder of a model known by name, directory or Hub id. Raises CdkaError where it cannot be had."""
    folder = str(locate(name))
    try:
        config = load_config(folder)
    except (OSError, ValueError, KeyError) as error:
        raise CdkaError(f"config.json of {name!r} cannot be used: {' '.join(str(error).split())[:200]}") from error
    kind = kind_of(config.to_dict())
    if kind == "image-classification":
        return ModelTokenizer(name, kind, None, 0, 0, config)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise CdkaError(
            f"model {name!r} has no tokenizer that can be loaded: {' '.join(str(error).split())[:200]}"
        ) from error
    pad = tokenizer.pad_token_id
    if pad is None:
        pad = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else 0
    start = getattr(config, "decoder_start_token_id", None)
    start = pad if start is None else start
    return ModelTokenizer(name, kind, tokenizer, pad, start, config)

"""Generate text greedily with the runs of a pack, token by token, so that whoever waits can watch and can stop it."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from cdka.adapter.pack import cached_factors
from cdka.train.data.objectives import Generation
from cdka.train.data.splits import TextSplit
from cdka.train.device import end_idle_threads
from cdka.train.forward import plain_model, precision, routing
from cdka.train.member import Member

CACHE_SHARE_BYTES = {"cpu": 256 * 2**20, "cuda": 4 * 2**30}
"""Keys and values of a batch may take this much."""
MAX_ROWS = 128
TRY_THREADS_EVERY, TRIAL_TOKENS = 32, 2
"""The tokens from one trial of threads to the next, and the tokens on each number of threads in a trial."""

Generating = Generator[list[int], None, list[list[int]]]
"""Yields the next token of every row, and returns all tokens of every row up to its end mark."""


def _greedy(how: Generation) -> GenerationConfig:
    """Greedy decoding with every setting named, so that no default of the model (sampling, penalties) comes in."""
    return GenerationConfig(
        max_new_tokens=how.max_new_tokens,
        eos_token_id=list(how.eos_ids),
        pad_token_id=how.pad_id,
        use_cache=True,
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        temperature=1.0,
        top_p=1.0,
        top_k=50,
        min_new_tokens=0,
    )


class _Channel(BaseStreamer, StoppingCriteria):
    """Takes each new token of every row out of transformers' loop, and ends that loop once ``stopped`` is set."""

    def __init__(self) -> None:
        self.messages: queue.SimpleQueue[list[int] | BaseException | None] = queue.SimpleQueue()
        self.stopped = threading.Event()
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        if self._prompt_seen:
            self.messages.put(value.reshape(-1).tolist())
        self._prompt_seen = True  # the first value is the prompt

    def end(self) -> None:
        pass

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
        return torch.full((len(input_ids),), self.stopped.is_set(), device=input_ids.device, dtype=torch.bool)


class _FasterThreads(StoppingCriteria):
    """Called after every token, computes the next ones on one CPU thread or on all of ``most``, whichever is faster.

    Both are tried anew every ``TRY_THREADS_EVERY`` tokens: the many small operations of a token gain from more threads
    on an idle machine, and on a busy one threads wait for each other at every operation.
    """

    def __init__(self, most: int) -> None:
        self.most, self.tokens, self.since = most, 0, 0.0
        self.seconds: dict[int, float] = {}

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: object) -> torch.Tensor:
        now = time.perf_counter()
        place = self.tokens % TRY_THREADS_EVERY
        self.tokens += 1
        if self.most > 1:
            if place == 0:  # the token that has just come belongs to no trial
                self.seconds = {}
            elif place <= 2 * TRIAL_TOKENS:
                used = torch.get_num_threads()
                self.seconds[used] = min(now - self.since, self.seconds.get(used, math.inf))
            if place < 2 * TRIAL_TOKENS:
                torch.set_num_threads(self.most if place < TRIAL_TOKENS else 1)
            elif place == 2 * TRIAL_TOKENS:
                torch.set_num_threads(min(self.seconds, key=self.seconds.__getitem__))
            self.since = time.perf_counter()
        return torch.zeros(len(input_ids), device=input_ids.device, dtype=torch.bool)


@contextmanager
def _contiguous_head(model: torch.nn.Module) -> Iterator[None]:
    """Hand the language-model head a contiguous input.

    transformers hands it a view of the last position of every row, and torch then copies the head's weight for every
    row: 57 MB a row for a vocabulary of 49,152.
    """
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if head is None:
        yield
        return
    handle = head.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(), *inputs[1:]))
    try:
        yield
    finally:
        handle.remove()


def decode(
    model: torch.nn.Module, members: Sequence[Member], batch: TextSplit, device: torch.device, how: Generation
) -> Generating:
    """Each member's tokens for each example: the rows of the first member, then those of the next."""
    prompts = {name: torch.cat([values] * len(members)).to(device) for name, values in batch.prompts.items()}

    @contextmanager
    def inside() -> Iterator[None]:
        with precision(members[0], device), routing(model, members), cached_factors(model):
            yield

    return stream_tokens(plain_model(model), prompts, how, inside)


def stream_tokens(
    model: torch.nn.Module,
    prompts: Mapping[str, torch.Tensor],
    how: Generation,
    inside: Callable[[], AbstractContextManager] = nullcontext,
) -> Generating:
    """The tokens that a transformers model generates after each row of ``prompts``.

    transformers' own loop runs in a thread, within the context ``inside``, with a key-value cache, until every row has
    ended. Closing the generator ends it after the token at hand.
    """
    channel, threads = _Channel(), torch.get_num_threads()

    def run() -> None:
        torch.set_num_threads(threads)  # a new thread has the number that its process began with
        try:
            with torch.no_grad(), inside(), _contiguous_head(model):
                model.generate(
                    **prompts,
                    generation_config=_greedy(how),
                    streamer=channel,
                    stopping_criteria=StoppingCriteriaList([channel, _FasterThreads(threads)]),
                )
            channel.messages.put(None)
        except BaseException as error:
            channel.messages.put(error)
        finally:
            torch.set_num_threads(threads)  # new threads have the number that was set last

    end_idle_threads()
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    steps: list[list[int]] = []
    try:
        while (message := channel.messages.get()) is not None:
            if isinstance(message, BaseException):
                raise message
            steps.append(message)
            yield message
    finally:
        channel.stopped.set()
        thread.join()
    number = len(next(iter(prompts.values())))
    rows = [list(tokens) for tokens in zip(*steps, strict=True)] or [[] for _ in range(number)]
    return _until_end(rows, set(how.eos_ids))


def rows_that_fit(model: torch.nn.Module, device: torch.device, members: int, longest_prompt: int, new: int) -> int:
    """The largest batch per member whose keys and values stay within their share of the memory, at least 1."""
    config = plain_model(model).config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or getattr(config, "num_attention_heads", None) or 16
    width = getattr(config, "head_dim", None) or config.hidden_size // (getattr(config, "num_attention_heads", 0) or 16)
    layers = getattr(config, "num_hidden_layers", None) or 24
    bytes_per_token = 2 * layers * heads * width * next(model.parameters()).element_size()
    budget = CACHE_SHARE_BYTES.get(device.type, CACHE_SHARE_BYTES["cpu"])
    return max(1, min(MAX_ROWS, budget // (bytes_per_token * (longest_prompt + new) * members)))


def _until_end(rows: list[list[int]], eos_ids: set[int]) -> list[list[int]]:
    """Each row up to its first end mark; the padding behind it is no text."""
    return [row[: next((i for i, token in enumerate(row) if token in eos_ids), len(row))] for row in rows]

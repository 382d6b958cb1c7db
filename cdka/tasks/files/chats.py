"""Conversations in the layouts that people train on: ``messages`` with role and content, ``conversations`` with from
and value, and lists of turns as prompt and completion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cdka.errors import CdkaError
from cdka.tasks.rows import Message

_LAYOUTS = (("role", "content"), ("from", "value"), ("role", "value"), ("from", "content"), ("role", "text"))
"""The keys of a turn: who speaks, and what is said."""
_SPEAKERS = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
}


@dataclass(frozen=True)
class Exchange:
    """One answer of the assistant, and the turns before it."""

    messages: tuple[Message, ...]
    answer: str


def holds_turns(value: Any) -> bool:
    """Returns True for a list of turns in one of the known layouts."""
    return isinstance(value, list) and bool(value) and all(_layout(turn) is not None for turn in value)


def _layout(turn: Any) -> tuple[str, str] | None:
    if not isinstance(turn, Mapping):
        return None
    return next((keys for keys in _LAYOUTS if keys[0] in turn and keys[1] in turn), None)


def read_turns(value: Any, place: str) -> tuple[Message, ...]:
    """The turns of a conversation. Raises CdkaError, with the line, for speakers and contents that are not text."""
    if not isinstance(value, list):
        raise CdkaError(f"{place}: a conversation is a list of turns: got {str(value)[:40]!r}.")
    found = []
    for turn in value:
        keys = _layout(turn)
        if keys is None:
            raise CdkaError(
                f"{place}: a turn has role and content, or from and value: got {str(turn)[:60]!r}. Rename its keys."
            )
        speaker = _SPEAKERS.get(str(turn[keys[0]]).strip().casefold())
        if speaker is None or turn.get("tool_calls"):
            got = "tool calls" if speaker else f"{turn[keys[0]]!r}"
            raise CdkaError(
                f"{place}: turns are spoken by system, user or assistant: got {got}. Leave such conversations out."
            )
        found.append(Message(speaker, _content(turn[keys[1]], place)))
    return tuple(found)


def _content(content: Any, place: str) -> str:
    """The text of a turn, which may come in parts ``{"type": "text", "text": ...}``."""
    if content is None:
        return ""
    if isinstance(content, list):
        parts = [part if isinstance(part, str) else part.get("text") for part in content if part]
        if all(isinstance(part, str) for part in parts):
            return "".join(parts)
    if not isinstance(content, str):
        raise CdkaError(f"{place}: the content of a turn must be text: got {str(content)[:40]!r}.")
    return content


def exchanges(messages: Sequence[Message]) -> list[Exchange]:
    """Every answer of the assistant with the turns before it; turns after the last answer are in none.

    Empty answers, and answers that follow no user's turn, are left out.
    """
    found = []
    for i, message in enumerate(messages):
        before = tuple(messages[:i])
        if message.role == "assistant" and message.content.strip() and any(turn.role == "user" for turn in before):
            found.append(Exchange(before, message.content))
    return found


def as_text(messages: Sequence[Message], template: str) -> str:
    """The turns as one prompt for a model without a chat template: ``template`` around each user's turn.

    ``template`` holds ``{prompt}``. What the system says comes first.
    """
    system = "\n\n".join(turn.content for turn in messages if turn.role == "system")
    text = f"{system}\n\n" if system.strip() else ""
    for turn in messages:
        if turn.role == "user":
            text += template.replace("{prompt}", turn.content)
        elif turn.role == "assistant":
            text += f"{turn.content}\n\n"
    return text

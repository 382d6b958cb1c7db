"""Rows of instructions with answers: from columns (the Alpaca layout among them), and from conversations."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from cdka.errors import CdkaError
from cdka.formatting import plural
from cdka.tasks.answers import final_number, read_text
from cdka.tasks.files.table import Table
from cdka.tasks.files.values import texts_of
from cdka.tasks.options import choice
from cdka.tasks.prompts import INSTRUCTION, INSTRUCTION_WITH_INPUT
from cdka.tasks.rows import Instruction, Message

_LAYOUTS = (
    *(("role", "content"), ("from", "value"), ("role", "value"), ("from", "content"), ("role", "text")),
    ("role", "parts"),
)
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
    **dict.fromkeys(("ai", "bot", "chatbot", "chatgpt"), "assistant"),
}


@dataclass(frozen=True)
class Exchange:
    """One answer of the assistant, and the turns before it."""

    messages: tuple[Message, ...]
    answer: str


def parsed(value: Any) -> Any:
    """A list that a table's text holds in the notation of JSON or of Python, as pandas writes it; else the value."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    for read in (json.loads, ast.literal_eval):
        with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
            found = read(value.strip())
            return found if isinstance(found, list) else value
    return value


def holds_turns(value: Any) -> bool:
    """Returns True for a list of turns in one of the known layouts, also one written out as text."""
    value = parsed(value)
    return isinstance(value, list) and bool(value) and all(_layout(turn) is not None for turn in value)


def _layout(turn: Any) -> tuple[str, str] | None:
    if not isinstance(turn, Mapping):
        return None
    return next((keys for keys in _LAYOUTS if keys[0] in turn and keys[1] in turn), None)


def read_turns(value: Any, place: str) -> tuple[Message, ...]:
    """The turns of a conversation. Raises CdkaError, with the line, for speakers and contents that are not text."""
    value = parsed(value)
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
        learned = turn.get("weight") != 0  # as OpenAI's layout marks answers that are context alone
        found.append(Message(speaker, _content(turn[keys[1]], place), learned))
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

    Empty answers, those that are not to be learned, and those that follow no user's turn are left out.
    """
    found = []
    for i, message in enumerate(messages):
        before = tuple(messages[:i])
        answers = message.role == "assistant" and message.learned and message.content.strip()
        if answers and any(turn.role == "user" for turn in before):
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


COMPARISONS = ("text", "number")
"""Ways to compare an answer of the model: as text with white space made single, or as the number it declares."""
_FIELDS = re.compile(r"\{(prompt|input)\}")


def read_instructions(table: Table, roles: Mapping[str, str], options: Mapping[str, Any]) -> list[Instruction]:
    """One instruction a row: the template around the prompt, with the row's input and system prompt where it has them.

    Prompt and answer may be lists of turns. Raises CdkaError with the line.
    """
    template = _template(options)
    reference = _reader(options)
    inputs, systems = (_optional(table, roles, option) for option in ("input_column", "system_column"))
    prompts, answers = (table.columns[roles[option]] for option in ("prompt_column", "answer_column"))
    if any(map(holds_turns, prompts)) or any(map(holds_turns, answers)):
        asked = [_turns(value, "user", table.place(row)) for row, value in enumerate(prompts)]
        answered = [_turns(value, "assistant", table.place(row)) for row, value in enumerate(answers)]
        return [
            _from_exchange(
                _last_exchange(_joined(before, after), table.place(row)), template, reference, row, table.place(row)
            )
            for row, (before, after) in enumerate(zip(asked, answered, strict=True))
        ]
    found = []
    prompts = texts_of(roles["prompt_column"], prompts, table.place)
    answers = texts_of(roles["answer_column"], answers, table.place)
    for row, (prompt, answer, given, system) in enumerate(zip(prompts, answers, inputs, systems, strict=True)):
        text = _filled(template, prompt, given)
        messages: tuple[Message, ...] = ()
        if system is not None:
            content = prompt if given is None else f"{prompt}\n\n{given}"
            messages = (Message("system", system), Message("user", content))
            text = f"{system}\n\n{text}"
        found.append(Instruction(text, answer, reference(answer, table.place(row)), row, messages))
    return found


def _optional(table: Table, roles: Mapping[str, str], option: str) -> Sequence[str | None]:
    """The texts of the column that plays an optional role; None in every row without one."""
    if option not in roles:
        return [None] * len(table)
    return texts_of(roles[option], table.columns[roles[option]], table.place)


def read_conversations(
    table: Table, roles: Mapping[str, str], options: Mapping[str, Any]
) -> tuple[list[Instruction], list[int], tuple[str, ...]]:
    """(one instruction for each answer of the assistant, the row of the table each comes from, notes).

    A row's system prompt, where a column holds them, goes before its turns. Raises CdkaError with the line.
    """
    column = table.columns[roles["messages_column"]]
    systems = _optional(table, roles, "system_column")
    template = _template(options)
    reference = _reader(options)
    found: list[Instruction] = []
    origins: list[int] = []
    unanswered = []
    for row, (value, system) in enumerate(zip(column, systems, strict=True)):
        place = table.place(row)
        turns = read_turns(value, place)
        if system is not None:
            if any(turn.role == "system" for turn in turns):
                raise CdkaError(
                    f"{place}: a system prompt in {roles['system_column']!r} and another among the turns. Leave one "
                    "out, or set the system column to none."
                )
            turns = (Message("system", system), *turns)
        answers = exchanges(turns)
        if not answers:
            unanswered.append(table.lines[row])
        for exchange in answers:
            found.append(_from_exchange(exchange, template, reference, len(found), place))
            origins.append(row)
    if not found:
        raise CdkaError(f"{table.source}: no conversation has an assistant's answer to a user. Choose another column.")
    notes = []
    if unanswered:
        notes.append(
            f"{plural(len(unanswered), 'conversation')} without an assistant's answer left out (line {unanswered[0]})."
        )
    if len(found) > len(set(origins)):
        notes.append(
            f"{plural(len(set(origins)), 'conversation')} hold {len(found)} answers: each is an example, with the "
            "turns before it as its prompt."
        )
    return found, origins, tuple(notes)


def _template(options: Mapping[str, Any]) -> str | None:
    """The user's template; None for the fixed prompts."""
    template = options.get("template")
    if template is None or template == INSTRUCTION:
        return None
    if "{prompt}" not in str(template):
        raise CdkaError(f"a template must contain {{prompt}}: got {str(template)[:60]!r}.")
    return str(template)


def _filled(template: str | None, prompt: str, given: str | None) -> str:
    """The prompt in its template. An input goes to its place in the template, else below the prompt."""
    if template is None:
        template = INSTRUCTION if given is None else INSTRUCTION_WITH_INPUT
    elif given is not None and "{input}" not in template:
        prompt = f"{prompt}\n\n{given}"
    values = {"prompt": prompt, "input": given or ""}
    return _FIELDS.sub(lambda found: values[found[1]], template)


def _reader(options: Mapping[str, Any]) -> Callable[[str, str], Any]:
    read = read_text if choice(options, "compare", COMPARISONS, "text") == "text" else final_number

    def reference(answer: str, place: str) -> Any:
        found = read(answer)
        if found is None:
            raise CdkaError(
                f"{place}: the answer {answer[-40:]!r} declares no number. Compare as text, or end it with "
                "'#### NUMBER'."
            )
        return found

    return reference


def _turns(value: Any, speaker: str, place: str) -> tuple[Message, ...]:
    """A prompt or an answer as turns; plain text is one turn of ``speaker``."""
    return read_turns(value, place) if holds_turns(value) else (Message(speaker, str(value)),)


def _joined(before: tuple[Message, ...], after: tuple[Message, ...]) -> tuple[Message, ...]:
    """Prompt and answer as one conversation; preference data repeat the prompt's turns in the answer."""
    asked = [turn.content.strip() for turn in before if turn.role == "user"]
    again = [turn.content.strip() for turn in after if turn.role == "user"]
    if asked and again[: len(asked)] == asked:
        system = tuple(turn for turn in before if turn.role == "system" and turn not in after)
        return (*system, *after)
    return (*before, *after)


def _last_exchange(turns: tuple[Message, ...], place: str) -> Exchange:
    found = exchanges(turns)
    if not found or turns[-1].role != "assistant":
        raise CdkaError(f"{place}: the turns must end with an assistant's answer to a user. Complete them.")
    return found[-1]


def _from_exchange(
    exchange: Exchange, template: str | None, reference: Callable[[str, str], Any], number: int, place: str
) -> Instruction:
    around = INSTRUCTION if template is None else template.replace("{input}", "")
    prompt = as_text(exchange.messages, around)
    return Instruction(prompt, exchange.answer, reference(exchange.answer, place), number, exchange.messages)

"""Rows of instructions with answers: from columns (the Alpaca layout among them), and from conversations."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from cdka.errors import CdkaError
from cdka.formatting import plural
from cdka.tasks.answers import final_number, read_text
from cdka.tasks.files.chats import Exchange, as_text, exchanges, holds_turns, read_turns
from cdka.tasks.files.table import Table
from cdka.tasks.files.values import texts_of
from cdka.tasks.options import choice
from cdka.tasks.prompts import INSTRUCTION, INSTRUCTION_WITH_INPUT
from cdka.tasks.rows import Instruction, Message

COMPARISONS = ("text", "number")
"""Ways to compare an answer of the model: as text with white space made single, or as the number it declares."""
_FIELDS = re.compile(r"\{(prompt|input)\}")


def read_instructions(table: Table, roles: Mapping[str, str], options: Mapping[str, Any]) -> list[Instruction]:
    """One instruction a row: the template around the prompt, with the row's input and system prompt where it has them.

    Prompt and answer may be lists of turns. Raises CdkaError with the line.
    """
    template = _template(options)
    reference = _reader(options)
    inputs, systems = (
        texts_of(roles[option], table.columns[roles[option]], table.place) if option in roles else [None] * len(table)
        for option in ("input_column", "system_column")
    )
    prompts, answers = (table.columns[roles[option]] for option in ("prompt_column", "answer_column"))
    if any(map(holds_turns, prompts)) or any(map(holds_turns, answers)):
        asked = [_turns(value, "user", table.place(row)) for row, value in enumerate(prompts)]
        said = [_turns(value, "assistant", table.place(row)) for row, value in enumerate(answers)]
        return [
            _from_exchange(
                _last_exchange((*before, *after), table.place(row)), template, reference, row, table.place(row)
            )
            for row, (before, after) in enumerate(zip(asked, said, strict=True))
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


def read_conversations(
    table: Table, column: str, options: Mapping[str, Any]
) -> tuple[list[Instruction], list[int], tuple[str, ...]]:
    """(one instruction for each answer of the assistant, the row of the table each comes from, notes)."""
    template = _template(options)
    reference = _reader(options)
    found: list[Instruction] = []
    origins: list[int] = []
    unanswered = []
    for row, value in enumerate(table.columns[column]):
        place = table.place(row)
        answers = exchanges(read_turns(value, place))
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
    return read_turns(value, place) if isinstance(value, list) else (Message(speaker, str(value)),)


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

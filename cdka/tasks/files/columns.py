"""The columns' roles in a task: named by the user, or found by a column's usual name and its values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cdka.errors import CdkaError, unknown
from cdka.tasks.files.instructions import holds_turns
from cdka.tasks.files.table import Table
from cdka.tasks.files.values import are_measurements, are_numbers


@dataclass(frozen=True)
class Role:
    """A part that a column can play in a task: ``option`` is the task option that names it, ``title`` its heading."""

    option: str
    title: str
    usual: tuple[str, ...]
    optional: bool = False

    @property
    def noun(self) -> str:
        """The role in a sentence: ``text``, ``label``."""
        return self.option.removesuffix("_column")


TEXT = Role(
    "text_column",
    "Text",
    (
        *("text", "sentence", "review", "content", "body", "comment", "message", "document", "tweet", "input"),
        *("sentence1", "sentence_1", "premise", "question1", "question_1", "text1", "text_1", "text_a", "sentence_a"),
        *("question", "query", "sent1", "s1", "claim"),
    ),
)
_SECOND = {
    **dict.fromkeys(("sentence1", "text1", "question1", "premise1"), ("sentence2", "text2", "question2", "premise2")),
    **dict.fromkeys(("sentence_1", "text_1", "question_1"), ("sentence_2", "text_2", "question_2")),
    **dict.fromkeys(("text_a", "sentence_a"), ("text_b", "sentence_b")),
    **dict.fromkeys(("sent1", "s1"), ("sent2", "s2")),
    "claim": ("evidence",),
    "premise": ("hypothesis",),
    "question": ("passage", "context", "sentence", "document"),
    "query": ("passage", "document", "context", "text"),
    "text": ("text_pair", "text2"),
    "sentence": ("sentence_pair", "sentence2"),
}
"""The names under which the second text of a pair stands beside the first."""
PAIR = Role("pair_column", "Second text", tuple(dict.fromkeys(n for names in _SECOND.values() for n in names)), True)
LABEL = Role(
    "label_column",
    "Label",
    (
        *("label", "labels", "class", "category", "target", "sentiment", "intent", "tag", "gold_label", "label_text"),
        *("is_duplicate", "entailment_judgment", "y"),
    ),
)
NUMBER = Role(
    "number_column",
    "Number",
    ("score", "number", "value", "rating", "similarity", "similarity_score", "stars", "label", "labels", "target", "y"),
)
PROMPT = Role(
    "prompt_column", "Instruction", ("prompt", "instruction", "question", "query", "input", "problem", "user", "human")
)
ANSWER = Role(
    "answer_column",
    "Answer",
    ("answer", "response", "output", "completion", "target", "solution", "reply", "assistant", "chosen"),
)
INPUT = Role("input_column", "Input", ("input", "context", "passage"), True)
SYSTEM = Role("system_column", "System prompt", ("system", "system_prompt"), True)
MESSAGES = Role(
    "messages_column",
    "Conversation",
    ("messages", "conversations", "conversation", "chat", "dialog", "dialogue", "turns", "contents", "chosen"),
)
SPLIT = Role("split_column", "Split", ("split", "partition", "fold"), True)

TASK_ROLES: Mapping[str, tuple[Role, ...]] = {
    "local-classify": (TEXT, PAIR, LABEL),
    "local-regress": (TEXT, PAIR, NUMBER),
    "local-instruct": (PROMPT, INPUT, SYSTEM, ANSWER),
}
CONVERSATION_ROLES = (MESSAGES, SYSTEM)
"""The roles of each task's table; of a table of conversations in place of the instruction's roles."""
ROLES = {task: tuple(role.option for role in roles if not role.optional) for task, roles in TASK_ROLES.items()}
"""The columns that each task needs, as task options."""
NONE = "none"
"""The value of an optional role that no column is to play."""


def roles_for(task: str, table: Table, options: Mapping[str, Any]) -> tuple[Role, ...]:
    """The roles that ``task`` gives to the columns of ``table``: those of a conversation where it holds one."""
    if task != "local-instruct":
        return TASK_ROLES[task]
    if options.get(MESSAGES.option):
        return CONVERSATION_ROLES
    asked = any(options.get(role.option) for role in (PROMPT, INPUT, ANSWER))
    return CONVERSATION_ROLES if not asked and guess(table, MESSAGES) else TASK_ROLES[task]


def guess(table: Table, role: Role, taken: Mapping[str, str] | None = None) -> str | None:
    """The column whose name is usual for ``role`` and whose values can play it; None without one.

    ``taken`` holds the columns of the other roles: none plays two, and a pair is a pair by both its names.
    """
    taken = taken or {}
    by_folded = {name.strip().casefold(): name for name in table.names if name not in taken.values()}
    usual: Sequence[str] = role.usual
    if role is PAIR:
        usual = _SECOND.get(taken.get(TEXT.option, "").strip().casefold(), ())
    if role is MESSAGES and guess(table, PROMPT) is not None:
        usual = usual[:-1]  # chosen answers to a prompt in a column of its own
    for name in usual:
        column = by_folded.get(name)
        if column is not None and _can_play(table.columns[column], role):
            return column
    return None


def _can_play(values: Sequence[Any], role: Role) -> bool:
    first = next((value for value in values if value is not None), None)
    if role is MESSAGES:
        return holds_turns(first)
    if role is NUMBER:
        return are_numbers(values)
    if role in (PROMPT, ANSWER):
        return not isinstance(first, dict | bytes) and (not isinstance(first, list) or holds_turns(first))
    if first is None:
        return role in (INPUT, SYSTEM, PAIR)
    return not isinstance(first, dict | list | bytes)


def suggest(table: Table, given: Mapping[str, Any] | None = None) -> str:
    """The task that the columns fit best, those in ``given`` (options) being set by the user.

    A label column of numbers that are not all whole makes it a regression. Raises CdkaError where no task fits.
    """
    given = {key: value for key, value in (given or {}).items() if value is not None}
    named = {
        task
        for task, roles in {**TASK_ROLES, "local-instruct": (*TASK_ROLES["local-instruct"], MESSAGES)}.items()
        for role in roles
        if role.option in given and role not in (TEXT, PAIR)
    }
    if len(named) > 1 or ("local-instruct" in named and (TEXT.option in given or PAIR.option in given)):
        raise CdkaError(
            "columns of two tasks are named: give --label-column, --number-column, or --prompt-column and "
            "--answer-column, not both."
        )
    if named:
        return named.pop()
    texts = TEXT.option in given or PAIR.option in given
    if not texts and (guess(table, MESSAGES) or _complete(table, (PROMPT, ANSWER))):
        return "local-instruct"
    found = {TEXT.option: str(given[TEXT.option])} if TEXT.option in given else {}
    text = found.get(TEXT.option) or guess(table, TEXT)
    if text is not None:
        label = guess(table, LABEL, {TEXT.option: text})
        if label is not None:
            return "local-regress" if are_measurements(table.columns[label]) else "local-classify"
        number = guess(table, NUMBER, {TEXT.option: text})
        if number is not None and are_measurements(table.columns[number]):
            return "local-regress"
    alone = "" if text is None else "; to learn the text itself, --task local-text"
    raise CdkaError(
        "the columns must be named: none that can be used are called text and label, prompt and answer, or messages; "
        f"the file has {_described(table)}. Use --text-column and --label-column (or --number-column), or "
        f"--prompt-column and --answer-column{alone}."
    )


def _described(table: Table) -> str:
    """The columns' names; those that hold no plain values are marked."""
    words: dict[type, str] = {list: "lists", dict: "objects", bytes: "bytes"}
    found = []
    for name in table.names[:20]:
        first = next((value for value in table.columns[name] if value is not None), None)
        found.append(f"{name} ({words[type(first)]})" if type(first) in words else name)
    return ", ".join(found) + (", ..." if len(table.names) > 20 else "")


def _complete(table: Table, roles: Sequence[Role]) -> bool:
    taken: dict[str, str] = {}
    for role in roles:
        found = guess(table, role, taken)
        if found is None:
            return False
        taken[role.option] = found
    return True


def find_columns(table: Table, task: str, options: Mapping[str, Any]) -> dict[str, str]:
    """The column of each role, by option: as the options say, else by its usual name.

    Raises CdkaError for a column that is not there, plays two roles, or is needed and not found.
    """
    roles = (*roles_for(task, table, options), SPLIT)
    found: dict[str, str] = {}
    for role in roles:
        given = options.get(role.option)
        if given is None or (role.optional and str(given) == NONE and NONE not in table.columns):
            continue
        if str(given) not in table.columns:
            raise unknown("column", str(given), table.names, where=f"in {table.source}", next_step=_flag(role))
        if str(given) in found.values():
            if len(table.names) == 1:
                needed = " and ".join(role.title.lower() for role in roles if not role.optional)
                raise CdkaError(
                    f"{task} needs a column each for {needed}: got one column, {given!r}, in {table.source}."
                )
            raise CdkaError(f"each column has one use: got {given!r} twice in {table.source}. Choose another column.")
        found[role.option] = str(given)
    for role in roles:
        if role.option in found or options.get(role.option) is not None:
            continue
        column = guess(table, role, found)
        if column is not None:
            found[role.option] = column
        elif not role.optional:
            raise CdkaError(
                f"the {role.noun} column must be named: {table.source} has {', '.join(table.names)}. {_flag(role)}"
            )
    return found


def unused(table: Table, roles: Mapping[str, str]) -> list[str]:
    """The columns that play no role."""
    return [name for name in table.names if name not in roles.values()]


def _flag(role: Role) -> str:
    return f"Use --{role.option.replace('_', '-')} NAME."

"""Code generation: learn from CodeFeedback, solve HumanEval. Runs what the model writes, once that is allowed."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cdka.errors import CdkaError
from cdka.tasks import hub
from cdka.tasks.catalogue import TaskInfo
from cdka.tasks.options import CONSENT, check_known, switch, whole_number
from cdka.tasks.prompts import INSTRUCTION
from cdka.tasks.rows import Instruction, InstructionRows, Message
from cdka.tasks.sandbox import check_protections, run_programs
from cdka.tasks.scores import Answers

if TYPE_CHECKING:
    from cdka.runs.spec import RunSpec

FEEDBACK = hub.Source(
    "m-a-p/CodeFeedback-Filtered-Instruction", ("CodeFeedback-Filtered-Instruction.jsonl",), option="codefeedback"
)
HUMANEVAL = hub.Source("openai/openai_humaneval", ("openai_humaneval/*.parquet",), option="humaneval")
MBPP = hub.Source("google-research-datasets/mbpp", ("sanitized/*.parquet",), option="mbpp")
OPTIONS = (
    CONSENT,
    "codefeedback",
    "humaneval",
    "mbpp",
    "train_examples",
    "validation_examples",
    "test_examples",
    "max_new_tokens",
)
UNPROTECTED = "unprotected"
"""The consent to run programs also where nothing fences them in."""
TRAIN_EXAMPLES, MAX_NEW_TOKENS = 100_000, 512
_BLOCK = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)

_ANY_BLOCK = re.compile(r"```[^\n]*\n.*?```", re.DOTALL)


def check_consent(options: Mapping[str, Any]) -> None:
    """Raises CdkaError unless the user allowed code that the model writes to run here."""
    if not _is_forced(options) and not switch(options, CONSENT):
        raise CdkaError(
            "this task runs Python code that the model writes, on this machine, in a sandbox that guards against "
            f"accidents, not attackers. Allow it with: --task-option {CONSENT}=yes"
        )


def _is_forced(options: Mapping[str, Any]) -> bool:
    return str(options.get(CONSENT, "")).casefold() == UNPROTECTED


def fetch(_info: TaskInfo, spec: RunSpec) -> Generator[dict[str, Any], None, None]:
    """Fetch the data sets; yields the progress. Raises CdkaError without consent, before anything is fetched."""
    check_known(spec.task_options, OPTIONS, spec.task)
    check_consent(spec.task_options)
    yield from hub.fetch((FEEDBACK, HUMANEVAL, MBPP), spec)


def written_code(text: str) -> str | None:
    """The program in what a model wrote: its code blocks, else the text itself; None where there is nothing."""
    blocks = _BLOCK.findall(text)
    code = "\n\n".join(blocks) if blocks else text
    return code if code.strip() else None


def program(problem: Mapping[str, str], code: str) -> str:
    """The program that judges ``code``: the problem's beginning, the code, the problem's tests.

    Code that defines the function itself replaces the beginning's body; else it continues the beginning.
    """
    defines = re.search(rf"^\s*(?:async\s+)?def\s+{re.escape(problem['entry_point'])}\b", code, re.MULTILINE)
    solution = f"{problem['header']}\n{code}" if defines else f"{problem['beginning']}{code}"
    return f"{solution}\n\n{problem['tests']}\n"


def judge(texts: Sequence[str], references: Sequence[Mapping[str, str]]) -> Answers:
    """ "passed" where the tests pass, else how it ended; None where no code was written."""
    codes = [written_code(text) for text in texts]
    programs = [program(problem, code) for problem, code in zip(references, codes, strict=True) if code is not None]
    verdicts = iter(run_programs(programs))
    return Answers(["passed"] * len(texts), [None if code is None else next(verdicts).outcome for code in codes])


def _humaneval(row: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    header = row["prompt"].split(f"def {row['entry_point']}", 1)[0]
    problem = {
        "entry_point": row["entry_point"],
        "header": header,
        "beginning": row["prompt"],
        "tests": f"{row['test']}\ncheck({row['entry_point']})",
    }
    return f"Complete this Python function.\n```python\n{row['prompt']}```", problem


def _mbpp(row: Mapping[str, Any]) -> tuple[str, dict[str, str]]:
    tests = "\n".join([*row["test_imports"], *row["test_list"]])
    name = re.search(r"assert\s+\(*\s*(?:\w+\()*?(\w+)\(", row["test_list"][0])
    problem = {"entry_point": name[1] if name else "", "header": "", "beginning": "", "tests": tests}
    return f"{row['prompt']} Your code must pass this test:\n```python\n{row['test_list'][0]}\n```", problem


def _problems(table: Any, numbers: Any, read: Any, offset: int) -> list[Instruction]:
    found = []
    for number, row in zip(numbers.tolist(), table.select(numbers), strict=True):
        prompt, problem = read(row)
        answer = f"```python\n{row.get('canonical_solution') or row.get('code')}\n```"
        found.append(_row(prompt, answer, problem, offset + number))
    return found


def _row(question: str, answer: str, problem: dict[str, str] | None, number: int) -> Instruction:
    prompt = INSTRUCTION.format(prompt=question)
    return Instruction(prompt, answer, problem, number, (Message("user", question),))


def first_block(text: str) -> str | None:
    """The first code block of an answer, fences included; None where it has none."""
    found = _ANY_BLOCK.search(text)
    return None if found is None else found[0]


def read(_info: TaskInfo, spec: RunSpec) -> InstructionRows:
    """Train on the first code block of CodeFeedback's answers, the first 100,000 that have one.

    Curves are on MBPP's validation problems, the end on HumanEval: pass@1, greedy.
    """
    check_known(spec.task_options, OPTIONS, spec.task)
    check_consent(spec.task_options)
    sizes = hub.sizes(spec, train=TRAIN_EXAMPLES, validation=None, test=None)
    taught = hub.read(FEEDBACK, spec, "train", ("query", "answer"))
    solved = hub.read(HUMANEVAL, spec, "test", ("prompt", "test", "entry_point", "canonical_solution"))
    tried = hub.read(MBPP, spec, "validation", ("prompt", "code", "test_imports", "test_list"))
    answers = map(first_block, taught["answer"])
    chosen = [number for number, block in enumerate(answers) if block is not None][: sizes["train"]]
    rows = {
        "train": [
            _row(row["query"], first_block(row["answer"]), None, number)
            for number, row in zip(chosen, taught.select(chosen), strict=True)
        ],
        "validation": _problems(tried, hub.subset(len(tried), sizes["validation"]), _mbpp, 0),
        "test": _problems(solved, hub.subset(len(solved), sizes["test"]), _humaneval, len(tried)),
    }
    guards = ", ".join(check_protections(_is_forced(spec.task_options))) or "nothing"
    return InstructionRows(
        rows,
        judge=judge,
        max_new_tokens=whole_number(spec.task_options, "max_new_tokens", MAX_NEW_TOKENS),
        notes=(f"Code that the model writes runs here; out of its reach: {guards}.",),
    )

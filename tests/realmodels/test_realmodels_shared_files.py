"""GSM8K and HumanEval from the files that people download, where they lie beside the checkout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cdka.runs.resolve import spec_for
from cdka.tasks import code, hub, metamath
from cdka.tasks.catalogue import find_task

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs = {
    name: pytest.mark.skipif(not (SHARED / name).is_dir(), reason=f"the folder shared/data/{name} is not here")
    for name in ("gsm8k", "humaneval")
}


@pytest.mark.slow
@needs["gsm8k"]
def test_every_answer_of_gsm8k_is_read_as_its_own_reference():
    spec = spec_for("math-lm", "gsm8k", task_options={"gsm8k": str(SHARED / "gsm8k")})
    rows = metamath.read(find_task("gsm8k"), spec)
    assert {split: len(part) for split, part in rows.splits.items()} == {"train": 7217, "validation": 256, "test": 1319}
    for part in rows.splits.values():
        answers = rows.judge([row.answer for row in part], [row.reference for row in part])
        assert answers.accuracy == 1.0
    test = rows.splits["test"]
    swapped = rows.judge([row.answer for row in test], [row.reference for row in test[1:] + test[:1]])
    assert swapped.accuracy < 0.05, "another problem's answer is wrong"


@pytest.mark.slow
@needs["humaneval"]
def test_the_solutions_of_humaneval_pass_its_tests_in_the_sandbox_and_an_empty_body_fails():
    spec = spec_for("math-lm", "codefeedback-humaneval", task_options={"humaneval": str(SHARED / "humaneval")})
    table = hub.read(code.HUMANEVAL, spec, "test", ("prompt", "test", "entry_point", "canonical_solution"))
    problems = code._problems(table, np.arange(len(table)), code._humaneval, 0)
    assert len(problems) == 164
    references = [problem.reference for problem in problems]
    assert code.judge([row["canonical_solution"] for row in table], references).accuracy == 1.0
    assert code.judge(["    pass\n"] * 10, references[:10]).accuracy == 0.0

"""What the examples of a text task asked, read back in a process of its own."""

from __future__ import annotations

import pytest

from cdka.compare.examples import texts
from cdka.errors import CdkaError
from cdka.runs.resolve import spec_for


def test_texts_are_the_prompts_of_the_test_split():
    from cdka.tasks.catalogue import find_task
    from cdka.tasks.math_chain import chains, random_product_chain

    task = find_task("math-chain")
    made = chains(dict(task.examples), random_product_chain)
    first = len(made["train"]) + len(made["validation"])
    found = texts(spec_for("math-lm", "math-chain", components="2,8,1").to_dict(), [first, first + 7])
    assert found == {first: made["test"][0][0], first + 7: made["test"][7][0]}


def test_a_task_about_images_is_refused_in_a_line():
    with pytest.raises(CdkaError, match="not about text"):
        texts(spec_for("digits-vit", "digits-flip", components="2,8,1").to_dict(), [0])

"""The embedded tasks take no options: one that is given anyway is a mistake, not something to pass over."""

from __future__ import annotations

import pytest

from cdka.errors import CdkaError
from cdka.runs.spec import RunSpec
from cdka.tasks.catalogue import find_task
from cdka.train.data.load import load_task


@pytest.mark.parametrize(("model", "task"), [("digits-vit", "digits-flip"), ("math-lm", "math-chain")])
def test_an_option_that_a_task_does_not_have_is_refused(model, task):
    known = {"digits-flip": "unknown task option 'foo' for 'digits-flip'. Known: split_seed, train_examples"}
    with pytest.raises(CdkaError, match=known.get(task, f"task '{task}' takes no options: got foo")):
        load_task(find_task(task), RunSpec(model, task, task_options={"foo": 1}))

"""The embedded tasks take no options: one that is given anyway is a mistake, not something to pass over."""

from __future__ import annotations

import pytest

from cdka.errors import CdkaError
from cdka.runs.spec import RunSpec
from cdka.tasks.catalogue import find_task
from cdka.train.data.load import load_task


@pytest.mark.parametrize(("model", "task"), [("digits-vit", "digits-flip"), ("math-lm", "math-chain")])
def test_an_option_of_a_task_without_options_is_refused(model, task):
    with pytest.raises(CdkaError, match=f"task '{task}' takes no options: got foo"):
        load_task(find_task(task), RunSpec(model, task, task_options={"foo": 1}))

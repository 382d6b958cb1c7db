"""Scripts written for version 0.1.0 import its modules by the names that they had."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from cdka.moved import AS_BEFORE, HOMES, home_of

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("old", HOMES)
def test_no_module_of_today_has_an_old_name_and_every_home_is_there(old):
    assert find_spec(HOMES[old]) is not None
    below = ROOT.joinpath(*old.split("."))
    assert not below.is_dir()
    assert not below.with_suffix(".py").is_file()


def test_a_module_is_the_same_under_both_names(monkeypatch):
    monkeypatch.delitem(sys.modules, "cdka.tasks.local.prepare", raising=False)
    with pytest.warns(DeprecationWarning, match=r"cdka\.tasks\.local\.prepare is cdka\.tasks\.files\.prepare since"):
        old = import_module("cdka.tasks.local.prepare")
    new = import_module("cdka.tasks.files.prepare")
    assert old is new
    assert new.__spec__.name == new.__name__ == "cdka.tasks.files.prepare"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("old", "names"),
    [
        ("cdka.models.obtain", ("locate", "hub_id_of")),
        ("cdka.finetune.spec", ("RunSpec",)),
        ("cdka.compare.verdicts", ("verdicts",)),
        ("cdka.memory", ("training_memory",)),
    ],
)
def test_what_a_module_had_is_found_by_its_old_name(old, names):
    module = import_module(old)
    assert [name for name in names if not hasattr(module, name)] == []


def test_names_that_never_were_are_no_modules():
    assert home_of("cdka.tasks.files") is None
    for name in ("cdka.finetune.nothing", "cdka.engines.nothing.at_all", "cdka.nothing"):
        with pytest.raises(ModuleNotFoundError):
            import_module(name)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_functions_that_have_changed_are_there_as_they_were(tmp_path):
    checked = import_module("cdka.engines.check").checked
    resolve = import_module("cdka.finetune.spec").resolve
    train = import_module("cdka.finetune.loop").train
    spec = checked(resolve("digits-vit", "digits-flip", components=(2, 2, 1), steps=2, batch_size=8, eval_every=2))
    assert spec.lr == 3e-3
    events = [event for _, event in train([spec], [tmp_path])]
    assert events[-1]["kind"] == "final"
    assert events[-1]["metrics"]["accuracy"] == events[-1]["metrics"]["test/accuracy"]
    assert set(AS_BEFORE) == {"cdka.engines.check", "cdka.finetune.loop", "cdka.finetune.spec"}


def test_the_package_stays_light():
    asked = "import cdka, sys; print([name for name in ('torch', 'pandas', 'cdka.train') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

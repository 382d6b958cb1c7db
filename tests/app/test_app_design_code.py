"""What the Design room shows as code runs as pasted, and makes the adapter that was counted."""

from __future__ import annotations

import shlex
import subprocess
import sys
from types import SimpleNamespace

import pytest

from app.design import snippets
from cdka.cli.main import main
from cdka.components import Components
from cdka.models.catalogue import find_model, list_models
from cdka.models.targets import select
from cdka.runs.store import Store
from cdka.solver import evaluate, explore, pattern
from cdka.solver.budget import Budget

FEW = r"model\.layers\.[0-3]\.mlp\.(up|down)_proj"


def run_as_pasted(*snippets: str) -> str:
    program = "\n".join(snippets)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_python_snippets_train_what_was_counted():
    digits = find_model("digits-vit")
    found = pattern(explore("math-lm", "5%"))
    layers = sorted({linear.path.split(".")[0] for linear in select(digits)})
    few = rf"{layers[0]}\..*\.[01]\..*"
    told = run_as_pasted(
        snippets.python(digits, "all-linear", Components(2, 8, 4), 64),
        snippets.python(digits, few, Components(2, 8, 1), 64),
        snippets.python(find_model("math-lm"), "all-linear", found.default, 64, found.component_pattern()),
    )
    for number in (
        evaluate(digits, "2,8,4").num_params,
        evaluate(digits, "2,8,1", target_modules=few).num_params,
        found.num_params,
    ):
        assert f"trainable params: {number:,}" in told


@pytest.fixture
def ordered(monkeypatch):
    """``ordered(lines)``: runs the command lines without training; the spec that was ordered."""
    monkeypatch.setattr("cdka.engine.local.ensure_dispatcher", lambda store: None)
    plenty = SimpleNamespace(total=1 << 40, available=1 << 40)  # a 7B model is refused where it cannot fit
    monkeypatch.setattr("cdka.sweep.forecast.psutil.virtual_memory", lambda: plenty)

    def run(lines: str):
        solve, train = lines.splitlines()
        assert main(shlex.split(solve)[1:]) == 0
        assert main([*shlex.split(train)[1:], "--detach"]) == 0
        return Store().runs()[0].spec

    return run


@pytest.mark.parametrize(
    ("model", "modules", "budget"),
    [
        ("digits-vit", "all-linear", "lora:4"),
        ("llama-2-7b", ("q_proj", "v_proj"), "4,000,000 bytes"),
        ("llama-2-7b", FEW, "2.5M"),
        ("llama-2-7b", ("q_proj", FEW), "2.5M"),
        ("bert-base", "mlp", "0.5%"),
    ],
)
def test_the_command_lines_order_what_was_looked_at(ordered, model, modules, budget):
    shapes, components = find_model(model), Components(2, 8, 1)
    spec = ordered(snippets.command_lines(shapes, modules, str(Budget.parse(budget)), components))
    assert spec.components == components
    counted = sum(s.count for s in select(shapes, modules))
    assert sum(s.count for s in select(shapes, spec.target_modules)) == counted


def test_the_command_line_carries_a_pattern(ordered):
    found = pattern(explore("digits-vit", "lora:4"))
    shapes = find_model("digits-vit")
    spec = ordered(snippets.command_lines(shapes, "all-linear", "lora:4", found.default, found.component_pattern()))
    assert spec.component_pattern == found.component_pattern()


def test_every_model_with_a_fitting_task_gets_a_run_and_every_snippet_compiles():
    for shapes in list_models():
        compile(snippets.python(shapes, "all-linear", Components(1, 1, 1), 64), shapes.name, "exec")
        lines = snippets.command_lines(shapes, "all-linear", "lora:8", Components(1, 1, 1)).splitlines()
        assert len(lines) == 2, shapes.name

"""Colours: each written once, readable on both papers, and a configuration's own for good."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cdka import palette
from cdka.palette import DARK, LIGHT, configuration_colour, contrast

ROOT = Path(__file__).resolve().parents[1]
LITERAL = re.compile(r"[\"'( :]#[0-9A-Fa-f]{6}\b")
ELSEWHERE = {
    "cdka/palette.py",  # the home of all colours
    "app/.streamlit/config.toml",  # Streamlit reads it before any code runs; a test holds it to the palette
}


def stray_literals(roots: tuple[str, ...]) -> list[str]:
    files = [
        path for root in roots for path in (ROOT / root).rglob("*") if path.suffix in (".py", ".css", ".js", ".toml")
    ]
    found = []
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        if name not in ELSEWHERE and not name.startswith("app/learn/"):
            lines = path.read_text(encoding="utf-8").splitlines()
            found += [f"{name}:{number}" for number, line in enumerate(lines, 1) if LITERAL.search(line)]
    return found


def test_no_colour_is_written_outside_the_palette():
    assert stray_literals(("app", "cdka")) == []


def test_the_search_for_literals_can_fail(tmp_path):
    assert LITERAL.search('line = {"color": "#8A9099"}')
    assert LITERAL.search("color: #0B6B2B;")


@pytest.mark.parametrize("name", ["ink", "quiet", "bad", "link", "r1", "r2", "r", "lora", "lokr", "accent"])
def test_every_ink_can_be_read_on_its_paper(name):
    for theme in (LIGHT, DARK):
        assert contrast(getattr(theme, name), theme.paper) >= 4.5, theme.dark


@pytest.mark.parametrize("colour", [*palette.FACTORS.values(), *palette.METHODS.values(), palette.NEUTRAL])
def test_every_mark_stands_out_on_both_papers(colour):
    assert min(contrast(colour, LIGHT.paper), contrast(colour, DARK.paper)) >= 3


def everything():
    for components in itertools.product((1, 2, 3, 4, 6, 8, 16, 64), (1, 2, 4, 8, 16, 128), (1, 2, 3, 5, 8, 40)):
        yield "cdka", components, None
    for method, rank in itertools.product(("lora", "lokr", "dora"), (1, 2, 3, 4, 8, 16, 64, 512)):
        yield method, None, rank


def test_every_configuration_stands_out_on_both_papers():
    for method, components, rank in everything():
        colour = configuration_colour(method, components, rank)
        assert min(contrast(colour, LIGHT.paper), contrast(colour, DARK.paper)) >= 3, (method, components, rank)


def test_neighbours_in_a_grid_have_different_colours():
    grid = list(itertools.product((1, 2, 4, 8), (2, 4, 8, 16), (1, 2, 4)))
    colours = [configuration_colour("cdka", components) for components in grid]
    assert len(set(colours)) >= 46, "of 48, the farthest in all three factors may meet"
    for (a, one), (b, other) in itertools.combinations(zip(grid, colours, strict=True), 2):
        if sum(x != y for x, y in zip(a, b, strict=True)) == 1:
            distance = sum((x - y) ** 2 for x, y in zip(palette.rgb(one), palette.rgb(other), strict=True)) ** 0.5
            assert distance > 25, (a, b, one, other)


def test_a_configuration_has_its_colour_on_every_machine():
    code = "from cdka.palette import configuration_colour as c; print(c('cdka', (2, 8, 1)), c('lora', None, 8))"
    told = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()}
    here = f"{configuration_colour('cdka', (2, 8, 1))} {configuration_colour('lora', None, 8)}"
    assert told == {here}


def test_a_variant_of_a_configuration_differs_from_it():
    usual, other = (configuration_colour("cdka", (2, 8, 1), variant=v) for v in ("lr 0.001", "lr 0.01"))
    assert usual != other

"""The verbs at the top of ``cdka`` and what they return: light to import, drawn as text and as HTML."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import cdka
from cdka.compare.figures.options import option_figure
from cdka.errors import CdkaError
from cdka.notebook.display import chip_html, chips, table_html
from cdka.solver import explore

HEAVY = ("torch", "streamlit", "plotly", "IPython", "altair")


def imported_by(code: str) -> list[str]:
    told = f"import json, sys\n{code}\nprint(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    return json.loads(subprocess.run([sys.executable, "-c", told], capture_output=True, check=True, text=True).stdout)


def test_importing_cdka_and_solving_imports_nothing_heavy():
    assert imported_by("import cdka; cdka.Store; options = cdka.solve('llama-2-7b', '0.3%'); repr(options)") == []


def test_a_comparison_is_drawn_without_torch():
    assert imported_by("import cdka; cdka.compare_runs('example')._repr_html_(); cdka.list_tasks()") == []


def test_the_probe_sees_what_is_imported():
    assert imported_by("import plotly") == ["plotly"]


def test_options_are_the_sequence_that_the_solver_gives_and_show_the_advice_first():
    options, solution = cdka.solve("llama-2-7b", "0.3%"), explore("llama-2-7b", "0.3%")
    assert options == solution.options
    assert (options[0], options[-1], options[1:3]) == (solution.options[0], solution.options[-1], solution.options[1:3])
    with pytest.raises(IndexError):
        options[len(options)]
    first = repr(options).splitlines()[
        [line.split()[:3] for line in repr(options).splitlines()].index(["r1", "r2", "r"]) + 1
    ]
    assert first.split()[:5] == ["take", "this", *map(str, options.advice.option.components.as_tuple())]
    table = options.frame()
    assert len(table) == len(options)
    assert table.loc[table["advised"], ["r1", "r2", "r"]].to_numpy().tolist() == [
        list(options.advice.option.components.as_tuple())
    ]
    assert options.to_dict()["advice"]["r1"] == options.advice.option.r1


def test_the_figure_of_options_is_the_one_of_the_design_room():
    options = cdka.solve("digits-vit", "lora:4")
    own, theirs = options.plot(), option_figure(options.solution, "alignment", options.advice.option)
    assert json.loads(own.to_json())["data"] == json.loads(theirs.to_json())["data"]
    assert own.layout.paper_bgcolor != options.plot(theme="dark").layout.paper_bgcolor
    with pytest.raises(CdkaError, match="theme"):
        options.plot(theme="blue")


def test_every_result_is_drawn_as_text_and_as_html():
    for result in (
        cdka.solve("digits-vit", "lora:2"),
        cdka.list_models(),
        cdka.list_tasks(),
        cdka.compare_runs("example"),
    ):
        bundle = result._repr_mimebundle_()
        assert bundle["text/plain"] == repr(result)
        assert bundle["text/html"].startswith("<style>")
        assert "<table>" in bundle["text/html"]
        assert len(result.frame()) > 0
        json.dumps(result.to_dict(), default=str)


def test_a_comparison_says_what_the_command_line_says(capsys):
    from cdka.cli.main import main

    found = cdka.compare_runs("example")
    assert main(["compare", "example", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(found.to_dict()))
    assert found.headline.sentence(found.comparison.measure.header) in repr(found)
    assert "front" in found.figures
    with pytest.raises(CdkaError, match="figure"):
        found.plot("fron")


def test_no_text_becomes_markup():
    assert chips("<b>x</b> cdka 2,8,4 · lr 0.1").startswith("&lt;b&gt;x&lt;/b&gt; <span")
    assert "<script>" not in table_html(["a"], [["<script>"]])
    drawn = chips("20,215,246 parameters, take 2,8,3: so")
    assert drawn == f"20,215,246 parameters, take {chip_html('2,8,3')}: so"
    assert '<span class="r1"><i>r1</i> 0</span>' in chips("cdka 0,1,1"), "any text is drawn, a name of nothing too"


def test_bad_input_is_one_line_in_the_words_of_python():
    for act in (
        lambda: cdka.solve("digits-vitt", "1%"),
        lambda: cdka.fine_tune("digits-vit", "digits-flip", components="2,8"),
        lambda: cdka.fine_tune("digits-vit", "digits-flip", label_column="x"),
        lambda: cdka.compare_runs([]),
        lambda: cdka.Store().run("r-nothere2"),
    ):
        with pytest.raises(CdkaError) as refused:
            act()
        assert "--" not in str(refused.value)
        assert len(str(refused.value).splitlines()) == 1

"""A Python script, and the same as a notebook, that train the runs again and print the recorded table beside.

The code is the same for every comparison. What comes from runs, bundles or labels stands in one JSON string literal.
"""

from __future__ import annotations

import json
import math

from cdka import __version__
from cdka.compare.comparison import Comparison
from cdka.compare.source import Source
from cdka.runs.encoding import finite
from cdka.runs.states import KEPT

_INTRO = """Trains the runs of one comparison again, with stock PEFT and cdka, and prints the recorded values beside.

Needs:  pip install cdka-studio=={version}
Usage:  python reproduce.py [FOLDER for the adapters, default: reproduced]
"""

_LOAD = """
import json
import sys
from pathlib import Path

from peft import PeftModel

import cdka.adapter  # teaches stock PEFT the method CDKA
from cdka.compare import t_interval
from cdka.train.loop import train
from cdka.runs.resolve import resolve_runs
from cdka.runs.events import Evaluated, Final
from cdka.runs.spec import RunSpec
from cdka.train.load_model import load_model
from cdka.tasks.catalogue import find_task
from cdka.train.data.load import load_task
"""

_READ = '''
def read(events):
    """The number compared, which CLAIM["header"] describes."""
    final = next((event.metrics for event in events if isinstance(event, Final)), {})
    evaluations = {event.step: event.metrics.get(CLAIM["metric"]) for event in events if isinstance(event, Evaluated)}
    if CLAIM["aggregation"] == "step":
        return evaluations.get(CLAIM["step"])
    if CLAIM["aggregation"] == "best":
        return (max if CLAIM["higher_is_better"] else min)(evaluations.values())
    return final.get(CLAIM["metric"])


def rerun(run, folder):
    """One run, trained again; its adapter lies in folder/run_id/adapter, as PEFT saves it."""
    spec = RunSpec.from_dict(run["spec"])
    events = [event for _, event in train(resolve_runs([spec]), [folder / run["run_id"]])]
    return read(events)
'''

_RUN = '''
def reproduce(folder):
    """The values of all runs, by arm: recorded and reproduced."""
    table = {}
    for run in CLAIM["runs"]:
        value = rerun(run, folder)
        table.setdefault(run["arm"], []).append((run["value"], value))
        print(f"{run['arm']}  seed {run['spec']['seed']}  recorded {run['value']}  reproduced {value}", flush=True)
    return table


def report(table):
    """The table of the comparison: mean and 95 % interval over seeds, recorded and reproduced."""
    for arm, values in table.items():
        recorded, again = (t_interval([float("nan") if v is None else v for v in column]) for column in zip(*values))
        print(f"{arm:32}  n={again.n}  recorded {recorded.mean:.4f}  "
              f"reproduced {again.mean:.4f}  [{again.low:.4f}, {again.high:.4f}]")
'''

_PEFT = '''
def open_adapter(run, folder):
    """The adapter of a run on its base model, loaded by stock PEFT."""
    spec = RunSpec.from_dict(run["spec"])
    task = find_task(spec.task)
    data = load_task(task, spec)
    labels = {"num_labels": data.num_labels, "label_names": data.label_names}
    base = load_model(spec.model, data.kind or task.kind, **labels).model
    return PeftModel.from_pretrained(base, folder / run["run_id"] / "adapter")
'''

_MAIN = """
if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "reproduced")
    report(reproduce(folder))
    adapters = [run for run in CLAIM["runs"] if run["spec"]["method"] != "full"]
    if adapters:
        open_adapter(adapters[0], folder).print_trainable_parameters()
"""


def claim(comparison: Comparison, source: Source) -> dict:
    """The data of the script: the measure, and each kept run with its specification and recorded value."""
    specs = source.specs()
    measure = comparison.measure
    kept = comparison.frame[comparison.frame["status"].isin(KEPT)]
    return finite(
        {
            "header": measure.header,
            "metric": measure.metric,
            "aggregation": measure.at,
            "step": measure.step,
            "higher_is_better": measure.higher_is_better,
            "runs": [
                {
                    "run_id": row.run_id,
                    "arm": row.arm_label,
                    "spec": specs[row.run_id],
                    "value": None if math.isnan(row.value) else float(row.value),
                }
                for row in kept.itertuples()
            ],
        }
    )


def _data(comparison: Comparison, source: Source) -> str:
    """The claim as a Python statement: one ASCII string literal, so that no name in it can become code."""
    text = json.dumps(claim(comparison, source), indent=1, ensure_ascii=True)
    return "CLAIM = json.loads(\n" + "\n".join(f"    {line + chr(10)!r}" for line in text.splitlines()) + "\n)\n"


def _pieces(comparison: Comparison, source: Source) -> list[str]:
    return [piece.strip("\n") + "\n" for piece in (_LOAD, _data(comparison, source), _READ, _RUN, _PEFT)]


def script(comparison: Comparison, source: Source) -> str:
    """The text of ``reproduce.py``."""
    intro = '"""' + _INTRO.format(version=__version__) + '"""\n'
    return "\n".join([intro, *(piece + "\n" for piece in _pieces(comparison, source)), _MAIN.strip("\n") + "\n"])


def notebook(comparison: Comparison, source: Source) -> str:
    """The same as a Jupyter notebook (nbformat 4), as JSON text."""
    imports, data, *functions = _pieces(comparison, source)
    cells = [
        _cell(
            "markdown",
            "# A comparison, reproduced\n\nTrains the runs again, with stock PEFT and cdka, and prints "
            f"the recorded values beside. Needs: `pip install cdka-studio=={__version__}`",
        ),
        _cell("code", imports.replace("import sys\n", "")),
        _cell(
            "markdown", 'What was claimed, with the specification of every run: `CLAIM["header"]` names the measure.'
        ),
        _cell("code", data),
        *(_cell("code", piece) for piece in functions),
        _cell("markdown", "Train, and compare with what was recorded."),
        _cell("code", 'folder = Path("reproduced")\ntable = reproduce(folder)\nreport(table)\n'),
        _cell("markdown", "Any of the adapters opens with stock PEFT."),
        _cell(
            "code",
            'adapters = [run for run in CLAIM["runs"] if run["spec"]["method"] != "full"]\n'
            "if adapters:\n    open_adapter(adapters[0], folder).print_trainable_parameters()\n",
        ),
    ]
    for i, cell in enumerate(cells):
        cell["id"] = f"cell-{i}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    document = {
        "cells": cells,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(document, indent=1, ensure_ascii=True) + "\n"


def _cell(kind: str, text: str) -> dict:
    cell = {"cell_type": kind, "metadata": {}, "source": text.rstrip("\n").splitlines(keepends=True)}
    return cell if kind == "markdown" else {**cell, "execution_count": None, "outputs": []}

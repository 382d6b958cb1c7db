"""A comparison to be trained again: a short script, the same as a notebook, and the data beside them as a small file.

The code is the same for every comparison: what comes from runs, bundles or labels stands in the data alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cdka import __version__
from cdka.compare.comparison import Comparison
from cdka.compare.source import Source
from cdka.errors import CdkaError
from cdka.plain_json import finite
from cdka.runs.spec import RunSpec
from cdka.runs.states import KEPT

FORMAT = "cdka-reproduction"
NAME = "reproduce"
"""The name of the three files, without its ending, where nobody chose another."""

_INTRO = f"Needs: cdka-studio {__version__}, from its checkout: pip install ."
_SCRIPT = f'''"""Trains the runs of one comparison again and shows the recorded values beside. {_INTRO}"""

from pathlib import Path

import cdka

if __name__ == "__main__":
    again = cdka.reproduce(Path(__file__).with_name({{data!r}})).wait()
    print(again)
    for run in again:
        print(run.run_id, run.adapter_dir)
'''
_CELLS = (
    (
        "markdown",
        f"# A comparison, reproduced\n\nTrains the runs again and shows the recorded values beside. {_INTRO}",
    ),
    ("code", "import cdka\n\nagain = cdka.reproduce({data!r})\nagain.wait()"),
    ("markdown", "The comparison of the new runs, as in the Studio; each of their adapters opens with stock PEFT."),
    ("code", "again.compare()"),
    ("code", "again.compare().plot()"),
    ("code", "adapter = cdka.open_adapter(again.runs[0])\nadapter"),
)


def claim(comparison: Comparison, source: Source) -> dict[str, Any]:
    """The data: the measure, the settings that all runs share, and each kept run's own with its recorded value."""
    measure = comparison.measure
    kept = comparison.frame[comparison.frame["status"].isin(KEPT)]
    specs = {run_id: spec for run_id, spec in source.specs().items() if run_id in set(kept["run_id"])}
    first = next(iter(specs.values()), {})
    shared = {key: value for key, value in first.items() if all(spec.get(key) == value for spec in specs.values())}
    return finite(
        {
            "format": FORMAT,
            "version": __version__,
            "name": comparison.name,
            "metric": measure.metric,
            "aggregation": measure.at,
            "step": measure.step,
            "settings": shared,
            "runs": [
                {
                    "run_id": row.run_id,
                    "settings": {k: v for k, v in specs[row.run_id].items() if k not in shared},
                    "value": None if math.isnan(row.value) else float(row.value),
                }
                for row in kept.itertuples()
            ],
        }
    )


def read_claim(path: Path) -> dict[str, Any]:
    """The data that ``write_reproduction`` wrote. Raises CdkaError for a file that is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or found.get("format") != FORMAT or not found.get("runs"):
        raise CdkaError(f"runs are reproduced from the .json beside a script or notebook: got {str(path)[:200]!r}.")
    return found


def specs_of(found: dict[str, Any]) -> list[RunSpec]:
    """The specification of each run of a claim. Raises CdkaError for settings that a run does not have."""
    return [RunSpec.from_dict({**found["settings"], **run["settings"]}) for run in found["runs"]]


def data(comparison: Comparison, source: Source) -> str:
    """The data as the text of the file: a line for each run."""
    found = claim(comparison, source)
    runs = ",\n  ".join(json.dumps(run, allow_nan=False) for run in found.pop("runs"))
    return json.dumps(found, indent=1, allow_nan=False)[:-2] + f',\n "runs": [\n  {runs}\n ]\n}}\n'


def script(data_name: str = f"{NAME}.json") -> str:
    """The text of the script that reads its data from the file ``data_name`` beside it."""
    return _SCRIPT.format(data=data_name)


def notebook(data_name: str = f"{NAME}.json") -> str:
    """The same as a Jupyter notebook, as JSON text."""
    return ipynb((kind, text.format(data=data_name) if kind == "code" else text) for kind, text in _CELLS)


def write_reproduction(
    folder: Path,
    comparison: Comparison,
    source: Source,
    *,
    name: str = NAME,
    suffixes: Iterable[str] = (".py", ".ipynb"),
) -> None:
    """Write ``name.json`` and, as ``suffixes`` say, the script and the notebook that read it."""
    texts = {".py": script, ".ipynb": notebook}
    (folder / f"{name}.json").write_text(data(comparison, source), encoding="utf-8", newline="\n")
    for suffix in suffixes:
        (folder / f"{name}{suffix}").write_text(texts[suffix](f"{name}.json"), encoding="utf-8", newline="\n")


def notebook_document(cells: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """A notebook (nbformat 4.5) as plain data, from (``markdown`` or ``code``, text) of each cell."""
    made: list[dict[str, Any]] = []
    for i, (kind, text) in enumerate(cells):
        cell: dict[str, Any] = {"cell_type": kind, "id": f"cell-{i}", "metadata": {}, "source": text.strip()}
        made.append(cell if kind == "markdown" else {**cell, "execution_count": None, "outputs": []})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def ipynb(cells: Iterable[tuple[str, str]]) -> str:
    """The same as the text of an ``.ipynb`` file."""
    return json.dumps(notebook_document(cells), indent=1, ensure_ascii=False) + "\n"

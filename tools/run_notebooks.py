"""Run the shipped notebooks in place, so that they carry the outputs of today's code: python tools/run_notebooks.py."""

from __future__ import annotations

import json
import os
import re
import sys
import sysconfig
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "assets" / "notebooks"
RENDERER = "plotly_mimetype+svg"
"""Interactive where the notebook is opened, a picture where it is only read."""


def execute(path: Path, *, renderer: str = RENDERER, timeout_s: int = 1200) -> nbformat.NotebookNode:
    """The notebook with its outputs, run in a folder of its own. Raises CellExecutionError."""
    book = nbformat.read(path, as_version=4)
    os.environ["PLOTLY_RENDERER"] = renderer
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(book, timeout=timeout_s, resources={"metadata": {"path": folder}}).execute()
    return book


def without_places(book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook without this machine's folders: packages stand in ``site-packages``, temporary files nowhere."""
    text = json.dumps(book).replace(sysconfig.get_paths()["purelib"], "site-packages")
    temporary = rf"{re.escape(tempfile.gettempdir())}/(?:tmp\w+|ipykernel_\d+)/"
    return nbformat.from_dict(json.loads(re.sub(temporary, "", text)))


def main(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as home:
        os.environ["CDKA_HOME"] = home
        for path in [FOLDER / f"{name}.ipynb" for name in names] or sorted(FOLDER.glob("*.ipynb")):
            book = execute(path)
            for cell in book.cells:  # when it ran is nobody's business
                cell.get("metadata", {}).pop("execution", None)
            nbformat.write(without_places(book), path)
            print(path.name, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

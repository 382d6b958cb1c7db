"""A machine that only trains, without Streamlit, Plotly and datasets: the library and the commands work there.

The other packages are shown to the bare interpreter below this environment through a folder of links, so that
whatever the workers start is in the same position.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[1]
ABSENT = ("streamlit", "plotly", "altair", "datasets")


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Runs the interpreter with these words and returns the finished process."""
    python = getattr(sys, "_base_executable", sys.executable)
    packages, home = tmp_path_factory.mktemp("packages"), tmp_path_factory.mktemp("home")
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        name = entry.name.lower().lstrip("_")
        if entry.suffix != ".pth" and not name.startswith(("cdka", "app", *ABSENT)):
            (packages / entry.name).symlink_to(entry)
    environment = {
        **os.environ,
        "PYTHONPATH": f"{packages}{os.pathsep}{ROOT}",
        "CDKA_HOME": str(home),
        "OMP_NUM_THREADS": "1",
        "PYTHONNOUSERSITE": "1",
    }

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [python, *words], capture_output=True, text=True, env=environment, cwd=home, timeout=240, check=False
        )

    looked = run("-c", f"import importlib.util as u; print([n for n in {ABSENT} if u.find_spec(n)])")
    if looked.stdout.strip() != "[]":
        pytest.skip(f"cannot hide packages from the interpreter: {looked.stdout or looked.stderr}")
    yield run
    for process in psutil.process_iter():  # the detached engine would wait for more work
        with contextlib.suppress(psutil.Error):
            if process.environ().get("CDKA_HOME") == str(home):
                process.terminate()


def test_the_library_is_all_there(bare):
    done = bare("-c", "import cdka\nfor name in cdka.__all__: getattr(cdka, name)\nprint(cdka.CdkaConfig().components)")
    assert (done.returncode, done.stdout.strip()) == (0, "2,8,4"), done.stderr


def test_a_run_trains_from_the_command_line(bare):
    done = bare("-m", "cdka", "run", "--model", "digits-vit", "--task", "digits-flip", "--steps", "3", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["status"] == "done"
    done = bare("-m", "cdka", "runs", "list")
    assert "digits-flip" in done.stdout


def test_the_studio_says_what_it_lacks(bare):
    done = bare("-m", "cdka", "studio", "--no-browser")
    assert done.returncode == 2
    assert done.stderr.startswith("cdka: the Studio needs packages that are not installed here: streamlit, plotly")
    assert done.stderr.count("\n") == 1

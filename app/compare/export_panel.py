"""Everything out: tables, the figure, script and notebook, TensorBoard, adapters, the claim bundle; and bundles in."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from app import data, widgets
from app.compare import controls, figure_panels, sources
from cdka import formatting
from cdka.compare import bundle, exports
from cdka.compare.comparison import Comparison
from cdka.compare.exports import figures
from cdka.compare.exports.adapters import zip_adapters
from cdka.compare.exports.script import write_reproduction
from cdka.compare.exports.tensorboard import write_tensorboard
from cdka.compare.report import methods_paragraph
from cdka.paths import home_dir

_CLAIM = (
    "One zip: specs, seeds, versions, predictions, tables, figures, methods, adapters and the script that makes the "
    "table again. Always the whole comparison, whatever is hidden here."
)

POLL_S = 0.4
_GATHERED = "compare-gathered"


def _name(comparison: Comparison) -> str:
    return re.sub(r"[^\w-]+", "-", comparison.name).strip("-")[:60] or "comparison"


def _bundle(comparison: Comparison, source) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return bundle.write_bundle(comparison, source, Path(folder) / "claim.zip").read_bytes()


def panel(chosen: sources.Chosen, comparison: Comparison, shown: list[str]) -> None:
    """The downloads, made when asked for; figures are saved here or below each of them."""
    source, name = chosen.source, _name(comparison)
    first, second = st.columns(2)
    with first:
        st.markdown("**The whole claim**")
        _download("Claim bundle", lambda: _bundle(comparison, source), f"{name}.zip", type="primary", help=_CLAIM)
        runs = exports.table(comparison, shown)
        arms = comparison.arms[comparison.arms["arm"].isin(shown)]
        st.markdown(
            f"**Tables** of what is shown: {formatting.plural(len(runs), 'run')}, {formatting.plural(len(arms), 'arm')}"
        )
        with st.container(horizontal=True):
            for what, frame, stem in (("Runs", runs, name), ("Arms", arms, f"{name}-arms")):
                _download(f"{what}, CSV", partial(exports.csv, frame), f"{stem}.csv")
                _download(f"{what}, Parquet", partial(exports.parquet, frame), f"{stem}.parquet")
        st.markdown("**Adapters** of the shown runs")
        _adapters(comparison, source, shown, name)
    with second:
        st.markdown("**Make it again**")
        _download(
            "Notebook and script",
            lambda: exports.zipped(lambda folder: write_reproduction(folder, comparison, source)),
            f"{name}-reproduce.zip",
            help="A notebook of five lines, the same as a script, and their data beside them as a small file.",
        )
        st.markdown("**Curves for TensorBoard**")
        _download(
            "TensorBoard files",
            lambda: exports.zipped(lambda folder: write_tensorboard(folder, comparison, source)),
            f"{name}-tensorboard.zip",
        )
        _figure(comparison, source, shown, name)
        st.markdown("**See somebody's claim**")
        uploads = st.session_state.setdefault("compare-uploads", 0)
        file = st.file_uploader(
            "Import a bundle",
            type="zip",
            key=f"compare-upload-{uploads}",
            help="Every file and number is checked; nothing in it is executed. Larger files: cdka compare FILE.zip",
        )
        if file is not None:
            with widgets.errors_shown():
                _import(file)
    st.markdown("**Methods**, written from the runs")
    st.code(methods_paragraph(comparison, source), language=None, wrap_lines=True)


def _adapters(comparison: Comparison, source, shown: list[str], name: str) -> None:
    """Buttons that gather the adapters, the progress of it, and the zip once it is made."""
    with st.container(horizontal=True):
        for lora, title in ((False, "PEFT format"), (True, "As exact LoRA")):
            asked = (source, tuple(shown), f"{name}-{'lora' if lora else 'adapters'}.zip")
            work = partial(zip_adapters, comparison, source, shown, lora=lora)
            st.button(title, on_click=_gather, args=(asked, work), key=f"gather-{title}")
    now = st.session_state.get(_GATHERED)
    if now is not None and now["asked"][:2] == (source, tuple(shown)):
        done = now["stream"].done
        st.fragment(_gathered, run_every=None if done else POLL_S, key="compare-gathering")(now, done)


def _gather(asked: tuple, work: Callable[[], Any]) -> None:
    """Gather adapters; from a callback. What was being gathered before is given up."""
    _stop_gathering()
    st.session_state[_GATHERED] = {"asked": asked, "stream": data.Stream(work())}


def _stop_gathering() -> None:
    if (before := st.session_state.pop(_GATHERED, None)) is not None:
        before["stream"].stop()


def _gathered(now: dict[str, Any], done: bool) -> None:
    stream, file = now["stream"], now["asked"][2]
    if stream.error:
        widgets.error(stream.error)
    elif stream.result is not None:
        label = f"Save {widgets.literal(file)}, {formatting.size(len(stream.result))}"
        st.download_button(label, stream.result, file, type="primary", on_click="ignore")
    else:
        part = stream.parts.get("", {"done": 0, "of": 1})
        share = part["done"] / part["of"]
        st.progress(share, text=f"{part['done']:,} of {formatting.plural(part['of'], 'adapter')}")
        st.button("Cancel", key="gather-cancel", on_click=_stop_gathering)
    if stream.done and not done:
        st.rerun()  # the whole page, which stops the clock


def _download(label: str, make: Callable[[], bytes | str], name: str, **more: Any) -> None:
    st.download_button(label, make, name, on_click="ignore", **more)


def _figure(comparison: Comparison, source, shown: list[str], name: str) -> None:
    st.markdown("**Figures** of what is shown; each view has its own under Save")
    known = figures.makers(comparison, source, shown)
    if not known:
        widgets.html_block('<div class="cdka-quiet">Nothing to draw yet.</div>')
        return
    which = st.selectbox(
        "Figure",
        list(known),
        format_func=lambda key: key.replace("-", " "),
        key="compare-which-figure",
        label_visibility="collapsed",
    )
    with st.container(horizontal=True):
        figure_panels.save(known[which], f"{name}-{which}", width="content")


def _import(file) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / (Path(file.name).name or "bundle.zip")
        path.write_bytes(file.getbuffer())
        name, found = bundle.import_bundle(path, home_dir())
    st.session_state["compare-uploads"] += 1  # a fresh uploader: this file is done with
    st.session_state["compare-go"] = sources.BUNDLE + name
    st.toast(f"Imported {widgets.literal(found.name)}: every file and number checked.")
    st.rerun()


def follow_import() -> None:
    """Show what was just imported; called before the widget that chooses what is compared."""
    name = st.session_state.pop("compare-go", None)
    if name is not None:
        st.session_state["compare-sweep"] = [name]
        sources.show([name])
        for key, value in controls.as_claimed(sources.load([name]).source).items():
            st.session_state[key] = value

"""Everything out: tables, the figure, script and notebook, TensorBoard, adapters, the claim bundle; and bundles in."""

from __future__ import annotations

import re
import tempfile
from functools import partial
from pathlib import Path

import streamlit as st

from app import parts, state
from app.compare import selection
from cdka.compare import bundle, exports
from cdka.compare.comparison import Comparison
from cdka.compare.exports import figures
from cdka.compare.exports.adapters import write_adapters
from cdka.compare.exports.script import notebook, script
from cdka.compare.exports.tensorboard import write_tensorboard
from cdka.compare.report import methods_paragraph
from cdka.paths import home_dir

_CLAIM = (
    "One zip: specs, seeds, versions, predictions, tables, figures, methods, adapters and the script that makes the "
    "table again. Always the whole comparison, whatever is hidden here."
)


def _name(comparison: Comparison) -> str:
    return re.sub(r"[^\w-]+", "-", comparison.name).strip("-")[:60] or "comparison"


def _bundle(comparison: Comparison, source) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return bundle.write_bundle(comparison, source, Path(folder) / "claim.zip").read_bytes()


def _adapters(comparison: Comparison, source, shown: list[str], lora: bool) -> bytes:
    return exports.zipped(lambda folder: write_adapters(folder, comparison, source, shown, lora=lora))


def panel(chosen: selection.Chosen, comparison: Comparison, shown: list[str]) -> None:
    """The downloads; slow ones are made when asked for."""
    source, name = chosen.source, _name(comparison)
    runs = exports.table(comparison, shown)
    claim, tables, code, more = st.columns(4)
    with claim:
        st.markdown("**The whole claim**")
        st.download_button(
            "Claim bundle", lambda: _bundle(comparison, source), f"{name}.zip", type="primary", width="stretch",
            on_click="ignore", help=_CLAIM,
        )  # fmt: skip
        st.markdown("**See somebody's claim**")
        uploads = st.session_state.setdefault("compare-uploads", 0)
        file = st.file_uploader("Import a bundle", type="zip", key=f"compare-upload-{uploads}")
        if file is not None:
            with parts.errors_shown():
                _import(file)
    with tables:
        st.markdown(f"**Tables** ({len(runs)} runs shown)")
        st.download_button("Runs, CSV", lambda: exports.csv(runs), f"{name}.csv", on_click="ignore", width="stretch")
        st.download_button(
            "Runs, Parquet", lambda: exports.parquet(runs), f"{name}.parquet", on_click="ignore", width="stretch"
        )
        arms = comparison.arms[comparison.arms["arm"].isin(shown)]
        st.download_button(
            "Arms, CSV", lambda: exports.csv(arms), f"{name}-arms.csv", on_click="ignore", width="stretch"
        )
    with code:
        st.markdown("**Make it again**")
        st.download_button(
            "Python script", lambda: script(comparison, source), "reproduce.py", on_click="ignore", width="stretch"
        )
        st.download_button(
            "Jupyter notebook",
            lambda: notebook(comparison, source),
            "reproduce.ipynb",
            on_click="ignore",
            width="stretch",
        )
        st.download_button(
            "TensorBoard files", lambda: exports.zipped(lambda folder: write_tensorboard(folder, comparison, source)),
            f"{name}-tensorboard.zip", on_click="ignore", width="stretch",
        )  # fmt: skip
    with more:
        st.markdown("**Adapters** of the shown runs")
        for lora, title in ((False, "PEFT format"), (True, "As exact LoRA")):
            st.download_button(
                title, partial(_adapters, comparison, source, shown, lora),
                f"{name}-{'lora' if lora else 'adapters'}.zip", on_click="ignore", width="stretch",
            )  # fmt: skip
        _figure(comparison, source, name)
    st.markdown("**Methods**, written from the runs")
    st.code(methods_paragraph(comparison, source), language=None, wrap_lines=True)


def _figure(comparison: Comparison, source, name: str) -> None:
    st.markdown("**Figures**")
    known = figures.makers(comparison, source)
    which = st.selectbox(
        "Figure", list(known), format_func=lambda key: key.replace("-", " "), key="compare-which-figure"
    )
    kinds = ["html", *(figures.IMAGES if figures.browser() else ())]
    kind = st.segmented_control("As", kinds, default="html", key="compare-figure-kind") or "html"
    st.download_button(
        "Download it", partial(figures.file, known[which], kind), f"{name}-{which}.{kind}", on_click="ignore",
        width="stretch",
    )  # fmt: skip
    if not figures.browser():
        st.caption(
            "PNG and SVG are drawn by Chromium or Chrome, which is not installed here. Every figure on this page has a "
            "camera that saves it as SVG."
        )


def _import(file) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bundle.zip"
        path.write_bytes(file.getbuffer())
        name, found = bundle.import_bundle(path, home_dir())
    st.session_state["compare-uploads"] += 1  # a fresh uploader: this file is done with
    st.session_state["compare-go"] = selection.BUNDLE + name
    st.toast(f"Imported {found.name}: every file and number checked.")
    st.rerun()


def follow_import() -> None:
    """Show what was just imported; called before the widget that chooses what is compared."""
    name = st.session_state.pop("compare-go", None)
    if name is not None:
        st.session_state["compare-sweep"] = [name]
        selection.show([name])
        st.session_state["view"] = state.default("view")

"""Open an adapter: any LoRA, LoKr, LoHa or CDKA file, its place in (r1, r2, r), and what other choices would keep."""

from __future__ import annotations

import html
import tempfile
from pathlib import Path

import streamlit as st

from app import theme, widgets
from app.compare import controls
from app.compare.figure_panels import draw, pure
from cdka.adapter_files import KINDS, AdapterFile, open_adapter
from cdka.compare.anatomy import LayerFactors, layers_of, placed
from cdka.compare.figures.anatomy import capture_figure, factor_figure, rank_figure, rearranged_figure, spectrum_figure
from cdka.errors import CdkaError
from cdka.notebook.results import OpenedAdapter
from cdka.paths import pasted_path

LESSON = (
    "The nearest fit keeps a given ΔW; it does not say what training can reach. On flipped digits (digits-vit, seed 0, "
    "test accuracy) a full fine-tune scores 0.970, its nearest (2, 8, 4) 0.630, and (2, 8, 4) trained itself 0.963: "
    "read the map as that finding, not as advice."
)


def panel() -> None:
    """Asks for a file or folder and draws its anatomy."""
    where, upload = st.columns([1, 1])
    with where:
        path = st.text_input("File or folder", key="open-adapter-path", placeholder="/path/to/adapter").strip()
    with upload:
        files = st.file_uploader(
            "Or the file itself, with its adapter_config.json if it has one",
            type=["safetensors", "json"],
            accept_multiple_files=True,
            key="open-adapter-files",
        )
    if not path and not files:
        st.info(f"This view reads {KINDS}. Runs of your own are under Anatomy.")
        return
    adapter, name = _uploaded(files) if files else (_opened(path, _stamp(path)), str(pasted_path(path)))
    _show(adapter, name)


def _show(adapter: AdapterFile, name: str) -> None:
    layers, opened = layers_of(adapter), OpenedAdapter(adapter, name)
    served, *notes = opened.notes()
    for title in opened.lines():
        widgets.html_block(f"<b>{html.escape(title)}</b>")
    for note in notes:
        widgets.remark(note)
    table = placed(layers)
    st.dataframe(
        table.rename(columns={"layers": "modules", "num_params": "parameters"}),
        hide_index=True,
        width="stretch",
        key="open-adapter-place",
        alt="The place of the adapter among r1 and r2",
    )
    widgets.caption(served)
    layer = controls.pick("layer", "Layer", [factors.layer for factors in layers])
    factors = next(one for one in layers if one.layer == layer)
    label = Path(name).name
    origin = f"{label}, {layer}."
    draw(
        pure(factor_figure, factors, 0, columns=2 if theme.is_narrow() else 4),
        "opened-factors",
        f"Factors and blocks of {layer}",
        caption="The first component, ΔW, and the norms of its blocks.",
        source=origin,
    )
    left, right = st.columns(2)
    with left, widgets.errors_shown():
        _capture(factors, origin)
    with right:
        draw(
            pure(spectrum_figure, {label: factors}),
            "opened-spectrum",
            f"Singular values of delta W in {layer}",
            caption="",
            source=origin,
        )
    with left, widgets.errors_shown():
        draw(
            pure(rearranged_figure, factors),
            "opened-components",
            "Singular values of the rearranged delta W",
            caption="",
            source=origin,
        )
    with right:
        draw(
            pure(rank_figure, {label: layers}),
            "opened-ranks",
            "Effective rank in every layer",
            caption="",
            source=label,
        )


def _capture(factors: LayerFactors, origin: str) -> None:
    draw(
        pure(capture_figure, factors),
        "opened-capture",
        "What each choice of r1 and r2 would keep of delta W",
        caption=LESSON,
        source=origin,
    )


def _stamp(path: str) -> int:
    """A number that changes with the file."""
    place = pasted_path(path)
    try:
        return max(p.stat().st_mtime_ns for p in ([place, *place.glob("*")] if place.is_dir() else [place]))
    except OSError:
        return 0


@st.cache_resource(max_entries=8, show_spinner="Reading the adapter")
def _opened(path: str, _changed: int) -> AdapterFile:
    return open_adapter(path)


def _uploaded(files: list) -> tuple[AdapterFile, str]:
    weights = [file for file in files if file.name.endswith(".safetensors")]
    if len(weights) != 1:
        raise CdkaError(
            f"an adapter is one safetensors file: got {len(weights)}. Choose it, and its adapter_config.json."
        )
    with tempfile.TemporaryDirectory() as folder:
        with_config = len(files) > 1
        for file in files:
            name = file.name
            if with_config:
                name = "adapter_model.safetensors" if file is weights[0] else "adapter_config.json"
            (Path(folder) / Path(name).name).write_bytes(file.getvalue())
        return open_adapter(folder), weights[0].name

"""The studies that ship with the Studio: their verdicts as an example on a card, and their reports to read.

They are told apart from the reader's own runs: a frame, the word, and where they come from.
"""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import streamlit as st

from app import form_memory, widgets
from cdka import formatting
from cdka.claims import STUDIES, Finding
from cdka.claims.report import FORMAT
from cdka.paths import assets_dir

_FIGURE = re.compile(r"^!\[([^\]]*)\]\(([\w.-]+\.svg)\)$", re.M)


@lru_cache(maxsize=8)
def documents(folder: Path) -> tuple[tuple[Path, dict[str, Any]], ...]:
    """The reports of a folder as (Markdown file, data), those of another format left out."""
    found = []
    for path in sorted(folder.glob("*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        if document.get("format") == FORMAT and path.with_suffix(".md").is_file():
            found.append((path.with_suffix(".md"), document))
    return tuple(found)


def provenance(document: dict[str, Any]) -> str:
    """Source of a report: ``84 runs, 3 seeds, 2026-11-24, cdka-studio 0.1.0, torch 2.13.0``."""
    versions = document["versions"]
    packages = [f"{name} {versions[name]}" for name in ("cdka-studio", "torch") if name in versions]
    return ", ".join([_short(document), *packages, document["machine"]])


def _short(document: dict[str, Any]) -> str:
    runs, seeds = formatting.plural(document["runs"], "run"), formatting.plural(len(document["seeds"]), "seed")
    return f"{runs}, {seeds}, {document['date']}"


@dataclass(frozen=True)
class Example:
    """The shipped findings of a study, and the line that says where they come from."""

    findings: tuple[Finding, ...]
    origin: str


def example(study: str, model: str, task: str) -> Example | None:
    """The shipped findings of a study on this model and task; None where there are none."""
    for _, document in documents(assets_dir() / "studies"):
        if (document["model"], document["task"]) != (model, task):
            continue
        for one in document["studies"]:
            if one["study"] == study:
                findings = tuple(Finding.from_dict(finding) for finding in one["findings"])
                source = html.escape(provenance(document), quote=True)
                line = f"<b>Shipped example</b>, not your runs: {html.escape(_short(document))}"
                return Example(findings, f'<div class="cdka-quiet" title="{source}">{line}</div>')
    return None


def reports() -> None:
    """A shipped report in full, with its figures: the one that the reader picks."""
    known = {path.stem: (path, document) for path, document in documents(assets_dir() / "studies")}
    if not known:
        return
    name = st.selectbox(
        "Shipped reports",
        list(known),
        index=None,
        format_func=lambda stem: _title(known[stem][1]),
        placeholder="Read one in full",
        **form_memory.kept("shipped-report"),
    )
    if name is None:
        return
    path, document = known[name]
    with st.container(border=True, key="shipped-text"):
        widgets.html_block(f'<div class="cdka-quiet">{html.escape(provenance(document))}</div>')
        body = path.read_text(encoding="utf-8").partition("\n")[2]
        pieces = _FIGURE.split(body)
        st.markdown(pieces[0])
        for alt, file, after in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
            figure = path.with_name(file)
            if figure.is_file():
                widgets.html_block(figure.read_text(encoding="utf-8"))
            else:
                st.caption(alt)
            st.markdown(after)


def _title(document: dict[str, Any]) -> str:
    """The question of a report on one study, the names of several; its model, task and number of seeds."""
    names = [one["study"] for one in document["studies"]]
    what = STUDIES[names[0]].title if len(names) == 1 and names[0] in STUDIES else f"Studies {', '.join(names)}"
    where = f"{document['model']} on {document['task']}"
    return f"{what} · {where}, {formatting.plural(len(document['seeds']), 'seed')}"

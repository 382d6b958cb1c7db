"""A place in the figure that is not filled yet."""

from __future__ import annotations

import html

from app import widgets


def draw(text: str) -> None:
    """A dashed frame with one sentence: what will be here, and when."""
    widgets.html_block(f'<div class="learn-covered">{html.escape(text)}</div>')

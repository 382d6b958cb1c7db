"""One configuration drawn to scale as SVG: B_i, A_i, the blocks of delta W, and LoRA of equal cost beside it."""

from __future__ import annotations

from dataclasses import dataclass

from app import words
from cdka.components import Components

SIDE = 118.0
"""Pixels of the longer side of delta W."""
THINNEST = 2.0
"""A dimension below this many pixels is drawn at it; the figure says so."""
MOST_CARDS = 5


@dataclass(frozen=True)
class _Box:
    x: float
    y: float
    width: float
    height: float

    def svg(self, css: str) -> str:
        place = f'x="{self.x:.1f}" y="{self.y:.1f}" width="{self.width:.1f}" height="{self.height:.1f}"'
        return f'<rect {place} class="{css}"/>'


def _text(x: float, y: float, words_: str, css: str = "", anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{css}">{words_}</text>'


def _cards(box: _Box, number: int, css: str) -> str:
    """``number`` equal boxes one behind the other (at most five are drawn; the label tells how many there are)."""
    shown = min(number, MOST_CARDS)
    return "".join(_Box(box.x + 3 * k, box.y - 3 * k, box.width, box.height).svg(css) for k in range(shown - 1, -1, -1))


def _grid(box: _Box, rows: int, columns: int) -> str:
    """The block boundaries inside a box; a direction whose lines would run together is left to the label."""
    lines = []
    if box.height / rows >= 3:
        lines += [
            f'<line x1="{box.x:.1f}" x2="{box.x + box.width:.1f}" y1="{y:.1f}" y2="{y:.1f}" class="p-hair"/>'
            for y in (box.y + box.height * k / rows for k in range(1, rows))
        ]
    if box.width / columns >= 3:
        lines += [
            f'<line y1="{box.y:.1f}" y2="{box.y + box.height:.1f}" x1="{x:.1f}" x2="{x:.1f}" class="p-hair"/>'
            for x in (box.x + box.width * k / columns for k in range(1, columns))
        ]
    return "".join(lines)


def _places(b_width: float, a_width: float) -> tuple[float, float]:
    """Where A and where delta W begin, with room for the labels above and the signs between."""
    a = max(96.0, 14 + b_width + 48)
    return a, a + a_width + 58


def option_svg(components: Components, out_features: int, in_features: int, lora_rank: int, layer: str) -> str:
    """The drawing for one layer of shape (out_features, in_features) as an SVG element, at least 400 units wide.

    ``lora_rank`` is the LoRA rank whose parameter count comes closest from below; 0 where even rank 1 costs more.
    """
    scale = SIDE / max(out_features, in_features)
    tall, wide = out_features * scale, in_features * scale
    r1, r2, r = components.as_tuple()
    (_, _, a_columns), (_, b_rows, _) = components.shapes(out_features, in_features)
    b_size = max(THINNEST, r2 * scale), max(THINNEST, b_rows * scale)
    a_size = max(THINNEST, a_columns * scale), max(THINNEST, r1 * scale)
    lora_side = max(THINNEST, lora_rank * scale) if lora_rank else 0.0
    thin = min(r1 * scale, r2 * scale, lora_rank * scale or THINNEST) < THINNEST
    top, middle = 26.0, 26.0 + SIDE / 2

    a_x, w_x = _places(b_size[0], a_size[0])
    lora_a_x, lora_w_x = _places(lora_side, wide) if lora_rank else (0.0, 0.0)
    w_x = max(w_x, lora_w_x)
    width = max(400.0, w_x + wide + 4)
    b = _Box(14, middle - b_size[1] / 2, *b_size)
    a = _Box(a_x, middle - a_size[1] / 2, *a_size)
    w = _Box(w_x, middle - tall / 2, wide, tall)
    block = _Box(w.x, w.y, max(THINNEST, wide / r2), max(THINNEST, tall / b_rows))
    name = '<tspan class="p-name">{}<tspan baseline-shift="sub" font-size="8">i</tspan></tspan> '
    parts = [
        _cards(b, r, "p-b"), _text((b.x + b.width + a.x) / 2, middle + 6, "⊗", "p-sign"), _cards(a, r, "p-a"),
        _text((a.x + a.width + 10 + w.x) / 2, middle + 6, "=", "p-sign"),
        w.svg("p-w"), block.svg("p-a"), _grid(w, b_rows, r2), w.svg("p-frame"),
        _text(0, 11, name.format("B") + f'{b_rows:,}×<tspan class="p-r2">{r2}</tspan>', anchor="start"),
        _text(a.x, 11, name.format("A") + f'<tspan class="p-r1">{r1}</tspan>×{a_columns:,}', anchor="start"),
        _text(w.x, 11, f'<tspan class="p-name">ΔW</tspan> {words.plural(b_rows * r2, "block")}', anchor="start"),
        _text(0, top + SIDE + 14, f'<tspan class="p-r">×{r}</tspan> {"component" if r == 1 else "components, summed"}',
              anchor="start"),
        _text(w.x, top + SIDE + 14, f"rank up to {components.rank_bound(out_features, in_features):,}", anchor="start"),
        f'<line x1="0" x2="{width:.0f}" y1="166" y2="166" class="p-hair"/>',
    ]  # fmt: skip
    if w.x + wide + 100 < width:
        told = ("Each block is one", "number of B times A;", f"{r2} per row, {b_rows:,}", "per column.")
        parts += [_text(w.x + wide + 12, middle - 18 + 14 * i, line, "p-quiet", "start") for i, line in enumerate(told)]
    if lora_rank:
        parts.append(_lora(_Box(14, 0, lora_side, tall), lora_a_x, _Box(w_x, 0, wide, tall)))
        parts.append(_text(w_x, 312, f"rank {lora_rank}", "p-lora-name", "start"))
        parts.append(_text(0, 312, "LoRA of equal cost", "p-lora-name", "start"))
    else:
        parts.append(_text(0, 240, "Even LoRA of rank 1 costs more than this.", "p-quiet", "start"))
    parts.append(_text(width, 312, "thin sides widened" if thin else "to scale", "p-quiet", "end"))
    told = f"The shapes of {components} on {layer} and of LoRA at the same cost, drawn to scale"
    box = f'viewBox="0 0 {width:.0f} 316"'
    return f'<svg {box} class="cdka-picture" role="img" aria-label="{told}">{"".join(parts)}</svg>'


def _lora(b: _Box, a_x: float, w: _Box) -> str:
    middle = 182 + SIDE / 2
    b = _Box(b.x, middle - b.height / 2, b.width, b.height)
    a = _Box(a_x, middle - b.width / 2, w.width, b.width)
    w = _Box(w.x, middle - w.height / 2, w.width, w.height)
    return "".join(
        [
            b.svg("p-lora"), _text((b.x + b.width + a.x) / 2, middle + 6, "·", "p-sign"), a.svg("p-lora"),
            _text((a.x + a.width + w.x) / 2, middle + 6, "=", "p-sign"), w.svg("p-w"), w.svg("p-frame"),
        ]
    )  # fmt: skip

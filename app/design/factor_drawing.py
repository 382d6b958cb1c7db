"""One configuration drawn to scale as SVG: B_i beside and A_i above the blocks of delta W, equal LoRA at right."""

from __future__ import annotations

from dataclasses import dataclass

from cdka.components import Components

WIDTH, PANEL, ZONE = 400.0, 190.0, 196.0
"""Pixels: the whole drawing, the width of each of its two panels, and the height that their matrices have."""
GAP = 15.0
"""Between a factor and delta W: room for a label."""
THINNEST = 2.5
"""A dimension below this many pixels is drawn at it; the figure says so."""
MAX_CARDS, CARD = 5, 3.0
FINEST_GRID = 3.0
LENS, LENS_BLOCK = 58.0, 7.0
"""Pixels: the side of the magnified corner, and of the thinner side of a block in it."""


@dataclass(frozen=True)
class _Box:
    x: float
    y: float
    width: float
    height: float

    def svg(self, css: str) -> str:
        place = f'x="{self.x:.1f}" y="{self.y:.1f}" width="{self.width:.1f}" height="{self.height:.1f}"'
        return f'<rect {place} class="{css}"/>'


def _text(x: float, y: float, words: str, css: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{css}">{words}</text>'


def _name(letter: str, index: bool) -> str:
    mark = '<tspan baseline-shift="sub" font-size="8">i</tspan>' if index else ""
    return f'<tspan class="p-name">{letter}{mark}</tspan>'


def _cards(box: _Box, number: int, css: str) -> str:
    """``number`` equal boxes one behind the other (at most five are drawn; the label tells how many there are)."""
    shown = min(number, MAX_CARDS)
    return "".join(
        _Box(box.x + CARD * k, box.y - CARD * k, box.width, box.height).svg(css) for k in range(shown - 1, -1, -1)
    )


def _grid(box: _Box, rows: int, columns: int) -> str:
    """The block boundaries inside a box; a direction whose lines would run together is left to the label."""
    lines = []
    if box.height / rows >= FINEST_GRID:
        lines += [
            f'<line x1="{box.x:.1f}" x2="{box.x + box.width:.1f}" y1="{y:.1f}" y2="{y:.1f}" class="p-hair"/>'
            for y in (box.y + box.height * k / rows for k in range(1, rows))
        ]
    if box.width / columns >= FINEST_GRID:
        lines += [
            f'<line y1="{box.y:.1f}" y2="{box.y + box.height:.1f}" x1="{x:.1f}" x2="{x:.1f}" class="p-hair"/>'
            for x in (box.x + box.width * k / columns for k in range(1, columns))
        ]
    return "".join(lines)


def _lens(w: _Box, rows: int, columns: int) -> str:
    """The top left corner of delta W magnified, where its blocks are too fine to be seen; empty where they are not."""
    block = w.width / columns, w.height / rows
    if (rows == 1 or block[1] >= FINEST_GRID) and (columns == 1 or block[0] >= FINEST_GRID):
        return ""
    zoom = LENS_BLOCK / min(block)
    wide, tall = min(LENS, w.width * zoom), min(LENS, w.height - 20, w.height * zoom)
    inside = w.width >= wide + 12
    lens = _Box(w.x + w.width + (-wide - 6 if inside else 12), w.y + w.height - tall - 6, wide, tall)
    first = _Box(lens.x, lens.y, min(wide, block[0] * zoom), min(tall, block[1] * zoom))
    across = [lens.x + block[0] * zoom * k for k in range(1, columns + 1) if block[0] * zoom * k < wide - 0.5]
    down = [lens.y + block[1] * zoom * k for k in range(1, rows + 1) if block[1] * zoom * k < tall - 0.5]
    lines = [f'<path d="M{x:.1f} {lens.y:.1f}v{tall:.1f}" class="p-hair"/>' for x in across]
    lines += [f'<path d="M{lens.x:.1f} {y:.1f}h{wide:.1f}" class="p-hair"/>' for y in down]
    return (
        f'<path d="M{w.x:.1f} {w.y:.1f}L{lens.x:.1f} {lens.y:.1f}" class="p-hair"/>{lens.svg("p-paper")}'
        f"{first.svg('p-a')}{''.join(lines)}{lens.svg('p-frame')}"
        + _text(lens.x + wide, lens.y - 4, f"corner × {zoom:,.0f}", "p-quiet", "end" if inside else "middle")
    )


@dataclass(frozen=True)
class _Panel:
    """B at the left of delta W and A above it, ``number`` times; all sizes (width, height) in pixels."""

    x: float
    w_y: float
    b: tuple[float, float]
    a: tuple[float, float]
    w: tuple[float, float]
    number: int

    @property
    def w_box(self) -> _Box:
        return _Box(self.x + self.b[0] + _stack(self.number) + GAP, self.w_y, *self.w)

    def svg(self, css_b: str, css_a: str, index: bool, inside: str = "") -> str:
        """The panel; ``inside`` is drawn on delta W."""
        w, lift = self.w_box, _stack(self.number)
        b, a = _Box(self.x, self.w_y, *self.b), _Box(w.x, self.w_y - GAP - self.a[1], *self.a)
        return "".join(
            [
                _cards(b, self.number, css_b),
                _cards(a, self.number, css_a),
                w.svg("p-w"),
                w.svg("p-frame"),
                inside,
                _text(b.x, b.y - lift - 4, _name("B", index)),
                _text(a.x, a.y - lift - 4, _name("A", index)),
                _text(w.x, w.y + w.height + 13, _name("ΔW", False)),
            ]
        )


def _stack(number: int) -> float:
    """Width of a stack of cards beyond its first."""
    return CARD * (min(number, MAX_CARDS) - 1)


def scale_of(components: Components, out_features: int, in_features: int, lora_rank: int) -> float:
    """Pixels per row and column, the same in both panels: the largest at which both fit."""
    lift = _stack(components.r)
    wide = (PANEL - GAP - lift) / (in_features + max(components.r2, lora_rank))
    return min(wide, (ZONE - GAP - lift - 30) / (out_features + max(components.r1, lora_rank)))


def option_svg(components: Components, out_features: int, in_features: int, lora_rank: int, layer: str) -> str:
    """The drawing for one layer of shape (out_features, in_features) as an SVG element, 400 units wide.

    ``lora_rank`` is the LoRA rank whose parameter count comes closest from below; 0 where even rank 1 costs more.
    """
    r1, r2, r = components.as_tuple()
    (_, _, a_columns), (_, b_rows, _) = components.shapes(out_features, in_features)
    scale = scale_of(components, out_features, in_features, lora_rank)
    sides = (r2, b_rows, a_columns, r1, *((lora_rank,) if lora_rank else ()))
    b_w, b_h, a_w, a_h, *lora = (max(THINNEST, side * scale) for side in sides)
    w = in_features * scale, out_features * scale
    w_y = 16 + _stack(r) + max(a_h, *lora, 0.0) + GAP
    cdka = _Panel(0, w_y, (b_w, b_h), (a_w, a_h), w, r)
    box = cdka.w_box
    block = _Box(box.x, box.y, max(THINNEST, w[0] / r2), max(THINNEST, w[1] / b_rows)).svg("p-a")
    foot = w_y + w[1] + 32
    right = WIDTH - PANEL
    drawn = [
        cdka.svg("p-b", "p-a", True, block + _grid(box, b_rows, r2) + _lens(box, b_rows, r2)),
        _text(
            0,
            foot,
            f'{_name("B", True)} {b_rows:,} × <tspan class="p-r2">{r2}</tspan>, {_name("A", True)} '
            f'<tspan class="p-r1">{r1}</tspan> × {a_columns:,}',
        ),
        _text(
            0,
            foot + 15,
            f'<tspan class="p-r">{r}</tspan> {"component" if r == 1 else "components, summed"}: '
            f"rank up to {components.rank_bound(out_features, in_features):,}",
        ),
        _text(0, foot + 32, f"{b_rows:,} × {r2} blocks, each A times one number of B", "p-quiet"),
    ]
    if lora_rank:
        lora_params = lora_rank * (out_features + in_features)
        panel = _Panel(right, w_y, (lora[0], w[1]), (w[0], lora[0]), w, 1)
        drawn += [
            panel.svg("p-lora", "p-lora", False),
            _text(right, foot, f"B {out_features:,} × {lora_rank}, A {lora_rank} × {in_features:,}"),
            _text(right, foot + 15, f"LoRA of rank {lora_rank}: {lora_params:,} numbers", "p-lora-name"),
        ]
    else:
        drawn += [
            _text(right, w_y + 20, "Even LoRA of rank 1", "p-quiet"),
            _text(right, w_y + 34, "costs more than this.", "p-quiet"),
        ]
    thin = min(sides) * scale < THINNEST
    drawn.append(_text(WIDTH, foot + 32, "thin sides widened" if thin else "to scale", "p-quiet", "end"))
    beside = f"LoRA of rank {lora_rank}" if lora_rank else "no LoRA, since all cost more"
    description = f"The shapes of {components} on {layer} and of {beside}, drawn to scale"
    return (
        f'<svg viewBox="0 0 {WIDTH:.0f} {foot + 38:.0f}" class="cdka-picture" role="img" aria-label="{description}">'
        f"{''.join(drawn)}</svg>"
    )

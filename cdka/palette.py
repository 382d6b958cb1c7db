"""Every colour of the project, once: what it means, and its value on light and on dark paper. Plain Python.

r1, r2 and r have the Okabe-Ito colours that a colour-blind reader can tell apart. The Studio's style sheet, the Vega
and Plotly themes and the exported figures are all made from here.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from types import MappingProxyType

FACTORS = MappingProxyType({"r1": "#D55E00", "r2": "#0072B2", "r": "#009E73"})
"""Vermillion, blue and bluish green: r1, r2 and r in blocks, sliders, axes and headers."""
METHODS = MappingProxyType({"cdka": "#009E73", "lora": "#7A7F87", "lokr": "#BF669A", "dora": "#A0825A"})
"""A method as a whole; full fine-tuning is drawn in the ink of the page."""
BETTER, WORSE = FACTORS["r2"], FACTORS["r1"]
"""A resolved difference, one way and the other."""
HIGHLIGHT = "#E69F00"
SERIES = (*FACTORS.values(), METHODS["lokr"], METHODS["lora"], HIGHLIGHT, "#56B4E9")
"""Categories without a meaning of their own, in order."""
SEQUENTIAL = (
    "#433E85",
    "#38588C",
    "#2D708E",
    "#25858E",
    "#1E9B8A",
    "#2AB07F",
    "#52C569",
    "#86D549",
    "#C2DF23",
    "#FDE725",
)
"""Low to high: viridis without its darkest end."""
DIVERGING = ("#2166AC", "#67A9CF", "#D1E5F0", "#F2F2F0", "#FDDBC7", "#EF8A62", "#B2182B")
"""Below zero blue, above zero red, centred on zero."""
NEUTRAL = "#8A9099"
"""Rules, reference lines and remarks inside a figure: can be read on both papers."""
WHITE = "#FFFFFF"


@dataclass(frozen=True)
class Theme:
    """The colours of one paper. ``r1``, ``r2``, ``r``, ``lora``, ``lokr`` are those of text; the rest says its use."""

    dark: bool
    ink: str
    paper: str
    panel: str
    border: str
    """The outline of fields."""
    hair: str
    """Thin lines between things, half transparent."""
    grid: str
    faint: str
    """Error bars: quieter than a mark, plainer than the grid."""
    quiet: str
    """Remarks and captions."""
    accent: str
    """Marks and controls without a meaning of their own."""
    primary: str
    """Buttons."""
    link: str
    bad: str
    bad_paper: str
    r1: str
    r2: str
    r: str
    lora: str
    lokr: str
    marked: str
    """The ground of text that counts."""
    code_string: str
    code_number: str
    code_name: str
    code_keyword: str

    def text(self, factor: str) -> str:
        """r1, r2 or r where it is read as text."""
        return {"r1": self.r1, "r2": self.r2, "r": self.r}[factor]

    def method(self, name: str) -> str:
        """A method's colour as a mark; full fine-tuning, and what is not known, in ink."""
        return self.lora if self.dark and name == "lora" else METHODS.get(name, self.ink)


LIGHT = Theme(
    dark=False,
    ink="#1D232B",
    paper="#FDFDFB",
    panel="#F3F4F1",
    border="#DADDDA",
    hair="rgba(60, 70, 80, .22)",
    grid="#D5DAE0",
    faint="#98A1AB",
    quiet="#5B646E",
    accent="#33475B",
    primary="#33475B",
    link="#24507A",
    bad="#B42318",
    bad_paper="#FDEEEC",
    r1="#B34E00",
    r2="#00659E",
    r="#007A59",
    lora="#5D636B",
    lokr="#A64D80",
    marked="#DDE7F0",
    code_string="#0B6B2B",
    code_number="#0A6B5E",
    code_name="#00659E",
    code_keyword="#7A3E9D",
)
DARK = Theme(
    dark=True,
    ink="#E4E8EC",
    paper="#14181D",
    panel="#1E242B",
    border="#363E47",
    hair="rgba(200, 210, 220, .24)",
    grid="#3A424C",
    faint="#77818C",
    quiet="#9AA5B0",
    accent="#A9BCD0",
    primary="#55799C",
    link="#8FBCE6",
    bad="#FF8F80",
    bad_paper="#3A1D1B",
    r1="#FF9147",
    r2="#5DB5EE",
    r="#3CCB9E",
    lora="#A5ABB3",
    lokr="#E6A0C8",
    marked="#2B3A49",
    code_string="#7FD69A",
    code_number="#6FD3C3",
    code_name="#7CC4F2",
    code_keyword="#CBA6E8",
)
STATES = MappingProxyType({"live": "#0072B2", "good": "#00714F", "bad": "#B42318"})
"""The ground of a run's state; white text stands on it."""


def theme(dark: bool) -> Theme:
    """The theme of the dark or of the light page."""
    return DARK if dark else LIGHT


def css_variables() -> str:
    """A style sheet that defines every colour as a variable: ``--ink`` follows the theme, ``--mark-r1`` is the same.

    Popovers hang outside the app, where its colour scheme does not reach: there the reader's system decides, as it
    does for the app.
    """
    pairs = {name: f"light-dark({light}, {dark})" for (name, light), (_, dark) in zip(*map(_tones, (LIGHT, DARK)))}  # noqa: B905
    marks = {f"mark-{name}": value for name, value in (FACTORS | METHODS).items()}
    marks |= {f"state-{name}": value for name, value in STATES.items()}
    marks |= {"white": WHITE, "neutral": NEUTRAL, "curve": SEQUENTIAL[2], "highlight": HIGHLIGHT}
    dark = f":root {{ color-scheme: dark; {_declared(dict(_tones(DARK)))} }}"
    return (
        f":root {{ {_declared(dict(_tones(LIGHT)) | marks)} }}\n"
        f"@media (prefers-color-scheme: dark) {{ {dark} }}\n.stApp {{ {_declared(pairs)} }}\n"
    )


def _tones(one: Theme) -> list[tuple[str, str]]:
    return [(field.name.replace("_", "-"), getattr(one, field.name)) for field in fields(one) if field.name != "dark"]


def _declared(values: dict[str, str]) -> str:
    return " ".join(f"--{name}: {value};" for name, value in values.items())


def rgb(colour: str) -> tuple[int, int, int]:
    """The channels of a colour written ``#RRGGBB``."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def hex_code(channels: Sequence[float]) -> str:
    """``#RRGGBB`` from channels between 0 and 255."""
    return "#" + "".join(f"{min(255, max(0, round(float(channel)))):02X}" for channel in channels)


def faded(colour: str, alpha: float) -> str:
    """``colour`` as rgba with the given opacity."""
    return f"rgba({', '.join(map(str, rgb(colour)))}, {alpha})"


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2), 0 for black and 1 for white."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in rgb(colour))]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    """Contrast ratio of two colours (WCAG 2), 1 to 21."""
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def readable_on(ground: str) -> str:
    """Dark or white, whichever can be read better on ``ground``."""
    return max((LIGHT.ink, WHITE), key=lambda ink: contrast(ink, ground))


def sequential(share: float) -> str:
    """The colour at ``share`` (0 to 1) of the sequential scale."""
    position = min(1.0, max(0.0, share)) * (len(SEQUENTIAL) - 1)
    index = min(int(position), len(SEQUENTIAL) - 2)
    low, high = rgb(SEQUENTIAL[index]), rgb(SEQUENTIAL[index + 1])
    return hex_code([a + (b - a) * (position - index) for a, b in zip(low, high, strict=True)])


# A configuration's own colour. Hue and lightness follow (log2 r1, log2 r2, log2 r) by irrational steps, so that the
# neighbours of any grid fall far apart, and nothing but the configuration itself decides: the same one has the same
# colour in every chart, in both themes, on every machine.

_HUE_STEPS = (0.598, 0.938, 0.609)
_LIGHT_STEPS = (0.48, 0.47, 0.94)
_CHROMA_STEPS = (0.84, 0.65, 0.6)
"""Found by a search over the grids that people sweep (ours): the nearest two neighbours differ most with these."""
_LUMINANCES = (0.145, 0.27)
"""Each gives at least 3 : 1 on both papers."""
_CHROMAS = (0.15, 0.075)
_HUES = (25.0, 320.0)
"""Degrees of OKLCH, from vermillion to violet: pinks are LoKr's."""


def configuration_colour(
    method: str, components: tuple[int, int, int] | None = None, rank: int | None = None, variant: str = ""
) -> str:
    """The colour in which one configuration is drawn, in every chart; at least 3 : 1 on the light and the dark page.

    ``variant`` are the settings beside (a learning rate, say) that tell it from namesakes in the same chart.
    """
    shift = zlib.crc32(variant.encode()) / 2**32 if variant else 0.0
    if method == "cdka" and components is not None:
        logs = [math.log2(value) for value in components]
        turn, light, chroma = (
            (start + sum(step * value for step, value in zip(steps, logs, strict=True))) % 1.0
            for start, steps in ((0.1 + 0.37 * shift, _HUE_STEPS), (shift, _LIGHT_STEPS), (0.0, _CHROMA_STEPS))
        )
        hue = _HUES[0] + turn * (_HUES[1] - _HUES[0])
        return _oklch(hue, _CHROMAS[int(2 * chroma)], _LUMINANCES[int(2 * light)])
    level = 0.5 * (math.log2(rank or 1)) * _HUE_STEPS[0] + shift
    spread = _LUMINANCES[0] + (level % 1.0) * (_LUMINANCES[1] - _LUMINANCES[0])
    hue, chroma = {"lora": (260.0, 0.012), "lokr": (345.0, 0.13), "dora": (75.0, 0.07)}.get(method, (260.0, 0.0))
    return _oklch(hue, chroma, _LUMINANCES[0] if method == "full" else spread)


@lru_cache(maxsize=4096)
def _oklch(hue: float, chroma: float, target: float) -> str:
    """The sRGB colour of a hue (degrees) and chroma whose relative luminance is ``target``; chroma gives way first.

    OKLab as published by B. Ottosson (2020).
    """
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        channels = _linear_rgb(middle, chroma, hue)
        if 0.2126 * channels[0] + 0.7152 * channels[1] + 0.0722 * channels[2] < target:
            low = middle
        else:
            high = middle
    if any(not -1e-6 <= channel <= 1 + 1e-6 for channel in channels) and chroma > 0:
        return _oklch(hue, max(0.0, chroma - 0.005), target)
    encoded = [12.92 * c if c <= 0.0031308 else 1.055 * c ** (1 / 2.4) - 0.055 for c in (max(0.0, c) for c in channels)]
    return hex_code([255 * value for value in encoded])


def _linear_rgb(lightness: float, chroma: float, hue: float) -> tuple[float, float, float]:
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )

"""The parts of a chapter: pages, controls, an exercise. Plain data; nothing here draws."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from app.learn.prose import Prose, fill
from cdka.errors import CdkaError

Values = Mapping[str, Any]
"""The settings of a chapter by the short name of the control, and ``seed``."""

PAPER = "paper"
CODE = "code"
OURS = "ours"
TEXTBOOK = "textbook"
CITED = "cited"
MAX_SEED = 9999


@dataclass(frozen=True)
class Control:
    """One setting of a chapter, as widget and as value in the URL.

    ``name`` is short (``r1``); ``key`` adds the chapter (``c2_r1``) and is the name in the URL. ``kind`` is how it is
    shown: a slider over ``options``, buttons, or a list to select from. Matrices are edited in the figure itself.
    """

    chapter: int
    name: str
    label: str
    kind: Literal["slider", "buttons", "select", "seed", "matrix"]
    default: Any
    options: Sequence[Any] = ()
    help: str = ""
    parse: Callable[[str], Any] | None = None
    views: tuple[str, ...] = ()
    """The views in which it has an effect and is shown; empty: all."""

    @property
    def key(self) -> str:
        """The name in the URL and of the widget; the seed is one for the whole course."""
        return "seed" if self.kind == "seed" else f"c{self.chapter}_{self.name}"

    def read(self, text: str) -> Any:
        """The value that a text in the URL stands for. Raises CdkaError where it stands for none."""
        if self.parse is not None:
            return self.parse(text)
        if self.kind == "seed":
            if text.isdecimal() and int(text) <= MAX_SEED:
                return int(text)
            raise CdkaError(f"seed must be a whole number from 0 to {MAX_SEED}: got {text!r}.")
        for option in self.options:
            if str(option) == text:
                return option
        known = ", ".join(map(str, self.options))
        raise CdkaError(f"{self.name} must be one of {known}: got {text!r}.")


@dataclass(frozen=True)
class Equation:
    """One equation in LaTeX, with letters and with its numbers filled in. ``<r1>`` and ``<r1:2>`` are coloured."""

    letters: str
    numbers: Callable[[Values], str]


@dataclass(frozen=True)
class Try:
    """A button in the text that sets controls."""

    label: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Page:
    """One page of text beside the figure; ``page`` makes one from the chapter's Markdown.

    ``focus`` names the controls under discussion. ``source`` is the kind of the page's main statement; marks in the
    text (see ``sources``) name the source of each. ``code`` makes the numbers, with the settings filled in, and
    ``plot`` a Plotly figure of them: the two cells of the notebook. ``view`` selects the figure and the controls.
    """

    id: str
    title: str
    text: str
    code: Callable[[Values], str]
    plot: Callable[[Values], str]
    source: str
    focus: tuple[str, ...] = ()
    equation: Equation | None = None
    tries: tuple[Try, ...] = ()
    view: str = ""


def page(prose: Prose, id: str, *, fields: Mapping[str, Any] | None = None, **rest: Any) -> Page:
    """The page whose text is the section ``id`` of ``prose``, its places filled with ``fields``."""
    section = prose.section(id)
    return Page(id=id, title=section.title, text=fill(section.text, **(fields or {})), **rest)


def no_hint(prediction: Any, answer: Any) -> str:
    """For questions that tell no kind of mistake from another."""
    return ""


@dataclass(frozen=True)
class Question:
    """A prediction to make. ``answer`` computes what is true: a number, or one of ``choices``; None while real runs
    that ``begin`` starts are still under way.

    ``unit`` follows a number; ``low``, ``high`` bound the field. ``explain`` is given the answer; ``hint``, given a
    wrong prediction and the answer, names the kind of mistake before the second try. ``points``, given both, replaces
    the usual scoring (see ``scoring``). ``draw`` names the values with which the chapter draws the question (its figure
    covers the answer until it is revealed); ``name`` tells apart questions with the same seed.
    """

    prompt: str
    answer: Callable[[], float | str | None]
    explain: Callable[[Any], str]
    code: str
    choices: tuple[str, ...] = ()
    unit: str = ""
    whole: bool = True
    low: float = 0.0
    high: float = 1e12
    draw: Any = None
    name: str = ""
    begin: Callable[[], None] | None = None
    hint: Callable[[Any, Any], str] = no_hint
    points: Callable[[float, float], int] | None = None

    @property
    def num_tries(self) -> int:
        """Two, but one where real runs decide: they show the answer to everybody."""
        return 1 if self.begin else 2


@dataclass(frozen=True)
class Chapter:
    """One chapter.

    ``draw(values, page)`` draws the figure of a page; ``question(seed, values)`` makes the exercise;
    ``draw_question(question, revealed)`` draws its figure; ``setup`` begins the notebook.
    """

    number: int
    short: str
    prose: Prose
    minutes: int
    controls: tuple[Control, ...]
    pages: tuple[Page, ...]
    draw: Callable[[dict[str, Any], Page], None]
    question: Callable[[int, Values], Question]
    draw_question: Callable[[Question, bool], None]
    setup: str

    @property
    def num_pages(self) -> int:
        """The pages of text and the exercise, which comes last."""
        return len(self.pages) + 1

    @property
    def defaults(self) -> dict[str, Any]:
        """The settings on arrival."""
        return {control.name: control.default for control in self.controls}


def seed_control(chapter: int, views: tuple[str, ...] = ()) -> Control:
    """The seed of everything random in a chapter."""
    return Control(
        chapter, "seed", "Seed", "seed", 0, help="Everything random in the figure follows from it.", views=views
    )

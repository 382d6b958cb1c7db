"""The numbers of chapter 1, all from the library: products, steps, ranks, singular values, costs of a small example."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.learn.board.matrices import MAX_ENTRY, short
from app.learn.course import Values
from app.learn.markup import number
from cdka.components import Components
from cdka.cost.adapter import TRAINING_BYTES_PER_PARAM
from cdka.errors import CdkaError
from cdka.theory import delta_weight, factored_forward, numerical_rank, singular_values

B_SHAPE, A_SHAPE, X_SHAPE = (2, 2), (2, 3), (1, 6)
SHOWN = Components(r1=2, r2=8, r=1)
"""The components that the bars count."""
STEPS = ("x", "X", "X Aᵀ", "B (X Aᵀ)", "y")
SIZES = (16, 64, 256, 1024, 4096)


def parse_matrix(name: str, shape: tuple[int, int]) -> Callable[[str], tuple[tuple[float, ...], ...]]:
    """A parser for ``1,2;0,-1``: rows with semicolons, numbers with commas. Raises CdkaError for anything else."""

    def parse(text: str) -> tuple[tuple[float, ...], ...]:
        try:
            rows = tuple(tuple(float(number) for number in row.split(",")) for row in text.split(";"))
        except ValueError:
            rows = ()
        fits = len(rows) == shape[0] and all(len(row) == shape[1] for row in rows)
        if not fits or not all(abs(number) <= MAX_ENTRY for row in rows for number in row):
            raise CdkaError(
                f"{name} must be {shape[0]} rows of {shape[1]} numbers between -{MAX_ENTRY:g} and {MAX_ENTRY:g}, "
                f"as 1,2;3,4: got {text!r}."
            )
        return rows

    return parse


def write_matrix(rows: Any) -> str:
    """The text in the URL that ``parse_matrix`` reads."""
    return ";".join(",".join(f"{number:g}" for number in row) for row in rows)


def parse_pick(text: str) -> tuple[int, int]:
    """The row and column of a picked entry of the product, from ``2,5``. Raises CdkaError outside it."""
    try:
        row, column = (int(part) for part in text.split(","))
    except ValueError:
        row = column = -1
    if not (0 <= row < B_SHAPE[0] * A_SHAPE[0] and 0 <= column < B_SHAPE[1] * A_SHAPE[1]):
        raise CdkaError(f"pick must be a row (0 to 3) and a column (0 to 5) with a comma: got {text!r}.")
    return row, column


def entry(rows, i: int, j: int) -> float:
    """One number of a matrix."""
    return float(np.asarray(rows)[i, j])


def kron(values: Values) -> np.ndarray:
    """B (x) A of shape (4, 6)."""
    A, B = np.array(values["A"]), np.array(values["B"])
    return delta_weight(A[None], B[None])


def parts(row: int, column: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The entries of B and of A that make one entry of B (x) A."""
    (i, k), (j, m) = divmod(row, A_SHAPE[0]), divmod(column, A_SHAPE[1])
    return (i, j), (k, m)


def stretches(values: Values) -> tuple[float, float]:
    """The singular values of B: the half axes of the ellipse that it makes of the unit circle."""
    first, second = singular_values(np.array(values["B"]))
    return float(first), float(second)


def training_bytes(n: int) -> tuple[int, int]:
    """The bytes that training one n x n layer takes: all of W, and the shown components."""
    return TRAINING_BYTES_PER_PARAM * n * n, TRAINING_BYTES_PER_PARAM * SHOWN.num_params(n, n)


def training_numbers(n: int) -> str:
    """The trained part of one layer, as LaTeX."""
    return (
        rf"W:\ {number(n)}\cdot{number(n)}={number(n * n)}\ \text{{numbers}}\\ "
        rf"\text{{adapter: }}{number(SHOWN.num_params(n, n))}\ \text{{numbers}}"
    )


@dataclass(frozen=True)
class Steps:
    """The steps of the factored forward: X, T = X A^T, Y = B T, and y as one row; ``direct`` is (B (x) A) x."""

    X: np.ndarray
    T: np.ndarray
    Y: np.ndarray
    y: np.ndarray
    direct: np.ndarray


def steps(values: Values) -> Steps:
    """The steps for the example. T is the factored forward with the identity in place of B."""
    A, B, x = (np.array(values[name]) for name in ("A", "B", "x"))
    r2, r1 = B_SHAPE[1], A_SHAPE[0]
    T = factored_forward(x, A[None], np.eye(r2)[None])
    y = factored_forward(x, A[None], B[None])
    return Steps(x.reshape(r2, -1), T.reshape(r2, r1), y.reshape(B_SHAPE[0], r1), y, x @ kron(values).T)


def ranks(values: Values) -> tuple[int, int, int]:
    """The ranks of B, of A and of their product."""
    return numerical_rank(np.array(values["B"])), numerical_rank(np.array(values["A"])), numerical_rank(kron(values))


@dataclass(frozen=True)
class Cost:
    """One input vector through an n x n layer: multiplications and stored numbers, factored and full."""

    n: int
    multiplications: int
    numbers: int

    @property
    def full(self) -> int:
        """Both the multiplications and the numbers of the full matrix."""
        return self.n * self.n

    def latex(self) -> str:
        """The comparison with its numbers."""
        return (
            rf"{number(self.n)}\cdot <r1:{SHOWN.r1}>+{number(self.n)}\cdot <r2:{SHOWN.r2}>="
            rf"{number(self.multiplications)}\ \text{{instead of}}\ {number(self.full)}"
        )


def cost(n: int) -> Cost:
    """The cost of the shown components on an n x n layer. A multiplication and its addition are two FLOPs."""
    return Cost(n, SHOWN.flops_per_token(n, n) // 2, SHOWN.num_params(n, n))


def product_numbers(values: Values) -> str:
    """The picked entry as LaTeX: ``K_{3,4} = b_{22} a_{11} = ...``."""
    row, column = values["pick"]
    (i, j), (k, m) = parts(row, column)
    b, a = entry(values["B"], i, j), entry(values["A"], k, m)
    return (
        rf"(B\otimes A)_{{{row + 1},\,{column + 1}}} = b_{{{i + 1}{j + 1}}}\,a_{{{k + 1}{m + 1}}} = "
        rf"({tex(b)})\cdot({tex(a)}) = {tex(kron(values)[row, column])}"
    )


def step_numbers(values: Values) -> str:
    """The result as LaTeX, computed both ways."""
    found = steps(values)
    row = ",\\ ".join(tex(v) for v in found.direct.ravel())
    other = ",\\ ".join(tex(v) for v in found.y.ravel())
    return rf"\begin{{aligned}}(B\otimes A)\,x&=({row})\\ \operatorname{{vec}}(B X A^T)&=({other})\end{{aligned}}"


def tex(value: float) -> str:
    """A number of the example in LaTeX."""
    return short(float(value)).replace("−", "-")

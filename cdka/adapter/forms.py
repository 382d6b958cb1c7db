"""Three ways to apply B to T = X A^T and to go back, of equal value and different cost; ``cost.form_of`` has the rule.

T is (..., n, r2 * r * r1), for one adapter or for a stack of K: column (j, i, a) holds row a of A_i applied to part
j of the input. The output wanted is ``y[(p, a)] += scaling * sum_{i, j} B_i[p, j] T[(j, i, a)]``.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Expanded:
    """One matrix product with U = B (x) I: r1 times the arithmetic, but no copy of anything as large as x or y."""

    @staticmethod
    def prepare(B: Tensor, r1: int, dtype: torch.dtype) -> Tensor:
        """U of shape (..., r2 * r * r1, out) in the wanted precision, by one operation.

        On a CPU the diagonals are written into zeros, a third of the time of the product with an identity; elsewhere
        that would be two kernels.
        """
        *lead, r, p, r2 = B.shape
        rows = B.movedim(-1, -3)[..., None]
        if B.device.type == "cpu" and B.dtype == dtype:
            U = torch.diag_embed(rows.expand(*lead, r2, r, p, r1), dim1=-3, dim2=-1)
        else:
            U = torch.empty(*lead, r2, r, r1, p, r1, dtype=dtype, device=B.device)
            torch.mul(rows[..., None, :, :], _identity(B, r1)[:, None, :], out=U)
        return U.view(*lead, r2 * r * r1, p * r1)

    @staticmethod
    def arrange(T: Tensor, r1: int) -> Tensor:
        """T as the other methods want it."""
        return T

    @staticmethod
    def add_(y: Tensor, T: Tensor, U: Tensor, r1: int, scaling: float) -> None:
        """Adds the adapter's output to ``y`` (..., n, out) in place."""
        (y.addmm_ if y.dim() == 2 else y.baddbmm_)(T, U, alpha=scaling)

    @staticmethod
    def to_T(grad: Tensor, U: Tensor, r1: int) -> Tensor:
        """The gradient of T, (..., n, r2 * r * r1) and contiguous, without the scaling."""
        return grad @ U.mT

    @staticmethod
    def to_B(T: Tensor, grad: Tensor, like: Tensor, r1: int, scaling: float) -> Tensor:
        """The gradient of B: that of U, summed over its diagonal blocks in the precision of B."""
        *lead, r, p, r2 = like.shape
        dU = product(T.mT, grad, scaling).view(*lead, r2, r, r1, p, r1)
        dB = torch.empty_like(like, memory_format=torch.contiguous_format)
        blocks, total = dU.diagonal(dim1=-3, dim2=-1), dB.movedim(-1, -3)
        if r1 == 2 and dU.dtype == dB.dtype:  # the reduction would take up to three times as long
            torch.add(blocks[..., 0], blocks[..., 1], out=total)
        else:
            torch.sum(blocks, -1, dtype=dB.dtype, out=total)
        return dB


class Transposed:
    """The least arithmetic, at the price of transposed copies of T and of the output and its gradient."""

    @staticmethod
    def prepare(B: Tensor, r1: int, dtype: torch.dtype) -> Tensor:
        """B as (..., r2 * r, out/r1)."""
        return B.movedim(-1, -3).flatten(-3, -2).to(dtype)

    @staticmethod
    def arrange(T: Tensor, r1: int) -> Tensor:
        """T with a row per token and per row of A_i: (..., n * r1, r2 * r)."""
        return T.unflatten(-1, (-1, r1)).mT.flatten(-3, -2)

    @staticmethod
    def add_(y: Tensor, T: Tensor, B: Tensor, r1: int, scaling: float) -> None:
        y.unflatten(-1, (-1, r1)).mT.add_((T @ B).unflatten(-2, (-1, r1)), alpha=scaling)

    @staticmethod
    def to_T(grad: Tensor, B: Tensor, r1: int) -> Tensor:
        dT = Transposed.arrange(grad, r1) @ B.mT
        return dT.unflatten(-2, (-1, r1)).mT.flatten(-2)

    @staticmethod
    def to_B(T: Tensor, grad: Tensor, like: Tensor, r1: int, scaling: float) -> Tensor:
        *_, r, _, r2 = like.shape
        dB = product(T.mT, Transposed.arrange(grad, r1), scaling)
        return dB.unflatten(-2, (r2, r)).movedim(-3, -1).to(like.dtype)


class Blocked:
    """One small product per token, (out/r1, r2 r) by (r2 r, r1): for few tokens, or for components with many rows."""

    @staticmethod
    def prepare(B: Tensor, r1: int, dtype: torch.dtype) -> Tensor:
        """B as (..., out/r1, r2 * r)."""
        return B.movedim(-1, -3).flatten(-3, -2).mT.to(dtype)

    @staticmethod
    def arrange(T: Tensor, r1: int) -> Tensor:
        """A view of T with a matrix per token: (..., n, r2 * r, r1)."""
        return T.unflatten(-1, (-1, r1))

    @staticmethod
    def add_(y: Tensor, T: Tensor, B: Tensor, r1: int, scaling: float) -> None:
        y = y.unflatten(-1, (-1, r1))
        for y_k, T_k, B_k in [(y, T, B)] if B.dim() == 2 else zip(y, T, B, strict=True):
            y_k.baddbmm_(B_k.expand(len(T_k), -1, -1), T_k, alpha=scaling)

    @staticmethod
    def to_T(grad: Tensor, B: Tensor, r1: int) -> Tensor:
        grad = grad.unflatten(-1, (-1, r1))
        stacks = [(grad, B)] if B.dim() == 2 else zip(grad, B, strict=True)
        parts = [torch.bmm(B_k.mT.expand(len(grad_k), -1, -1), grad_k).flatten(-2) for grad_k, B_k in stacks]
        return parts[0] if B.dim() == 2 else torch.stack(parts)

    @staticmethod
    def to_B(T: Tensor, grad: Tensor, like: Tensor, r1: int, scaling: float) -> Tensor:
        *_, r, _, r2 = like.shape
        dB = (grad.unflatten(-1, (-1, r1)) @ T.mT).sum(-3, dtype=like.dtype).mul_(scaling)
        return dB.unflatten(-1, (r2, r)).movedim(-1, -3)


FORMS = {"expanded": Expanded, "transposed": Transposed, "blocked": Blocked}


def product(a: Tensor, b: Tensor, alpha: float) -> Tensor:
    """``alpha * a @ b`` in one kernel, for matrices or stacks of them."""
    multiply = torch.addmm if a.dim() == 2 else torch.baddbmm
    return multiply(a.new_empty(()), a, b, beta=0, alpha=alpha)


_identities: dict[tuple[int, torch.dtype, torch.device], Tensor] = {}


def _identity(like: Tensor, size: int) -> Tensor:
    key = (size, like.dtype, like.device)
    if key not in _identities:
        with torch.inference_mode(False):  # an inference tensor could not serve a training step later
            _identities[key] = torch.eye(size, dtype=like.dtype, device=like.device)
    return _identities[key]

"""Initial values of the factors A and B."""

from __future__ import annotations

import math

import torch
from torch import Tensor


@torch.no_grad()
def initialise(A: Tensor, B: Tensor, how: str = "kaiming") -> None:
    """Fills A (r, r1, in/r2) and B (r, out/r1, r2) in place, by one of ``cdka.components.INIT_WEIGHTS``.

    ``gradient`` is as ``kaiming`` until ``initialise_from_gradient`` replaces A.
    Every A_i is drawn alone: on the stacked tensor the fan-in would be that of three dimensions.
    """
    for A_i in A:
        torch.nn.init.kaiming_uniform_(A_i, a=math.sqrt(5))
    if how == "random":
        torch.nn.init.normal_(B, std=0.02)
    else:
        torch.nn.init.zeros_(B)

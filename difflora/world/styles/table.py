"""Styles as rows of a table: a kind, and five numbers that vary it, so that there are always unseen ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from difflora.world.styles.paint import KINDS
from difflora.world.table import Table


class Styles(Table):
    """A batch of styles.

    ``hue`` and ``other_hue`` are places on the colour wheel, ``strength`` is how far a style goes, ``grain`` how rough
    it is and ``detail`` how fine; a kind that has no use for one ignores it.
    """

    CONTINUOUS: ClassVar[tuple[str, ...]] = ("hue", "other_hue", "strength", "grain", "detail")
    CATEGORICAL: ClassVar[Mapping[str, tuple[str, ...]]] = {"kind": tuple(KINDS)}


def sample_styles(n: int, generator: torch.Generator) -> Styles:
    """Draws ``n`` styles: kinds in turn, so that each comes as often, from a random one on; numbers evenly."""
    first = int(torch.randint(len(KINDS), (1,), generator=generator))
    kinds = (torch.arange(n) + first) % len(KINDS)
    return Styles(torch.rand(n, len(Styles.CONTINUOUS), generator=generator), kinds[:, None])

"""Whether pictures follow their prompts: one small interface, found by name, so that a preset can choose it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

from torch import Tensor

from difflora.named import make_named


class PromptAgreement(Protocol):
    """Scores pictures by their prompts: CLIP-T, or classifiers of what a prompt may ask for."""

    def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """How well each picture follows its prompt.

        Args:
            images: (N, 3, H, W) float in [0, 1].
            prompts: N sentences.

        Returns:
            (N,) float32; 1 is everything that was asked for.
        """


def load_agreement(name: str, options: Mapping[str, Any] | None = None) -> PromptAgreement:
    """Makes a scorer from ``module:Class``, as presets name it.

    Raises:
        BadParameter: if there is no such class, or it takes other options.
    """
    return cast(PromptAgreement, make_named(name, options, "agreement", ("score",)))

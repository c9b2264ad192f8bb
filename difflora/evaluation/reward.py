"""How people would like a picture that a prompt asked for: one small interface, found by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

from torch import Tensor

from difflora.named import make_named


class RewardModel(Protocol):
    """Scores pictures by their prompts as people's preferences would: ImageReward, or a world's own."""

    def reward(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """How well each picture would be liked for its prompt; only differences and order mean something.

        Args:
            images: (N, 3, H, W) float in [0, 1].
            prompts: N sentences.

        Returns:
            (N,) float32.
        """


def load_reward(name: str, options: Mapping[str, Any] | None = None) -> RewardModel:
    """Makes a reward model from ``module:Class``, as presets name it.

    Raises:
        BadFile: if its weights are missing or damaged.
        BadParameter: if there is no such class, or it takes other options.
    """
    return cast(RewardModel, make_named(name, options, "evaluate.metrics.reward", ("reward",)))

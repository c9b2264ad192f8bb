"""Prompt agreement in the embedded world: classifiers look for what the prompt's words ask for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from difflora.errors import BadParameter
from difflora.world.classifiers import ATTRIBUTES, FOLDER, load_classifiers
from difflora.world.concepts import concepts, named
from difflora.world.scenes import Scenes


class ClassifierAgreement:
    """The share of expression, accessory, clothing colour and background that a picture shows as its prompt asks.

    Args:
        assets: folder of the world's models.

    Raises:
        BadFile: if the classifiers are missing or damaged.
    """

    def __init__(self, assets: str | Path) -> None:
        self._classifiers = load_classifiers(Path(assets) / FOLDER)

    def score(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """The share of each prompt's attributes that is shown, (N,) float32.

        Args:
            images: (N, 3, 64, 64) float in [0, 1].
            prompts: N sentences in the captions' words.

        Raises:
            BadParameter: if a prompt names none of the attributes.
        """
        seen = self._classifiers.predict(images)
        words, flags = list(concepts()), named(prompts)  # (N, concepts)
        right, asked = torch.zeros(len(prompts)), torch.zeros(len(prompts))
        for attribute in ATTRIBUTES:
            for value, kind in enumerate(Scenes.CATEGORICAL[attribute]):
                concept = f"{attribute}: {kind}"
                if concept not in words:
                    continue
                wanted = flags[:, words.index(concept)]
                asked += wanted
                right += wanted & (seen[attribute] == value)
        if bool((asked == 0).any()):
            prompt = prompts[int((asked == 0).nonzero()[0])]
            raise BadParameter(f"prompt {prompt!r}: names no expression, accessory, clothing colour or background")
        return right / asked

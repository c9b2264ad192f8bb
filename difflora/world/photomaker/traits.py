"""Reading who is in a picture: what CLIP's tower learns before it conditions the base.

CLIP knows what captions say; a person is 36 traits, most of which no caption names. Linear heads that are not stored
read them off the id encoder's vectors.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from difflora.photomaker.id_encoder import IdEncoder
from difflora.world.clip import normalise
from difflora.world.pool import Pool
from difflora.world.traits import People


class TraitHead(nn.Module):
    """Linear readings of all traits off a picture's vector.

    Args:
        width: W, of the vectors.
        spread: deviation of the vectors' numbers, by which they are divided.
    """

    def __init__(self, width: int, spread: float) -> None:
        super().__init__()
        self.spread = spread
        self.classes = [len(values) for values in People.CATEGORICAL.values()]
        self.numbers = len(People.CONTINUOUS)
        self.linear = nn.Linear(width, self.numbers + sum(self.classes))

    def loss(self, vectors: Tensor, people: People) -> Tensor:
        """Squared error of continuous traits over their variance, plus the mean cross-entropy of categorical ones.

        Args:
            vectors: (B, W).
            people: B rows.
        """
        read = self.linear(vectors / self.spread)  # (B, T)
        numbers, scores = read[:, : self.numbers], read[:, self.numbers :].split(self.classes, dim=1)
        entropies = [
            F.cross_entropy(score, people.index(name)) for name, score in zip(People.CATEGORICAL, scores, strict=True)
        ]
        return F.mse_loss(numbers, _standardised(people.continuous)) + torch.stack(entropies).mean()


def trait_targets(people: People) -> Tensor:
    """All traits but gender, which the class word says, as numbers of equal weight.

    Args:
        people: N rows, of both genders.

    Returns:
        (N, T) float32: continuous traits, and an indicator of each value of the categorical ones, less the mean of
        the person's gender, over the deviation that is left; those that never vary are left out.
    """
    indicators = [
        F.one_hot(people.index(name), len(values)).float()
        for name, values in People.CATEGORICAL.items()
        if name != "gender"
    ]
    targets = torch.cat([people.continuous, *indicators], dim=1)  # (N, T)
    gender = people.index("gender")
    for one in gender.unique():
        targets[gender == one] -= targets[gender == one].mean(dim=0)
    spread = targets.std(dim=0)
    return targets[:, spread > 0] / spread[spread > 0]


def traits_step(
    encoder: IdEncoder, head: TraitHead, pool: Pool, batch_size: int
) -> Callable[[int, torch.Generator], Tensor]:
    """The loss of a step: traits of the people in ``batch_size`` pictures."""

    def step(_: int, generator: torch.Generator) -> Tensor:
        rows = torch.randint(0, len(pool), (batch_size,), generator=generator)
        return head.loss(encoder.embed(normalise(pool.batch(rows))), pool.people[rows])

    return step


def _standardised(traits: Tensor) -> Tensor:
    """Traits that are uniform in [0, 1], with a mean of 0 and a variance of 1."""
    return (traits - 0.5) * 12**0.5

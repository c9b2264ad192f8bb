"""Who is in which step's batch: a function of seed and step, so that a resumed run goes on where it stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from difflora.errors import BadParameter

_EPOCHS_APART = 1_000_003


@dataclass(frozen=True)
class Batch:
    """A step's batch and its random numbers.

    Every process draws for the whole batch and takes its share, so that a run on many processes draws what a run on
    one draws.

    Attributes:
        step: from 0.
        places: (B,) int64 on the CPU, the whole batch's places among the people.
        mine: this process's share of the batch.
        generator: on the training's device, seeded for this step.
        cpu_generator: on the CPU, seeded for this step; for what must not wait for the device.
    """

    step: int
    places: Tensor
    mine: slice
    generator: torch.Generator
    cpu_generator: torch.Generator

    @property
    def my_places(self) -> Tensor:
        """(b,) the places of this process's share."""
        return self.places[self.mine]

    def randn(self, *shape: int) -> Tensor:
        """Normal numbers (B, ...) for the whole batch, of which this process's (b, ...) come back."""
        drawn = torch.randn(len(self.places), *shape, generator=self.generator, device=self.generator.device)
        return drawn[self.mine]

    def rand(self) -> Tensor:
        """Uniform numbers in [0, 1), (B,), of which this process's (b,) come back."""
        return torch.rand(len(self.places), generator=self.generator, device=self.generator.device)[self.mine]

    def spread(self, count: int) -> Tensor:
        """Integers from 0 to ``count - 1``, spread evenly over the whole batch; this process's (b,) int64 come back."""
        places = torch.arange(len(self.places), device=self.generator.device)
        drawn = torch.rand(len(self.places), generator=self.generator, device=self.generator.device)
        return ((places + drawn) / len(self.places) * count).long().clamp(max=count - 1)[self.mine]


class Batches:
    """The batches of a training: each epoch a permutation of everyone, epoch after epoch.

    Args:
        names: whom there is to train on.
        batch_size: B, over all processes.
        seed: of order and draws.
        device: where most draws are made.
        process: this process's number.
        processes: how many there are.

    Raises:
        BadParameter: if there is nobody, or the batch cannot be shared out.
    """

    def __init__(
        self,
        names: Sequence[str],
        batch_size: int,
        seed: int,
        device: torch.device | str = "cpu",
        process: int = 0,
        processes: int = 1,
    ) -> None:
        if not names:
            raise BadParameter("nobody to train on: the corpus has no one in the split train")
        if batch_size % processes:
            raise BadParameter(f"batch_size is {batch_size}: it cannot be shared out to {processes} processes")
        self._names, self._size, self._seed = names, batch_size, seed
        share = batch_size // processes
        self._mine = slice(process * share, (process + 1) * share)
        self._generator, self._cpu_generator = torch.Generator(device), torch.Generator()
        self._epoch = lru_cache(maxsize=2)(self._permutation)

    def places(self, step: int) -> Tensor:
        """Who is in a step's batch, (B,) int64."""
        count, first = len(self._names), step * self._size
        epochs = range(first // count, (first + self._size - 1) // count + 1)
        order = torch.cat([self._epoch(epoch) for epoch in epochs])
        start = first - epochs.start * count
        return order[start : start + self._size]

    def people(self, step: int) -> list[str]:
        """The names of those in a step's batch."""
        return [self._names[place] for place in self.places(step).tolist()]

    def __getitem__(self, step: int) -> Batch:
        """A step's batch; its generators start anew, and the last batch's are no more to be used."""
        seed = self._seed * _EPOCHS_APART + step
        return Batch(
            step,
            self.places(step),
            self._mine,
            self._generator.manual_seed(seed),
            self._cpu_generator.manual_seed(seed),
        )

    def _permutation(self, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(self._seed * _EPOCHS_APART + epoch)
        return torch.randperm(len(self._names), generator=generator)

"""Bringing the numbers of a corpus of flat LoRAs to unit scale, and back; the statistics belong to the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from difflora.errors import BadFile, BadParameter
from difflora.lora.layout import LoraLayout

_NUMBERS_AT_ONCE = 2**23
_CONSTANT = 2**-20
"""A spread below this part of the mean is rounding: the element is constant. float16 resolves 2**-11."""


class NormalisationSettings(BaseModel):
    """How the numbers of flat LoRAs are normalised."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["none", "module", "element"] = Field(
        "module",
        description="divide by: nothing; one spread for each lora_A and one for each lora_B; one for each element",
    )
    subtract_mean: bool = Field(True, description="take away the corpus' mean LoRA, element by element, in any mode")


@dataclass(frozen=True, eq=False)
class Normalisation:
    """``(rows - mean) / spread`` and its inverse.

    The spread is the root mean square of what is divided, so that the corpus has mean square 1 after ``apply``, with
    or without its mean. What is constant over the corpus (to rounding) has spread 1: it is never divided by zero.

    Attributes:
        settings: mode, and whether the mean is subtracted.
        layout: what the numbers are.
        mean: (D,) float32, or None.
        spread: float32: (D,) where the mode is ``element``; (2 K,) where it is ``module``, for each of the K modules
            that of ``lora_B``, then of ``lora_A``; None where it is ``none``.
    """

    settings: NormalisationSettings
    layout: LoraLayout
    mean: Tensor | None
    spread: Tensor | None

    @classmethod
    def fit(cls, rows: Iterable[Tensor], layout: LoraLayout, settings: NormalisationSettings) -> Normalisation:
        """The statistics of a corpus, read once, one batch in memory at a time (Chan's update in float64).

        Args:
            rows: batches (N, D) or single rows (D,), of any floating dtype.
            layout: what the numbers are.
            settings: what to compute.

        Raises:
            BadParameter: if there is no row, a shape does not fit, or a number is not finite.
        """
        count, mean, squares = _moments(rows, layout)
        second = squares / count
        if not settings.subtract_mean:
            second = second + mean.square()
        second = second.where(second > (_CONSTANT * mean).square(), 0)
        match settings.mode:
            case "none":
                spread = None
            case "element":
                spread = second.sqrt()
            case "module":
                spread = torch.stack([part.mean() for part in second.split(layout.sizes)]).sqrt()
        if spread is not None:
            spread = spread.float()
            spread = spread.where(spread > 0, 1)
        return cls(settings, layout, mean.float() if settings.subtract_mean else None, spread)

    def apply(self, rows: Tensor) -> Tensor:
        """Normalised rows: (..., D) of any floating dtype -> (..., D) float32."""
        self.layout.check(rows)
        rows = rows.float()
        if self.mean is not None:
            rows = rows - self.mean
        return rows if self.spread is None else rows / self._each(self.spread)

    def invert(self, rows: Tensor) -> Tensor:
        """The inverse of ``apply``: (..., D) -> (..., D) float32."""
        self.layout.check(rows)
        rows = rows.float()
        if self.spread is not None:
            rows = rows * self._each(self.spread)
        return rows if self.mean is None else rows + self.mean

    def to(self, device: torch.device | str) -> Normalisation:
        """The same on a device; rows must be there too."""
        mean, spread = (None if value is None else value.to(device) for value in (self.mean, self.spread))
        return Normalisation(self.settings, self.layout, mean, spread)

    def tensors(self) -> dict[str, Tensor]:
        """``mean`` and ``spread``, those that there are, to be stored in the model's safetensors."""
        return {name: value for name, value in (("mean", self.mean), ("spread", self.spread)) if value is not None}

    @classmethod
    def from_tensors(
        cls,
        tensors: Mapping[str, Tensor],
        layout: LoraLayout,
        settings: NormalisationSettings,
        where: str = "normalisation",
    ) -> Normalisation:
        """The inverse of ``tensors``.

        Args:
            tensors: ``mean`` and ``spread``, as the settings ask.
            layout: what the numbers are.
            settings: those of the model.
            where: file or key for errors.

        Raises:
            BadFile: if a tensor is missing or more than is asked, or of another shape, not finite, or a spread is not
                positive.
        """
        shapes: dict[str, int] = {}
        if settings.subtract_mean:
            shapes["mean"] = layout.size
        if settings.mode != "none":
            shapes["spread"] = layout.size if settings.mode == "element" else len(layout.sizes)
        if set(tensors) != set(shapes):
            raise BadFile(f"{where}: holds {sorted(tensors)} where its settings ask for {sorted(shapes)}")
        for name, size in shapes.items():
            if tuple(tensors[name].shape) != (size,) or not tensors[name].is_floating_point():
                raise BadFile(f"{where}: {name} is {tensors[name].dtype} {tuple(tensors[name].shape)}, not ({size},)")
            if not torch.isfinite(tensors[name]).all():
                raise BadFile(f"{where}: {name} holds numbers that are not finite; restore or fit it again")
        found = {name: tensor.float() for name, tensor in tensors.items()}
        if "spread" in found and not (found["spread"] > 0).all():
            raise BadFile(f"{where}: spread holds numbers that are not positive; restore or fit it again")
        return cls(settings, layout, found.get("mean"), found.get("spread"))

    def _each(self, spread: Tensor) -> Tensor:
        """(D,): each element's spread."""
        if self.settings.mode == "element":
            return spread
        sizes = torch.tensor(self.layout.sizes, device=spread.device)
        return spread.repeat_interleave(sizes, output_size=self.layout.size)


def _moments(batches: Iterable[Tensor], layout: LoraLayout) -> tuple[int, Tensor, Tensor]:
    """Number of rows, their mean (D,) and the sum of squared differences from it (D,), in float64."""
    count = 0
    mean = squares = torch.zeros(layout.size, dtype=torch.float64)
    step = max(1, _NUMBERS_AT_ONCE // layout.size)
    for number, batch in enumerate(batches):
        layout.check(batch)
        if not batch.is_floating_point() or not torch.isfinite(batch).all():
            raise BadParameter(f"normalisation: batch {number} has numbers that are not finite; leave those rows out")
        for rows in batch.reshape(-1, layout.size).split(step):
            rows = rows.to(mean.device, torch.float64)  # (n, D)
            own_mean = rows.mean(0)
            delta = own_mean - mean
            total = count + len(rows)
            squares = squares + (rows - own_mean).square().sum(0) + delta.square() * (count * len(rows) / total)
            mean = mean + delta * (len(rows) / total)
            count = total
    if not count:
        raise BadParameter("normalisation: no rows to fit; give at least one LoRA")
    return count, mean, squares

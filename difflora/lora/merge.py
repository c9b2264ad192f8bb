"""LoRAs merged into a UNet's weights, and the weights given back bit by bit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn

from difflora.errors import BadParameter
from difflora.lora.layout import LoraLayout, LoraModule
from difflora.lora.normalisation import Normalisation
from difflora.lora.weights import LoraWeights
from difflora_kernels import FlatLayout, LoraMerge, Statistics

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class LoraMerger:
    """Merges LoRAs into a UNet; a context manager that leaves the UNet as it was.

    It keeps copies of the weights that the layout names, on the UNet's device, and every merge starts from them: no
    error builds up, and a LoRA that turns out not finite cannot spoil the base. Weights change in place, so that
    captured graphs and compiled code see them. What the UNet holds when the merger is made counts as pristine.

    All weights of a GPU are merged in one launch of a Triton kernel, straight from the flat vector; on a CPU torch
    merges one after the other.

    Raises:
        BadParameter: if a module of the layout is missing in the UNet or has another shape, or its weight is not
            floating, not loaded, or wrapped by another adapter.
    """

    def __init__(self, unet: nn.Module, layout: LoraLayout) -> None:
        self.layout = layout
        self._modules = {module.name: _find(unet, module) for module in layout.modules}
        self._pristine = {name: module.weight.detach().clone() for name, module in self._modules.items()}
        self._merged = False
        self._prepared: tuple[list[int], LoraMerge] | None = None

    @property
    def merged(self) -> bool:
        """Whether the UNet holds a LoRA of this merger."""
        return self._merged

    @torch.no_grad()
    def merge(
        self,
        lora: LoraWeights | Tensor | Sequence[LoraWeights],
        scale: float | Sequence[float] = 1.0,
        normalisation: Normalisation | None = None,
    ) -> None:
        """Puts ``W0 + sum of scale * alpha / rank * B A`` in place of every weight; an earlier merge is replaced.

        Args:
            lora: weights, one or several, or a flat vector (D,) or several (L, D) with alpha = rank. The scale that
                weights recommend is theirs to recommend: pass ``lora.scale`` to follow it.
            scale: how strongly to apply it, or each of several; 0 gives the base.
            normalisation: what flat vectors are normalised by: they are un-normalised on their way into the weights.
                Its tensors are best kept on the UNet's device. None for weights, which are not normalised.

        Raises:
            BadParameter: if a layout is another, the scale is not finite or the UNet changed its dtype (nothing is
                changed then), or a merged weight is not finite (all weights are then pristine).
        """
        flat, scales = self._vectors(lora, scale, normalisation)
        prepared = self._prepare()
        device = self._modules[self.layout.modules[0].name].weight.device
        statistics = None
        if normalisation is not None:
            there = normalisation.to(device)
            statistics = Statistics(there.mean, there.spread)
        self._merged = True
        try:
            bad = prepared(flat.detach().to(device), scales, statistics)
        except BaseException:
            self.restore()
            raise
        if places := bad.nonzero().flatten().tolist():  # one look for all modules: each look waits for the device
            self.restore()
            raise BadParameter(
                f"merge: {len(places)} merged weights are not finite, the first that of "
                f"{self.layout.modules[places[0]].name}; the base is as it was"
            )

    @torch.no_grad()
    def restore(self) -> None:
        """Gives every weight its pristine bits back; does nothing where no LoRA is merged."""
        if not self._merged:
            return
        for name, weight in self._weights().items():
            weight.copy_(self._pristine[name])
        self._merged = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()

    def _vectors(
        self,
        lora: LoraWeights | Tensor | Sequence[LoraWeights],
        scale: float | Sequence[float],
        normalisation: Normalisation | None,
    ) -> tuple[Tensor, list[float]]:
        """Flat vectors (L, D), and the factor of each."""
        if isinstance(lora, Tensor):
            flat, factors = lora, [1.0] * (len(lora) if lora.ndim == 2 else 1)
        else:
            loras = [lora] if isinstance(lora, LoraWeights) else list(lora)
            for each in loras:
                if each.layout != self.layout:
                    raise BadParameter(f"merge: LoRA layout {each.layout.digest} where {self.layout.digest} is needed")
            if not loras or normalisation is not None:
                raise BadParameter("merge: give weights, one or several, and a normalisation for flat vectors alone")
            flat, factors = torch.stack([each.flat for each in loras]), [each.factor for each in loras]
        self.layout.check(flat)
        if flat.ndim > 2 or not factors or flat.dtype not in DTYPES:
            raise BadParameter(f"merge: a flat LoRA is (D,) or (L, D), floating, not {flat.dtype} {tuple(flat.shape)}")
        if normalisation is not None and normalisation.layout != self.layout:
            raise BadParameter(
                f"merge: normalisation of layout {normalisation.layout.digest} where {self.layout.digest} is needed"
            )
        scales = [float(scale)] * len(factors) if isinstance(scale, int | float) else [float(each) for each in scale]
        if len(scales) != len(factors):
            raise BadParameter(f"merge: {len(scales)} scales for {len(factors)} LoRAs; give one number, or one each")
        if not all(map(math.isfinite, scales)):
            raise BadParameter(f"merge: scale is {scale}; it must be finite")
        return flat.reshape(-1, self.layout.size), [one * other for one, other in zip(scales, factors, strict=True)]

    def _prepare(self) -> LoraMerge:
        """The merge of the weights as they lie now, made again where the UNet was moved."""
        weights = self._weights()
        addresses = [weight.data_ptr() for weight in weights.values()]
        if self._prepared is None or self._prepared[0] != addresses:
            for name, weight in weights.items():
                self._pristine[name] = self._pristine[name].to(weight.device)
            shapes = tuple((module.out_features, module.columns) for module in self.layout.modules)
            merge = LoraMerge(
                list(self._pristine.values()), list(weights.values()), FlatLayout(shapes, self.layout.rank)
            )
            self._prepared = addresses, merge
        return self._prepared[1]

    def _weights(self) -> dict[str, Tensor]:
        """The UNet's weights as they are now."""
        weights: dict[str, Tensor] = {name: module.weight for name, module in self._modules.items()}
        for name, pristine in self._pristine.items():
            if weights[name].dtype != pristine.dtype:
                raise BadParameter(
                    f"{name}: the UNet's weight is {weights[name].dtype} now and was {pristine.dtype}; "
                    "convert it back, restore, and make a new merger after converting"
                )
        return weights


def _find(unet: nn.Module, module: LoraModule) -> nn.Linear | nn.Conv2d:
    """The module of a UNet that a LoRA is merged into."""
    try:
        found = unet.get_submodule(module.name)
    except AttributeError as error:
        raise BadParameter(
            f"{module.name}: no such module in this {type(unet).__name__}; use its own layout"
        ) from error
    if not isinstance(found, nn.Linear if module.kernel is None else nn.Conv2d):
        raise BadParameter(
            f"{module.name}: a {type(found).__name__}; unload other adapters, or use the UNet's own layout"
        )
    if tuple(found.weight.shape) != module.weight_shape:
        raise BadParameter(f"{module.name}: weight {tuple(found.weight.shape)} where {module.weight_shape} is needed")
    if found.weight.dtype not in DTYPES or found.weight.is_meta:
        raise BadParameter(
            f"{module.name}: weight is {found.weight.dtype} on {found.weight.device}; load it, unquantised"
        )
    return found

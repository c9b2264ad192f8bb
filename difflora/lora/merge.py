"""LoRAs merged into a UNet's weights, and the weights given back bit by bit."""

# ruff: noqa: N803, N806 - lora_A and lora_B are the field's own names.

from __future__ import annotations

import math
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn

from difflora.errors import BadParameter
from difflora.lora.layout import LoraLayout, LoraModule
from difflora.lora.weights import LoraWeights


def merged_weight(w0: Tensor, lora_A: Tensor, lora_B: Tensor, scale: float) -> Tensor:
    """``w0 + scale * B A``, computed in float32 (float64 where w0 is) and rounded once: the reference of the merge.

    Args:
        w0: (m, n), or (m, in, kh, kw) of a convolution, of any floating dtype.
        lora_A: (r, n), or (r, in, kh, kw).
        lora_B: (m, r), or (m, r, 1, 1).
        scale: the factor, alpha / rank included.

    Returns:
        The shape and dtype of w0; new storage.
    """
    dtype = torch.promote_types(w0.dtype, torch.float32)
    A, B = lora_A.flatten(1).to(dtype), lora_B.flatten(1).to(dtype)  # (r, n), (m, r)
    return torch.addmm(w0.flatten(1).to(dtype), B, A, alpha=scale).view(w0.shape).to(w0.dtype)


class LoraMerger:
    """Merges one LoRA at a time into a UNet; a context manager that leaves the UNet as it was.

    It keeps copies of the weights that the layout names, on the UNet's device, and every merge starts from them: no
    error builds up, and a LoRA that turns out not finite cannot spoil the base. Weights change in place, so that
    captured graphs and compiled code see them. What the UNet holds when the merger is made counts as pristine.

    Raises:
        BadParameter: if a module of the layout is missing in the UNet or has another shape, or its weight is not
            floating, not loaded, or wrapped by another adapter.
    """

    def __init__(self, unet: nn.Module, layout: LoraLayout) -> None:
        self.layout = layout
        self._modules = {module.name: _find(unet, module) for module in layout.modules}
        self._pristine = {name: module.weight.detach().clone() for name, module in self._modules.items()}
        self._merged = False

    @property
    def merged(self) -> bool:
        """Whether the UNet holds a LoRA of this merger."""
        return self._merged

    @torch.no_grad()
    def merge(self, lora: LoraWeights | Tensor, scale: float = 1.0) -> None:
        """Puts ``W0 + scale * alpha / rank * B A`` in place of every weight; an earlier merge is replaced.

        Args:
            lora: weights, or a flat vector (D,) with alpha = rank. The scale that weights recommend is theirs to
                recommend: pass ``lora.scale`` to follow it.
            scale: how strongly to apply it; 0 gives the base.

        Raises:
            BadParameter: if the layout is another, the scale is not finite or the UNet changed its dtype (nothing is
                changed then), or a number or a merged weight is not finite (all weights are then pristine).
        """
        flat, factor = (lora.flat, lora.factor) if isinstance(lora, LoraWeights) else (lora, 1.0)
        if isinstance(lora, LoraWeights) and lora.layout != self.layout:
            raise BadParameter(f"merge: LoRA layout {lora.layout.digest} where {self.layout.digest} is needed")
        self.layout.check(flat)
        if flat.ndim != 1:
            raise BadParameter(f"merge: one flat LoRA (D,) at a time, not {tuple(flat.shape)}")
        if not math.isfinite(scale):  # some BLAS take a factor of NaN for 0
            raise BadParameter(f"merge: scale is {scale}; it must be finite")
        weights = self._weights()
        flat = flat.detach().to(next(iter(weights.values())).device)
        finite = [torch.isfinite(flat).all()]
        self._merged = True
        try:
            for name, (lora_A, lora_B) in self.layout.views(flat).items():
                weight = weights[name]
                pristine = self._pristine[name].to(weight.device)
                made = merged_weight(pristine, lora_A.to(weight.device), lora_B.to(weight.device), scale * factor)
                weight.copy_(made)
                finite.append(torch.isfinite(made).all())
        except BaseException:
            self.restore()
            raise
        # One look for all modules: each look waits for the device.
        if not torch.stack([each.to(flat.device) for each in finite]).all():
            self.restore()
            raise BadParameter("merge: the LoRA or a weight merged with it is not finite; the base is as it was")

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
    if not found.weight.is_floating_point() or found.weight.is_meta:
        raise BadParameter(
            f"{module.name}: weight is {found.weight.dtype} on {found.weight.device}; load it, unquantised"
        )
    return found

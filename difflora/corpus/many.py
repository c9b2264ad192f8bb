"""Many people at once on one frozen base: each sample of a batch goes through its own person's LoRA.

with ManyLoras(unet, layout, scale=alpha / rank) as loras:
    loras.set(flat)                          # (P, D), a leaf or anything that gradients flow back to
    unet(noisy, timesteps, ...).sample       # (P * b, ...), the first b samples are person 0's, and so on
"""

# ruff: noqa: N803 - lora_A and lora_B are the field's own names.

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from difflora.errors import DiffLoRAError
from difflora.lora import LoraLayout

_MARK, _PART = "_difflora_many", "_difflora_part"


class _Part:
    """What a target module adds, kept on the module itself.

    The hook of every target is one and the same function that reads it from there, so that code compiled for one
    block of a UNet serves all blocks like it.
    """

    def __init__(self, scale: float) -> None:
        self.scale = scale
        self.lora_A: Tensor | None = None  # (P, r, n)
        self.lora_B: Tensor | None = None  # (P, m, r)
        self.live = False  # whether it was called since LoRAs were set


class ManyLoras:
    """A context in which a UNet runs under P LoRAs; outside of it the UNet is as it was.

    The base's own modules stay in place and compute what they always did; a hook on each target adds the person's
    part, y = base(x) + scale * (x A^T) B^T, by matrix products batched over people. So nothing of the UNet is
    replaced, and nothing is left behind.

    Args:
        unet: a UNet whose target modules are those of the layout, without other adapters.
        layout: the LoRAs' layout.
        scale: alpha / rank.

    Raises:
        DiffLoRAError: if the UNet is under LoRAs already, lacks a module of the layout or has it in another shape; in
            a forward pass, if no LoRAs were set, if the batch is no multiple of P, or if a target was never called
            (its LoRA would be dead).
    """

    def __init__(self, unet: nn.Module, layout: LoraLayout, scale: float) -> None:
        self._unet, self._layout, self._scale = unet, layout, scale
        self._parts: dict[str, _Part] = {}
        self._people = 0
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> Self:
        if getattr(self._unet, _MARK, None) is not None:
            raise DiffLoRAError("this UNet is under LoRAs already: leave their context first, or both would be wrong")
        modules = [(module.name, _find(self._unet, module.name)) for module in self._layout.modules]
        for spec, (name, module) in zip(self._layout.modules, modules, strict=True):
            if tuple(module.weight.shape) != spec.weight_shape:
                shape = tuple(module.weight.shape)
                raise DiffLoRAError(f"{name}: weight is {shape}, the LoRA layout's is {spec.weight_shape}; other base?")
        self._handles = [self._unet.register_forward_pre_hook(self._before, with_kwargs=True)]
        for name, module in modules:
            self._parts[name] = _Part(self._scale)
            setattr(module, _PART, self._parts[name])
            self._handles.append(module.register_forward_hook(_add))
        self._handles.append(self._unet.register_forward_hook(self._after))
        setattr(self._unet, _MARK, self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        for name in self._parts:
            delattr(self._unet.get_submodule(name), _PART)
        self._handles, self._parts, self._people = [], {}, 0
        delattr(self._unet, _MARK)

    def set(self, flat: Tensor) -> None:
        """Lays P LoRAs on the UNet, for all forward passes until the next call.

        Args:
            flat: (P, D); cast to the UNet's type once. Gradients flow back to it.
        """
        if flat.ndim != 2:
            raise DiffLoRAError(f"flat LoRAs are (P, D), not {tuple(flat.shape)}")
        dtype = next(self._unet.parameters()).dtype
        views, self._people = self._layout.views(flat.to(dtype)), len(flat)
        for name, part in self._parts.items():
            part.lora_A, part.lora_B = views[name]
            part.live = False

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self._people:
            raise DiffLoRAError("no LoRAs are set: call set(flat) before the UNet")
        sample = args[0] if args else kwargs["sample"]
        if len(sample) % self._people:
            raise DiffLoRAError(f"a batch of {len(sample)} cannot be shared out to {self._people} people")

    def _after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        dead = [name for name, part in self._parts.items() if not part.live]
        if dead:
            raise DiffLoRAError(f"{dead[0]}: never called in a forward pass, its LoRA is dead ({len(dead)} such)")


def _add(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """A target's hook: its output with each person's part."""
    part: _Part = getattr(module, _PART)
    part.live = True
    assert part.lora_A is not None and part.lora_B is not None  # noqa: PT018 - `set` came before
    if isinstance(module, nn.Conv2d):
        return output + part.scale * _convolve(module, args[0], part.lora_A, part.lora_B)
    return _matmul(args[0], output, part.lora_A, part.lora_B, part.scale)


def _find(unet: nn.Module, name: str) -> nn.Linear | nn.Conv2d:
    try:
        module = unet.get_submodule(name)
    except AttributeError as error:
        raise DiffLoRAError(f"{name}: no such module in this {type(unet).__name__}; the LoRAs are another's") from error
    if not isinstance(module, nn.Linear | nn.Conv2d):
        kind = f"{type(module).__module__}.{type(module).__name__}"
        raise DiffLoRAError(f"{name}: a {kind}, not a plain Linear or Conv2d; unload other adapters")
    return module


def _matmul(x: Tensor, y: Tensor, lora_A: Tensor, lora_B: Tensor, scale: float) -> Tensor:
    """The sum y + scale * (x A^T) B^T, each person's samples by the person's own A and B.

    Args:
        x: (P * b, ..., n).
        y: (P * b, ..., m).
        lora_A: (P, r, n).
        lora_B: (P, m, r).
        scale: factor.

    Returns:
        (P * b, ..., m).
    """
    people = len(lora_A)
    rows = x.reshape(people, -1, x.shape[-1])  # (P, b * T, n)
    low = torch.bmm(rows, lora_A.transpose(1, 2))  # (P, b * T, r)
    base = y.reshape(people, -1, y.shape[-1])  # (P, b * T, m)
    return torch.baddbmm(base, low, lora_B.transpose(1, 2), alpha=scale).view(y.shape)  # (P * b, ..., m)


def _convolve(module: nn.Conv2d, x: Tensor, lora_A: Tensor, lora_B: Tensor) -> Tensor:
    """The LoRA's convolution for each person's own samples, by one grouped convolution a factor.

    Args:
        module: the base's convolution; its stride and padding are those of A.
        x: (P * b, c, h, w).
        lora_A: (P, r, c * kh * kw).
        lora_B: (P, m, r).

    Returns:
        (P * b, m, h', w').
    """
    people, rank = lora_A.shape[:2]
    channels, out = module.in_channels, module.out_channels
    grouped = x.unflatten(0, (people, -1)).transpose(0, 1).flatten(1, 2)  # (b, P * c, h, w)
    down = lora_A.reshape(people * rank, channels, *module.kernel_size)  # (P * r, c, kh, kw)
    low = F.conv2d(grouped, down, None, module.stride, module.padding, groups=people)  # (b, P * r, h', w')
    up = lora_B.reshape(people * out, rank, 1, 1)  # (P * m, r, 1, 1)
    high = F.conv2d(low, up, groups=people)  # (b, P * m, h', w')
    apart: Tensor = high.unflatten(1, (people, out)).transpose(0, 1)  # (P, b, m, h', w')
    return torch.flatten(apart, 0, 1)

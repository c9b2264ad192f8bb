"""The pairs of tensors that a LoRA file holds, whatever its format calls them, and whether they make a layout."""

# ruff: noqa: N806 - lora_A and lora_B are the field's own names.

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from difflora.errors import BadFile, BadParameter
from difflora.lora.layout import LoraLayout, LoraModule, LoraTensors

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_UNET_PARTS = ("down_blocks", "mid_block", "up_blocks", "conv_", "time_", "add_embedding", "class_", "encoder_hid_proj")


@dataclass(frozen=True)
class StoredPairs:
    """What a file holds.

    Attributes:
        tensors: name of a module in diffusers' UNet -> ``(lora_A, lora_B)`` as stored.
        keys: name of a module -> the keys of its ``lora_A`` and ``lora_B`` in the file.
    """

    tensors: LoraTensors
    keys: Callable[[str], tuple[str, str]]


def is_unet_module(name: str) -> bool:
    """Whether a dotted name is one of diffusers' UNet."""
    return name.startswith(_UNET_PARTS)


def check_dtype(key: str, tensor: Tensor, where: str) -> None:
    """Raises BadFile unless a tensor is of a floating type."""
    if tensor.dtype not in DTYPES:
        raise BadFile(f"{where}: {key} is {tensor.dtype}; a LoRA is float16, bfloat16 or float32")


def split(flat: Tensor, layout: LoraLayout) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name, ``lora_A`` and ``lora_B`` of each module of a flat vector (D,), in peft's shapes, each with its storage."""
    for module, (lora_A, lora_B) in zip(layout.modules, layout.views(flat).values(), strict=True):
        # safetensors takes no two tensors of one storage, and A is a transposed view.
        own_A, own_B = lora_A.clone(memory_format=torch.contiguous_format), lora_B.clone()
        yield module.name, own_A.view(module.lora_A_shape(layout.rank)), own_B.view(module.lora_B_shape(layout.rank))


def infer_layout(pairs: StoredPairs, where: str) -> LoraLayout:
    """The layout that shapes tell; modules in natural order of their names, since a file does not keep the UNet's.

    Raises:
        BadFile: naming a key that is no UNet's, whose shape is no LoRA's, or whose rank is not that of the others.
    """
    modules = []
    rank = max(next(iter(pairs.tensors.values()))[0].shape[:1], default=0)
    for name, (lora_A, lora_B) in sorted(pairs.tensors.items(), key=lambda pair: _natural(pair[0])):
        key = pairs.keys(name)[0]
        if not is_unet_module(name):
            raise BadFile(
                f"{where}: {key} belongs to no UNet; expected are 'unet.', 'base_model.model.' or nothing, and then a "
                "UNet's module such as down_blocks.1, or 'lora_unet_'"
            )
        if lora_A.ndim not in (2, 4) or lora_B.ndim != lora_A.ndim:
            raise BadFile(f"{where}: {key} has shape {tuple(lora_A.shape)}; no Linear's or Conv2d's")
        if lora_A.shape[0] != rank:
            raise BadFile(f"{where}: {key} has rank {lora_A.shape[0]}, others {rank}; one rank is read")
        kernel = (lora_A.shape[2], lora_A.shape[3]) if lora_A.ndim == 4 else None
        modules.append(LoraModule(name, lora_B.shape[0], lora_A.shape[1], kernel))
    try:
        return LoraLayout(tuple(modules), rank)
    except BadParameter as error:
        raise BadFile(f"{where}: {error}") from error


def check_pairs(pairs: StoredPairs, layout: LoraLayout, where: str) -> None:
    """Looks whether a file has each module of a layout, no other, in its shape.

    Raises:
        BadFile: naming the first key that is missing, unknown, or of another shape.
    """
    names = {module.name for module in layout.modules}
    for name in pairs.tensors:
        if name not in names:
            raise BadFile(f"{where}: {pairs.keys(name)[0]} is unknown: the layout has no such module")
    for module in layout.modules:
        keys = pairs.keys(module.name)
        if module.name not in pairs.tensors:
            raise BadFile(f"{where}: {keys[0]} is missing; the file has {len(pairs.tensors)} of {len(names)} modules")
        shapes = (module.lora_A_shape(layout.rank), module.lora_B_shape(layout.rank))
        for key, tensor, shape in zip(keys, pairs.tensors[module.name], shapes, strict=True):
            if tuple(tensor.shape) != shape:
                raise BadFile(f"{where}: {key} has shape {tuple(tensor.shape)} where {shape} is needed")


def _natural(name: str) -> list[tuple[int, str]]:
    """A key by which block 10 comes after block 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"[._]", name)]

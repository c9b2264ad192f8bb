"""LoRA tensors under the names that diffusers and peft give them.

A module's two tensors are ``PREFIX.MODULE.lora_A.weight`` and ``PREFIX.MODULE.lora_B.weight``. The prefix is ``unet``
in a pipeline's file (``save_lora_weights``), nothing in a UNet's own (``save_lora_adapter``) and ``base_model.model``
in peft's. diffusers takes keys missing, alone, unknown or of integers, and says nothing; here each is an error.
"""

# ruff: noqa: N802, N806 - lora_A and lora_B are the field's own names.

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from difflora.errors import BadFile, BadParameter
from difflora.lora.layout import LoraLayout, LoraModule, LoraTensors

UNET_PREFIX, PEFT_PREFIX = "unet.", "base_model.model."
_PREFIXES = (UNET_PREFIX, f"{PEFT_PREFIX}{UNET_PREFIX}", PEFT_PREFIX, "")
_UNET_PARTS = ("down_blocks", "mid_block", "up_blocks", "conv_", "time_", "add_embedding", "class_", "encoder_hid_proj")
_ENDS = (".lora_A.weight", ".lora_B.weight")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def key_A(module: str, prefix: str = UNET_PREFIX) -> str:
    """The key of a module's ``lora_A``."""
    return f"{prefix}{module}{_ENDS[0]}"


def key_B(module: str, prefix: str = UNET_PREFIX) -> str:
    """The key of a module's ``lora_B``."""
    return f"{prefix}{module}{_ENDS[1]}"


def to_keys(flat: Tensor, layout: LoraLayout) -> dict[str, Tensor]:
    """The tensors of a flat vector (D,) under a pipeline's keys, in the shapes that peft stores, each with storage."""
    found = {}
    for module, (lora_A, lora_B) in zip(layout.modules, layout.views(flat).values(), strict=True):
        # safetensors takes no two tensors of one storage, and A is a transposed view.
        own_A, own_B = lora_A.clone(memory_format=torch.contiguous_format), lora_B.clone()
        found[key_A(module.name)] = own_A.view(module.lora_A_shape(layout.rank))
        found[key_B(module.name)] = own_B.view(module.lora_B_shape(layout.rank))
    return found


def find_prefix(keys: Iterable[str], where: str) -> str:
    """The prefix that all keys of a file have.

    Raises:
        BadFile: if there is no key, or one is not a UNet's.
    """
    keys = list(keys)
    if not keys:
        raise BadFile(f"{where}: holds no tensor; it is no LoRA")
    for key in keys:
        if key.startswith(("lora_unet_", "lora_te")):
            raise BadFile(f"{where}: {key} is a key of kohya's format; save the LoRA in diffusers' format")
    prefix = next(prefix for prefix in _PREFIXES if any(key.startswith(prefix) for key in keys))
    for key in keys:
        if not key.startswith(prefix):
            raise BadFile(f"{where}: {key} belongs to no UNet, whose keys start with {prefix!r} here; leave it out")
    return prefix


def from_keys(tensors: Mapping[str, Tensor], where: str) -> tuple[dict[str, tuple[Tensor, Tensor]], str]:
    """Pairs of tensors from a file's keys.

    Returns:
        Name of a module -> ``(lora_A, lora_B)`` as stored, in the file's order; and the keys' prefix.

    Raises:
        BadFile: naming the first key that is not of this format, alone, or not of a floating type.
    """
    prefix = find_prefix(tensors, where)
    names: dict[str, None] = {}
    for key, tensor in tensors.items():
        if not key.endswith(_ENDS):
            raise BadFile(f"{where}: {key} is neither a lora_A.weight nor a lora_B.weight; only plain LoRAs are read")
        if tensor.dtype not in DTYPES:
            raise BadFile(f"{where}: {key} is {tensor.dtype}; a LoRA is float16, bfloat16 or float32")
        names[key.removeprefix(prefix)[: -len(_ENDS[0])]] = None
    for name in names:
        for key in (key_A(name, prefix), key_B(name, prefix)):
            if key not in tensors:
                raise BadFile(f"{where}: {key} is missing, its other half is there; save the LoRA again")
    return {name: (tensors[key_A(name, prefix)], tensors[key_B(name, prefix)]) for name in names}, prefix


def infer_layout(pairs: LoraTensors, prefix: str, where: str) -> LoraLayout:
    """The layout that shapes tell; modules in natural order of their names, since a file does not keep the UNet's.

    Raises:
        BadFile: naming a key that is no UNet's, whose shape is no LoRA's, or whose rank is not that of the others.
    """
    modules = []
    rank = max(next(iter(pairs.values()))[0].shape[:1], default=0)
    for name, (lora_A, lora_B) in sorted(pairs.items(), key=lambda pair: _natural(pair[0])):
        if not name.startswith(_UNET_PARTS):
            raise BadFile(
                f"{where}: {key_A(name, prefix)} belongs to no UNet; expected are {UNET_PREFIX!r}, {PEFT_PREFIX!r} or "
                "nothing, and then a UNet's module such as down_blocks.1"
            )
        if lora_A.ndim not in (2, 4) or lora_B.ndim != lora_A.ndim:
            raise BadFile(f"{where}: {key_A(name, prefix)} has shape {tuple(lora_A.shape)}; no Linear's or Conv2d's")
        if lora_A.shape[0] != rank:
            raise BadFile(f"{where}: {key_A(name, prefix)} has rank {lora_A.shape[0]}, others {rank}; one rank is read")
        kernel = (lora_A.shape[2], lora_A.shape[3]) if lora_A.ndim == 4 else None
        modules.append(LoraModule(name, lora_B.shape[0], lora_A.shape[1], kernel))
    try:
        return LoraLayout(tuple(modules), rank)
    except BadParameter as error:
        raise BadFile(f"{where}: {error}") from error


def check_pairs(pairs: LoraTensors, layout: LoraLayout, prefix: str, where: str) -> None:
    """Looks whether a file has each module of a layout, no other, in its shape.

    Raises:
        BadFile: naming the first key that is missing, unknown, or of another shape.
    """
    names = {module.name for module in layout.modules}
    for name in pairs:
        if name not in names:
            raise BadFile(f"{where}: {key_A(name, prefix)} is unknown: the layout has no such module")
    for module in layout.modules:
        if module.name not in pairs:
            raise BadFile(
                f"{where}: {key_A(module.name, prefix)} is missing; the file has {len(pairs)} of {len(names)} modules"
            )
        keys = (key_A(module.name, prefix), key_B(module.name, prefix))
        shapes = (module.lora_A_shape(layout.rank), module.lora_B_shape(layout.rank))
        for key, tensor, shape in zip(keys, pairs[module.name], shapes, strict=True):
            if tuple(tensor.shape) != shape:
                raise BadFile(f"{where}: {key} has shape {tuple(tensor.shape)} where {shape} is needed")


def _natural(name: str) -> list[tuple[int, str]]:
    """A key by which block 10 comes after block 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"[._]", name)]

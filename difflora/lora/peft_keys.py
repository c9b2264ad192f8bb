"""LoRA tensors under the names that diffusers and peft give them.

A module's two tensors are ``PREFIX.MODULE.lora_A.weight`` and ``PREFIX.MODULE.lora_B.weight``. The prefix is ``unet``
in a pipeline's file (``save_lora_weights``), nothing in a UNet's own (``save_lora_adapter``) and ``base_model.model``
in peft's. diffusers takes keys missing, alone, unknown or of integers, and says nothing; here each is an error.
"""

# ruff: noqa: N802, N806 - lora_A and lora_B are the field's own names.

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from difflora.errors import BadFile
from difflora.lora.layout import LoraLayout
from difflora.lora.pairs import StoredPairs, check_dtype, split

UNET_PREFIX, PEFT_PREFIX = "unet.", "base_model.model."
_PREFIXES = (UNET_PREFIX, f"{PEFT_PREFIX}{UNET_PREFIX}", PEFT_PREFIX, "")
_ENDS = (".lora_A.weight", ".lora_B.weight")


def key_A(module: str, prefix: str = UNET_PREFIX) -> str:
    """The key of a module's ``lora_A``."""
    return f"{prefix}{module}{_ENDS[0]}"


def key_B(module: str, prefix: str = UNET_PREFIX) -> str:
    """The key of a module's ``lora_B``."""
    return f"{prefix}{module}{_ENDS[1]}"


def to_keys(flat: Tensor, layout: LoraLayout, prefix: str = UNET_PREFIX) -> dict[str, Tensor]:
    """The tensors of a flat vector (D,) under diffusers' or peft's keys, in the shapes that peft stores."""
    found = {}
    for name, lora_A, lora_B in split(flat, layout):
        found[key_A(name, prefix)], found[key_B(name, prefix)] = lora_A, lora_B
    return found


def find_prefix(keys: Iterable[str], where: str) -> str:
    """The prefix that all keys of a file have.

    Raises:
        BadFile: if there is no key, or one is not a UNet's.
    """
    keys = list(keys)
    if not keys:
        raise BadFile(f"{where}: holds no tensor; it is no LoRA")
    prefix = next(prefix for prefix in _PREFIXES if any(key.startswith(prefix) for key in keys))
    for key in keys:
        if not key.startswith(prefix):
            raise BadFile(f"{where}: {key} belongs to no UNet, whose keys start with {prefix!r} here; leave it out")
    return prefix


def from_keys(tensors: Mapping[str, Tensor], where: str) -> StoredPairs:
    """Pairs of tensors from a file's keys, in the file's order.

    Raises:
        BadFile: naming the first key that is not of this format, alone, or not of a floating type.
    """
    prefix = find_prefix(tensors, where)
    names: dict[str, None] = {}
    for key, tensor in tensors.items():
        if not key.endswith(_ENDS):
            raise BadFile(f"{where}: {key} is neither a lora_A.weight nor a lora_B.weight; only plain LoRAs are read")
        check_dtype(key, tensor, where)
        names[key.removeprefix(prefix)[: -len(_ENDS[0])]] = None
    for name in names:
        for key in (key_A(name, prefix), key_B(name, prefix)):
            if key not in tensors:
                raise BadFile(f"{where}: {key} is missing, its other half is there; save the LoRA again")
    return StoredPairs(
        {name: (tensors[key_A(name, prefix)], tensors[key_B(name, prefix)]) for name in names},
        lambda name: (key_A(name, prefix), key_B(name, prefix)),
    )

"""The LoRA of a PhotoMaker file, under the keys that diffusers' attention processors once had.

A module's two tensors are ``unet.MODULE.processor.to_q_lora.down.weight`` (``lora_A``) and ``.up.weight`` (``lora_B``),
and ``to_out_lora`` stands for ``to_out.0``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from difflora.errors import BadFile, BadParameter
from difflora.lora.layout import LoraLayout, LoraTensors
from difflora.lora.pairs import StoredPairs, check_dtype, check_pairs
from difflora.lora.weights import LoraWeights

TARGETS = ("attention",)
"""The modules that PhotoMaker's LoRA changes: all of a UNet's attention."""

_KEY = re.compile(r"unet\.(.+\.attn[12])\.processor\.(to_q|to_k|to_v|to_out)_lora\.(down|up)\.weight")
_MODULE = re.compile(r"(.+\.attn[12])\.(to_q|to_k|to_v|to_out)(\.0)?")


def keys_of(module: str) -> tuple[str, str]:
    """The keys of a module's ``lora_A`` and ``lora_B``."""
    found = _MODULE.fullmatch(module)
    if found is None:
        raise BadParameter(f"{module}: is no attention, and PhotoMaker's LoRA changes nothing else")
    start = f"unet.{found[1]}.processor.{found[2]}_lora"
    return f"{start}.down.weight", f"{start}.up.weight"


def to_keys(tensors: LoraTensors) -> dict[str, Tensor]:
    """``lora_A`` and ``lora_B`` of each module under the file's keys."""
    found = {}
    for module, pair in tensors.items():
        for key, tensor in zip(keys_of(module), pair, strict=True):
            found[key] = tensor.detach().clone().contiguous()
    return found


def from_keys(tensors: Mapping[str, Tensor], where: str) -> StoredPairs:
    """Pairs of tensors from a file's keys, in the file's order.

    Raises:
        BadFile: naming the first key that is not of this format, alone, misshapen or not of a floating type.
    """
    modules: dict[str, None] = {}
    for key, tensor in tensors.items():
        found = _KEY.fullmatch(key)
        if found is None:
            raise BadFile(f"{where}: lora_weights.{key} is not of PhotoMaker v1; give photomaker-v1, not another file")
        check_dtype(f"lora_weights.{key}", tensor, where)
        if tensor.ndim != 2 or tensor.numel() == 0:
            raise BadFile(f"{where}: lora_weights.{key} has shape {tuple(tensor.shape)}; a LoRA's have two dimensions")
        modules[f"{found[1]}.{found[2]}{'.0' if found[2] == 'to_out' else ''}"] = None
    if not modules:
        raise BadFile(f"{where}: lora_weights is empty; give a whole PhotoMaker v1 file")
    for module in modules:
        for key in keys_of(module):
            if key not in tensors:
                raise BadFile(f"{where}: lora_weights.{key} is missing, its other half is there; download it again")

    def named(module: str) -> tuple[str, str]:
        down, up = keys_of(module)
        return f"lora_weights.{down}", f"lora_weights.{up}"

    return StoredPairs({name: (tensors[keys_of(name)[0]], tensors[keys_of(name)[1]]) for name in modules}, named)


def read_lora(tensors: Mapping[str, Tensor], unet: Any, where: str) -> LoraWeights:
    """The LoRA for a UNet, with all of its attention and alpha as the rank.

    Raises:
        BadFile: naming the first key that is missing, unknown or of another shape than the UNet needs.
    """
    pairs = from_keys(tensors, where)
    rank = next(iter(pairs.tensors.values()))[0].shape[0]
    layout = LoraLayout.from_unet(unet, TARGETS, rank)
    check_pairs(pairs, layout, where)
    flat = layout.flatten({name: (lora_A.float(), lora_B.float()) for name, (lora_A, lora_B) in pairs.tensors.items()})
    try:
        return LoraWeights(layout, flat, None, alpha=float(rank))
    except BadParameter as error:
        raise BadFile(f"{where}: {error}") from error

"""LoRA tensors under the names that kohya's sd-scripts give them, which ComfyUI and others read.

A module's tensors are ``lora_unet_NAME.lora_down.weight`` (``lora_A``), ``lora_unet_NAME.lora_up.weight``
(``lora_B``), both in peft's shapes, and ``lora_unet_NAME.alpha``, a number: the change is ``alpha / rank * up down``.
"""

# ruff: noqa: N806 - lora_A and lora_B are the field's own names.

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from difflora.errors import BadFile, BadParameter
from difflora.lora.architecture import find_architecture
from difflora.lora.layout import LoraLayout
from difflora.lora.ldm_names import SDXL_LAYERS, kohya_name, layers_per_block, module_name
from difflora.lora.pairs import StoredPairs, check_dtype, split

PREFIX = "lora_unet_"
DOWN, UP, ALPHA = ".lora_down.weight", ".lora_up.weight", ".alpha"


def to_kohya(flat: Tensor, layout: LoraLayout, alpha: float) -> dict[str, Tensor]:
    """The tensors of a flat vector (D,) under kohya's keys, and alpha of each module as a float32 scalar.

    Raises:
        BadParameter: if the layout tells no architecture, or kohya's format has no name for a module.
    """
    architecture = find_architecture(layout)
    if architecture is None:
        raise BadParameter(
            "kohya's format names modules by the base model's architecture, which this LoRA's modules do not tell "
            "(SDXL or Stable Diffusion 1.x); store it in diffusers' or peft's format"
        )
    layers = layers_per_block(layout) if architecture.ldm_names else None
    found: dict[str, Tensor] = {}
    for module, lora_A, lora_B in split(flat, layout):
        name = f"{PREFIX}{kohya_name(module, layers)}"
        found |= {f"{name}{DOWN}": lora_A, f"{name}{UP}": lora_B, f"{name}{ALPHA}": torch.tensor(float(alpha))}
    return found


def from_kohya(tensors: Mapping[str, Tensor], layout: LoraLayout | None, where: str) -> StoredPairs:
    """Pairs of tensors from a file's keys, in the file's order.

    Args:
        tensors: key -> tensor.
        layout: what the file must hold; without one, names of the original code are read as SDXL's.
        where: the file, for errors.

    Raises:
        BadFile: naming the first key that is not of this format, alone, or not of a floating type.
    """
    names: dict[str, None] = {}
    for key, tensor in tensors.items():
        if not key.startswith(PREFIX):
            raise BadFile(f"{where}: {key} belongs to no UNet, whose keys start with {PREFIX!r} here; leave it out")
        if not key.endswith((DOWN, UP, ALPHA)):
            raise BadFile(f"{where}: {key} is no lora_down.weight, lora_up.weight or alpha; only plain LoRAs are read")
        if not key.endswith(ALPHA):
            check_dtype(key, tensor, where)
        names[key.rpartition(ALPHA if key.endswith(ALPHA) else ".lora_")[0]] = None
    with_alpha = any(key.endswith(ALPHA) for key in tensors)
    for name in names:
        for end in (DOWN, UP, ALPHA) if with_alpha else (DOWN, UP):
            if name + end not in tensors:
                raise BadFile(f"{where}: {name}{end} is missing, the module's others are there; save the LoRA again")
    layers, modules = _read_names(list(names), layout, where)

    def keys(module: str) -> tuple[str, str]:
        try:
            name = f"{PREFIX}{kohya_name(module, layers)}"
        except BadParameter:
            name = f"{PREFIX}{module.replace('.', '_')}"
        return name + DOWN, name + UP

    return StoredPairs({module: (tensors[name + DOWN], tensors[name + UP]) for name, module in modules.items()}, keys)


def alpha_of(tensors: Mapping[str, Tensor], rank: int, where: str) -> float:
    """The one alpha of a file; the rank where it has none, as its readers take it.

    Raises:
        BadFile: naming the first alpha that is no positive number, or not that of the others.
    """
    alphas = {key: tensor for key, tensor in tensors.items() if key.endswith(ALPHA)}
    first = ""
    for key, tensor in alphas.items():
        if tensor.numel() != 1 or tensor.is_complex() or not math.isfinite(tensor.item()) or tensor.item() <= 0:
            raise BadFile(f"{where}: {key} is {tensor.tolist()}; it must be one positive number")
        first = first or key
        if tensor.item() != alphas[first].item():
            raise BadFile(
                f"{where}: {key} is {tensor.item()}, {first} {alphas[first].item()}; only LoRAs of one alpha are read"
            )
    return float(alphas[first].item()) if first else float(rank)


def _read_names(names: list[str], layout: LoraLayout | None, where: str) -> tuple[int | None, dict[str, str]]:
    """``layers_per_block`` where names are the original code's, else None; name -> module."""
    try:
        ldm = layers_per_block(layout) if layout else SDXL_LAYERS
    except BadParameter:
        ldm = SDXL_LAYERS
    found = {layers: {name: module_name(name.removeprefix(PREFIX), layers) for name in names} for layers in (ldm, None)}
    layers = max(found, key=lambda each: sum(module is not None for module in found[each].values()))
    known = {name: module for name, module in found[layers].items() if module is not None}
    for name in names:
        if name not in known:
            style = "diffusers' names" if layers is None else f"the original code's names ({layers} layers a block)"
            raise BadFile(
                f"{where}: {name}{DOWN} belongs to no UNet of Stable Diffusion by {style}, which the others have; "
                "leave it out, or save the LoRA again"
            )
    return layers, known

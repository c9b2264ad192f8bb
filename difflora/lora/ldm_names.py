"""A UNet's modules under the names that kohya's format gives them.

sd-scripts and ComfyUI name the modules of Stable Diffusion 1.x as diffusers does, and those of SDXL as the original
code does (``input_blocks``, ``middle_block``, ``output_blocks``, where an attention after ``down_blocks.1.resnets.0``
is ``input_blocks.4.1``); both write ``_`` for each dot, so that a name can only be read by knowing all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from difflora.errors import BadParameter
from difflora.lora.architecture import SDXL, cross_attention_dim
from difflora.lora.layout import LoraLayout

SDXL_LAYERS = 2
"""``layers_per_block`` of SDXL."""
_MOST = 8
"""Levels, and layers a block, that are known; the public models have at most 4 and 2."""
_RESNET = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_TRANSFORMER = (
    *(f"attn{number}.{leaf}" for number in (1, 2) for leaf in ("to_q", "to_k", "to_v", "to_out.0")),
    "ff.net.0.proj",
    "ff.net.2",
)
_ATTENTION = ("proj_in", "proj_out", *(f"transformer_blocks.#.{leaf}" for leaf in _TRANSFORMER))
_OUTSIDE = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_NUMBER = re.compile(r"(?<=transformer_blocks[._])\d+")


def layers_per_block(layout: LoraLayout) -> int:
    """``layers_per_block`` of the UNet that a LoRA of SDXL's architecture is for.

    Raises:
        BadParameter: if the modules do not tell: a UNet has as many layers in a down block, and one more in an up one.
    """
    if cross_attention_dim(layout) == SDXL.cross_attention_dim:
        return SDXL_LAYERS
    last = {"down": -1, "up": -1}
    for module in layout.modules:
        if found := re.match(r"(down|up)_blocks\.\d+\.(?:attentions|resnets)\.(\d+)\.", module.name):
            last[found[1]] = max(last[found[1]], int(found[2]))
    if last["up"] < 1 or last["down"] + 1 != last["up"]:
        raise BadParameter(
            "LoRA layout: its modules do not tell how many layers a block of the UNet has, on which the names of "
            "kohya's format depend; target modules of all down and up blocks"
        )
    return last["up"]


def kohya_name(module: str, layers: int | None) -> str:
    """A module's name in kohya's format, without ``lora_unet_``.

    Args:
        module: its dotted name in diffusers' UNet.
        layers: ``layers_per_block`` for the names of the original code, None for diffusers' own.

    Raises:
        BadParameter: if it is no module of a UNet of Stable Diffusion.
    """
    number = _NUMBER.search(module)
    name = _kohya_names(layers).get(_NUMBER.sub("#", module, count=1))
    if name is None:
        raise BadParameter(
            f"{module}: kohya's format has no name for it; it knows Stable Diffusion's Linear and Conv2d"
        )
    return name.replace("#", number[0]) if number else name


def module_name(name: str, layers: int | None) -> str | None:
    """The inverse of ``kohya_name``; None for a name that is not known."""
    number = _NUMBER.search(name)
    module = _modules(layers).get(_NUMBER.sub("#", name, count=1))
    return module.replace("#", number[0]) if module and number else module


def ldm_name(name: str, layers: int) -> str:
    """A module's dotted name in the original code, as checkpoints have it, by its dotted name in diffusers' UNet.

    Args:
        name: of a Linear or Conv2d of a UNet of Stable Diffusion.
        layers: ``layers_per_block``.
    """
    if name in _OUTSIDE:
        return _OUTSIDE[name]
    if name.startswith("mid_block."):
        _, part, layer, leaf = name.split(".", 3)
        return f"middle_block.1.{leaf}" if part == "attentions" else f"middle_block.{2 * int(layer)}.{_RESNET[leaf]}"
    block, level, part, layer, leaf = name.split(".", 4)
    place = int(level) * (layers + 1) + (layers if part.endswith("samplers") else int(layer))
    if part == "resnets":
        leaf = f"0.{_RESNET[leaf]}"
    elif part == "attentions":
        leaf = f"1.{leaf}"
    else:
        # After a resnet and an attention: in SDXL, each up block with an upsampler has attention.
        leaf = "0.op" if block == "down_blocks" else "2.conv"
    return f"input_blocks.{place + 1}.{leaf}" if block == "down_blocks" else f"output_blocks.{place}.{leaf}"


@cache
def _kohya_names(layers: int | None) -> dict[str, str]:
    """Name in diffusers' UNet -> name in kohya's format; the number of a transformer block is a #."""
    names = _unet_names(_MOST if layers is None else layers)
    return {name: (name if layers is None else ldm_name(name, layers)).replace(".", "_") for name in names}


@cache
def _modules(layers: int | None) -> dict[str, str]:
    return {name: module for module, name in _kohya_names(layers).items()}


def _unet_names(layers: int) -> Iterator[str]:
    """Every Linear and Conv2d that a UNet with so many layers a block may have."""
    yield from _OUTSIDE
    yield from (f"mid_block.resnets.{layer}.{leaf}" for layer in (0, 1) for leaf in _RESNET)
    yield from (f"mid_block.attentions.0.{leaf}" for leaf in _ATTENTION)
    for level in range(_MOST):
        for block, count, sampler in (("down", layers, "downsamplers"), ("up", layers + 1, "upsamplers")):
            for layer in range(count):
                yield from (f"{block}_blocks.{level}.resnets.{layer}.{leaf}" for leaf in _RESNET)
                yield from (f"{block}_blocks.{level}.attentions.{layer}.{leaf}" for leaf in _ATTENTION)
            yield f"{block}_blocks.{level}.{sampler}.0.conv"

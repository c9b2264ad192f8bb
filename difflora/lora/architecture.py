"""Which Stable Diffusion a LoRA is for, told from its modules, and what the formats of others call it."""

from __future__ import annotations

from dataclasses import dataclass

from difflora.lora.layout import LoraLayout


@dataclass(frozen=True)
class Architecture:
    """One architecture of base models.

    Attributes:
        modelspec: ``modelspec.architecture`` of its LoRAs, as sd-scripts writes it.
        ss_base_model_version: what sd-scripts calls it.
        ldm_names: whether sd-scripts and ComfyUI know its UNet's modules by the names of the original code.
        cross_attention_dim: width of the prompt in the public models; smaller models of this form have another.
        resolution: of the public models' pictures.
    """

    modelspec: str
    ss_base_model_version: str
    ldm_names: bool
    cross_attention_dim: int
    resolution: str


SDXL = Architecture("stable-diffusion-xl-v1-base/lora", "sdxl_base_v1-0", True, 2048, "1024x1024")
SD1 = Architecture("stable-diffusion-v1/lora", "sd_v1", False, 768, "512x512")


def cross_attention_dim(layout: LoraLayout) -> int | None:
    """Width of the prompt's embeddings, or None where the LoRA touches no module that reads them."""
    widths = {module.in_features for module in layout.modules if module.name.endswith(("attn2.to_k", "attn2.to_v"))}
    return widths.pop() if len(widths) == 1 else None


def find_architecture(layout: LoraLayout) -> Architecture | None:
    """The architecture that a LoRA's modules tell, or None where they do not.

    SDXL's UNet has attention on its last level, so in ``up_blocks.0``. Stable Diffusion 1.x has none there, but on its
    first level, in ``down_blocks.0``, where SDXL has none; the embedded world's base, otherwise of SDXL's form, has
    both.
    """
    names = [module.name for module in layout.modules]
    attention = {name.partition(".attentions.")[0] for name in names if ".attentions." in name}
    if "up_blocks.0" in attention:
        return SDXL
    if "down_blocks.0" in attention:
        return SD1
    width = cross_attention_dim(layout)
    return next((each for each in (SDXL, SD1) if each.cross_attention_dim == width), None)

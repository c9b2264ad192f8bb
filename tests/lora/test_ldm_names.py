from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

from difflora.errors import BadParameter
from difflora.lora import LoraLayout, LoraModule
from difflora.lora.architecture import SD1, SDXL, find_architecture
from difflora.lora.ldm_names import kohya_name, layers_per_block, ldm_name, module_name
from difflora.world.base import BaseSettings, build_unet

EVERYTHING = ["attention", "feed_forward", "projections", "convolutions", "time_emb_proj", "conv_in", "conv_out"]
EMBEDDINGS = [f"{name}.linear_{number}" for name in ("time_embedding", "add_embedding") for number in (1, 2)]


def test_names_of_sdxl_are_those_of_the_original_checkpoint(sdxl: UNet2DConditionModel) -> None:
    modules = [module.name for module in LoraLayout.from_unet(sdxl, EVERYTHING + EMBEDDINGS, 1).modules]
    marked = {
        f"model.diffusion_model.{ldm_name(name, 2)}.{leaf}": torch.tensor(place)
        for place, name in enumerate(modules)
        for leaf in ("weight", "bias")
    }
    assert len(marked) == 2 * len(modules)
    read = convert_ldm_unet_checkpoint(marked, sdxl.config)
    assert [int(read[f"{name}.weight"]) for name in modules] == list(range(len(modules)))


@pytest.mark.parametrize("layers", [None, 1, 2, 3])
def test_a_name_is_read_as_it_was_written(
    sdxl: UNet2DConditionModel, sd15: UNet2DConditionModel, layers: int | None
) -> None:
    for unet in (sdxl, sd15):
        modules = [
            name
            for name, module in unet.named_modules()
            if isinstance(module, (torch.nn.Linear, torch.nn.Conv2d))
            and (layers != 1 or ".1." not in name)
            and not any(f"{part}.2." in name for part in ("resnets", "attentions"))
        ]
        names = [kohya_name(name, layers) for name in modules]
        assert len(set(names)) == len(modules)
        assert [module_name(name, layers) for name in names] == modules


def test_examples_of_public_files() -> None:
    block, flat = "transformer_blocks.7", "transformer_blocks_7"
    for module, name in [
        ("down_blocks.1.attentions.0.proj_in", "input_blocks_4_1_proj_in"),
        (f"down_blocks.2.attentions.1.{block}.ff.net.0.proj", f"input_blocks_8_1_{flat}_ff_net_0_proj"),
        (f"mid_block.attentions.0.{block}.attn1.to_out.0", f"middle_block_1_{flat}_attn1_to_out_0"),
        (f"up_blocks.1.attentions.2.{block}.attn2.to_k", f"output_blocks_5_1_{flat}_attn2_to_k"),
        ("down_blocks.0.downsamplers.0.conv", "input_blocks_3_0_op"),
        ("up_blocks.0.upsamplers.0.conv", "output_blocks_2_2_conv"),
        ("up_blocks.2.resnets.0.conv_shortcut", "output_blocks_6_0_skip_connection"),
    ]:
        assert kohya_name(module, 2) == name
        assert kohya_name(module, None) == module.replace(".", "_")
    assert module_name("input_blocks_4_1_proj_middle", 2) is None
    with pytest.raises(BadParameter, match="motion: kohya's format has no name"):
        kohya_name("down_blocks.0.motion", 2)


def test_layers_and_architecture_are_told_by_the_modules(
    sdxl: UNet2DConditionModel, sd15: UNet2DConditionModel, untouched: UNet2DConditionModel
) -> None:
    # Of SDXL's form, with attention on its first level too.
    embedded = build_unet(BaseSettings(channels=(16, 32), head_dim=16), 4, (16, 32))
    for unet, architecture in ((sdxl, SDXL), (sd15, SD1), (untouched, SDXL), (embedded, SDXL)):
        assert find_architecture(LoraLayout.from_unet(unet, ["attention"], 1)) is architecture
    assert find_architecture(LoraLayout.from_unet(sdxl, ["mid_block.attentions.0.transformer_blocks.0.attn2.to_k"], 1))
    assert find_architecture(LoraLayout.from_unet(sdxl, ["convolutions"], 1)) is None
    assert layers_per_block(LoraLayout.from_unet(sdxl, ["attn2.to_k"], 1)) == 2
    assert layers_per_block(LoraLayout.from_unet(sdxl, ["conv1"], 1)) == 2
    assert layers_per_block(LoraLayout.from_unet(untouched, ["attention"], 1)) == 1
    with pytest.raises(BadParameter, match="do not tell how many layers"):
        layers_per_block(LoraLayout((LoraModule("up_blocks.0.attentions.0.proj_in", 2, 2),), 1))

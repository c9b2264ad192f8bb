from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file

from difflora.lora import BaseModelId, LoraLayout, LoraWeights
from difflora.world.base import BaseSettings, build_scheduler, build_unet
from difflora.world.text import TextSettings, build_text_encoders
from difflora.world.tokenizer import build_tokenizer

TINY = BaseSettings(channels=(16, 32), head_dim=16)
TINY_TEXT = TextSettings(width=(16, 32), layers=2, head_dim=16)

SDXL = {
    "sample_size": 128,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "block_out_channels": (320, 640, 1280),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
SD15 = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}

XL_SMALL = SDXL | {
    "sample_size": 16,
    "block_out_channels": (16, 32, 32),
    "transformer_layers_per_block": (1, 2, 3),
    "attention_head_dim": (1, 2, 2),
    "cross_attention_dim": 24,
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 64,
    "norm_num_groups": 8,
}
SD1_SMALL = SD15 | {
    "sample_size": 16,
    "block_out_channels": (16, 16, 32, 32),
    "cross_attention_dim": 24,
    "attention_head_dim": 2,
    "norm_num_groups": 8,
}


def meta_unet(**config: Any) -> UNet2DConditionModel:
    with torch.device("meta"):
        return UNet2DConditionModel(**config)


@pytest.fixture(scope="session")
def sdxl() -> UNet2DConditionModel:
    return meta_unet(**SDXL)


@pytest.fixture(scope="session")
def sd15() -> UNet2DConditionModel:
    return meta_unet(**SD15)


@pytest.fixture(scope="session")
def untouched() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return build_unet(TINY, 4, TINY_TEXT.width, first_attention=False).eval()


@pytest.fixture
def unet(untouched: UNet2DConditionModel) -> UNet2DConditionModel:
    """A tiny UNet of SDXL's form that a test may change."""
    return copy.deepcopy(untouched)


@pytest.fixture(scope="session")
def layout(untouched: UNet2DConditionModel) -> LoraLayout:
    """Linear and convolution targets, also a 1 x 1 one (conv_shortcut)."""
    return LoraLayout.from_unet(untouched, ["attention", "feed_forward", "convolutions"], 3)


@pytest.fixture
def flat(layout: LoraLayout) -> torch.Tensor:
    return torch.randn(layout.size, generator=torch.Generator().manual_seed(1)) * 0.1


@pytest.fixture
def pipeline(unet: UNet2DConditionModel) -> StableDiffusionXLPipeline:
    """A pipeline that can load LoRAs; it has no VAE, so it draws nothing."""
    tokenizer = build_tokenizer()
    first, second = build_text_encoders(TINY_TEXT, tokenizer)
    return StableDiffusionXLPipeline(
        vae=None,
        text_encoder=first,
        text_encoder_2=second,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=build_scheduler(),
        add_watermarker=False,
    )


@dataclass
class Small:
    """A small base model with SDXL's or Stable Diffusion 1.5's own block structure, and a LoRA of it."""

    pipeline: Any
    weights: LoraWeights
    inputs: dict[str, Any]

    @property
    def unet(self) -> UNet2DConditionModel:
        unet: UNet2DConditionModel = self.pipeline.unet
        return unet

    def picture(self) -> torch.Tensor:
        """What the pipeline draws in two steps, (1, 3, 32, 32)."""
        embeds = {"prompt_embeds": self.inputs["encoder_hidden_states"][:1]}
        if "added_cond_kwargs" in self.inputs:
            embeds["pooled_prompt_embeds"] = self.inputs["added_cond_kwargs"]["text_embeds"][:1]
        drawn: torch.Tensor = self.pipeline(
            **embeds,
            width=32,
            height=32,
            num_inference_steps=2,
            guidance_scale=1.0,
            generator=torch.Generator().manual_seed(0),
            output_type="pt",
        ).images
        return drawn


@pytest.fixture(scope="session")
def small_unets() -> dict[str, UNet2DConditionModel]:
    torch.manual_seed(4)
    return {"xl": UNet2DConditionModel(**XL_SMALL).eval(), "sd1": UNet2DConditionModel(**SD1_SMALL).eval()}


@pytest.fixture(params=["xl", "sd1"])
def small(request: pytest.FixtureRequest, small_unets: dict[str, UNet2DConditionModel]) -> Small:
    unet = copy.deepcopy(small_unets[request.param])
    parts: dict[str, Any] = dict.fromkeys(("text_encoder", "tokenizer", "image_encoder", "feature_extractor"))
    torch.manual_seed(6)
    parts["vae"] = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        norm_num_groups=4,
    )
    generator = torch.Generator().manual_seed(5)
    inputs: dict[str, Any] = {
        "sample": torch.randn(2, 4, 16, 16, generator=generator),
        "timestep": torch.tensor([10, 900]),
        "encoder_hidden_states": torch.randn(2, 7, 24, generator=generator),
    }
    pipeline: Any
    if request.param == "xl":
        parts |= dict.fromkeys(("text_encoder_2", "tokenizer_2"))
        pipeline = StableDiffusionXLPipeline(**parts, unet=unet, scheduler=build_scheduler(), add_watermarker=False)
        text = torch.randn(2, 16, generator=generator)
        inputs["added_cond_kwargs"] = {"text_embeds": text, "time_ids": torch.tensor([[64, 64, 0, 0, 64, 64]] * 2)}
    else:
        pipeline = StableDiffusionPipeline(
            **parts, unet=unet, scheduler=DDIMScheduler(steps_offset=1, clip_sample=False), safety_checker=None
        )
    layout = LoraLayout.from_unet(
        unet,
        ["attention", "feed_forward", "projections", "convolutions", "time_emb_proj", "time_embedding.linear_1"],
        3,
    )
    flat = torch.randn(layout.size, generator=generator) * 0.1
    weights = LoraWeights(
        layout,
        flat,
        BaseModelId.of("small", unet),
        alpha=7.5,
        scale=0.8,
        trigger_prompt="a photo of sks person",
        provenance={"seed": "17"},
    )
    return Small(pipeline, weights, inputs)


@pytest.fixture
def inputs() -> dict[str, Any]:
    """What the tiny UNet takes for a batch of two."""
    generator = torch.Generator().manual_seed(2)
    return {
        "sample": torch.randn(2, 4, 8, 8, generator=generator),
        "timestep": torch.tensor([10, 900]),
        "encoder_hidden_states": torch.randn(2, 7, sum(TINY_TEXT.width), generator=generator),
        "added_cond_kwargs": {
            "text_embeds": torch.randn(2, TINY_TEXT.width[1], generator=generator),
            "time_ids": torch.tensor([[64, 64, 0, 0, 64, 64]] * 2),
        },
    }


@pytest.fixture
def weights(untouched: UNet2DConditionModel, layout: LoraLayout, flat: torch.Tensor) -> LoraWeights:
    return LoraWeights(
        layout,
        flat,
        BaseModelId.of("embedded/base", untouched),
        alpha=7.5,
        scale=0.8,
        trigger_prompt="a photo of sks person",
        provenance={"model": "difflora 3", "seed": "17"},
    )


@pytest.fixture
def saved(weights: LoraWeights, tmp_path: Path) -> Path:
    path = tmp_path / "person.safetensors"
    weights.save(path, torch.float32)
    return path


@pytest.fixture
def plain(saved: Path, tmp_path: Path) -> Path:
    """The same tensors as others write them, without metadata."""
    path = tmp_path / "plain.safetensors"
    save_file(load_file(saved), path)
    return path

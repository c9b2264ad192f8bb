"""Small models in exactly the public formats: SDXL as folder and single file, Stable Diffusion 1.5, PhotoMaker v1.

Their block structure, classes, file names and keys are those of the public models; widths are small and weights random.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from difflora.lora.ldm_names import ldm_name
from difflora.world.tokenizer import build_tokenizer

WIDTHS = (16, 24)
"""Of the text encoders: 768 and 1280 in the public models."""
_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def sdxl_pipeline() -> Any:
    """Three levels of two layers, no attention on the first, both text encoders."""
    torch.manual_seed(1)
    tokenizer = build_tokenizer()
    unet = UNet2DConditionModel(
        sample_size=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(16, 32, 32),
        transformer_layers_per_block=(1, 2, 3),
        attention_head_dim=(1, 2, 2),
        cross_attention_dim=sum(WIDTHS),
        use_linear_projection=True,
        norm_num_groups=8,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=WIDTHS[1] + 6 * 8,
    )
    return StableDiffusionXLPipeline(
        vae=_vae(0.13025),
        text_encoder=CLIPTextModel(_text_config(tokenizer, WIDTHS[0], "quick_gelu")).eval(),
        text_encoder_2=CLIPTextModelWithProjection(_text_config(tokenizer, WIDTHS[1], "gelu")).eval(),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet.eval(),
        scheduler=EulerDiscreteScheduler(**_BETAS, timestep_spacing="leading"),
        add_watermarker=False,
    )


def sd15_pipeline() -> Any:
    """Four levels of two layers, no attention on the last, projections by convolution, one text encoder."""
    torch.manual_seed(2)
    tokenizer = build_tokenizer()
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 16, 32, 32),
        cross_attention_dim=WIDTHS[0],
        attention_head_dim=2,
        norm_num_groups=8,
    )
    return StableDiffusionPipeline(
        vae=_vae(0.18215),
        text_encoder=CLIPTextModel(_text_config(tokenizer, WIDTHS[0], "quick_gelu")).eval(),
        tokenizer=tokenizer,
        unet=unet.eval(),
        scheduler=PNDMScheduler(**_BETAS, skip_prk_steps=True),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def save_single_file(pipeline: Any, path: Path) -> None:
    """An SDXL pipeline as one file with the original code's keys, as checkpoints are published."""
    tensors = {f"model.diffusion_model.{key}": value for key, value in _unet(pipeline.unet)}
    tensors |= {f"first_stage_model.{key}": value for key, value in _autoencoder(pipeline.vae)}
    first, second = pipeline.text_encoder.state_dict(), pipeline.text_encoder_2.state_dict()
    tensors |= {f"conditioner.embedders.0.transformer.{_text_model(key)}": value for key, value in first.items()}
    open_clip = _open_clip({_text_model(key): value for key, value in second.items()})
    tensors |= {f"conditioner.embedders.1.model.{key}": value for key, value in open_clip}
    save_file({key: value.clone().contiguous() for key, value in tensors.items()}, path)


def photomaker_v1(unet: Any) -> dict[str, dict[str, Tensor]]:
    """What ``torch.save`` wrote into ``photomaker-v1.bin``: half precision, for a UNet under ``WIDTHS``."""
    generator = torch.Generator().manual_seed(3)
    tower = CLIPVisionConfig(
        hidden_size=64,  # the public tower's heads are 64 wide
        intermediate_size=96,
        num_attention_heads=1,
        num_hidden_layers=2,
        patch_size=14,
        image_size=28,
        projection_dim=WIDTHS[0],
    )
    width = sum(WIDTHS)
    shapes = {key: tuple(value.shape) for key, value in CLIPVisionModelWithProjection(tower).state_dict().items()}
    shapes["visual_projection_2.weight"] = (WIDTHS[1], 64)
    shapes |= {"fuse_module.layer_norm.weight": (width,), "fuse_module.layer_norm.bias": (width,)}
    for mlp, wide in (("mlp1", 2 * width), ("mlp2", width)):
        start = f"fuse_module.{mlp}"
        shapes |= {f"{start}.layernorm.weight": (wide,), f"{start}.layernorm.bias": (wide,)}
        shapes |= {f"{start}.fc1.weight": (width, wide), f"{start}.fc1.bias": (width,)}
        shapes |= {f"{start}.fc2.weight": (width, width), f"{start}.fc2.bias": (width,)}
    encoder = {
        key: 0.1 * torch.randn(shape, generator=generator) + ("norm" in key and key.endswith("weight"))
        for key, shape in shapes.items()
    }
    lora = {}
    for name, module in unet.named_modules():
        found = re.fullmatch(r"(.+\.attn[12])\.(to_q|to_k|to_v|to_out)(\.0)?", name)
        if found and isinstance(module, torch.nn.Linear):
            start = f"unet.{found[1]}.processor.{found[2]}_lora"
            lora[f"{start}.down.weight"] = 0.3 * torch.randn(4, module.in_features, generator=generator)
            lora[f"{start}.up.weight"] = 0.3 * torch.randn(module.out_features, 4, generator=generator)
    return {
        "id_encoder": {key: value.half() for key, value in encoder.items()},
        "lora_weights": {key: value.half() for key, value in lora.items()},
    }


def _vae(scaling_factor: float) -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=2,
        norm_num_groups=4,
        sample_size=128,
        scaling_factor=scaling_factor,
    ).eval()


def _text_config(tokenizer: Any, width: int, activation: str) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=tokenizer.model_max_length,
        hidden_act=activation,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _unet(unet: Any) -> Iterator[tuple[str, Tensor]]:
    layers = unet.config.layers_per_block
    for key, value in unet.state_dict().items():
        name, _, leaf = key.rpartition(".")
        if found := re.match(r"(.*\.resnets\.\d+)\.(\w+)$", name):
            name = ldm_name(f"{found[1]}.conv1", layers).removesuffix("in_layers.2") + _RESNET[found[2]]
        elif found := re.match(r"(.*\.attentions\.\d+)\.(.+)$", name):
            name = ldm_name(f"{found[1]}.proj_in", layers).removesuffix("proj_in") + found[2]
        else:
            name = "out.0" if name == "conv_norm_out" else ldm_name(name, layers)
        yield f"{name}.{leaf}", value


def _autoencoder(vae: Any) -> Iterator[tuple[str, Tensor]]:
    last = len(vae.config.block_out_channels) - 1
    for key, value in vae.state_dict().items():
        name = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", key)
        name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{last - int(m[1])}.block.{m[2]}", name)
        name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{last - int(m[1])}.upsample", name)
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        if "mid_block.attentions" in name:
            name = re.sub(r"mid_block\.attentions\.0\.to_([qkv])", r"mid.attn_1.\1", name)
            name = name.replace("mid_block.attentions.0.group_norm", "mid.attn_1.norm")
            name = name.replace("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out")
            value = value[..., None, None] if value.ndim == 2 else value
        yield name, value


def _text_model(key: str) -> str:
    """The key as the checkpoints have it; newer transformers leave ``text_model`` out of some models."""
    return key if key.startswith(("text_model.", "text_projection.")) else f"text_model.{key}"


def _open_clip(state: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for key, value in state.items():
        name = key.removeprefix("text_model.")
        if name.startswith("text_projection"):
            yield "text_projection", value.T
        elif name.startswith("embeddings.position_embedding"):
            yield "positional_embedding", value
        elif name.startswith("embeddings.token_embedding"):
            yield "token_embedding.weight", value
        elif ".self_attn.q_proj." in name:
            parts = [state[key.replace("q_proj", each)] for each in ("q_proj", "k_proj", "v_proj")]
            block, leaf = name.split(".")[2], name.rpartition(".")[2]
            yield f"transformer.resblocks.{block}.attn.in_proj_{leaf}", torch.cat(parts)
        elif not re.search(r"\.[kv]_proj\.", name):
            name = name.replace("encoder.layers", "transformer.resblocks").replace("final_layer_norm", "ln_final")
            name = name.replace("layer_norm", "ln_").replace("fc1", "c_fc").replace("fc2", "c_proj")
            yield name.replace("self_attn", "attn"), value

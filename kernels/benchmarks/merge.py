"""LoRA merge: all 560 attention matrices of an SDXL UNet, against peft, diffusers and a loop of addmm."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig, get_peft_model
from timing import Call, Result, copy_rate, measure, result
from torch import nn

from difflora_kernels import FlatLayout, LoraMerge

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
TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


def sdxl_unet(dtype: torch.dtype, device: torch.device) -> UNet2DConditionModel:
    """SDXL's UNet from its configuration; what a LoRA changes is random, the rest is whatever memory held."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**SDXL)
    for parameter in unet.parameters():
        parameter.data = parameter.data.to(dtype)
    unet = unet.to_empty(device=device).requires_grad_(False)
    for module in targets(unet).values():
        module.weight.data.normal_(0, 0.02)
    return unet


def targets(unet: nn.Module) -> dict[str, nn.Linear]:
    """The matrices that a LoRA changes, by name."""
    found = {name: module for name, module in unet.named_modules() if name.endswith(TARGETS)}
    return {name: module for name, module in found.items() if isinstance(module, nn.Linear)}


def run(device: torch.device, ranks: Sequence[int], dtypes: Sequence[torch.dtype], seconds: float) -> Iterator[Result]:
    """A row for each method and case."""
    for dtype in dtypes:
        unet = sdxl_unet(dtype, device)
        size = 2 * sum(module.weight.numel() for module in targets(unet).values()) * dtype.itemsize
        copy = copy_rate(size, device, seconds)  # W is read and W' written
        for rank in ranks:
            case = f"{len(targets(unet))} matrices, rank {rank}, {str(dtype).removeprefix('torch.')}"
            for name, method in METHODS.items():
                with method(unet, rank) as (call, undo):
                    yield result("merge", case, name, measure([call], device, seconds, undo), size, copy, device)


@contextmanager
def fused(unet: nn.Module, rank: int) -> Iterator[tuple[Call, Call]]:
    """Out of place from a float32 flat vector, with the look for numbers that are not finite."""
    weights = [module.weight.detach() for module in targets(unet).values()]
    layout = FlatLayout(tuple((weight.shape[0], weight.shape[1]) for weight in weights), rank)
    flat = 0.01 * torch.randn(layout.size, device=weights[0].device)
    merge = LoraMerge([weight.clone() for weight in weights], weights, layout)

    def call() -> None:
        if bool(merge(flat).any()):
            raise FloatingPointError("the merge of finite numbers is not finite")

    yield call, _nothing


@contextmanager
def loop_of_addmm(unet: nn.Module, rank: int) -> Iterator[tuple[Call, Call]]:
    """In place, from B and A as tensors of their own, in the weights' dtype."""
    weights = [module.weight.detach() for module in targets(unet).values()]
    lora_b = [0.01 * torch.randn(len(weight), rank).to(weight) for weight in weights]
    lora_a = [0.01 * torch.randn(rank, weight.shape[1]).to(weight) for weight in weights]

    def add(sign: float) -> None:
        for weight, left, right in zip(weights, lora_b, lora_a, strict=True):
            weight.addmm_(left, right, alpha=sign)

    yield lambda: add(1.0), lambda: add(-1.0)


@contextmanager
def peft_merge(unet: nn.Module, rank: int) -> Iterator[tuple[Call, Call]]:
    """``merge_adapter`` of peft."""
    model = get_peft_model(unet, _config(unet, rank))
    yield model.merge_adapter, model.unmerge_adapter
    model.unload()


@contextmanager
def diffusers_fuse(unet: Any, rank: int) -> Iterator[tuple[Call, Call]]:
    """``fuse_lora`` of diffusers."""
    unet.add_adapter(_config(unet, rank))
    yield unet.fuse_lora, unet.unfuse_lora
    unet.unload_lora()


Method = Callable[[Any, int], AbstractContextManager[tuple[Call, Call]]]
METHODS: dict[str, Method] = {
    "fused": fused,
    "loop of addmm_": loop_of_addmm,
    "peft merge_adapter": peft_merge,
    "diffusers fuse_lora": diffusers_fuse,
}
"""Name of a method -> what is timed, and what is done before it."""


def _config(unet: nn.Module, rank: int) -> LoraConfig:
    return LoraConfig(r=rank, lora_alpha=rank, target_modules=list(targets(unet)), init_lora_weights=False)


def _nothing() -> None:
    return None

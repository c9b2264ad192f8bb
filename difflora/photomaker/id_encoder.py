"""PhotoMaker's id encoder: reference pictures to vectors, and vectors into prompt embeddings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from difflora.errors import BadFile, BadParameter
from difflora.photomaker.fuse import FuseModule

HEAD_WIDTH = 64
"""Width of an attention head in CLIP's public towers; shapes alone do not tell it."""


class IdEncoder(CLIPVisionModelWithProjection):  # its keys are then those of the public file
    """CLIP's vision tower under two projections, whose concatenation is as wide as SDXL's prompt embeddings.

    Args:
        config: of the vision tower; ``projection_dim`` is W1, the width of the first text encoder.
        second_width: W2, that of the second.
    """

    def __init__(self, config: CLIPVisionConfig, second_width: int) -> None:
        super().__init__(config)
        self.visual_projection_2 = torch.nn.Linear(config.hidden_size, second_width, bias=False)
        self.fuse_module = FuseModule(config.projection_dim + second_width)

    @property
    def width(self) -> int:
        """W = W1 + W2, of prompt embeddings."""
        return int(self.config.projection_dim + self.visual_projection_2.out_features)

    def preprocess(self, pictures: Sequence[Image.Image]) -> Tensor:
        """CLIP's own preprocessing (bicubic, middle square) at the tower's size: (N, 3, S, S) float32."""
        side = self.config.image_size
        processor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
        pixels: Tensor = processor(images=list(pictures), return_tensors="pt")["pixel_values"]
        return pixels

    def embed(self, pixel_values: Tensor) -> Tensor:
        """Reference pictures (N, 3, S, S), normalised, to vectors (N, W)."""
        pooled = self.vision_model(pixel_values=pixel_values).pooler_output  # (N, hidden)
        return torch.cat([self.visual_projection(pooled), self.visual_projection_2(pooled)], dim=-1)  # (N, W)

    def put(self, prompt_embeds: Tensor, pictures: Tensor, places: Tensor) -> Tensor:
        """Puts reference pictures in the class word's place, one a token: stacked, not averaged.

        Args:
            prompt_embeds: (B, L, W) of prompts that say the class word R times over.
            pictures: (B, R, W) of R reference pictures each.
            places: (B,) int64, where the class word stands first.

        Returns:
            (B, L, W), in the prompt embeddings' dtype.
        """
        slots = places[:, None] + torch.arange(pictures.shape[1], device=places.device)  # (B, R)
        index = slots[..., None].expand(-1, -1, prompt_embeds.shape[-1])  # (B, R, W)
        words = prompt_embeds.gather(1, index)  # (B, R, W)
        fused = self.fuse_module(words.to(pictures.dtype), pictures)  # (B, R, W)
        return prompt_embeds.scatter(1, index, fused.to(prompt_embeds.dtype))


def build_encoder(tensors: Mapping[str, Tensor], heads: int | None, where: str) -> IdEncoder:
    """The id encoder of a file's tensors, its sizes told by their shapes.

    Args:
        tensors: key -> tensor, all of the encoder's.
        heads: attention heads of the vision tower; None for the public towers' width of 64 each.
        where: the file, for errors.

    Returns:
        The encoder in float32, frozen, in evaluation mode.

    Raises:
        BadFile: naming the first key that is missing, unknown, of another shape or not floating.
    """
    config, second_width = read_sizes(tensors, heads, where)
    with torch.device("meta"):
        expected = {key: tuple(value.shape) for key, value in IdEncoder(config, second_width).state_dict().items()}
    for key in tensors:
        if key not in expected:
            raise BadFile(f"{where}: id_encoder.{key} is not of PhotoMaker v1; give photomaker-v1, not another version")
    for key, shape in expected.items():
        found = _get(tensors, key, where)
        if tuple(found.shape) != shape or not found.is_floating_point():
            raise BadFile(
                f"{where}: id_encoder.{key} is {found.dtype} {tuple(found.shape)} where floating {shape} is needed"
            )
    encoder = IdEncoder(config, second_width)
    encoder.load_state_dict({key: value.float() for key, value in tensors.items()})
    frozen: IdEncoder = encoder.requires_grad_(False).train(False)
    return frozen


def read_sizes(tensors: Mapping[str, Tensor], heads: int | None, where: str) -> tuple[CLIPVisionConfig, int]:
    """The vision tower's configuration and W2, from shapes (also of the meta device).

    Raises:
        BadFile: if a tensor is missing, or the shapes are no vision transformer's.
    """
    patches = _get(tensors, "vision_model.embeddings.patch_embedding.weight", where)  # (hidden, 3, patch, patch)
    places = _get(tensors, "vision_model.embeddings.position_embedding.weight", where)  # (side * side + 1, hidden)
    widened = _get(tensors, "vision_model.encoder.layers.0.mlp.fc1.weight", where)  # (intermediate, hidden)
    first = _get(tensors, "visual_projection.weight", where)  # (W1, hidden)
    second = _get(tensors, "visual_projection_2.weight", where)  # (W2, hidden)
    matrices = (places, widened, first, second)
    if (
        patches.ndim != 4
        or any(one.ndim != 2 for one in matrices)
        or not all(one.numel() for one in (patches, *matrices))
    ):
        raise BadFile(f"{where}: the id encoder's tensors have no shapes of a vision transformer; download it again")
    hidden, side = int(patches.shape[0]), math.isqrt(max(0, places.shape[0] - 1))
    heads = heads or max(1, hidden // HEAD_WIDTH)
    if side * side + 1 != places.shape[0] or not side or hidden % heads:
        raise BadFile(f"{where}: {places.shape[0]} places of {hidden} numbers under {heads} heads are no vision tower")
    blocks = {key.split(".")[3] for key in tensors if key.startswith("vision_model.encoder.layers.")}
    sizes: dict[str, Any] = {
        "hidden_size": hidden,
        "intermediate_size": int(widened.shape[0]),
        "num_attention_heads": heads,
        "num_hidden_layers": len(blocks),
        "patch_size": int(patches.shape[-1]),
        "image_size": side * int(patches.shape[-1]),
        "projection_dim": int(first.shape[0]),
    }
    return CLIPVisionConfig(**sizes), int(second.shape[0])


def _get(tensors: Mapping[str, Tensor], key: str, where: str) -> Tensor:
    if key not in tensors:
        raise BadFile(f"{where}: id_encoder.{key} is missing; give a whole PhotoMaker v1 file")
    return tensors[key]


def check_width(encoder: IdEncoder, unet: Any, where: str) -> None:
    """Looks whether an id encoder is made for a base model.

    Raises:
        BadParameter: if its vectors are not as wide as the UNet's prompt embeddings.
    """
    needed = unet.config.cross_attention_dim
    if encoder.width != needed:
        raise BadParameter(
            f"{where}: made for prompt embeddings of {encoder.width} numbers, the base model's have {needed}; "
            "give the PhotoMaker of this base model"
        )

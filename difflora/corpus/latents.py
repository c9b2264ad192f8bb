"""What a person's LoRA learns from, computed once: latents of the pictures, embeddings of the prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from difflora.corpus.base import FrozenBase
from difflora.corpus.framing import frame, whole_time_ids
from difflora.corpus.people import Person
from difflora.corpus.settings import DreamBoothSettings
from difflora.cover import box_cover, feature_cover
from difflora.errors import BadParameter

_BATCH, _PIXELS = 64, 2**22
"""The most pictures or prompts, and pixels, at a time."""


@dataclass(frozen=True)
class Encoded:
    """M pictures of a person as the UNet takes them.

    Attributes:
        identity: the person's id.
        latents: (M, C, h, w) float32, scaled as the UNet wants them.
        prompt_embeds: (M, L, W), in the UNet's type.
        pooled_embeds: (M, W2), in the UNet's type, or None where the UNet takes none (SD 1.x).
        size: height and width of the pictures in pixels.
        covered: (M, h, w) float32, how much of each latent's place the face's box covers, 0 to 1.
        featured: (M, h, w) float32, how near it is to eyes, nose and mouth, 0 to 1; None where nobody looked.
        time_ids: (M, 6) float32, how SDXL is told of sizes and crops; None for whole pictures.
        prior: pictures of the person's class, for prior preservation; people may share them.
    """

    identity: str
    latents: Tensor
    prompt_embeds: Tensor
    pooled_embeds: Tensor | None
    size: tuple[int, int]
    covered: Tensor
    time_ids: Tensor | None = None
    prior: Encoded | None = None
    featured: Tensor | None = None

    @property
    def told(self) -> Tensor:
        """Original size, top and left of the crop, target size of each picture, (M, 6) float32."""
        return whole_time_ids(len(self), self.size) if self.time_ids is None else self.time_ids

    def __len__(self) -> int:
        return len(self.latents)


@torch.no_grad()
def encode_person(
    base: FrozenBase,
    identity: str,
    images: Tensor,
    captions: Sequence[str],
    boxes: Tensor,
    settings: DreamBoothSettings | None = None,
    landmarks: Tensor | None = None,
) -> Encoded:
    """Encodes a person's pictures and their captions.

    Args:
        base: the frozen base model.
        identity: the person's id.
        images: (M, 3, H, W) uint8, RGB.
        captions: M prompts.
        boxes: (M, 4) the faces, x1, y1, x2, y2 in pixels; zeros for no face.
        settings: how pictures are resized and cropped; None for as they are.
        landmarks: (M, 5, 2) eyes, nose and corners of the mouth in pixels; None where nobody looked for them.

    Returns:
        Latents (the mode of the VAE's posterior) and prompt embeddings, on the base's device.

    Raises:
        BadParameter: if there is no picture, the numbers differ or the pictures are no uint8 RGB.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise BadParameter(f"{identity}: pictures are {images.dtype} {tuple(images.shape)}; give (M, 3, H, W) uint8")
    if len(images) == 0 or not len(images) == len(captions) == len(boxes):
        counts = f"{len(images)} pictures, {len(captions)} captions and {len(boxes)} boxes"
        raise BadParameter(f"{identity}: {counts}; give one of each to each")
    prompt, pooled = embed_captions(base, list(captions))
    points = torch.zeros(len(images), 5, 2) if landmarks is None else landmarks
    # (M, 3, H', W'), (M, 4), (M, 5, 2), (M, 6)
    framed, faces, points, told = frame(images, boxes, points, settings or DreamBoothSettings())
    latents, size = encode_images(base, framed), (framed.shape[2], framed.shape[3])
    places = latents.shape[2], latents.shape[3]
    covered = box_cover(faces, size, places).to(latents.device)
    featured = None if landmarks is None else feature_cover(points, faces, size, places).to(latents.device)
    return Encoded(identity, latents, prompt, pooled, size, covered, told.to(base.device), featured=featured)


def encode_first(
    base: FrozenBase, person: Person, most: int | None, settings: DreamBoothSettings | None = None
) -> Encoded:
    """Encodes the first ``most`` pictures that a person's LoRA learns from, all for None; see ``encode_person``."""
    images, captions, boxes = person.images[:most], person.captions[:most], person.boxes[:most]
    landmarks = None if person.landmarks is None else person.landmarks[:most]
    return encode_person(base, person.identity, images, captions, boxes, settings, landmarks)


@torch.no_grad()
def encode_images(base: FrozenBase, images: Tensor) -> Tensor:
    """Pictures (N, 3, H, W) uint8 to scaled latents (N, C, h, w) float32."""
    vae = base.pipeline.vae
    parts = []
    for part in images.split(max(1, min(_BATCH, _PIXELS // (images.shape[2] * images.shape[3])))):
        pixels = part.to(base.device).float() / 127.5 - 1  # (B, 3, H, W) in [-1, 1]
        parts.append(_scaled(vae, vae.encode(pixels).latent_dist.mode()))  # (B, C, h, w)
    return torch.cat(parts)


def decode_latents(base: FrozenBase, latents: Tensor) -> Tensor:
    """Scaled latents (N, C, h, w) float32 to pictures (N, 3, H, W) about [0, 1], with a gradient where one is asked."""
    vae = base.pipeline.vae
    shift, factor = _scaling(vae, latents)
    decoded: Tensor = vae.decode(latents / factor + shift, return_dict=False)[0]
    return decoded / 2 + 0.5


def _scaled(vae: Any, latents: Tensor) -> Tensor:
    shift, factor = _scaling(vae, latents)
    return (latents - shift) * factor


def _scaling(vae: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    """What diffusers' pipelines take off latents, and multiply them by; both broadcast over (N, C, h, w).

    Mean and deviation, where a VAE has them (Playground's), and its factor.
    """
    mean, deviation, factor = (vae.config.get(key) for key in ("latents_mean", "latents_std", "scaling_factor"))
    if mean is not None and deviation is not None:
        shift, spread = (torch.tensor(value).to(like).view(1, -1, 1, 1) for value in (mean, deviation))
        return shift, float(factor) / spread
    return like.new_tensor(float(vae.config.get("shift_factor") or 0.0)), like.new_tensor(float(factor))


@torch.no_grad()
def embed_captions(base: FrozenBase, captions: list[str]) -> tuple[Tensor, Tensor | None]:
    """Embeddings (M, L, W) and, for SDXL, pooled ones (M, W2), in the UNet's type, by the pipeline's own code.

    Each different caption is encoded once.
    """
    unique = list(dict.fromkeys(captions))
    rows = torch.tensor([unique.index(caption) for caption in captions], device=base.device)
    dtype = next(base.unet.parameters()).dtype
    prompts, pools = [], []
    for start in range(0, len(unique), _BATCH):
        output = base.pipeline.encode_prompt(
            unique[start : start + _BATCH],
            device=base.device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=False,
        )
        prompts.append(output[0])  # (B, L, W)
        if base.is_xl:
            pools.append(output[2])  # (B, W2)
    pooled = torch.cat(pools).to(dtype)[rows] if pools else None
    return torch.cat(prompts).to(dtype)[rows], pooled

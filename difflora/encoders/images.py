"""Picture encoders of ``transformers``: CLIP and DINO folders, the world's small ones or the real ones alike."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import (
    AutoImageProcessor,
    CLIPModel,
    CLIPVisionModelWithProjection,
    Dinov2Model,
    Dinov2WithRegistersModel,
    ViTModel,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from difflora.encoders.digest import sha256_files
from difflora.errors import BadFile, BadImage
from difflora.folders import check_model_folder
from difflora.quiet import without_bars

Picture = Image.Image | np.ndarray[Any, np.dtype[np.uint8]] | Tensor
"""A PIL image, or (H, W, 3) uint8."""


def as_pictures(images: Sequence[Picture]) -> list[Image.Image]:
    """RGB PIL images.

    Raises:
        BadImage: if one is neither a PIL image nor (H, W, 3) uint8; its place in the sequence is named.
    """
    pictures = []
    for i, image in enumerate(images):
        if isinstance(image, Image.Image):
            pictures.append(image.convert("RGB"))
            continue
        array = image.cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
            raise BadImage(f"image {i}: {array.dtype} of shape {array.shape}; give (H, W, 3) uint8 or a PIL image")
        pictures.append(Image.fromarray(array))
    return pictures


def as_arrays(images: Tensor) -> list[Tensor]:
    """A batch as single pictures, as the encoders take them.

    Args:
        images: (N, 3, H, W), uint8 or float in [0, 1], RGB.

    Returns:
        N tensors (H, W, 3) uint8.
    """
    if images.dtype != torch.uint8:
        images = images.clamp(0, 1).mul(255).round().byte()
    return list(images.permute(0, 2, 3, 1).cpu())


class _FolderEncoder:
    """A vision model from a local folder behind its own image processor."""

    def __init__(self, folder: str | Path, device: str | torch.device, batch_size: int) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}: give at least 1")
        self.folder, self.device, self.batch_size = Path(folder), torch.device(device), batch_size
        config = check_model_folder(self.folder)
        try:
            self.model = self._load(config)
            self.processor = self._processor(config)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise BadFile(f"{self.folder}: cannot be loaded ({error}); restore it or give another folder") from error
        self.model.to(device=self.device, dtype=torch.float32).train(False).requires_grad_(False)

    def _load(self, config: dict[str, Any]) -> Any:
        raise NotImplementedError

    def _features(self, pixel_values: Tensor) -> Tensor:
        raise NotImplementedError

    def _processor(self, config: dict[str, Any]) -> Any:
        return AutoImageProcessor.from_pretrained(self.folder, local_files_only=True)

    def _from_pretrained(self, kind: Any, **options: Any) -> Any:
        """The model of class ``kind``; weights that the folder lacks are an error, never left at random."""
        with without_bars():
            model, loading = kind.from_pretrained(
                self.folder, local_files_only=True, use_safetensors=True, output_loading_info=True, **options
            )
        missing = sorted(loading["missing_keys"]) + [str(entry) for entry in loading["mismatched_keys"]]
        if missing:
            raise BadFile(f"{self.folder}: weights are missing or of another shape: {', '.join(missing[:3])}")
        return model

    @torch.no_grad()
    def __call__(self, images: Sequence[Picture]) -> Tensor:
        """Encodes pictures of any sizes.

        Args:
            images: N PIL images or (H, W, 3) uint8 arrays or tensors.

        Returns:
            (N, D) float32 features of unit length, on the CPU.

        Raises:
            BadImage: if one is no picture.
        """
        pictures = as_pictures(images)
        if not pictures:
            return torch.empty(0, self.dimension)
        parts = []
        for start in range(0, len(pictures), self.batch_size):
            inputs = self.processor(images=pictures[start : start + self.batch_size], return_tensors="pt")
            features = self._features(inputs["pixel_values"].to(self.device, torch.float32))  # (B, D)
            parts.append(F.normalize(features.float(), dim=-1).cpu())
        return torch.cat(parts)

    @property
    def files(self) -> tuple[Path, ...]:
        """Its configuration, processor and weights, sorted by name."""
        names = ("config.json", "preprocessor_config.json", "processor_config.json", "model.safetensors.index.json")
        found = [path for path in (self.folder / name for name in names) if path.is_file()]
        return tuple(sorted([*found, *self.folder.glob("model*.safetensors")]))

    @cached_property
    def digest(self) -> str:
        """The sha256 of its files: what tells an encoder from another, wherever it lies."""
        return sha256_files(self.files)

    @property
    def dimension(self) -> int:
        """D, the length of a feature."""
        raise NotImplementedError


class CLIPImageEncoder(_FolderEncoder):
    """CLIP's projected image embedding.

    Takes folders of a whole ``CLIPModel`` (openai/clip-vit-large-patch14) and of a ``CLIPVisionModelWithProjection``
    alone (IP-Adapter's image encoder), which may lack a processor: CLIP's own at the model's size is used then.

    Args:
        folder: local folder; only safetensors are read.
        device: where the model computes.
        batch_size: pictures at a time.

    Raises:
        BadFile: if the folder is missing, cut short or holds no CLIP.
    """

    def __init__(self, folder: str | Path, device: str | torch.device = "cpu", batch_size: int = 64) -> None:
        super().__init__(folder, device, batch_size)

    def _load(self, config: dict[str, Any]) -> Any:
        if config.get("model_type") == "clip_vision_model":
            return self._from_pretrained(CLIPVisionModelWithProjection)
        if config.get("model_type") == "clip":
            # Whole, then without its text tower: the projection's width stands in the whole model's configuration.
            model = self._from_pretrained(CLIPModel)
            del model.text_model, model.text_projection
            return model
        raise BadFile(f"{self.folder}/config.json: model_type is {config.get('model_type')!r}, not CLIP's")

    def _processor(self, config: dict[str, Any]) -> Any:
        if any((self.folder / name).exists() for name in ("preprocessor_config.json", "processor_config.json")):
            return super()._processor(config)
        side = self.model.vision_model.config.image_size
        return CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})

    def _features(self, pixel_values: Tensor) -> Tensor:
        pooled = self.model.vision_model(pixel_values=pixel_values).pooler_output  # (B, width)
        features: Tensor = self.model.visual_projection(pooled)  # (B, D)
        return features

    @property
    def dimension(self) -> int:
        """D, the length of a feature."""
        return int(self.model.visual_projection.out_features)


class DinoEncoder(_FolderEncoder):
    """The class token of a DINO (``ViTModel``) or DINOv2 folder, such as facebook/dino-vits16 or facebook/dinov2-base.

    Args:
        folder: local folder; only safetensors are read.
        device: where the model computes.
        batch_size: pictures at a time.

    Raises:
        BadFile: if the folder is missing, cut short or holds another kind of model.
    """

    def __init__(self, folder: str | Path, device: str | torch.device = "cpu", batch_size: int = 64) -> None:
        super().__init__(folder, device, batch_size)

    def _load(self, config: dict[str, Any]) -> Any:
        kind = config.get("model_type")
        if kind == "vit":
            return self._from_pretrained(ViTModel, add_pooling_layer=False)
        if kind == "dinov2":
            return self._from_pretrained(Dinov2Model)
        if kind == "dinov2_with_registers":
            return self._from_pretrained(Dinov2WithRegistersModel)
        raise BadFile(f"{self.folder}/config.json: model_type is {kind!r}; give a vit or dinov2 folder")

    def _features(self, pixel_values: Tensor) -> Tensor:
        tokens: Tensor = self.model(pixel_values=pixel_values).last_hidden_state  # (B, 1 + T, D)
        return tokens[:, 0]

    @property
    def dimension(self) -> int:
        """D, the length of a feature."""
        return int(self.model.config.hidden_size)

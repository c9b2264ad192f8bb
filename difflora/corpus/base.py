"""The frozen base model that LoRAs are trained on: any Stable Diffusion 1.x or XL folder of diffusers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import DDPMScheduler, DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from torch import nn

from difflora.errors import BadFile, BadParameter
from difflora.files import sha256_file
from difflora.folders import read_json
from difflora.lora import BaseModelId
from difflora.quiet import without_bars

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_PARTS = ("unet", "vae", "text_encoder", "text_encoder_2", "scheduler", "tokenizer", "tokenizer_2")


@dataclass(frozen=True)
class FrozenBase:
    """A base model that nothing trains.

    Attributes:
        pipeline: a StableDiffusionPipeline or StableDiffusionXLPipeline; VAE and text encoders in float32.
        scheduler: the noise levels and the kind of prediction that its UNet was trained with.
        name: what it is called, with its UNet's configuration.
        weights: sha256 of all its files, or any string that tells its weights from others'.
    """

    pipeline: Any
    scheduler: DDPMScheduler
    name: BaseModelId
    weights: str

    @property
    def unet(self) -> nn.Module:
        """The UNet, frozen."""
        unet: nn.Module = self.pipeline.unet
        return unet

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.unet.parameters()).device

    @property
    def is_xl(self) -> bool:
        """Whether the UNet wants pooled text and picture sizes, as SDXL's does."""
        return bool(self.pipeline.unet.config.addition_embed_type == "text_time")

    @classmethod
    def of(
        cls,
        pipeline: Any,
        name: str,
        weights: str,
        *,
        device: str | torch.device = "cpu",
        precision: Literal["fp32", "bf16"] = "fp32",
    ) -> FrozenBase:
        """Freezes a loaded pipeline, in place.

        Args:
            pipeline: of Stable Diffusion 1.x or XL.
            name: what the base model is called, never a path of one machine.
            weights: what tells its weights from others'.
            device: where it is to compute.
            precision: of its UNet.

        Raises:
            BadParameter: for another kind of pipeline, or one whose scheduler predicts none of epsilon, v and x0.
        """
        if not isinstance(pipeline, StableDiffusionPipeline | StableDiffusionXLPipeline):
            raise BadParameter(f"base {name}: a {type(pipeline).__name__}; give Stable Diffusion 1.x or XL")
        config = pipeline.scheduler.config
        kind = config.get("prediction_type", "none")
        if kind not in ("epsilon", "v_prediction", "sample") or "beta_schedule" not in config:
            raise BadParameter(
                f"base {name}: its scheduler predicts {kind!r}; epsilon, v_prediction and sample are known"
            )
        for part in (pipeline.vae, pipeline.text_encoder, getattr(pipeline, "text_encoder_2", None)):
            if part is not None:
                part.to(device=device, dtype=torch.float32).requires_grad_(False).train(False)
        pipeline.unet.to(device=device, dtype=DTYPES[precision], memory_format=torch.channels_last)
        pipeline.unet.requires_grad_(False).train(False)
        return cls(pipeline, DDPMScheduler.from_config(config), BaseModelId.of(name, pipeline.unet), weights)

    @classmethod
    def open(
        cls,
        folder: str | Path,
        name: str | None = None,
        *,
        file: str | Path | None = None,
        device: str | torch.device = "cpu",
        precision: Literal["fp32", "bf16"] = "fp32",
        hash_files: bool = True,
    ) -> FrozenBase:
        """Loads a base model from a local folder, or from a single file beside it; only safetensors are read.

        Args:
            folder: a diffusers pipeline's folder.
            name: what to call it; None for the folder's own name.
            file: a checkpoint with the original code's keys, as ComfyUI takes it. UNet, VAE and text encoders come from
                it; the folder gives their configurations, the tokenizers and the scheduler, and needs no weights.
            device: where it is to compute.
            precision: of its UNet.
            hash_files: whether ``weights`` is computed, which reads every file once more; else it is empty.

        Raises:
            BadFile: if folder or file are missing or cannot be read.
            BadParameter: if it holds another kind of model.
        """
        folder = Path(folder)
        if not (folder / "model_index.json").is_file():
            raise BadFile(f"{folder}: no base model here; give the folder of a diffusers pipeline")
        try:
            with without_bars():
                pipeline = _from_folder(folder) if file is None else _from_file(Path(file), folder)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise BadFile(f"{file or folder}: the base model cannot be read ({error}); restore it") from error
        weights = _digest(folder, None if file is None else Path(file)) if hash_files else ""
        return cls.of(pipeline, name or folder.resolve().name, weights, device=device, precision=precision)


@contextmanager
def gradient_checkpointing(base: FrozenBase, wanted: bool = True) -> Iterator[None]:
    """A context in which the UNet keeps few activations and computes the others again in the backward pass."""
    unet: Any = base.unet
    if not wanted:
        yield
        return
    unet.enable_gradient_checkpointing()
    try:
        yield
    finally:
        unet.disable_gradient_checkpointing()


def _from_folder(folder: Path) -> Any:
    return DiffusionPipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True, use_safetensors=True)


def _from_file(file: Path, folder: Path) -> Any:
    """A pipeline of the folder's class with the weights of a single checkpoint.

    Raises:
        BadFile: if the file is missing or no safetensors.
        BadParameter: if the folder is of another pipeline than Stable Diffusion 1.x or XL.
    """
    if file.suffix != ".safetensors":
        raise BadFile(f"{file}: only .safetensors are read; get the checkpoint in that format")
    if not file.is_file():
        raise BadFile(f"{file}: no such file")
    named = read_json(folder / "model_index.json").get("_class_name")
    kinds = {kind.__name__: kind for kind in (StableDiffusionPipeline, StableDiffusionXLPipeline)}
    if named not in kinds:
        raise BadParameter(f"{folder}: a {named}; give Stable Diffusion 1.x or XL")
    return kinds[named].from_single_file(str(file), config=str(folder), dtype=torch.float32, local_files_only=True)


def _digest(folder: Path, file: Path | None = None) -> str:
    """The sha256 over names and sha256 of the files that make a picture."""
    digest = hashlib.sha256()
    kinds = (".json", ".txt") if file is not None else (".json", ".safetensors", ".txt")
    for part in _PARTS:
        for path in sorted((folder / part).glob("*")):
            if path.suffix in kinds:
                digest.update(f"{part}/{path.name} {sha256_file(path)}\n".encode())
    if file is not None:
        digest.update(f"single file {sha256_file(file)}\n".encode())
    return digest.hexdigest()

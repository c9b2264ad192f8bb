"""Public networks by their configuration, on the meta device: what shapes a weights' file must hold."""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import SafetensorError, safe_open
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    ViTConfig,
    ViTModel,
)

from difflora.errors import BadFile

_UNET = "model.diffusion_model."


def meta_network(config: Mapping[str, Any], where: str) -> torch.nn.Module:
    """The network that a ``config.json`` of diffusers, CLIP or DINO describes, without weights.

    Args:
        config: what the file holds.
        where: the file, for the error.

    Raises:
        BadFile: if it describes none of UNet, VAE, CLIP, its encoders and DINO.
    """
    kind = str(config.get("_class_name") or (config.get("architectures") or [config.get("model_type")])[0])
    makers: dict[str, Any] = {
        "UNet2DConditionModel": UNet2DConditionModel.from_config,
        "AutoencoderKL": AutoencoderKL.from_config,
        "CLIPTextModel": lambda values: CLIPTextModel(CLIPTextConfig(**values)),
        "CLIPTextModelWithProjection": lambda values: CLIPTextModelWithProjection(CLIPTextConfig(**values)),
        "CLIPVisionModelWithProjection": lambda values: CLIPVisionModelWithProjection(CLIPVisionConfig(**values)),
        "CLIPModel": lambda values: CLIPModel(CLIPConfig(**values)),
        "ViTModel": lambda values: ViTModel(ViTConfig(**values), add_pooling_layer=False),
        "Dinov2Model": lambda values: Dinov2Model(Dinov2Config(**values)),
        "Dinov2WithRegistersModel": lambda values: Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**values)),
    }
    if kind not in makers:
        raise BadFile(f"{where}: describes a {kind}; known are {', '.join(makers)}")
    try:
        with torch.device("meta"), _quiet():
            made: torch.nn.Module = makers[kind](dict(config))
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise BadFile(f"{where}: describes no {kind} ({error}); restore it") from error
    return made


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences notices about configurations that are older or newer than the library."""
    logger = logging.getLogger("diffusers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def check_shapes(network: torch.nn.Module, files: list[Path], *, single_file: bool = False) -> None:
    """Compares a network with the headers of its weights' files; no tensor is read.

    Shapes are compared and not names, which differ between versions of the libraries and in single files.

    Args:
        network: on the meta device.
        files: its weights, one or shards.
        single_file: whether it is a checkpoint with the original code's keys, of which the UNet is looked at.

    Raises:
        BadFile: if a file is cut short, or the tensors are another network's.
    """
    found: Counter[tuple[int, ...]] = Counter()
    for path in files:
        for name, shape in header(path).items():
            if not single_file or name.startswith(_UNET):
                found[shape] += 1
    if single_file and not found:
        raise BadFile(f"{files[0]}: holds no UNet ({_UNET}...); give a whole checkpoint, not a LoRA or VAE")
    wanted = Counter(tuple(parameter.shape) for parameter in network.parameters())
    if missing := wanted - found:
        shape, count = max(missing.items(), key=lambda each: (each[1], each[0]))
        raise BadFile(
            f"{files[0]}: is not the {type(network).__name__} that its configuration describes: "
            f"{missing.total()} of {wanted.total()} tensors are missing, {count} of shape {shape}; was it swapped?"
        )


def header(path: Path) -> dict[str, tuple[int, ...]]:
    """Name of a tensor -> its shape.

    Raises:
        BadFile: if the file is missing or no whole safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping
    except FileNotFoundError as error:
        raise BadFile(f"{path}: no such file") from error
    except (SafetensorError, OSError) as error:
        raise BadFile(f"{path}: not a whole safetensors file ({error}); fetch or copy it again") from error

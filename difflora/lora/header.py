"""What a LoRA file says of itself, in the metadata of its safetensors header.

``difflora`` holds our own record as JSON; ``lora_adapter_metadata`` is diffusers' record of peft's settings, without
which diffusers takes alpha for the rank.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import safe_open
from torch import Tensor

from difflora.errors import BadFile
from difflora.folders import read_json
from difflora.lora.base_model import BaseModelId
from difflora.lora.layout import LoraLayout
from difflora.lora.peft_keys import PEFT_PREFIX, UNET_PREFIX

OWN, ADAPTER = "difflora", "lora_adapter_metadata"


class Header(BaseModel):
    """Our own record, format 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    base: BaseModelId | None
    layout: dict[str, Any]
    layout_digest: str
    rank: int = Field(ge=1)
    alpha: float = Field(gt=0, allow_inf_nan=False)
    scale: float = Field(gt=0, allow_inf_nan=False)
    trigger_prompt: str
    provenance: dict[str, str]
    checksums: dict[str, str] = Field(description="key -> CRC-32 of its tensor's bytes")


def checksums(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Key -> CRC-32 in hexadecimal of the tensor's bytes, on the CPU, so that a swap or a flipped bit is found."""
    return {
        key: f"{zlib.crc32(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data):08x}"
        for key, tensor in tensors.items()
    }


def to_metadata(header: Header, layout: LoraLayout) -> dict[str, str]:
    """The safetensors metadata of a pipeline's LoRA file."""
    alpha = int(header.alpha) if header.alpha.is_integer() else header.alpha  # peft's own type is int
    adapter = {
        f"{UNET_PREFIX}r": layout.rank,
        f"{UNET_PREFIX}lora_alpha": alpha,
        f"{UNET_PREFIX}target_modules": [module.name for module in layout.modules],
    }
    return {"format": "pt", ADAPTER: json.dumps(adapter, sort_keys=True), OWN: header.model_dump_json()}


def to_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file whose bytes are the same for the same content: safetensors shuffles its metadata."""
    data = safetensors.torch.save(dict(tensors), dict(metadata))
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start]) | {"__metadata__": dict(sorted(metadata.items()))}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[start:]


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file that was opened before."""
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def read_header(metadata: Mapping[str, str], where: str) -> tuple[Header, LoraLayout] | None:
    """Our own record and its layout, or None where a file has none.

    Raises:
        BadFile: if the record is not of this format, or contradicts itself.
    """
    if OWN not in metadata:
        return None
    try:
        header = Header.model_validate_json(metadata[OWN])
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in (OWN, *first["loc"]))
        raise BadFile(
            f"{where}: {key}: {first['msg']}; read it with the version that wrote it, or remake it"
        ) from error
    layout = LoraLayout.from_json(header.layout, f"{where}: {OWN}.layout")
    if layout.digest != header.layout_digest or layout.rank != header.rank:
        raise BadFile(f"{where}: {OWN}.layout does not have the digest or rank written beside it; restore or remake it")
    return header, layout


def foreign_alpha(metadata: Mapping[str, str], prefix: str, rank: int, path: Path) -> float:
    """Alpha of a file that others wrote.

    diffusers' record tells it, or peft's ``adapter_config.json`` beside the file; a file of diffusers' without a record
    has alpha = rank, as diffusers itself takes it.

    Raises:
        BadFile: if the settings cannot be read, or are more than one rank and one alpha of a plain LoRA.
    """
    if ADAPTER in metadata:
        try:
            stored = json.loads(metadata[ADAPTER])
        except ValueError as error:
            raise BadFile(f"{path}: {ADAPTER} is not JSON ({error}); restore or remake it") from error
        if not isinstance(stored, dict):
            raise BadFile(f"{path}: {ADAPTER} is no JSON object; restore or remake it")
        settings, where = {key.removeprefix(prefix): value for key, value in stored.items()}, f"{path}: {ADAPTER}"
    elif prefix.startswith(PEFT_PREFIX):
        beside = path.with_name("adapter_config.json")
        settings, where = read_json(beside), str(beside)
    else:
        return float(rank)
    for key in ("alpha_pattern", "rank_pattern", "use_dora", "use_rslora", "lora_bias"):
        if settings.get(key):
            raise BadFile(f"{where}: {key} is {settings[key]!r}; only LoRAs of one rank and one alpha are read")
    alpha = settings.get("lora_alpha")
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not math.isfinite(alpha) or alpha <= 0:
        raise BadFile(f"{where}: lora_alpha is {alpha!r}; it must be a positive number")
    if settings.get("r") != rank:
        raise BadFile(f"{where}: r is {settings.get('r')!r}, the tensors have rank {rank}")
    return float(alpha)

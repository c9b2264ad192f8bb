"""What a LoRA file of ours says of itself, as JSON under ``difflora`` in the metadata of its safetensors header."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from difflora.errors import BadFile
from difflora.lora.base_model import BaseModelId
from difflora.lora.layout import LoraLayout

OWN = "difflora"


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


def to_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file whose bytes are the same for the same content: safetensors shuffles its metadata.

    The metadata gets ModelSpec's hash of all that comes after the header.
    """
    data = safetensors.torch.save(dict(tensors))
    start = 8 + int.from_bytes(data[:8], "little")
    hashed = {"modelspec.hash_sha256": f"0x{hashlib.sha256(data[start:]).hexdigest()}"}
    header = {"__metadata__": dict(sorted((dict(metadata) | hashed).items()))} | json.loads(data[8:start])
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[start:]


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file.

    Raises:
        BadFile: if it is no whole safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise BadFile(f"{path}: not a readable safetensors file ({error}); restore or remake it") from error


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

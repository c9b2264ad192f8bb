"""A PhotoMaker v1 file as we keep it: safetensors, under the keys by which the public loader reads it too.

The public ``photomaker-v1.bin`` is a pickle of two dictionaries, ``id_encoder`` and ``lora_weights``. Here their names
stand before each key: ``id_encoder.visual_projection_2.weight``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from difflora.errors import BadFile, BadParameter
from difflora.files import load_safetensors, save_safetensors, sha256_file
from difflora.lora import LoraWeights
from difflora.lora.header import OWN, read_metadata
from difflora.photomaker.id_encoder import IdEncoder, build_encoder
from difflora.photomaker.lora_keys import from_keys, read_lora
from difflora.photomaker.unpickle import PARTS

SUFFIX = ".safetensors"


class _Header(BaseModel):
    """What our own files say beside the tensors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    photomaker: int = Field(1, ge=1, le=1, description="the version whose keys and network these are")
    heads: int | None = Field(None, ge=1, description="attention heads of the vision tower; None for 64 numbers each")
    source_sha256: str = Field("", description="of the file that this one was converted from")


@dataclass(frozen=True, eq=False)
class PhotoMakerFile:
    """A PhotoMaker's weights, checked.

    Attributes:
        id_encoder: key -> tensor of the id encoder.
        lora: key -> tensor of the LoRA, in the public file's names.
        heads: attention heads of the vision tower; None for the public towers' width of 64 each.
        where: the file, for errors.
        source_sha256: of the file that it was converted from; empty where it was not.
    """

    id_encoder: Mapping[str, Tensor]
    lora: Mapping[str, Tensor]
    heads: int | None = None
    where: str = "PhotoMaker"
    source_sha256: str = ""

    @classmethod
    def open(cls, path: str | Path) -> PhotoMakerFile:
        """Reads and checks a file.

        Raises:
            BadFile: naming the key, if the file is no whole safetensors of PhotoMaker v1. A pickle is never opened.
        """
        path = Path(path)
        if path.suffix != SUFFIX:
            raise BadFile(
                f"{path}: only {SUFFIX} is read; convert the public photomaker-v1.bin once by "
                f"`difflora weights convert {path.name} {path.stem}{SUFFIX}`"
            )
        tensors = load_safetensors(path)
        header = _read_header(path)
        parts: dict[str, dict[str, Tensor]] = {name: {} for name in PARTS}
        for key, tensor in tensors.items():
            part, _, rest = key.partition(".")
            if part not in parts:
                raise BadFile(f"{path}: {key} is neither of {' nor of '.join(PARTS)}; it is no PhotoMaker v1")
            parts[part][rest] = tensor
        made = cls(parts[PARTS[0]], parts[PARTS[1]], header.heads, str(path), header.source_sha256)
        made.check()
        return made

    def check(self) -> None:
        """Looks over every key, shape and number.

        Raises:
            BadFile: naming the first key that is wrong.
        """
        for name, part in zip(PARTS, (self.id_encoder, self.lora), strict=True):
            for key, tensor in part.items():
                if not torch.isfinite(tensor).all():
                    raise BadFile(f"{self.where}: {name}.{key} holds NaN or Inf; download or train it again")
        _ = self._encoder
        from_keys(self.lora, self.where)

    def save(self, path: str | Path) -> None:
        """Writes the file, whole or not at all.

        Raises:
            BadParameter: if the path does not end in ``.safetensors``.
        """
        if Path(path).suffix != SUFFIX:
            raise BadParameter(f"{path}: PhotoMaker is kept as {SUFFIX}; give a name that ends so")
        tensors = {f"{PARTS[0]}.{key}": value for key, value in self.id_encoder.items()}
        tensors |= {f"{PARTS[1]}.{key}": value for key, value in self.lora.items()}
        header = _Header(heads=self.heads, source_sha256=self.source_sha256)
        # One entry alone: safetensors shuffles several, and the same weights shall be the same bytes.
        save_safetensors(path, tensors, {OWN: header.model_dump_json()})

    @cached_property
    def _encoder(self) -> IdEncoder:
        return build_encoder(self.id_encoder, self.heads, self.where)

    def encoder(self) -> IdEncoder:
        """The id encoder in float32, frozen, in evaluation mode."""
        return self._encoder

    def lora_for(self, unet: Any) -> LoraWeights:
        """The LoRA for a UNet.

        Raises:
            BadFile: if it is another UNet's; the first key that does not fit is named.
        """
        return read_lora(self.lora, unet, self.where)


def file_digest(path: str | Path) -> str:
    """The sha256 of a file, or of the one that it was converted from: the same weights are the same people.

    Raises:
        BadFile: if it is missing, or no whole file of a PhotoMaker.
    """
    path = Path(path)
    if not path.is_file():
        raise BadFile(f"{path}: no such file")
    source = _read_header(path).source_sha256 if path.suffix == SUFFIX else ""
    return source or sha256_file(path)


def _read_header(path: Path) -> _Header:
    try:
        return _Header.model_validate_json(read_metadata(path).get(OWN, "{}"))
    except ValidationError as error:
        raise BadFile(f"{path}: its header is no PhotoMaker v1's ({error.errors()[0]['msg']})") from error

"""Shards: safetensors files of one tensor ``rows`` (R, D), made at full size and filled row after row.

The header is a function of R, D, the type and the layout alone, so that any change of it is seen, and a row is where
arithmetic says, read through a memory map. Rows that the index does not list yet are zeros or left by a kill.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from difflora.errors import BadFile
from difflora.files import atomic_file

_TYPES: dict[str, tuple[str, torch.dtype, Any]] = {
    "fp16": ("F16", torch.float16, np.dtype("<f2")),
    "fp32": ("F32", torch.float32, np.dtype("<f4")),
}


@dataclass(frozen=True)
class ShardFormat:
    """What every shard of a corpus looks like.

    Attributes:
        folder: where the shards lie.
        rows: R, rows of a shard.
        size: D, numbers of a row.
        dtype: of the numbers on disk.
        layout: digest of the LoRA layout, which the header carries.
    """

    folder: Path
    rows: int
    size: int
    dtype: Literal["fp16", "fp32"]
    layout: str

    @property
    def torch_dtype(self) -> torch.dtype:
        """The type of a row."""
        return _TYPES[self.dtype][1]

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.size * int(_TYPES[self.dtype][2].itemsize)

    @property
    def header(self) -> bytes:
        """A safetensors header: its length, JSON, spaces up to a multiple of 64 bytes."""
        tensor = {
            "dtype": _TYPES[self.dtype][0],
            "shape": [self.rows, self.size],
            "data_offsets": [0, self.rows * self.row_bytes],
        }
        text = json.dumps({"__metadata__": {"layout": self.layout}, "rows": tensor}, separators=(",", ":")).encode()
        text += b" " * (-(len(text) + 8) % 64)
        return len(text).to_bytes(8, "little") + text

    def path(self, shard: int) -> Path:
        """The file of a shard."""
        return self.folder / f"{shard:05d}.safetensors"

    def encode(self, flat: Tensor) -> bytes:
        """A row's bytes, little-endian, from (D,) of any floating type."""
        return flat.detach().to("cpu", self.torch_dtype).contiguous().numpy().astype(_TYPES[self.dtype][2]).tobytes()

    def decode(self, data: bytes | Any) -> Tensor:
        """A row (D,) in its own storage, from its bytes."""
        return torch.from_numpy(np.frombuffer(bytearray(data), dtype=_TYPES[self.dtype][2]))

    def write(self, first: int, rows: list[bytes]) -> None:
        """Writes rows from place ``first`` (counted over all shards) on, and waits until they are on the disk."""
        for shard in range(first // self.rows, (first + len(rows) - 1) // self.rows + 1):
            path = self.path(shard)
            if not path.exists():
                self._create(path)
            self.check(shard)
            with path.open("r+b") as file:
                for place, data in enumerate(rows, start=first):
                    if place // self.rows == shard:
                        file.seek(len(self.header) + place % self.rows * self.row_bytes)
                        file.write(data)
                file.flush()
                os.fsync(file.fileno())

    def erase(self, shard: int, rows: Sequence[int]) -> int:
        """Fills some rows of a shard with zeros; the file is replaced whole, or left where they are zeros already.

        Returns:
            How many rows were no zeros.

        Raises:
            BadFile: if the shard is missing or damaged.
        """
        data = self.map(shard)
        filled = [row for row in rows if data[row].any()]
        if not filled:
            return 0
        with self.path(shard).open("rb") as old, atomic_file(self.path(shard)) as new:
            shutil.copyfileobj(old, new, 2**24)
            for row in filled:
                new.seek(len(self.header) + row * self.row_bytes)
                new.write(bytes(self.row_bytes))
        return len(filled)

    def _create(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.new")
        with temporary.open("wb") as file:
            file.write(self.header)
            file.truncate(len(self.header) + self.rows * self.row_bytes)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    def check(self, shard: int) -> None:
        """Looks at a shard's size and header.

        Raises:
            BadFile: if it is missing, cut short or has another header; the file and the rows it should hold are named.
        """
        path, header = self.path(shard), self.header
        what = f"rows {shard * self.rows} to {(shard + 1) * self.rows - 1}"
        if not path.is_file():
            raise BadFile(f"{path}: no such file, though it should hold {what}; restore it")
        whole, there = len(header) + self.rows * self.row_bytes, path.stat().st_size
        if there != whole:
            held = max(0, there - len(header)) // self.row_bytes
            first = shard * self.rows + min(held, self.rows)
            fault = f"cut short: row {first} and those after it are lost" if there < whole else f"too long for {what}"
            raise BadFile(f"{path}: has {there} bytes instead of {whole}, {fault}; restore it")
        with path.open("rb") as file:
            if file.read(len(header)) != header:
                raise BadFile(f"{path}: its header is not that of {what} of this corpus; restore it")

    def map(self, shard: int) -> np.memmap[Any, Any]:
        """A checked shard's rows as bytes, (R, row bytes) uint8, memory-mapped and read-only."""
        self.check(shard)
        shape = (self.rows, self.row_bytes)
        return np.memmap(self.path(shard), dtype=np.uint8, mode="r", offset=len(self.header), shape=shape)


def row_sha256(data: bytes | Any) -> str:
    """The sha256 of a row's bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()

"""Which modules of a base model a LoRA touches, and how its tensors become one flat vector and back.

Byte order of a flat vector (paper, 3.2: B as it is, A transposed, all concatenated): modules in the layout's order;
for each module first ``lora_B`` (m, r) row by row, then the transpose of ``lora_A``, (n, r), row by row. So a module is
a block of m + n rows of r numbers, and the whole vector a table of ``size / rank`` such rows. For a convolution n runs
over ``in_channels, kernel_height, kernel_width``, the last the fastest, as peft stores ``lora_A`` (r, in, kh, kw).
"""

# ruff: noqa: N802, N806 - lora_A and lora_B are the field's own names.

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from difflora.errors import BadFile, BadParameter
from difflora.lora.targets import find_targets

LoraTensors: TypeAlias = Mapping[str, tuple[Tensor, Tensor]]
"""Name of a module -> its ``(lora_A, lora_B)``."""


@dataclass(frozen=True)
class LoraModule:
    """One Linear or Conv2d that a LoRA changes.

    Attributes:
        name: its dotted name in the UNet.
        out_features: m, output features or channels.
        in_features: input features or channels.
        kernel: height and width of a Conv2d's kernel; None for a Linear.
    """

    name: str
    out_features: int
    in_features: int
    kernel: tuple[int, int] | None = None

    @property
    def columns(self) -> int:
        """n: columns of ``lora_A`` as a matrix, ``in_features`` times the kernel's area."""
        height, width = self.kernel or (1, 1)
        return self.in_features * height * width

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape of the module's weight: (m, in) or (m, in, kh, kw)."""
        return (self.out_features, self.in_features, *(self.kernel or ()))

    def lora_A_shape(self, rank: int) -> tuple[int, ...]:
        """Shape of ``lora_A`` as peft stores it: (r, in) or (r, in, kh, kw)."""
        return (rank, self.in_features, *(self.kernel or ()))

    def lora_B_shape(self, rank: int) -> tuple[int, ...]:
        """Shape of ``lora_B`` as peft stores it: (m, r) or (m, r, 1, 1)."""
        return (self.out_features, rank) if self.kernel is None else (self.out_features, rank, 1, 1)


@dataclass(frozen=True)
class LoraLayout:
    """The ordered modules of a LoRA and its rank; hashable, equal where the flat vectors mean the same.

    Attributes:
        modules: the modules in the order of the flat vector.
        rank: r, the same for each module.

    Raises:
        BadParameter: if the rank or a size is below 1, or a name comes twice, or there is no module.
    """

    modules: tuple[LoraModule, ...]
    rank: int

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise BadParameter(f"rank is {self.rank}; it must be 1 or more")
        if not self.modules:
            raise BadParameter("a LoRA layout needs at least one module")
        seen: set[str] = set()
        for module in self.modules:
            if not module.name or module.name in seen:
                raise BadParameter(f"LoRA layout: module {module.name!r} has no name of its own; names must differ")
            if min(module.weight_shape) < 1:
                raise BadParameter(f"LoRA layout: module {module.name} has weight shape {module.weight_shape}")
            seen.add(module.name)

    @classmethod
    def from_unet(cls, unet: nn.Module, targets: Sequence[str] = ("attention",), rank: int = 4) -> LoraLayout:
        """The layout of a UNet (also one on the meta device), in the order of its ``named_modules()``.

        Args:
            unet: a diffusers UNet.
            targets: names of groups (``difflora.lora.targets.GROUPS``) or ends of module names, such as ``attn2.to_k``.
            rank: r of every module.

        Raises:
            BadParameter: if a target matches nothing, or something else than a plain Linear or Conv2d.
        """
        modules = [
            LoraModule(name, module.out_features, module.in_features)
            if isinstance(module, nn.Linear)
            else LoraModule(name, module.out_channels, module.in_channels, tuple(module.kernel_size))  # type: ignore[arg-type]
            for name, module in find_targets(unet, targets)
        ]
        return cls(tuple(modules), rank)

    @cached_property
    def size(self) -> int:
        """D: how many numbers a flat vector holds."""
        return sum(self.sizes)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many numbers each tensor takes in a flat vector: ``lora_B``, ``lora_A`` of each module in turn."""
        pairs = ((module.out_features, module.columns) for module in self.modules)
        return tuple(rows * self.rank for pair in pairs for rows in pair)

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Name of a module -> its place in the last dimension of a flat vector: ``lora_B``, then ``lora_A``."""
        found, start = {}, 0
        for module in self.modules:
            stop = start + (module.out_features + module.columns) * self.rank
            found[module.name] = slice(start, stop)
            start = stop
        return found

    @cached_property
    def factor_places(self) -> tuple[Tensor, Tensor]:
        """Where in a flat vector the numbers of all ``lora_A`` and of all ``lora_B`` are, int64 in rising order."""
        kinds = torch.arange(len(self.sizes)) % 2  # B and A in turn
        of_A = kinds.repeat_interleave(torch.tensor(self.sizes)).bool()  # (D,)
        return of_A.nonzero().squeeze(1), (~of_A).nonzero().squeeze(1)

    @cached_property
    def by_shape(self) -> dict[tuple[int, int], tuple[str, ...]]:
        """(m, n) -> the names of the modules of that shape, for work on many at once."""
        found: dict[tuple[int, int], tuple[str, ...]] = {}
        for module in self.modules:
            shape = (module.out_features, module.columns)
            found[shape] = (*found.get(shape, ()), module.name)
        return found

    @cached_property
    def digest(self) -> str:
        """The sha256, in hexadecimal, of ``to_json()`` with sorted keys and no spaces."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The layout as plain values that JSON holds."""
        modules = [asdict(module) | {"kernel": module.kernel and list(module.kernel)} for module in self.modules]
        return {"rank": self.rank, "modules": modules}

    @classmethod
    def from_json(cls, value: Any, where: str = "LoRA layout") -> LoraLayout:
        """The inverse of ``to_json``.

        Args:
            value: what JSON gave.
            where: file or key for the error.

        Raises:
            BadFile: if it is no layout.
        """
        try:
            modules = [
                LoraModule(
                    str(module["name"]),
                    int(module["out_features"]),
                    int(module["in_features"]),
                    (int(module["kernel"][0]), int(module["kernel"][1])) if module["kernel"] else None,
                )
                for module in value["modules"]
            ]
            return cls(tuple(modules), int(value["rank"]))
        except (KeyError, IndexError, TypeError, ValueError, BadParameter) as error:
            raise BadFile(f"{where}: not a LoRA layout ({error!r}); restore or remake it") from error

    def views(self, flat: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """The tensors of a flat vector, or of many, as views of its storage; gradients flow back by one concatenation.

        Args:
            flat: (..., D), any dtype.

        Returns:
            Name of a module -> ``lora_A`` (..., r, n), transposed from the stored (n, r), and ``lora_B`` (..., m, r).

        Raises:
            BadParameter: if the last dimension is not D.
        """
        self.check(flat)
        # One split instead of many slices: its backward concatenates once, a slice's allocates all of D.
        parts = iter(flat.split(self.sizes, dim=-1))
        found = {}
        for module in self.modules:
            lora_B = next(parts).unflatten(-1, (module.out_features, self.rank))  # (..., m, r)
            stored = next(parts).unflatten(-1, (module.columns, self.rank))  # (..., n, r)
            found[module.name] = (stored.transpose(-1, -2), lora_B)
        return found

    def flatten(self, tensors: LoraTensors) -> Tensor:
        """One flat vector, or many, from each module's tensors: the inverse of ``views``, by one copy.

        Args:
            tensors: name of a module -> ``lora_A`` (..., r, n) or (..., r, in, kh, kw) and ``lora_B`` (..., m, r) or
                (..., m, r, 1, 1), all of the same leading dimensions.

        Returns:
            (..., D), of the tensors' dtype and device.

        Raises:
            BadParameter: if a module is missing or unknown, or a shape does not fit.
        """
        names = {module.name for module in self.modules}
        for name in tensors:
            if name not in names:
                raise BadParameter(f"{name}: not a module of this LoRA layout")
        parts: list[Tensor] = []
        for module in self.modules:
            if module.name not in tensors:
                raise BadParameter(f"{module.name}: missing; a LoRA of this layout has {len(self.modules)} modules")
            lora_A, lora_B = tensors[module.name]
            matrix_A = _as_matrix(lora_A, module.lora_A_shape(self.rank), f"{module.name}.lora_A")
            matrix_B = _as_matrix(lora_B, module.lora_B_shape(self.rank), f"{module.name}.lora_B")
            parts += [matrix_B.flatten(-2), matrix_A.transpose(-1, -2).flatten(-2)]
        return torch.cat(parts, dim=-1)

    def check(self, flat: Tensor) -> None:
        """Raises BadParameter unless ``flat`` is (..., D)."""
        if flat.ndim < 1 or flat.shape[-1] != self.size:
            raise BadParameter(f"a flat LoRA of this layout is (..., {self.size}), not {tuple(flat.shape)}")


def _as_matrix(tensor: Tensor, shape: tuple[int, ...], name: str) -> Tensor:
    """(..., *shape) or (..., rows, columns) -> (..., rows, columns)."""
    rows, columns = shape[0], 1
    for size in shape[1:]:
        columns *= size
    if len(shape) == 4 and tuple(tensor.shape[-4:]) == shape:
        tensor = tensor.flatten(-3)
    if tuple(tensor.shape[-2:]) != (rows, columns):
        raise BadParameter(f"{name}: shape {tuple(tensor.shape)} where {shape} is needed")
    return tensor

"""A LoRA with all that is needed to use it, and its file, which diffusers, peft or ComfyUI read as their own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from difflora.errors import BadFile, BadParameter
from difflora.lora.base_model import BaseModelId
from difflora.lora.formats import LoraFile, LoraFormat, check_target, store, to_tensors
from difflora.lora.header import Header, checksums, read_header
from difflora.lora.layout import LoraLayout
from difflora.lora.modelspec import trigger_of
from difflora.lora.pairs import DTYPES, check_pairs, infer_layout

MOST_CHANGE = 10.0
"""The largest root mean square that a module's alpha / rank * B A may have; weights of base models are far below 1."""
MOST_SCALE = 100.0


def check_scale(scale: float) -> None:
    """Looks over a scale that is recommended to whoever merges a LoRA.

    Raises:
        BadParameter: if it is not above 0, or absurdly large.
    """
    _check_positive("scale", scale, MOST_SCALE)


def _check_positive(name: str, value: float, most: float) -> None:
    if not math.isfinite(value) or not 0 < value <= most:
        raise BadParameter(f"LoRA: {name} is {value}; it must be above 0 and at most {most}")


@dataclass(frozen=True, eq=False)
class LoraWeights:
    """The numbers of one LoRA and what they mean.

    Attributes:
        layout: the modules and the rank.
        flat: (D,), float16, bfloat16, float32 or float64; see ``LoraLayout`` for the order.
        base: the base model; None where a file of others does not say.
        alpha: the change of a weight is ``alpha / rank * B A``.
        scale: how strongly the LoRA is meant to be applied: a recommendation to whoever merges or sets adapters.
        trigger_prompt: what a prompt must contain, such as ``a photo of sks person``.
        provenance: where the LoRA comes from (model version, seed, ...).

    Raises:
        BadParameter: if the flat vector does not fit the layout, is not floating or not finite, or alpha or scale is
            out of its range.
    """

    layout: LoraLayout
    flat: Tensor
    base: BaseModelId | None
    alpha: float
    scale: float = 1.0
    trigger_prompt: str = ""
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.layout.check(self.flat)
        if self.flat.ndim != 1 or self.flat.dtype not in DTYPES:
            raise BadParameter(f"LoRA: flat is {self.flat.dtype} {tuple(self.flat.shape)}; give one floating vector")
        _check_positive("alpha", self.alpha, math.inf)
        check_scale(self.scale)
        if not torch.isfinite(self.flat).all():
            raise BadParameter("LoRA: flat holds numbers that are not finite")

    @property
    def factor(self) -> float:
        """``alpha / rank``: what B A is multiplied by at scale 1."""
        return self.alpha / self.layout.rank

    def tensors(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Name of a module -> ``lora_A`` (r, n) and ``lora_B`` (m, r), views of ``flat``."""
        return self.layout.views(self.flat)

    def save(self, path: str | Path, dtype: torch.dtype = torch.float16, lora_format: LoraFormat = "diffusers") -> None:
        """Writes one file, or peft's folder, with our record in its header; atomic.

        Args:
            path: ends in ``.safetensors``; for peft a folder, new or of an older adapter.
            dtype: float16 or float32.
            lora_format: ``diffusers`` for ``pipe.load_lora_weights(path)``; ``peft`` for
                ``PeftModel.from_pretrained(unet, path)``; ``kohya`` for ComfyUI and others, which diffusers reads too.

        Raises:
            BadParameter: if the path or dtype is another, a number does not fit the dtype, the LoRA is so strong that
                ``load`` would refuse it, or kohya's format has no names for its modules.
        """
        path = Path(path)
        check_target(path, lora_format)
        if dtype not in (torch.float16, torch.float32):
            raise BadParameter(f"{path}: dtype is {dtype}; a LoRA is stored as torch.float16 or torch.float32")
        flat = self.flat.detach().to("cpu", dtype)
        if not torch.isfinite(flat).all():
            raise BadParameter(f"{path}: the LoRA has numbers too large for {dtype}; store it as torch.float32")
        if module := _too_strong(self.layout, flat, self.factor):
            raise BadParameter(f"{path}: {module} changes its weight by more than {MOST_CHANGE} (rms); not stored")
        try:
            tensors = to_tensors(lora_format, flat, self.layout, self.alpha)
        except BadParameter as error:
            raise BadParameter(f"{path}: {error}") from error
        header = Header(
            base=self.base,
            layout=self.layout.to_json(),
            layout_digest=self.layout.digest,
            rank=self.layout.rank,
            alpha=self.alpha,
            scale=self.scale,
            trigger_prompt=self.trigger_prompt,
            provenance=dict(self.provenance),
            checksums=checksums(tensors),
        )
        store(path, lora_format, tensors, header, self.layout)

    @classmethod
    def load(cls, path: str | Path, layout: LoraLayout | None = None, base: BaseModelId | None = None) -> LoraWeights:
        """Reads a LoRA in diffusers', peft's or kohya's format, ours or others', and validates all of it.

        Args:
            path: a safetensors file, or the folder of a peft adapter; the content tells the format.
            layout: what it must hold; None for what it says itself or, in a file of others, what its shapes tell, with
                the modules in natural order of their names, not in the UNet's.
            base: the base it must belong to; a file of others does not tell, so it is then taken at its word.

        Returns:
            The LoRA on the CPU, in the file's dtype (float32 where it mixes several).

        Raises:
            BadFile: naming the key, if the file is unreadable; a key is missing, alone, unknown, misshapen, not
                floating, not finite, or (in our files) changed or swapped since it was written; the layout or base is
                another; alpha is not that of our record; or the change of a weight is absurdly large.
        """
        file = LoraFile.open(path)
        where = str(file.path)
        found = read_header(file.metadata, where)
        header = found[0] if found else None
        told = found[1] if found else layout
        pairs = file.pairs(told)
        own = told or infer_layout(pairs, where)
        if layout is not None and own.digest != layout.digest:
            raise BadFile(f"{where}: made for LoRA layout {own.digest} where {layout.digest} is needed")
        check_pairs(pairs, own, where)
        if base and header and header.base and (difference := header.base.difference(base)):
            raise BadFile(f"{where}: made for {difference}")
        _check_numbers(file.tensors, header, where)
        dtypes = {tensor.dtype for pair in pairs.tensors.values() for tensor in pair}
        dtype = dtypes.pop() if len(dtypes) == 1 else torch.float32
        flat = own.flatten({name: (one.to(dtype), two.to(dtype)) for name, (one, two) in pairs.tensors.items()})
        read_alpha = file.alpha(own)
        alpha = header.alpha if header else read_alpha
        if module := _too_strong(own, flat, alpha / own.rank):
            down, up = pairs.keys(module)
            raise BadFile(
                f"{where}: {up} times its {down.split('.')[-2]} changes the weight by more than {MOST_CHANGE} (rms): "
                "no LoRA"
            )
        # kohya's is a float32.
        if not math.isclose(alpha, read_alpha, rel_tol=1e-6):
            raise BadFile(f"{where}: its readers take alpha for {read_alpha:g} where {alpha:g} was written; restore it")
        try:
            if header is None:
                return cls(own, flat, base, alpha, trigger_prompt=trigger_of(file.metadata))
            return cls(own, flat, header.base or base, alpha, header.scale, header.trigger_prompt, header.provenance)
        except BadParameter as error:
            raise BadFile(f"{where}: {error}") from error


def _check_numbers(stored: Mapping[str, Tensor], header: Header | None, where: str) -> None:
    """Raises BadFile, naming the key, where a number is not finite or a tensor is not the one that was written."""
    for key, tensor in stored.items():
        if not torch.isfinite(tensor).all():
            raise BadFile(f"{where}: {key} holds NaN or Inf; the LoRA's training went wrong, make it again")
    if header:
        for key in header.checksums:
            if key not in stored:
                raise BadFile(f"{where}: {key} is missing; restore the file")
        for key, checksum in checksums(stored).items():
            if header.checksums.get(key) != checksum:
                raise BadFile(f"{where}: {key} is not the tensor that was written under this name; restore the file")


def _too_strong(layout: LoraLayout, flat: Tensor, factor: float) -> str | None:
    """The first module whose change of its weight may have a root mean square above ``MOST_CHANGE``."""
    # No entry of factor * B A is above factor * rank * (the largest number)^2, and that is enough for most.
    if factor * layout.rank * float(flat.abs().max()) ** 2 <= MOST_CHANGE:
        return None
    for name, (lora_A, lora_B) in layout.views(flat).items():  # noqa: N806
        product = lora_B.double() @ lora_A.double()  # (m, n)
        if not float(factor * product.square().mean().sqrt()) <= MOST_CHANGE:
            return name
    return None

"""What a LoRA file holds, in figures and words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from difflora.lora.architecture import find_architecture
from difflora.lora.formats import LoraFile
from difflora.lora.weights import LoraWeights


def change_norms(lora: LoraWeights) -> dict[str, float]:
    """Name of a module -> Frobenius norm of its change ``alpha / rank * B A``, in the layout's order."""
    norms = {}
    for name, (lora_A, lora_B) in lora.tensors().items():  # noqa: N806
        down, up = lora_A.double(), lora_B.double()
        # |B A|^2 is the sum over (B^T B) * (A A^T), r x r each: B A itself is large.
        norms[name] = lora.factor * float(((up.T @ up) * (down @ down.T)).sum().clamp_min(0).sqrt())
    return norms


def summarise(path: str | Path) -> dict[str, Any]:
    """Reads and validates a LoRA file, and says what it is, as plain values.

    Raises:
        BadFile: as ``LoraWeights.load``.
    """
    file, lora = LoraFile.open(path), LoraWeights.load(path)
    architecture = find_architecture(lora.layout)
    norms = change_norms(lora)
    strongest = max(norms, key=lambda name: norms[name])
    values: Tensor = torch.tensor(list(norms.values()), dtype=torch.float64)
    return {
        "file": str(file.path),
        "format": file.format,
        "base": lora.base.name if lora.base else None,
        "architecture": architecture.modelspec if architecture else None,
        "trigger": lora.trigger_prompt or None,
        "scale": lora.scale,
        "rank": lora.layout.rank,
        "alpha": lora.alpha,
        "dtype": str(lora.flat.dtype).removeprefix("torch."),
        "modules": len(lora.layout.modules),
        "parameters": lora.layout.size,
        "layout": lora.layout.digest,
        "shapes": {f"{rows} x {columns}": len(names) for (rows, columns), names in lora.layout.by_shape.items()},
        "norms": {
            "all": float(values.square().sum().sqrt()),
            "median": float(values.median()),
            "most": float(values.max()),
            "strongest": strongest,
        },
        "provenance": dict(lora.provenance),
    }

"""Opens the public pickle, in a process of its own with limited memory, time and files; run by ``convert``.

``torch.load(weights_only=True)`` builds tensors and plain containers alone. What it gives is written as safetensors,
and anything else is named on stderr with exit code 3.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, NoReturn

REFUSED = 3
PARTS = ("id_encoder", "lora_weights")
_GIB = 1 << 30


def limit(size: int) -> None:
    """Limits this process: torch's own address space and a few copies of the file; ten minutes; files twice as large.

    Args:
        size: of the file, in bytes.
    """
    import resource  # not on Windows, where this process has no limits to set

    limits = {
        resource.RLIMIT_AS: 24 * _GIB + 6 * size,
        resource.RLIMIT_CPU: 600,
        resource.RLIMIT_FSIZE: 2 * size + (1 << 20),
        resource.RLIMIT_CORE: 0,
    }
    for what, most in limits.items():
        hard = resource.getrlimit(what)[1]
        resource.setrlimit(what, (most, hard) if hard == resource.RLIM_INFINITY or hard > most else (hard, hard))


def tensors_of(source: str | Path) -> dict[str, Any]:
    """A pickle's tensors as ``PART.KEY``; leaves the process where it holds anything else."""
    import torch

    try:
        found = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:
        # Of torch's message only what it says of the file: its advice is to switch the check off.
        said = re.search(r"(?i)unsupported .+|(?<=weightsunpickler error: ).+", str(error))
        _refuse(f"not a pickle of tensors alone ({said[0][:200] if said else type(error).__name__})")
    if not isinstance(found, dict) or set(found) != set(PARTS):
        held = ", ".join(map(repr, list(found)[:4])) if isinstance(found, dict) else type(found).__name__
        _refuse(f"holds {held or 'nothing'}, where PhotoMaker v1 holds {' and '.join(PARTS)}")
    tensors = {}
    for name in PARTS:
        part = found[name]
        if not isinstance(part, dict):
            _refuse(f"{name} is a {type(part).__name__}, where PhotoMaker v1 has a dictionary of tensors")
        for key, value in part.items():
            if not isinstance(key, str) or not isinstance(value, torch.Tensor):
                _refuse(f"{name}.{key} is a {type(value).__name__}, not a tensor")
            if value.layout != torch.strided or not value.is_floating_point():
                _refuse(f"{name}.{key} is {value.dtype} ({value.layout}); PhotoMaker's tensors are floating and dense")
            tensors[f"{name}.{key}"] = value.detach().clone().contiguous()  # safetensors takes no shared storage
    return tensors


def main(source: str, out: str) -> None:
    """Reads a pickle under limits and writes its tensors as safetensors."""
    limit(Path(source).stat().st_size)
    import safetensors.torch

    safetensors.torch.save_file(tensors_of(source), out, {"format": "pt"})


def _refuse(why: str) -> NoReturn:
    sys.stderr.write(why + "\n")
    sys.exit(REFUSED)


if __name__ == "__main__":
    main(*sys.argv[1:])

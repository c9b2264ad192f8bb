"""What a training holds: weights, AdamW's moments and the average of the weights, and its checkpoint on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from difflora.errors import BadFile
from difflora.files import load_safetensors, save_safetensors
from difflora.training.settings import LoopSettings

FILE = "state.safetensors"
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class TrainingState:
    """Trainable parameters by name, their optimiser and their average.

    Args:
        module: whose parameters that require a gradient are trained; on its device already.
        settings: rates and decays.
        lr_factor: a parameter's name -> what its rate is multiplied by; None for 1.

    Attributes:
        optimizer: AdamW.
    """

    def __init__(
        self, module: nn.Module, settings: LoopSettings, lr_factor: Callable[[str], float] | None = None
    ) -> None:
        self.parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, parameter in self.parameters.items():
            factor = lr_factor(name) if lr_factor else 1.0
            decay = settings.weight_decay if parameter.ndim >= 2 else 0.0
            groups.setdefault((factor, decay), []).append(parameter)
        device = next(iter(self.parameters.values())).device
        self.optimizer = torch.optim.AdamW(
            [{"params": ps, "factor": factor, "weight_decay": decay} for (factor, decay), ps in groups.items()],
            lr=settings.lr,
            betas=settings.betas,
            eps=settings.eps,
            fused=device.type in ("cpu", "cuda"),
        )
        self._decay = settings.ema_decay
        self.ema = {name: p.detach().clone() for name, p in self.parameters.items()} if self._decay else {}

    def set_lr(self, lr: float) -> None:
        """The rate of the next step."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["factor"]

    @torch.no_grad()
    def average(self, step: int) -> None:
        """Moves the average towards the weights; faster in the first steps, so that it forgets the start."""
        if self._decay:
            decay = min(self._decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(self.ema.values()), _data(self.parameters.values()), 1 - decay)

    @torch.no_grad()
    def adopt_average(self) -> None:
        """Puts the average in the weights' place; nothing where there is none."""
        for name, value in self.ema.items():
            self.parameters[name].copy_(value)

    def is_finite(self) -> bool:
        """Whether all weights are; waits for the device."""
        return bool(torch.stack([p.isfinite().all() for p in self.parameters.values()]).all())

    def save(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """Writes a checkpoint, one file with the facts inside, so that the two never disagree."""
        tensors: dict[str, Tensor] = {f"model.{name}": p for name, p in self.parameters.items()}
        tensors |= {f"ema.{name}": value for name, value in self.ema.items()}
        for name, parameter in self.parameters.items():
            moments = self.optimizer.state[parameter]
            tensors |= {f"{key}.{name}": torch.as_tensor(moments[key]) for key in _MOMENTS}
        save_safetensors(folder / FILE, tensors, {"facts": json.dumps(facts)})

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """Puts a checkpoint's numbers in place.

        Raises:
            BadFile: if a tensor is missing or of another shape.
        """
        tensors = load_safetensors(folder / FILE)
        wanted: dict[str, Tensor] = {f"model.{name}": p for name, p in self.parameters.items()}
        wanted |= {f"ema.{name}": value for name, value in self.ema.items()}
        for name, target in wanted.items():
            target.copy_(_shaped(tensors, name, target, folder))
        for name, parameter in self.parameters.items():
            like = {"step": torch.zeros(()), "exp_avg": parameter, "exp_avg_sq": parameter}
            self.optimizer.state[parameter] = {
                key: _shaped(tensors, f"{key}.{name}", like[key], folder).to(parameter.device, copy=True)
                for key in _MOMENTS
            }


def read_facts(folder: Path) -> dict[str, Any] | None:
    """The facts of a checkpoint; None where there is none.

    Raises:
        BadFile: if the file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            facts: dict[str, Any] = json.loads((file.metadata() or {})["facts"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise BadFile(f"{path}: not a whole checkpoint ({error}); remove its folder to start anew") from error
    return facts


def _shaped(tensors: Mapping[str, Tensor], name: str, like: Tensor, folder: Path) -> Tensor:
    if name not in tensors or tensors[name].shape != like.shape:
        raise BadFile(f"{folder / FILE}: {name} is missing or of another shape; remove the folder to start anew")
    return tensors[name]


def _data(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    return [parameter.detach() for parameter in parameters]

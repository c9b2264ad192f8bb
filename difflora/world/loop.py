"""One small training loop for the world's models: resumable, seeded by step, with EMA."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from tqdm import tqdm

from difflora.errors import BadFile, DiffLoRAError
from difflora.files import load_safetensors, save_safetensors, write_json
from difflora.world.muon import Muon

logger = logging.getLogger(__name__)

_LOG_EVERY = 50
_LIMIT: ContextVar[float | None] = ContextVar("seconds a training may take", default=None)


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Every ``train`` inside that is given no limit of its own stops after about ``seconds``; None lifts the limit."""
    token = _LIMIT.set(seconds)
    try:
        yield
    finally:
        _LIMIT.reset(token)


@dataclass(frozen=True)
class TrainReport:
    """What a training did: steps in all, seconds in all (over every resumption) and the loss every 50 steps."""

    steps: int
    seconds: float
    losses: list[float]


def _for_muon(name: str, weight: Tensor) -> bool:
    """Whether a weight is a hidden matrix or convolution: no embedding, no head, no thin first or last layer."""
    hidden = not any(word in name for word in ("embedding", "head", "unet.conv_in", "unet.conv_out"))
    return hidden and weight.dim() >= 2 and weight.shape[0] > 8 and weight.shape[1] > 8


class _State:
    """Parameters, optimiser moments and EMA of several modules, as one flat set of named tensors."""

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        lr: float,
        muon_lr: float | None,
        weight_decay: float,
        betas: tuple[float, float],
        ema_decay: float | None,
        rates: Mapping[str, float],
    ) -> None:
        self.modules = modules
        named = [(f"{m}.{n}", p) for m, module in modules.items() for n, p in module.named_parameters()]
        self.parameters = {name: p for name, p in named if p.requires_grad}
        hidden = {n: p for n, p in self.parameters.items() if muon_lr is not None and _for_muon(n, p)}
        grouped: dict[tuple[float, float], list[nn.Parameter]] = {}  # (weight decay, rate over lr) -> parameters
        for name, parameter in self.parameters.items():
            if name not in hidden:
                rate = next((rate for part, rate in rates.items() if part in name), 1.0)
                grouped.setdefault((weight_decay if parameter.dim() >= 2 else 0.0, rate), []).append(parameter)
        groups = [{"params": own, "weight_decay": decay, "rate": rate} for (decay, rate), own in grouped.items()]
        self.optimizers: list[tuple[torch.optim.Optimizer, float]] = [
            (torch.optim.AdamW(groups, lr=lr, betas=betas, foreach=True), lr)
        ]
        if muon_lr is not None and hidden:
            self.optimizers.append((Muon(hidden.values(), lr=muon_lr), muon_lr))
        self.ema = {n: p.detach().clone() for n, p in self.parameters.items()} if ema_decay else {}
        self.ema_decay = ema_decay or 0.0

    def optimize(self, rate: float) -> None:
        """One step of every optimiser at ``rate`` times its peak learning rate; the gradients are let go."""
        for optimizer, peak in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = peak * rate * group.get("rate", 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def moments(self, parameter: Tensor) -> dict[str, Any]:
        """The state that whichever optimiser holds for a parameter."""
        return next((o.state[parameter] for o, _ in self.optimizers if parameter in o.state), {})

    @torch.no_grad()
    def update_ema(self, step: int) -> None:
        if self.ema:
            decay = min(self.ema_decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(self.ema.values()), [p.detach() for p in self.parameters.values()], 1 - decay)

    @torch.no_grad()
    def adopt_ema(self) -> None:
        for name, value in self.ema.items():
            self.parameters[name].copy_(value)

    def save(self, folder: Path, facts: dict[str, object]) -> None:
        tensors = {f"model.{n}": p.detach() for n, p in self.parameters.items()}
        tensors |= {f"buffer.{m}.{n}": b for m, module in self.modules.items() for n, b in module.named_buffers()}
        tensors |= {f"ema.{n}": value for n, value in self.ema.items()}
        for name, parameter in self.parameters.items():
            for key, value in self.moments(parameter).items():
                tensors[f"optimizer.{key}.{name}"] = torch.as_tensor(value)
        save_safetensors(folder / "state.safetensors", tensors, {"facts": json.dumps(facts)})
        write_json(folder / "state.json", facts)

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        tensors = load_safetensors(folder / "state.safetensors")
        buffers = {f"buffer.{m}.{n}": b for m, module in self.modules.items() for n, b in module.named_buffers()}
        targets = {f"model.{n}": p for n, p in self.parameters.items()} | buffers
        targets |= {f"ema.{n}": value for n, value in self.ema.items()}
        for name, target in targets.items():
            if name not in tensors or tensors[name].shape != target.shape:
                raise BadFile(f"{folder}: {name} is missing or of another shape; remove the folder to start anew")
            target.copy_(tensors[name])
        for optimizer, _ in self.optimizers:
            names = {id(p) for group in optimizer.param_groups for p in group["params"]}
            for name, parameter in self.parameters.items():
                if id(parameter) in names:
                    optimizer.state[parameter] = {
                        key: tensors[f"optimizer.{key}.{name}"].clone()
                        for key in ("step", "exp_avg", "exp_avg_sq", "momentum_buffer")
                        if f"optimizer.{key}.{name}" in tensors
                    }


def _rate(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up, then a cosine down to 5%."""
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def _facts(folder: Path) -> dict[str, object]:
    """Facts of the last whole checkpoint; they travel inside the tensors' file, which is renamed into place whole."""
    path = folder / "state.safetensors"
    if not path.exists():
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            facts: dict[str, object] = json.loads((file.metadata() or {}).get("facts", "{}"))
    except SafetensorError as error:
        raise BadFile(f"{path}: not a readable checkpoint ({error}); remove its folder to start anew") from error
    return facts


def train(
    name: str,
    modules: Mapping[str, nn.Module],
    step: Callable[[int, torch.Generator], Tensor],
    *,
    steps: int,
    lr: float,
    checkpoint: Path,
    seed: int,
    muon_lr: float | None = None,
    ema_decay: float | None = None,
    weight_decay: float = 0.01,
    rates: Mapping[str, float] = MappingProxyType({}),
    warmup: int = 100,
    betas: tuple[float, float] = (0.9, 0.99),
    grad_clip: float = 1.0,
    save_every: int = 500,
    time_limit_s: float | None = None,
) -> TrainReport:
    """Trains ``modules`` for ``steps`` steps, from the checkpoint where there is one.

    Args:
        name: what is trained, for progress and messages.
        modules: the modules by name; those parameters that require a gradient are trained.
        step: ``step(i, generator)`` gives the loss of step i, a scalar. The generator is seeded from (seed, i): the
            data order is a function of the step, so that a resumed run equals an uninterrupted one.
        steps: optimiser steps in all.
        lr: AdamW's peak learning rate; linear warm-up, cosine down to 5%.
        checkpoint: folder of the checkpoint, made when missing.
        seed: seed of the data order.
        muon_lr: peak learning rate of Muon for the hidden matrices and convolutions; None leaves them to AdamW.
        ema_decay: decay of an exponential moving average of the weights; None for none.
        weight_decay: AdamW's, on matrices alone.
        rates: a part of a parameter's name -> how many times ``lr`` it learns at, the first that is found in it.
        warmup: steps of warm-up.
        betas: AdamW's.
        grad_clip: largest norm of the gradient.
        save_every: steps between checkpoints.
        time_limit_s: stop after about so many seconds of this call, with a checkpoint; the weights are then those so
            far and a later call goes on.

    Returns:
        The report. The modules hold the averaged weights if ``ema_decay`` is given.

    Raises:
        DiffLoRAError: if a loss is not finite (read every 50 steps for the log, and before a checkpoint).
    """
    state = _State(modules, lr, muon_lr, weight_decay, betas, ema_decay, rates)
    facts = _facts(checkpoint)
    limit = _LIMIT.get() if time_limit_s is None else time_limit_s
    done, seconds = int(str(facts.get("step", 0))), float(str(facts.get("seconds", 0.0)))
    losses: list[float] = [float(x) for x in facts.get("losses", [])]  # type: ignore[attr-defined]
    if done:
        state.load(checkpoint)
        logger.info("%s: going on from step %d", name, done)
    generator = torch.Generator()
    started = time.monotonic()
    recent: list[Tensor] = []

    def mean_loss() -> float:
        value = float(torch.stack(recent).mean())
        if not math.isfinite(value):
            raise DiffLoRAError(f"{name}: the loss is {value} within 50 steps before step {reached}; lower lr={lr}")
        return value

    def save(at: int) -> None:
        if recent:
            mean_loss()  # a checkpoint never holds what a loss that is not finite left behind
        spent = seconds + time.monotonic() - started
        state.save(checkpoint, {"step": at, "seconds": spent, "losses": losses})

    bar = tqdm(range(done, steps), desc=name, initial=done, total=steps, unit="step", mininterval=2)
    reached = done
    for i in bar:
        generator.manual_seed(seed * 1_000_003 + i)
        loss = step(i, generator)
        loss.backward()
        nn.utils.clip_grad_norm_(list(state.parameters.values()), grad_clip)
        state.optimize(_rate(i, steps, warmup))
        state.update_ema(i)
        recent.append(loss.detach())
        reached = i + 1
        if reached % _LOG_EVERY == 0 or reached == steps:
            value = mean_loss()
            recent.clear()
            losses.append(round(value, 6))
            bar.set_postfix(loss=f"{value:.4f}")
        if limit is not None and time.monotonic() - started > limit:
            break
        if reached % save_every == 0:
            save(reached)
    if reached > done:
        save(reached)
    state.adopt_ema()
    return TrainReport(reached, seconds + time.monotonic() - started, losses)

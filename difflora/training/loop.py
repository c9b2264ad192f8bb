"""The one training loop, on Hugging Face Accelerate: it reads no device value between logs, and resumes bit for bit."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from difflora.corpus.header import first_difference, sweep
from difflora.errors import BadParameter, DiffLoRAError
from difflora.processes import make_accelerator
from difflora.training.batches import Batch, Batches
from difflora.training.settings import LoopSettings
from difflora.training.state import TrainingState, read_facts

logger = logging.getLogger(__name__)

OnLog = Callable[[int, Mapping[str, float]], None]
"""Called with the number of steps done and their means since the last call, on the main process alone."""

_NO_MATTER = ("log_every", "save_every")


@dataclass(frozen=True)
class TrainReport:
    """What a training did.

    Attributes:
        steps: steps in all, those of earlier calls included.
        seconds: likewise.
        history: a mapping a log: ``step``, and the means of what the loss function gave.
    """

    steps: int
    seconds: float
    history: list[dict[str, float]]


def train(
    name: str,
    task: nn.Module,
    names: Sequence[str],
    settings: LoopSettings,
    *,
    checkpoint: str | Path,
    fingerprint: Mapping[str, Any] | None = None,
    accelerator: Accelerator | None = None,
    lr_factor: Callable[[str], float] | None = None,
    on_log: OnLog | None = None,
    progress: bool = True,
) -> TrainReport:
    """Trains a task's parameters, going on from the checkpoint where there is one.

    A step's people and random numbers are a function of seed and step, so the step's number is the whole of a
    checkpoint's data position and random state: on a CPU, a run that was killed and called again ends with the bits of
    one that ran through.

    Args:
        name: what is trained, for progress and messages.
        task: a module whose ``forward(batch)`` gives named scalars, ``loss`` among them. Those of its parameters that
            require a gradient are trained, in place.
        names: whom there is to train on.
        settings: how.
        checkpoint: folder of the checkpoint; made if missing.
        fingerprint: plain values that decide the result beside the settings (data, model); a checkpoint of others is
            refused.
        accelerator: None for one on the default device. Its processes share a batch.
        lr_factor: a parameter's name in ``task`` -> what its rate is multiplied by; None for 1.
        on_log: told the means of each ``log_every`` steps, with ``lr`` and ``seconds_left``.
        progress: whether to show a bar with the time left.

    Returns:
        The report. The task holds the averaged weights, where there is an average.

    Raises:
        DiffLoRAError: if a loss or a weight is not finite; the step and its people are named.
        BadParameter: if the checkpoint is of other settings (the key is named), or a batch cannot be shared out.
        BadFile: if the checkpoint is damaged.
    """
    accelerator = accelerator or make_accelerator()
    folder = Path(checkpoint)
    task.to(accelerator.device)
    state = TrainingState(task, settings, lr_factor)
    network, optimizer = accelerator.prepare(task, state.optimizer)
    batches = Batches(
        names,
        settings.batch_size,
        settings.seed,
        accelerator.device,
        accelerator.process_index,
        accelerator.num_processes,
    )
    identity = {"settings": settings.model_dump(mode="json", exclude=set(_NO_MATTER)), **(fingerprint or {})}
    identity = json.loads(json.dumps(identity))
    if accelerator.is_main_process:
        sweep(folder)
    facts = _resume(name, state, folder, identity)
    log = _Log(name, settings, batches, accelerator, on_log, list(facts.get("history", [])))
    first, spent = int(facts.get("step", 0)), float(facts.get("seconds", 0.0))
    started = time.monotonic()
    steps = range(first, settings.steps)
    shown = progress and accelerator.is_main_process
    bar = tqdm(steps, desc=name, initial=first, total=settings.steps, unit="step", mininterval=2, disable=not shown)
    network.train()
    for step in bar:
        losses = step_once(network, batches[step], state, optimizer, settings, accelerator)
        log.add(losses)
        done = step + 1
        if done % settings.log_every == 0 or done == settings.steps:
            left = (settings.steps - done) * (time.monotonic() - started) / (done - first)
            bar.set_postfix(loss=f"{log.flush(done, left):.4g}")
        if done % settings.save_every == 0 or done == settings.steps:
            log.check_weights(state, done)
            if accelerator.is_main_process:
                seconds = spent + time.monotonic() - started
                state.save(folder, {"step": done, "seconds": seconds, "history": log.history, "fingerprint": identity})
    state.adopt_average()
    task.train(False)
    return TrainReport(settings.steps, spent + time.monotonic() - started, log.history)


def step_once(
    network: nn.Module,
    batch: Batch,
    state: TrainingState,
    optimizer: Any,
    settings: LoopSettings,
    accelerator: Accelerator,
) -> Mapping[str, Tensor]:
    """One optimisation step: forward in the loop's precision, backward, clipping, AdamW, and the average.

    Args:
        network: the task, as the accelerator prepared it.
        batch: the step's.
        state: what is trained.
        optimizer: the state's, as the accelerator prepared it.
        settings: how.
        accelerator: whose device.

    Returns:
        What the task gave, unread on the device.
    """
    state.set_lr(settings.lr_at(batch.step))
    with _autocast(settings, accelerator.device):
        losses: Mapping[str, Tensor] = network(batch)
    accelerator.backward(losses["loss"])
    accelerator.clip_grad_norm_(list(state.parameters.values()), settings.max_grad_norm)
    optimizer.step()
    optimizer.zero_grad()
    state.average(batch.step)
    return losses


class _Log:
    """Losses as they lie on the device, read a window at a time."""

    def __init__(
        self,
        name: str,
        settings: LoopSettings,
        batches: Batches,
        accelerator: Accelerator,
        on_log: OnLog | None,
        history: list[dict[str, float]],
    ) -> None:
        self._name, self._settings, self._batches = name, settings, batches
        self._accelerator, self._on_log = accelerator, on_log
        self._window: list[Mapping[str, Tensor]] = []
        self.history = history

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Keeps a step's scalars, unread."""
        self._window.append({key: value.detach().float() for key, value in losses.items()})

    def flush(self, done: int, seconds_left: float) -> float:
        """Reads the window, refuses what is not finite, and tells the means; gives that of the loss."""
        keys = list(self._window[0])
        values = torch.stack([torch.stack([losses[key] for key in keys]) for losses in self._window])  # (K, keys)
        values = self._accelerator.reduce(values, "mean").cpu()
        first = done - len(self._window)
        self._window.clear()
        bad = (~values[:, keys.index("loss")].isfinite()).nonzero()
        if len(bad):
            self._stop(f"the loss is {float(values[bad[0, 0], keys.index('loss')])}", first + int(bad[0, 0]))
        means = dict(zip(keys, values.mean(0).tolist(), strict=True))
        self.history.append({"step": done, **{key: float(f"{value:.6g}") for key, value in means.items()}})
        if self._on_log is not None and self._accelerator.is_main_process:
            self._on_log(done, means | {"lr": self._settings.lr_at(done - 1), "seconds_left": seconds_left})
        return float(means["loss"])

    def check_weights(self, state: TrainingState, done: int) -> None:
        """Refuses weights that are not finite, before they reach a checkpoint."""
        if not state.is_finite():
            self._stop("a weight is not finite after it", done - 1)

    def _stop(self, what: str, step: int) -> None:
        people = ", ".join(self._batches.people(step))
        raise DiffLoRAError(
            f"{self._name}: {what} at step {step} (people: {people}); give a lower lr than {self._settings.lr}, or "
            "look at these people's LoRAs; a checkpoint, where there is one, is from before"
        )


def _resume(name: str, state: TrainingState, folder: Path, fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """Loads a checkpoint of the same run and gives its facts; nothing where there is none."""
    facts = read_facts(folder)
    if facts is None:
        return {}
    if difference := first_difference(facts.get("fingerprint", {}), dict(fingerprint)):
        key, old, new = difference
        raise BadParameter(
            f"{folder}: holds a checkpoint of {name} with {key} = {old!r}, not {new!r}: keep the setting, or remove "
            "the folder to start anew"
        )
    state.load(folder)
    logger.info("%s: going on from step %d", name, facts["step"])
    return facts


def _autocast(settings: LoopSettings, device: torch.device) -> AbstractContextManager[Any]:
    if settings.precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)

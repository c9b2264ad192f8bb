"""The loop: resume to the bit, faults named, no waiting for the device."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from difflora.errors import BadFile, BadParameter, DiffLoRAError
from difflora.training.batches import Batch
from difflora.training.loop import TrainReport, train

NAMES = [f"p{place}" for place in range(10)]
Loop = Callable[..., Any]


class Killed(Exception):
    """Stands for a SIGKILL."""


class Fit(nn.Module):
    """Fits a line to a point each person; all kinds of draws take part."""

    def __init__(self, *, kill: int | None = None, spoil: int | None = None, steep: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.line = nn.Linear(3, 2)
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.kill, self.spoil, self.steep = kill, spoil, steep
        self.points = torch.randn(10, 3)

    def forward(self, batch: Batch) -> Mapping[str, Tensor]:
        if batch.step == self.kill:
            raise Killed
        x = self.points[batch.my_places] + 0.1 * batch.randn(3)
        loss = (self.line(x) - self.frozen - batch.rand()[:, None]).square().mean()
        if batch.step == self.spoil:
            loss = loss * float("nan")
        if self.steep:  # finite, but its gradient is not: the root is upright at zero
            loss = loss + (0 * self.line.weight).square().sum().sqrt()
        return {"loss": loss, "twice": 2 * loss.detach()}


def _run(task: nn.Module, folder: Path, settings: Any, **options: Any) -> TrainReport:
    return train("fit", task, NAMES, settings, checkpoint=folder, progress=False, **options)


def _weights(task: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in task.state_dict().items()}


@pytest.mark.parametrize("kill", [3, 5, 13, 19])
def test_a_resumed_run_equals_an_uninterrupted_one(loop: Loop, tmp_path: Path, kill: int) -> None:
    settings = loop()
    whole = Fit()
    expected = _run(whole, tmp_path / "whole", settings)
    with pytest.raises(Killed):
        _run(Fit(kill=kill), tmp_path / "killed", settings)
    resumed = Fit()
    torch.manual_seed(99)  # the global state has no part in it
    report = _run(resumed, tmp_path / "killed", settings)
    for name, tensor in _weights(whole).items():
        assert torch.equal(tensor, _weights(resumed)[name]), name
    assert report.history == expected.history
    left, right = (load_file(tmp_path / name / "state.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(left[name], right[name]) for name in left | right)


def test_a_finished_run_is_not_run_again(loop: Loop, tmp_path: Path) -> None:
    first = Fit()
    report = _run(first, tmp_path, loop())
    again = Fit(kill=0)
    assert _run(again, tmp_path, loop()).history == report.history
    assert torch.equal(again.line.weight, first.line.weight)


def test_it_learns_and_tells(loop: Loop, tmp_path: Path) -> None:
    told: list[tuple[int, Mapping[str, float]]] = []
    report = _run(Fit(), tmp_path, loop(steps=200, lr=0.05), on_log=lambda step, values: told.append((step, values)))
    assert [step for step, _ in told] == list(range(5, 201, 5))
    assert [entry["step"] for entry in report.history] == list(range(5, 201, 5))
    assert report.history[-1]["loss"] < 0.3 * report.history[0]["loss"]
    assert report.history[3]["twice"] == pytest.approx(2 * report.history[3]["loss"], rel=1e-4)
    assert told[-1][1]["seconds_left"] == 0
    assert told[0][1]["seconds_left"] > 0
    assert told[-1][1]["lr"] == pytest.approx(loop(steps=200, lr=0.05).lr_at(199))


def test_the_average_is_what_is_kept(loop: Loop, tmp_path: Path) -> None:
    averaged, plain = Fit(), Fit()
    _run(averaged, tmp_path / "a", loop(ema_decay=0.9))
    _run(plain, tmp_path / "b", loop(ema_decay=None))
    stored = load_file(tmp_path / "a" / "state.safetensors")
    assert torch.equal(stored["model.line.weight"], plain.line.weight)
    assert torch.equal(stored["ema.line.weight"], averaged.line.weight)
    assert not torch.equal(averaged.line.weight, plain.line.weight)


def test_frozen_parameters_stay_and_factors_count(loop: Loop, tmp_path: Path) -> None:
    task, start = Fit(), Fit()
    settings = loop(ema_decay=None, steps=5, weight_decay=0.0)
    _run(task, tmp_path, settings, lr_factor=lambda name: 0.0 if name == "line.bias" else 1.0)
    assert torch.equal(task.frozen, start.frozen)
    assert torch.equal(task.line.bias, start.line.bias)
    assert not torch.equal(task.line.weight, start.line.weight)


def test_a_large_eps_lets_a_number_move_by_its_gradient(loop: Loop, tmp_path: Path) -> None:
    """AdamW's step is the rate where eps is small, and the rate times gradient over eps where it is large."""
    settings = loop(ema_decay=None, steps=1, weight_decay=0.0, warmup_steps=0, lr=0.01, schedule="constant")
    moved = []
    for eps in (1e-8, 1e3):
        task, start = Fit(), Fit()
        _run(task, tmp_path / str(eps), settings.model_copy(update={"eps": eps}))
        moved.append((task.line.weight - start.line.weight).detach())
    torch.testing.assert_close(moved[0].abs(), torch.full((2, 3), 0.01), rtol=1e-3, atol=0)
    assert moved[1].abs().max() < 1e-4
    assert moved[1].abs().max() > 2 * moved[1].abs().min()


def test_a_loss_that_is_not_finite_names_step_and_people(loop: Loop, tmp_path: Path) -> None:
    from difflora.training.batches import Batches

    people = ", ".join(Batches(NAMES, 4, seed=0).people(12))
    with pytest.raises(DiffLoRAError, match=rf"fit: the loss is nan at step 12 \(people: {people}\)"):
        _run(Fit(spoil=12), tmp_path, loop())
    task = Fit()
    _run(task, tmp_path, loop())  # the checkpoint of step 10 was whole
    expected = Fit()
    _run(expected, tmp_path / "other", loop())
    assert torch.equal(task.line.weight, expected.line.weight)


def test_weights_that_are_not_finite_reach_no_checkpoint(loop: Loop, tmp_path: Path) -> None:
    with pytest.raises(DiffLoRAError, match="a weight is not finite after it at step 0"):
        _run(Fit(steep=True), tmp_path, loop(steps=1, log_every=1, save_every=1, ema_decay=None))
    assert not list(tmp_path.iterdir())


class _Reads(TorchDispatchMode):
    """Counts where a number leaves the device: each waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default)
        return func(*args, **(kwargs or {}))


def test_nothing_is_read_from_the_device_between_logs(loop: Loop, tmp_path: Path) -> None:
    counts = []
    for steps in (20, 40):
        with _Reads() as reads:
            _run(Fit(), tmp_path / str(steps), loop(steps=steps, log_every=20, save_every=20, ema_decay=0.9))
        counts.append(reads.count)
    assert counts[1] == 2 * counts[0], "reads go with logs, not with steps"
    with _Reads() as reads:
        _run(Fit(), tmp_path / "slow", loop(steps=40, log_every=40, save_every=40))
    assert reads.count == counts[0]


def test_a_checkpoint_of_other_settings_is_refused(loop: Loop, tmp_path: Path) -> None:
    _run(Fit(), tmp_path, loop(), fingerprint={"data": {"rows": "abc"}})
    with pytest.raises(BadParameter, match=r"fit with settings\.lr = 0\.001, not 0\.1"):
        _run(Fit(), tmp_path, loop(lr=0.1), fingerprint={"data": {"rows": "abc"}})
    with pytest.raises(BadParameter, match=r"data\.rows = 'abc', not 'xyz'"):
        _run(Fit(), tmp_path, loop(), fingerprint={"data": {"rows": "xyz"}})
    _run(Fit(), tmp_path, loop(log_every=1), fingerprint={"data": {"rows": "abc"}})  # does not decide the result


def test_damaged_checkpoints_are_named(loop: Loop, tmp_path: Path) -> None:
    _run(Fit(), tmp_path, loop())
    path = tmp_path / "state.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(BadFile, match="not a whole checkpoint"):
        _run(Fit(), tmp_path, loop())
    path.write_bytes(whole)
    tensors = load_file(path)
    with torch.no_grad():
        facts = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])["__metadata__"]
    del tensors["exp_avg.line.bias"]
    save_file(tensors, path, facts)
    with pytest.raises(BadFile, match=r"exp_avg\.line\.bias is missing"):
        _run(Fit(), tmp_path, loop())

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from difflora.errors import BadFile, DiffLoRAError
from difflora.world.loop import TrainReport, time_limit, train


def network(seed: int = 0) -> nn.Module:
    """A small network with a buffer that training changes."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))


def fit(model: nn.Module, folder: Path, steps: int, **settings: Any) -> TrainReport:
    def step(_: int, generator: torch.Generator) -> Tensor:
        x = torch.randn(16, 4, generator=generator)
        loss: Tensor = (model(x) - x.sum(1, keepdim=True)).pow(2).mean()
        return loss

    defaults: dict[str, Any] = {"lr": 1e-2, "seed": 3, "warmup": 5, "save_every": 10}
    return train("net", {"net": model}, step, steps=steps, checkpoint=folder, **(defaults | settings))


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def interrupted(model: nn.Module, folder: Path, at: int, **settings: Any) -> None:
    """Trains and dies like a killed process, after step ``at``; the last checkpoint is an earlier one."""

    class KilledError(Exception):
        pass

    def step(i: int, generator: torch.Generator) -> Tensor:
        if i == at:
            raise KilledError
        x = torch.randn(16, 4, generator=generator)
        loss: Tensor = (model(x) - x.sum(1, keepdim=True)).pow(2).mean()
        return loss

    defaults: dict[str, Any] = {"lr": 1e-2, "seed": 3, "warmup": 5, "save_every": 10, "steps": 60}
    with pytest.raises(KilledError):
        train("net", {"net": model}, step, checkpoint=folder, **(defaults | settings))


@pytest.mark.parametrize("settings", [{}, {"ema_decay": 0.9}, {"ema_decay": 0.9, "muon_lr": 0.02}], ids=str)
@pytest.mark.parametrize("at", [7, 10, 33])
def test_resumed_equals_uninterrupted_bit_for_bit(tmp_path: Path, settings: dict[str, float], at: int) -> None:
    whole, parts = network(), network()
    fit(whole, tmp_path / "whole", 60, **settings)
    interrupted(parts, tmp_path / "parts", at, **settings)
    # A new process begins with other weights, where there is a checkpoint: it says all.
    other = network(seed=99 if at >= 10 else 0)
    report = fit(other, tmp_path / "parts", 60, **settings)
    assert same(whole, other)
    assert report.steps == 60


def test_it_learns_and_reports(tmp_path: Path) -> None:
    report = fit(network(), tmp_path, 200)
    assert report.steps == 200
    assert report.seconds > 0
    assert len(report.losses) == 4
    assert report.losses[-1] < report.losses[0] / 2


def test_a_finished_training_does_nothing_more(tmp_path: Path) -> None:
    first, again = network(), network(seed=5)
    before = fit(first, tmp_path, 30, ema_decay=0.9)
    after = fit(again, tmp_path, 30, ema_decay=0.9)
    assert same(first, again)
    assert after.steps == 30
    assert after.losses == before.losses
    assert after.seconds == pytest.approx(before.seconds, abs=0.5)


def test_ema_is_the_running_mean_of_the_weights(tmp_path: Path) -> None:
    model, seen = nn.Linear(1, 1, bias=False), []

    def step(i: int, _: torch.Generator) -> Tensor:
        seen.append(model.weight.detach().clone())
        return (model.weight - 3).pow(2).sum()

    train("line", {"m": model}, step, steps=20, lr=0.1, checkpoint=tmp_path, seed=0, ema_decay=0.5, warmup=1)
    averaged = model.weight.detach().clone()
    plain = nn.Linear(1, 1, bias=False)
    plain.weight.data.copy_(seen[0])

    def again(i: int, _: torch.Generator) -> Tensor:
        return (plain.weight - 3).pow(2).sum()

    train("line", {"m": plain}, again, steps=20, lr=0.1, checkpoint=tmp_path / "plain", seed=0, warmup=1)
    expected = seen[0]
    for i, weight in enumerate([*seen[1:], plain.weight.detach()]):
        decay = min(0.5, (1 + i) / (10 + i))
        expected = torch.lerp(expected, weight, 1 - decay)
    torch.testing.assert_close(averaged, expected)
    assert not torch.equal(averaged, plain.weight)


def test_data_are_a_function_of_the_step(tmp_path: Path) -> None:
    drawn: dict[str, list[Tensor]] = {"a": [], "b": []}
    for name in drawn:
        model = nn.Linear(2, 1)

        def step(_: int, generator: torch.Generator, name: str = name, model: nn.Module = model) -> Tensor:
            drawn[name].append(torch.randn(2, generator=generator))
            loss: Tensor = model(drawn[name][-1]).sum()
            return loss

        torch.manual_seed(ord(name))
        train(name, {"m": model}, step, steps=5, lr=1e-3, checkpoint=tmp_path / name, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(drawn["a"], drawn["b"], strict=True))
    assert not torch.equal(drawn["a"][0], drawn["a"][1])


def test_non_finite_loss_names_the_step_and_spares_the_checkpoint(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)

    def step(i: int, _: torch.Generator) -> Tensor:
        loss: Tensor = model(torch.ones(1, 1)).sum() * (float("nan") if i == 57 else 1.0)
        return loss

    with pytest.raises(DiffLoRAError, match=r"line: the loss is nan within 50 steps before step 100"):
        train("line", {"m": model}, step, steps=200, lr=0.1, checkpoint=tmp_path, seed=0, save_every=50)
    fresh = nn.Linear(1, 1)

    def fine(_: int, __: torch.Generator) -> Tensor:
        loss: Tensor = fresh(torch.ones(1, 1)).sum()
        return loss

    report = train("line", {"m": fresh}, fine, steps=51, lr=0.1, checkpoint=tmp_path, seed=0)
    assert report.steps == 51
    assert torch.isfinite(fresh.weight).all()


def test_non_finite_loss_is_never_saved_at_a_limit(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)

    def step(_: int, __: torch.Generator) -> Tensor:
        loss: Tensor = model(torch.ones(1, 1)).sum() * float("inf")
        return loss

    with pytest.raises(DiffLoRAError, match=r"the loss is -?inf"):
        train("line", {"m": model}, step, steps=200, lr=0.1, checkpoint=tmp_path, seed=0, time_limit_s=0)
    assert not list(tmp_path.iterdir())


def test_a_limit_stops_with_a_checkpoint_and_goes_on(tmp_path: Path) -> None:
    whole, parts = network(), network()
    fit(whole, tmp_path / "whole", 40)
    assert fit(parts, tmp_path / "parts", 40, time_limit_s=0).steps == 1
    with time_limit(0):
        assert fit(parts, tmp_path / "parts", 40).steps == 2
        assert fit(parts, tmp_path / "parts", 40, time_limit_s=60).steps == 40, "a limit of its own wins"
    assert same(whole, parts)


def test_time_limit_ends_with_its_block(tmp_path: Path) -> None:
    started = time.monotonic()
    with time_limit(1e-9):
        pass
    assert fit(network(), tmp_path, 12).steps == 12
    assert time.monotonic() - started < 60


def test_a_checkpoint_of_another_model_is_named(tmp_path: Path) -> None:
    fit(network(), tmp_path, 10)
    other = nn.Sequential(nn.Linear(4, 9), nn.BatchNorm1d(9), nn.Tanh(), nn.Linear(9, 1))
    with pytest.raises(BadFile, match=r"net\.0\.weight is missing or of another shape; remove the folder"):
        fit(other, tmp_path, 20)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    fit(network(), tmp_path, 10)
    path = tmp_path / "state.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BadFile, match=r"state\.safetensors"):
        fit(network(), tmp_path, 20)


def test_frozen_parameters_stay(tmp_path: Path) -> None:
    model = network()
    first = model[0]  # type: ignore[index]
    first.weight.requires_grad_(False)
    before = first.weight.clone()
    fit(model, tmp_path, 10)
    assert torch.equal(first.weight, before)


def test_parts_learn_at_rates_of_their_own(tmp_path: Path) -> None:
    model, before = network(), network()
    fit(model, tmp_path / "rates", 20, rates={"net.0": 0.0, "net.3": 0.1}, weight_decay=0.0)
    plain = network()
    fit(plain, tmp_path / "plain", 20, weight_decay=0.0)
    assert torch.equal(model[0].weight, before[0].weight)
    assert torch.equal(model[0].bias, before[0].bias)
    moved = [float((one[3].weight - before[3].weight).detach().abs().max()) for one in (model, plain)]
    assert 0 < moved[0] < 0.5 * moved[1]
    assert not torch.equal(model[1].weight, before[1].weight)

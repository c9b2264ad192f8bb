from __future__ import annotations

import accelerate
import pytest
import torch

from difflora.processes import make_accelerator


@pytest.mark.parametrize(("device", "cpu"), [("cpu", True), ("cuda", False), (None, False)])
def test_models_on_the_cpu_leave_an_accelerator_alone(
    device: str | None, cpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(accelerate, "Accelerator", lambda *, cpu: asked.append(cpu))
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    make_accelerator(device)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    make_accelerator(device)
    assert asked == [cpu, True]

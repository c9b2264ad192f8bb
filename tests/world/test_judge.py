"""The judge: its loss against a plain reckoning, a tiny training, and its file."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from difflora.errors import BadFile, BadParameter
from difflora.world.judge import (
    JudgeSettings,
    build_judge,
    contrastive_loss,
    judge_file,
    train_judge,
    verify_judge,
)
from difflora.world.pool import fresh_pool

TINY = JudgeSettings(widths=(8, 8), depths=(1, 1), expansion=1, steps=2, people=3, images_each=2)


def test_contrastive_loss_is_the_papers() -> None:
    x = torch.nn.functional.normalize(torch.randn(4, 6, generator=torch.Generator().manual_seed(1)))
    labels = torch.tensor([0, 0, 1, 1])
    expected = 0.0
    for i, partner in enumerate((1, 0, 3, 2)):
        cosines = [float(x[i] @ x[k]) / 0.1 for k in range(4)]
        expected -= cosines[partner] - math.log(sum(math.exp(c) for k, c in enumerate(cosines) if k != i))
    assert float(contrastive_loss(3 * x, labels, 0.1)) == pytest.approx(expected / 4, rel=1e-4)


def test_contrastive_loss_wants_partners() -> None:
    with pytest.raises(ValueError, match="at least twice"):
        contrastive_loss(torch.randn(3, 4), torch.tensor([0, 0, 1]), 0.1)


def test_building_is_seeded() -> None:
    a, b = build_judge(TINY), build_judge(TINY)
    torch.rand(1)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_tiny_training_gives_a_file_that_is_measured(tmp_path: Path) -> None:
    report = train_judge(TINY, tmp_path / "assets", tmp_path / "work", pool=fresh_pool(4, 3, 7))
    assert report["steps"] == 2
    assert report["onnx_error"] < 1e-4
    assert judge_file(tmp_path / "assets").stat().st_size < 4_000_000
    bars = verify_judge(tmp_path / "assets", seed=5, count=20)
    assert bars[0].goal == 0.95
    assert 0 <= bars[0].figure <= 1


def test_a_small_pool_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="people=3"):
        train_judge(TINY, tmp_path, tmp_path, pool=fresh_pool(2, 2, 7))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"recogniser\.onnx"):
        verify_judge(tmp_path, seed=5, count=20)

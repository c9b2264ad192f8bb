"""Identities with a gradient, against the encoder's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from difflora.encoders.face_gradient import FaceGradient
from difflora.encoders.faces import InsightFaceEncoder
from difflora.errors import BadFile
from difflora.world.pool import fresh_pool

ASSETS = Path(__file__).parents[2] / "assets" / "embedded" / "insightface"


@pytest.fixture(scope="module")
def encoder() -> InsightFaceEncoder:
    return InsightFaceEncoder(ASSETS, "world", det_size=(128, 128))


@pytest.fixture
def pictures() -> torch.Tensor:
    """Three people and a grey wall, (4, 3, H, W) in [0, 1]."""
    faces = fresh_pool(3, 1, 11).images.float() / 255
    return torch.cat([faces, torch.full_like(faces[:1], 0.5)])


def test_it_says_what_the_encoder_says(encoder: InsightFaceEncoder, pictures: torch.Tensor) -> None:
    pixels = (pictures * 255).round().byte().permute(0, 2, 3, 1).numpy()
    expected = encoder.encode(list(pixels))
    embeddings, found = FaceGradient(encoder)(pictures)
    assert found.tolist() == expected.found.tolist() == [True, True, True, False]
    assert (embeddings.numpy() * expected.embeddings).sum(1)[:3] == pytest.approx(1, abs=1e-3)
    assert not embeddings[3].any()


def test_pixels_follow_the_gradient_to_another_person(encoder: InsightFaceEncoder, pictures: torch.Tensor) -> None:
    """Some steps on the first picture's pixels bring it near the second person, for onnxruntime too."""
    gradient = FaceGradient(encoder)
    target = gradient(pictures)[0][1]
    changed = pictures[:1].clone().requires_grad_()
    for _ in range(12):
        embeddings, found = gradient(changed)
        assert bool(found.all())
        (loss,) = torch.autograd.grad(1 - embeddings[0] @ target, changed)
        changed = (changed.detach() - 0.02 * loss.sign()).clamp(0, 1).requires_grad_()
    pixels = (torch.cat([pictures[:1], changed.detach()]) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    before, after = encoder.encode(list(pixels)).embeddings @ target.numpy()
    assert after > before + 0.3


def test_where_nobody_is_no_gradient_comes(encoder: InsightFaceEncoder, pictures: torch.Tensor) -> None:
    wall = pictures[3:].clone().requires_grad_()
    embeddings, found = FaceGradient(encoder)(wall)
    assert not bool(found.any())
    assert not embeddings.requires_grad
    assert np.count_nonzero(embeddings.numpy()) == 0


def test_other_crops_are_refused(encoder: InsightFaceEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "crop_size", 96)
    with pytest.raises(BadFile, match=r"recogniser\.onnx: takes crops of 96 pixels"):
        FaceGradient(encoder)

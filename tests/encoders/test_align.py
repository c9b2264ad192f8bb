"""The torch alignment against InsightFace's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from difflora.encoders.align import align, similarity

face_align = pytest.importorskip("insightface.utils.face_align")


def _landmarks(n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    base = torch.tensor([[22.0, 28.0], [41.0, 29.0], [31.0, 38.0], [25.0, 46.0], [38.0, 46.0]])
    return base + torch.randn(n, 5, 2, generator=generator) * 2


@pytest.mark.filterwarnings("ignore")
def test_similarity_equals_insightface() -> None:
    landmarks = _landmarks(8)
    for ours, points in zip(similarity(landmarks), landmarks, strict=True):
        np.testing.assert_allclose(ours, face_align.estimate_norm(points.numpy()), atol=2e-3)


@pytest.mark.filterwarnings("ignore")
def test_crop_equals_insightface() -> None:
    generator = torch.Generator().manual_seed(4)
    images = torch.randint(0, 256, (4, 3, 64, 64), generator=generator, dtype=torch.uint8)
    landmarks = _landmarks(4)
    ours = align(images.float(), landmarks)
    for crop, image, points in zip(ours, images, landmarks, strict=True):
        theirs = face_align.norm_crop(np.ascontiguousarray(image.permute(1, 2, 0).numpy()), points.numpy())
        difference = np.abs(crop.permute(1, 2, 0).numpy() - theirs)
        assert difference.mean() < 1.5  # of 255, on noise: OpenCV rounds places to 1/32 pixel
        assert difference.max() < 12


@pytest.mark.parametrize("landmarks", [torch.zeros(2, 5, 2), torch.full((1, 5, 2), float("nan")), torch.zeros(2, 4, 2)])
def test_bad_landmarks_are_refused(landmarks: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="landmarks"):
        similarity(landmarks)

"""A tiny style judge, and what the stored one tells apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from difflora.encoders.recogniser import FaceRecogniser
from difflora.encoders.whole import resized
from difflora.errors import BadFile
from difflora.world.style_models.judge import (
    FILE,
    StyleJudgeSettings,
    StyleNames,
    draw_styles,
    train_style_judge,
    verify_style_judge,
)
from difflora.world.styles import sample_styles

ASSETS = Path(__file__).parents[3] / "assets" / "embedded"
TINY = StyleJudgeSettings(channels=(8, 8, 8), dimension=16, steps=2, styles=4, images_each=2)


def test_a_tiny_training_leaves_a_recogniser_of_pictures(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    pool = draw_styles(sample_styles(6, generator), 3, generator).unflatten(0, (6, 3))
    report = train_style_judge(TINY, tmp_path / "assets", tmp_path / "work", pool=pool)
    assert report["steps"] == 2
    assert report["onnx_error"] < 1e-4
    judge = FaceRecogniser.open(tmp_path / "assets" / FILE)
    assert (judge.crop_size, judge.dimension) == (112, 16), "InsightFace takes no smaller pictures for a recogniser's"
    seen = judge.embed([resized(image.permute(1, 2, 0).numpy(), 112) for image in pool[0]])
    np.testing.assert_allclose(np.linalg.norm(seen, axis=1), 1, atol=1e-5)


def test_every_picture_of_a_style_shows_somebody_else() -> None:
    generator = torch.Generator().manual_seed(1)
    pictures = draw_styles(sample_styles(18, generator), 2, generator)
    assert pictures.shape == (36, 3, 64, 64)
    assert len({picture.numpy().tobytes() for picture in pictures}) == 36


@pytest.mark.skipif(not (ASSETS / FILE).is_file(), reason="the style judge is not stored here")
def test_the_stored_one_names_kinds() -> None:
    rows = {bar.name: bar.figure for bar in verify_style_judge(ASSETS, 91, 168)}
    assert rows["style judge: kind named right on renders"] > 0.85
    assert rows["style judge: mean cosine, same style"] > rows["style judge: mean cosine, different styles"] + 0.4


def test_a_missing_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="no such file"):
        StyleNames(tmp_path, 1)

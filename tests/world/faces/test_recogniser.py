"""The recogniser: margin, folding, a tiny training, and InsightFace reading its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from difflora.encoders.align import align
from difflora.errors import BadFile
from difflora.world.faces.augment import blur, degrade, jitter, training_crops
from difflora.world.faces.layers import folded
from difflora.world.faces.metrics import verification
from difflora.world.faces.recogniser import (
    CosineMargin,
    RecogniserSettings,
    build_recogniser,
    embed_aligned,
    load_recogniser,
    train_recogniser,
    verify_recogniser,
)
from difflora.world.pool import fresh_pool

TINY = RecogniserSettings(channels=(4, 4, 8), steps=2, batch_size=4)


def test_margin_is_taken_from_the_right_person_alone() -> None:
    head = CosineMargin(3, 10.0, torch.Generator().manual_seed(0))
    x, labels = torch.randn(2, 512), torch.tensor([2, 0])
    cosines = F.normalize(x) @ F.normalize(head.weight).T
    cosines[0, 2] -= 0.3
    cosines[1, 0] -= 0.3
    torch.testing.assert_close(head(x, labels, 0.3), F.cross_entropy(10 * cosines, labels))


def test_folding_changes_nothing() -> None:
    model = build_recogniser(TINY).train()
    crops = torch.rand(8, 3, 112, 112) * 2 - 1
    model(crops)  # moves the running statistics
    model.eval()
    flat = folded(model)
    assert not [part for part in flat.modules() if "BatchNorm" in type(part).__name__]
    with torch.no_grad():
        torch.testing.assert_close(flat(crops), model(crops), atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_insightface_runs_a_tiny_training(tmp_path: Path) -> None:
    model_zoo = pytest.importorskip("insightface.model_zoo")
    pool = fresh_pool(4, 3, 7)
    report = train_recogniser(TINY, tmp_path / "assets", tmp_path / "work", pool=pool)
    assert report["steps"] == 2
    assert report["onnx_error"] < 1e-4
    path = tmp_path / "assets/insightface/models/world/recogniser.onnx"
    recogniser = model_zoo.get_model(str(path), providers=["CPUExecutionProvider"])
    assert type(recogniser).__name__ == "ArcFaceONNX"
    assert (recogniser.input_mean, recogniser.input_std) == (127.5, 127.5)
    face = type("Face", (), {"kps": pool.landmarks[0].numpy()})()
    picture = np.ascontiguousarray(pool.images[0].permute(1, 2, 0).flip(-1).numpy())
    theirs = torch.from_numpy(recogniser.get(picture, face))
    ours = embed_aligned(path, pool)
    assert theirs.shape == (512,)
    assert float(F.cosine_similarity(theirs, ours[0], dim=0)) > 0.999
    crops = align(pool.batch(torch.arange(len(pool))), pool.landmarks) * 2 - 1
    torch.testing.assert_close(F.normalize(load_recogniser(path)(crops)), ours, atol=1e-4, rtol=1e-4)
    bars = verify_recogniser(tmp_path / "assets", seed=5, count=20)
    assert [bar.name for bar in bars] == ["recogniser: TAR@FAR 1%, true landmarks"]


def test_a_recogniser_to_load_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="no such file"):
        load_recogniser(tmp_path / "none.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(BadFile, match=r"broken\.onnx: not a"):
        load_recogniser(tmp_path / "broken.onnx")


def test_training_is_repeatable(tmp_path: Path) -> None:
    pool = fresh_pool(4, 3, 7)
    files = []
    for name in ("a", "b"):
        train_recogniser(TINY, tmp_path / name, tmp_path / name, pool=pool)
        files.append((tmp_path / name / "insightface/models/world/recogniser.onnx").read_bytes())
    assert files[0] == files[1]


def test_verification_by_hand() -> None:
    unit = F.normalize(torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [0.1, 1]]))
    figures = verification(unit, torch.tensor([0, 0, 1, 1]))
    assert figures.tar == 1.0
    assert figures.same > 0.9
    assert figures.threshold < 0.3
    lost = verification(torch.cat([unit[:3], torch.zeros(1, 2)]), torch.tensor([0, 0, 1, 1]))
    assert lost.tar == 0.5
    with pytest.raises(ValueError, match="two pictures"):
        verification(unit, torch.arange(4))


def test_augmentation_is_seeded_and_stays_in_range() -> None:
    pool = fresh_pool(4, 1, 7)
    rows = torch.arange(4)
    first, second = (
        training_crops(pool, rows, torch.Generator().manual_seed(3), landmark_noise=0.05, strength=1.0)
        for _ in range(2)
    )
    assert torch.equal(first, second)
    assert first.shape == (4, 3, 112, 112)
    assert -1 <= float(first.min()) <= float(first.max()) <= 1
    images = pool.batch(rows)
    assert torch.equal(degrade(images, torch.Generator().manual_seed(0), 0.0), images)
    assert torch.equal(jitter(pool.landmarks, 0.0, torch.Generator().manual_seed(0)), pool.landmarks)


def test_blur_keeps_brightness_and_smooths() -> None:
    images = torch.rand(2, 3, 32, 32)
    soft = blur(images, torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(soft[0], images[0])
    assert float(soft[1].std()) < 0.6 * float(images[1].std())
    assert float(soft[1].mean()) == pytest.approx(float(images[1].mean()), abs=0.01)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "recogniser.onnx"
    path.write_bytes(b"\x08\x09")
    with pytest.raises(BadFile, match=r"recogniser\.onnx"):
        embed_aligned(path, fresh_pool(1, 1, 7))

"""The detector's targets, a tiny training, and InsightFace reading its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from difflora.errors import BadFile
from difflora.world.faces import DET_SIZE
from difflora.world.faces.canvases import draw_canvases, empty_places
from difflora.world.faces.detector import (
    DetectorSettings,
    _Scrfd,
    build_detector,
    detector_loss,
    export_detector,
    train_detector,
    verify_detector,
)
from difflora.world.faces.detector_targets import (
    anchors,
    assign,
    decode_boxes,
    decode_landmarks,
    encode_boxes,
    encode_landmarks,
    iou,
)
from difflora.world.faces.layers import folded
from difflora.world.pool import fresh_pool

TINY = DetectorSettings(widths=(4, 4, 8, 8, 8), neck=8, steps=2, batch_size=4, backgrounds=8)


def test_targets_decode_to_the_box_as_insightface_does() -> None:
    scrfd = pytest.importorskip("insightface.model_zoo.scrfd")
    box, landmarks = torch.tensor([31.0, 20.5, 80.0, 90.0]), torch.rand(5, 2) * 60 + 20
    places, strides, _ = anchors(128, 128)
    distances = encode_boxes(box.expand(len(places), 4), places, strides)
    offsets = encode_landmarks(landmarks.expand(len(places), 5, 2), places, strides)
    torch.testing.assert_close(decode_boxes(distances, places, strides), box.expand(len(places), 4))
    torch.testing.assert_close(decode_landmarks(offsets, places, strides)[7], landmarks)
    theirs = scrfd.distance2bbox(places.numpy(), (distances * strides[:, None]).numpy())
    np.testing.assert_allclose(theirs, box.expand(len(places), 4).numpy(), atol=1e-4)
    theirs = scrfd.distance2kps(places.numpy(), (offsets * strides[:, None]).numpy()).reshape(-1, 5, 2)
    np.testing.assert_allclose(theirs[3], landmarks.numpy(), atol=1e-4)


@pytest.mark.parametrize("side", [13.0, 20.0, 33.0, 48.0, 67.0, 94.0, 115.0])
def test_a_face_of_any_size_has_anchors(side: float) -> None:
    centres = torch.rand(64, 2, generator=torch.Generator().manual_seed(5)) * 100 + 12
    boxes = torch.cat([centres - side / 2, centres + side / 2], dim=1)
    present = torch.ones(64, dtype=torch.bool)
    present[0] = False
    positive = assign(boxes, present, 128, 128)
    assert not positive[0].any()
    assert (positive[1:].sum(dim=1) >= 1).all()
    assert (positive.sum(dim=1) < 40).all()


def test_sides_must_fit_the_strides() -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        anchors(100, 128)


def test_canvases_carry_their_truth() -> None:
    pool = fresh_pool(8, 1, 77)
    generator = torch.Generator().manual_seed(0)
    batch = draw_canvases(pool, empty_places(4, 1), 48, 128, generator, strength=0.0)
    assert batch.images.shape == (48, 3, 128, 128)
    assert 0 <= batch.images.min() <= batch.images.max() <= 1
    boxes = batch.boxes[batch.present]
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= 128).all()
    assert 0 < (~batch.present).sum() < 24
    eyes = batch.landmarks[batch.present][:, :2]
    assert (eyes[:, 1, 0] > eyes[:, 0, 0]).all()
    middle = batch.landmarks[batch.present].mean(dim=1)
    assert ((middle > boxes[:, :2]) & (middle < boxes[:, 2:])).all()
    again = draw_canvases(pool, empty_places(4, 1), 48, 128, torch.Generator().manual_seed(0), strength=0.0)
    assert torch.equal(again.images, batch.images)


def test_loss_falls_on_one_batch() -> None:
    pool = fresh_pool(8, 1, 77)
    model = build_detector(TINY).train()
    batch = draw_canvases(pool, empty_places(4, 1), 8, 128, torch.Generator().manual_seed(0), strength=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(25):
        loss = detector_loss(model, batch, TINY)
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]


def test_insightface_runs_a_tiny_training_at_any_size(tmp_path: Path) -> None:
    model_zoo = pytest.importorskip("insightface.model_zoo")
    report = train_detector(TINY, tmp_path / "assets", tmp_path / "work", pool=fresh_pool(8, 1, 77))
    assert report["steps"] == 2
    path = tmp_path / "assets/insightface/models/world/detector.onnx"
    detector = model_zoo.get_model(str(path), providers=["CPUExecutionProvider"])
    assert type(detector).__name__ == "SCRFD"
    for size in (DET_SIZE, (64, 64), (256, 192)):
        detector.prepare(ctx_id=-1, input_size=size, det_thresh=0.0)
        boxes, landmarks = detector.detect(np.zeros((50, 70, 3), np.uint8))
        assert boxes.shape[1:] == (5,)
        assert landmarks.shape[1:] == (5, 2)
        assert np.isfinite(boxes).all()


def test_export_holds_for_other_sizes_and_batches(tmp_path: Path) -> None:
    from difflora.world.faces.export import open_session

    model = folded(build_detector(TINY))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
    export_detector(model, tmp_path / "d.onnx")
    picture = torch.rand(3, 3, 64, 96)
    for ours, theirs in zip(
        _Scrfd(model)(picture), open_session(tmp_path / "d.onnx").run(None, {"input": picture.numpy()}), strict=True
    ):
        np.testing.assert_allclose(theirs, ours.numpy(), atol=1e-4)


def test_overlap() -> None:
    a, b = torch.tensor([0.0, 0, 4, 4]), torch.tensor([2.0, 0, 6, 4])
    assert float(iou(a, b)) == pytest.approx(8 / 24)
    assert float(iou(a, a + 10)) == 0


def test_missing_pack_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"detector\.onnx"):
        verify_detector(tmp_path, seed=5, count=2)

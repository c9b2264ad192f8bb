"""The face encoder: errors, choice of a face, and its batches against InsightFace one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from difflora.encoders.faces import InsightFaceEncoder
from difflora.encoders.pack import open_pack
from difflora.encoders.pictures import to_rgb
from difflora.errors import BadFile, BadImage
from difflora.world.faces.detector import DetectorSettings, build_detector, export_detector
from difflora.world.faces.layers import folded
from difflora.world.faces.recogniser import RecogniserSettings, build_recogniser, export_recogniser
from difflora.world.pool import fresh_pool


class _KnownFaces:
    """Stands for the detector: gives the faces it is told."""

    def __init__(self, *faces: tuple[np.ndarray, np.ndarray]) -> None:
        self.answer = list(faces)

    def detect(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        boxes = np.array([[*box, 0.9] for box, _ in self.answer], np.float32).reshape(-1, 5)
        return boxes, np.array([points for _, points in self.answer], np.float32).reshape(-1, 5, 2)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("insightface")
    detector = build_detector(DetectorSettings(widths=(4, 4, 8, 8, 8), neck=8))
    export_detector(folded(detector), root / "models/world/detector.onnx")
    recogniser = build_recogniser(RecogniserSettings(channels=(4, 4, 8)))
    export_recogniser(folded(recogniser), root / "models/world/recogniser.onnx")
    return root


@pytest.fixture
def encoder(root: Path) -> InsightFaceEncoder:
    return InsightFaceEncoder(root, "world", det_size=(128, 128), batch_size=2)


def _people(n: int) -> tuple[list[np.ndarray], list[tuple[np.ndarray, np.ndarray]]]:
    pool = fresh_pool(n, 1, 9)
    pictures = [np.ascontiguousarray(image.permute(1, 2, 0).numpy()) for image in pool.images]
    return pictures, [(b.numpy(), p.numpy()) for b, p in zip(pool.boxes, pool.landmarks, strict=True)]


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_batches_equal_insightface_one_by_one(encoder: InsightFaceEncoder) -> None:
    pictures, faces = _people(5)
    crops, single = [], []
    for picture, (_, points) in zip(pictures, faces, strict=True):
        encoder._detector = _KnownFaces((np.array([0.0, 0, 9, 9]), points))
        crops.append(encoder.crop(picture, encoder.faces(picture)[0]))
        stub: Any = type("Face", (), {"kps": points})()
        feature = encoder.recogniser._model.get(np.ascontiguousarray(picture[..., ::-1]), stub)
        single.append(feature / np.linalg.norm(feature))
    embeddings = encoder.embed_crops(crops)
    np.testing.assert_allclose(embeddings, np.stack(single), atol=1e-4)
    assert embeddings.dtype == np.float32


def test_the_largest_face_is_taken_and_missing_ones_are_told(encoder: InsightFaceEncoder) -> None:
    (picture, _), faces = _people(2)
    small, large = (np.array([0.0, 0, 5, 5]), faces[0][1]), (np.array([0.0, 0, 30, 30]), faces[1][1])
    encoder._detector = _KnownFaces(small, large)
    assert [face.area for face in encoder.faces(picture)] == [900.0, 25.0]
    both = encoder.encode([picture, Image.fromarray(picture)])
    encoder._detector = _KnownFaces(large)
    one = encoder.encode([picture], strict=True)
    np.testing.assert_allclose(both.embeddings, one.embeddings.repeat(2, axis=0), atol=1e-5)
    assert both.counts.tolist() == [2, 2]
    encoder._detector = _KnownFaces()
    none = encoder.encode([picture])
    assert not none.found.any()
    assert not none.embeddings.any()
    assert encoder.encode([]).embeddings.shape == (0, 512)


@pytest.mark.parametrize(("count", "message"), [(0, "me.png: no face found"), (2, "me.png: 2 faces found")])
def test_strict_wants_one_face(encoder: InsightFaceEncoder, count: int, message: str) -> None:
    (picture, _), faces = _people(2)
    encoder._detector = _KnownFaces(*faces[:count])
    with pytest.raises(BadImage, match=message):
        encoder.encode([picture], strict=True, names=["me.png"])


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((64, 64), np.uint8),
        np.zeros((64, 64, 3), np.float32),
        np.zeros((8, 64, 3), np.uint8),
        np.zeros((20, 400, 3), np.uint8),
        "face.png",
    ],
)
def test_unusable_pictures_are_refused(picture: Any) -> None:
    with pytest.raises(BadImage, match=r"me\.png"):
        to_rgb(picture, "me.png")


def test_pil_pictures_of_any_mode_are_taken() -> None:
    assert to_rgb(Image.new("RGBA", (32, 20))).shape == (20, 32, 3)
    assert to_rgb(Image.new("L", (32, 20), 7)).max() == 7


def test_crops_must_have_the_recognisers_size(encoder: InsightFaceEncoder) -> None:
    with pytest.raises(BadImage, match="crop 0"):
        encoder.embed_crops([np.zeros((64, 64, 3), np.uint8)])


def test_a_missing_pack_is_named_and_never_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import insightface.app.face_analysis as module

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("tried to download")

    monkeypatch.setattr(module, "ensure_available", refuse)
    with pytest.raises(BadFile, match="buffalo_l"):
        InsightFaceEncoder(tmp_path, "buffalo_l")
    (tmp_path / "models/buffalo_l").mkdir(parents=True)
    with pytest.raises(BadFile, match=r"holds no \.onnx"):
        InsightFaceEncoder(tmp_path, "buffalo_l")


def test_broken_packs_are_named(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models/world"
    folder.mkdir(parents=True)
    for file in (root / "models/world").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "recogniser.onnx").write_bytes((root / "models/world/recogniser.onnx").read_bytes()[:500])
    with pytest.raises(BadFile, match="readable face pack"):
        open_pack(tmp_path, "world")
    (folder / "recogniser.onnx").unlink()
    with pytest.raises(BadFile, match="no recogniser"):
        open_pack(tmp_path, "world")


def test_an_unknown_provider_is_named(root: Path) -> None:
    with pytest.raises(BadFile, match="Abacus"):
        open_pack(root, "world", provider="Abacus")


def test_encoding_is_repeatable(encoder: InsightFaceEncoder) -> None:
    pictures, faces = _people(1)
    encoder._detector = _KnownFaces(faces[0])
    first, second = encoder.encode(pictures), encoder.encode(pictures)
    assert torch.equal(torch.from_numpy(first.embeddings), torch.from_numpy(second.embeddings))
    assert float(np.linalg.norm(first.embeddings[0])) == pytest.approx(1.0, abs=1e-5)

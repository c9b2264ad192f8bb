"""The pack: its errors, and the stored one's bars at reduced size, through InsightFace alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from difflora.encoders.faces import InsightFaceEncoder
from difflora.errors import BadFile
from difflora.world.bars import Bar
from difflora.world.faces import DET_SIZE, PACK_NAME
from difflora.world.faces.detector import verify_detector
from difflora.world.faces.detector_targets import iou
from difflora.world.faces.pack import PACK_FILES, load_pack, to_bgr
from difflora.world.faces.recogniser import verify_recogniser
from difflora.world.judge import verify_judge
from difflora.world.manifest import MANIFEST, check_manifest
from difflora.world.pool import Pool, fresh_pool

ASSETS = Path(__file__).resolve().parents[3] / "assets" / "embedded"

stored = pytest.mark.skipif(not (ASSETS / MANIFEST).is_file(), reason="the world's models are not stored here")


def _figures(bars: list[Bar]) -> dict[str, float]:
    return {bar.name: bar.figure for bar in bars}


@pytest.fixture(scope="module")
def pool() -> Pool:
    return fresh_pool(10, 4, 4321)


@pytest.mark.parametrize("file", PACK_FILES)
def test_a_missing_or_truncated_file_is_named(tmp_path: Path, file: str) -> None:
    folder = tmp_path / "insightface" / "models" / PACK_NAME
    folder.mkdir(parents=True)
    for other in PACK_FILES:
        if other != file:
            (folder / other).write_bytes(b"\x08\x07")
    with pytest.raises(BadFile, match=file):
        load_pack(tmp_path)
    (folder / file).write_bytes(b"\x08\x07")
    with pytest.raises(BadFile, match="restore or remake"):
        load_pack(tmp_path)


def test_pictures_become_opencvs() -> None:
    picture = torch.zeros(3, 4, 6)
    picture[0] = 1.0
    assert to_bgr(picture)[0, 0].tolist() == [0, 0, 255]
    assert to_bgr((picture * 255).byte()).shape == (4, 6, 3)


@stored
def test_the_manifest_lists_the_pack() -> None:
    files = {file.path for record in check_manifest(ASSETS).models.values() for file in record.files}
    assert {f"insightface/models/{PACK_NAME}/{file}" for file in PACK_FILES} <= files
    assert "evaluation/recogniser/recogniser.onnx" in files


@stored
def test_the_detector_finds_faces_and_nothing_else() -> None:
    figures = _figures(verify_detector(ASSETS, seed=4321, count=40))
    assert figures["detector: renders whose face is found, IoU above 0.6"] >= 0.95
    assert figures["detector: backgrounds where no face is found"] >= 0.95
    assert figures["detector: mean landmark error, pixels of 64"] < 1.5


@stored
def test_the_recognisers_tell_people_apart() -> None:
    figures = _figures(verify_recogniser(ASSETS, seed=4321, count=120))
    assert figures["recogniser: TAR@FAR 1% through FaceAnalysis"] >= 0.95
    assert figures["recogniser: mean cosine, same person"] > figures["recogniser: mean cosine, different people"] + 0.4
    assert _figures(verify_judge(ASSETS, seed=4321, count=120))["judge: TAR@FAR 1%, true landmarks"] >= 0.85


@stored
def test_the_encoder_agrees_with_faceanalysis(pool: Pool) -> None:
    encoder = InsightFaceEncoder(ASSETS / "insightface", PACK_NAME, det_size=DET_SIZE)
    pictures = [np.ascontiguousarray(image.permute(1, 2, 0).numpy()) for image in pool.images[:8]]
    ours = encoder.encode(pictures)
    app = load_pack(ASSETS)
    for embedding, picture in zip(ours.embeddings, pictures, strict=True):
        theirs = max(app.get(picture[..., ::-1].copy()), key=lambda face: float(face.det_score))
        np.testing.assert_allclose(embedding, theirs.normed_embedding, atol=1e-3)


@stored
def test_larger_uploads_give_the_same_face(pool: Pool) -> None:
    encoder = InsightFaceEncoder(ASSETS / "insightface", PACK_NAME, det_size=DET_SIZE)
    small = [np.ascontiguousarray(image.permute(1, 2, 0).numpy()) for image in pool.images]
    enlarged = F.interpolate(pool.images.float(), scale_factor=6, mode="bicubic", antialias=True)
    large = [np.ascontiguousarray(image.permute(1, 2, 0).numpy()) for image in enlarged.clamp(0, 255).byte()]
    overlaps = []
    for picture, box in zip(large, pool.boxes, strict=True):
        faces = encoder.faces(picture)
        overlaps.append(float(iou(torch.from_numpy(faces[0].box), box * 6)) if faces else 0.0)
    assert np.mean(np.array(overlaps) > 0.6) >= 0.95
    cosines = (encoder.encode(small).embeddings * encoder.encode(large).embeddings).sum(axis=1)
    assert np.median(cosines) > 0.8

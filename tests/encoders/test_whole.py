from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from difflora.encoders.images import CLIPImageEncoder
from difflora.encoders.whole import WholePictureEncoder
from difflora.errors import BadImage
from difflora.identities.filter import look

CLIP = Path(__file__).parents[2] / "assets" / "embedded" / "clip"

pytestmark = pytest.mark.skipif(not CLIP.is_dir(), reason="CLIP is not stored here")


@pytest.fixture(scope="module")
def encoder() -> WholePictureEncoder:
    return WholePictureEncoder(CLIPImageEncoder(CLIP))


def _pictures(count: int, height: int = 64, width: int = 64) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(3).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def test_a_picture_of_clips_size_is_embedded_as_it_is(encoder: WholePictureEncoder) -> None:
    pictures = list(_pictures(3))
    found = encoder.encode(pictures, strict=True)
    assert found.found.all()
    assert found.counts.tolist() == [1, 1, 1]
    np.testing.assert_allclose(found.embeddings, encoder.images(pictures).numpy(), atol=1e-5)
    assert encoder.digest != encoder.images.digest


def test_of_a_wider_picture_the_middle_square_is_seen(encoder: WholePictureEncoder) -> None:
    (wide,) = _pictures(1, 64, 128)
    crop = encoder.crop(wide, encoder.faces(wide)[0])
    assert np.array_equal(crop, wide[:, 32:96])
    (large,) = _pictures(1, 200, 300)
    assert encoder.crop(large, encoder.faces(large)[0]).shape == (encoder.crop_size, encoder.crop_size, 3)
    with pytest.raises(BadImage, match="crop 0 is uint8"):
        encoder.embed_crops([large])


def test_nothing_is_said_of_where_faces_are(encoder: WholePictureEncoder) -> None:
    seen = look(encoder, torch.from_numpy(_pictures(2)).permute(0, 3, 1, 2))
    assert bool(seen.found.all())
    assert not bool(seen.boxes.any())
    assert not bool(seen.landmarks.any())

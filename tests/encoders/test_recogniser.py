from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from difflora.encoders.faces import InsightFaceEncoder
from difflora.encoders.recogniser import FaceRecogniser
from difflora.errors import BadImage

PACKS = Path(__file__).parents[2] / "assets" / "embedded" / "insightface"


def test_a_file_of_its_own_gives_what_the_pack_gives() -> None:
    pack = InsightFaceEncoder(PACKS, "world", det_size=(128, 128))
    alone = FaceRecogniser.open(pack.files[1])
    crops = np.random.default_rng(0).integers(0, 255, (3, 112, 112, 3), dtype=np.uint8)
    np.testing.assert_allclose(alone.embed(crops), pack.embed_crops(crops), atol=1e-6)
    assert alone.embed([]).shape == (0, alone.dimension)
    with pytest.raises(BadImage, match="crop 0 is uint8"):
        alone.embed(crops[:, :100])

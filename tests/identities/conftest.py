"""Photographs of a few rendered people, as files, and the embedded face pack."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from difflora.encoders.faces import InsightFaceEncoder
from difflora.world.identities import RenderedPeople

PACKS = Path(__file__).parents[2] / "assets" / "embedded" / "insightface"
PEOPLE, EACH = 4, 5


@pytest.fixture(scope="session")
def face_pack() -> InsightFaceEncoder:
    """The embedded face pack."""
    if not (PACKS / "models" / "world").is_dir():
        pytest.skip("the face pack is not stored here")
    return InsightFaceEncoder(PACKS, "world", det_size=(128, 128))


@pytest.fixture(scope="session")
def portraits(face_pack: InsightFaceEncoder) -> list[list[Image.Image]]:
    """Five pictures of each of four people, 64 x 64, each with one face."""
    source, found = RenderedPeople(), []
    for identity in source.ids(PEOPLE):
        images = source.candidates(identity, EACH + 3, 0).images.permute(0, 2, 3, 1).contiguous().numpy()
        found.append([Image.fromarray(one) for one in images if len(face_pack.faces(one)) == 1][:EACH])
        assert len(found[-1]) == EACH
    return found


@pytest.fixture
def lay_out(portraits: list[list[Image.Image]], tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder a person, each with some of the pictures of one of the four: ``anna=(0, range(4))``."""

    def write(**people: tuple[int, range]) -> Path:
        for name, (person, places) in people.items():
            (tmp_path / "photographs" / name).mkdir(parents=True)
            for place in places:
                portraits[person][place].save(tmp_path / "photographs" / name / f"{place}.png")
        return tmp_path / "photographs"

    return write

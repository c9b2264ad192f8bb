"""Real encoders of the embedded world, and a stand-in for the base model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from difflora.encoders.faces import InsightFaceEncoder
from difflora.evaluation.likeness import Faces, Likeness
from difflora.evaluation.subjects import Subject, as_jpeg
from difflora.world.identities import RenderedPeople

ASSETS = Path(__file__).parents[2] / "assets" / "embedded"
INDEPENDENT = ASSETS / "evaluation" / "recogniser" / "recogniser.onnx"


@pytest.fixture(scope="session")
def pack() -> InsightFaceEncoder:
    """The embedded face pack."""
    return InsightFaceEncoder(ASSETS / "insightface", "world", det_size=(128, 128))


@pytest.fixture(scope="session")
def likeness(pack: InsightFaceEncoder) -> Likeness:
    """Both recognisers of the embedded world."""
    return Likeness(pack, INDEPENDENT)


@pytest.fixture(scope="session")
def renders() -> Callable[[int, int], Tensor]:
    """Pictures of a rendered person, (count, 3, 64, 64) uint8."""

    def draw(person: int, count: int) -> Tensor:
        source = RenderedPeople(seed=3)
        return source.candidates(source.ids(person + 1)[-1], count, 0).images

    return draw


@pytest.fixture(scope="session")
def make_subject() -> Callable[..., Subject]:
    """A subject whose face is a direction, without any picture behind it."""

    def make(name: str, face: Tensor, prompts: int = 2, word: str = "man") -> Subject:
        picture = torch.full((3, 16, 16), 90, dtype=torch.uint8)
        faces = Faces({"face_sim": face[None], "face_sim_independent": face[None]}, torch.tensor([True]))
        return Subject(
            name,
            word,
            [as_jpeg(picture)],
            picture[None],
            faces,
            [f"{name} {number}" for number in range(prompts)],
            list(range(prompts)),
        )

    return make

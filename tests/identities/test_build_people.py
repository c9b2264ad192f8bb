from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from typer.testing import CliRunner

from difflora.corpus.people import PeopleFolder
from difflora.encoders.faces import InsightFaceEncoder
from difflora.errors import BadFile, BadImage, BadParameter
from difflora.identities.augment import AugmentSettings
from difflora.identities.build import IdentitySettings, build_people
from difflora.identities.commands import identities
from difflora.world.identities import RenderedPeople
from difflora.world.rendered import RenderedCandidates

PACKS = Path(__file__).parents[2] / "assets" / "embedded" / "insightface"
SETTINGS = IdentitySettings(candidates=12, keep=9, references=2, augment=AugmentSettings(least_crop=0.8))

pytestmark = pytest.mark.skipif(not (PACKS / "models" / "world").is_dir(), reason="the face pack is not stored here")


@pytest.fixture(scope="module")
def encoder() -> InsightFaceEncoder:
    """The embedded face pack."""
    return InsightFaceEncoder(PACKS, "world", det_size=(128, 128))


class Mixed(RenderedPeople):
    """The last pictures of each person show another one, or nobody."""

    def candidates(self, identity: str, count: int, seed: int) -> RenderedCandidates:
        own = super().candidates(identity, count, seed)
        stranger = super().candidates("rendered-0-000099", count, seed)
        images = own.images.clone()
        images[-2] = stranger.images[-2]
        images[-1] = 90
        return RenderedCandidates(images, [f"{n}: {own.captions[n]}" for n in range(count)], own.class_word)


def test_strangers_and_faceless_pictures_are_left_out(encoder: InsightFaceEncoder, tmp_path: Path) -> None:
    people = build_people(tmp_path, Mixed(), encoder, SETTINGS, 2, progress=False)
    assert people.ids == ["rendered-0-000000", "rendered-0-000001"]
    for identity in people.ids:
        person = people.person(identity)
        assert person.images.shape == (7, 3, 64, 64)
        assert person.references.shape == (2, 3, 64, 64)
        numbers = [int(c.split(":")[0]) for c in person.captions + person.reference_captions]
        assert len(set(numbers)) == 9
        assert 11 not in numbers, "no face"
        assert 10 not in numbers, "a stranger"
        faces = torch.cat([person.embeddings["face"], person.embeddings["references.face"]])
        torch.testing.assert_close(faces.norm(dim=1), torch.ones(9))
        assert (faces @ faces.T).mean() > 0.5
        assert people.line(identity)["images"] == 7


def test_stopped_and_continued_is_the_same(encoder: InsightFaceEncoder, tmp_path: Path) -> None:
    build_people(tmp_path / "one", RenderedPeople(), encoder, SETTINGS, 3, progress=False)
    build_people(tmp_path / "two", RenderedPeople(), encoder, SETTINGS, 1, progress=False)
    build_people(tmp_path / "two", RenderedPeople(), encoder, SETTINGS, 3, progress=False)

    def files(folder: Path) -> dict[str, bytes]:
        return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    assert files(tmp_path / "one") == files(tmp_path / "two")
    other = SETTINGS.model_copy(update={"keep": 8})
    with pytest.raises(BadParameter, match=r"keep = 9, not 8"):
        build_people(tmp_path / "one", RenderedPeople(), encoder, other, 3)
    with pytest.raises(BadParameter, match=r"source.seed = 0, not 1"):
        build_people(tmp_path / "one", RenderedPeople(seed=1), encoder, SETTINGS, 3)
    with pytest.raises(BadParameter, match=r'pack = "", not "buffalo_l"'):
        build_people(tmp_path / "one", RenderedPeople(), encoder, SETTINGS, 3, pack="buffalo_l")


def test_in_order_the_first_are_learnt_from_and_the_last_are_shown(encoder: InsightFaceEncoder, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"in_order": True, "augment": AugmentSettings(least_crop=1)})
    people = build_people(tmp_path, Mixed(same_scenes=7), encoder, settings, 2, progress=False)
    one, other = (people.person(identity) for identity in people.ids)
    for person in (one, other):
        numbers = [int(caption.split(":")[0]) for caption in person.captions]
        assert sum(number == place for place, number in enumerate(numbers)) >= 6, "one of ten was dropped"
        assert min(int(caption.split(":")[0]) for caption in person.reference_captions) > 6


class Faceless(RenderedPeople):
    """The first person has no face."""

    def candidates(self, identity: str, count: int, seed: int) -> RenderedCandidates:
        made = super().candidates(identity, count, seed)
        hidden = identity.endswith("0") or self.seed
        return RenderedCandidates(made.images * 0 if hidden else made.images, made.captions, made.class_word)


def test_a_person_without_faces_is_named_or_passed_over(encoder: InsightFaceEncoder, tmp_path: Path) -> None:
    with pytest.raises(BadImage, match=r"rendered-0-000000: only 0 of 12 candidates show a face, 9 are"):
        build_people(tmp_path, Faceless(), encoder, SETTINGS, 2, progress=False)
    people = build_people(tmp_path, Faceless(), encoder, SETTINGS, 2, skip_unusable=True, progress=False)
    assert people.ids == ["rendered-0-000001"]
    line = json.loads((tmp_path / "people.jsonl").read_text().splitlines()[0])
    assert "only 0 of 12" in line["skipped"]
    assert len(build_people(tmp_path, Faceless(), encoder, SETTINGS, 2, progress=False)) == 1, "not tried again"


@pytest.mark.parametrize(
    ("values", "said"),
    [({"keep": 101}, "keep is 101 of 100"), ({"references": 85}, "references is 85"), ({"candidate": 3}, "candidate")],
)
def test_bad_settings_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        IdentitySettings(**values)


def test_the_command_makes_a_folder(tmp_path: Path) -> None:
    def call(*more: str) -> Any:
        arguments = ["build", str(tmp_path / "people"), "--count", "2", "--candidates", "6", "--keep", "5"]
        return CliRunner().invoke(identities, [*arguments, "--references", "1", "--faces", str(PACKS), *more])

    done = call("--option", "seed=4")
    assert done.exit_code == 0, done.output
    assert "2 people" in done.output
    assert PeopleFolder(tmp_path / "people").ids == ["rendered-4-000000", "rendered-4-000001"]
    for more, kind, said in (
        (["--option", "seed"], BadParameter, "give KEY=VALUE"),
        (["--keep", "7"], BadParameter, "keep is 7 of 6"),
        (["--count", "0"], BadParameter, "count is 0"),
        (["--pack", "nobody"], BadFile, "nobody"),
        (["--source", "x:Y"], BadParameter, "x:Y"),
    ):
        failed = call(*more)
        assert isinstance(failed.exception, kind), failed.output
        assert said in str(failed.exception)

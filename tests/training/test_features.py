from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from difflora.corpus.people import PeopleFolder
from difflora.encoders.subject import FaceEmbeddings
from difflora.errors import BadFile, BadImage, BadParameter
from difflora.training import ConditionFeatures, encode_people
from difflora.training.features import _look


class _Faces:
    """Stands for InsightFace: the mean colour, and no face in pictures that start with black."""

    digest, dimension, name = "f" * 64, 3, "colours"

    def encode(self, pictures: list[Any]) -> FaceEmbeddings:
        found = np.array([bool(picture[0, 0].any()) for picture in pictures])
        colours = np.stack([picture.reshape(-1, 3).mean(0) for picture in pictures]).astype(np.float32)
        units = colours / np.linalg.norm(colours, axis=1, keepdims=True) * found[:, None]
        return FaceEmbeddings(units, found, found.astype(np.int64))


class _Images:
    """Stands for CLIP."""

    digest, dimension = "c" * 64, 2

    def __call__(self, pictures: list[Any]) -> Tensor:
        means = torch.tensor([[float(picture[..., 0].mean()), 1.0] for picture in pictures]).reshape(-1, 2)
        return torch.nn.functional.normalize(means, dim=1)


ENCODERS: Any = (_Faces(), _Images())


def test_every_picture_of_everyone_is_looked_at_once(people: PeopleFolder) -> None:
    made = encode_people(people, people.ids[:4], *ENCODERS, progress=False)
    assert made.names == tuple(people.ids[:4])
    assert made.counts.tolist() == [3] * 4
    assert made.face.shape == (12, 3)
    assert made.image.shape == (12, 2)
    assert (made.face_encoder, made.image_encoder) == ("f" * 64, "c" * 64)
    shown = encode_people(people, people.ids[:4], *ENCODERS, pictures="references", progress=False)
    assert torch.equal(shown.face, made.face[made.starts]), "references come first"
    learnt = encode_people(people, people.ids[:4], *ENCODERS, pictures="images", progress=False)
    assert learnt.counts.tolist() == [2] * 4


def test_faces_that_are_known_are_not_looked_for_again(people: PeopleFolder) -> None:
    person = people.person("p000")
    known = torch.nn.functional.normalize(torch.randn(1, 3), dim=1)
    person.embeddings["references.face"] = known
    face, _ = _look(person, *ENCODERS, "references", True)
    assert torch.equal(face, known)
    looked, _ = _look(person, *ENCODERS, "references", False)
    assert not torch.equal(looked, known)
    person.embeddings["references.face"] = torch.randn(1, 7)
    face, _ = _look(person, *ENCODERS, "references", True)
    assert torch.equal(face, looked), "of another length: another encoder's"


def test_only_a_pack_of_the_same_name_is_known(people: PeopleFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    person = people.person("p000")
    person.embeddings["references.face"] = known = torch.eye(3)[:1]
    monkeypatch.setattr(PeopleFolder, "person", lambda *_: person)
    for pack, same in (("colours", True), ("shapes", False)):
        monkeypatch.setitem(people.settings, "pack", pack)
        made = encode_people(people, ["p000"], *ENCODERS, pictures="references", progress=False)
        assert torch.equal(made.face, known) == same


def test_pictures_without_a_face_are_left_out(people: PeopleFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    person = people.person("p000")
    person.images[0, :, 0, 0] = 0
    face, image = _look(person, *ENCODERS, "images", False)
    assert (len(face), len(image)) == (1, 1)
    person.images[:, :, 0, 0] = 0
    monkeypatch.setattr(PeopleFolder, "person", lambda *_: person)
    with pytest.raises(BadImage, match="p000: none of the images shows a face"):
        encode_people(people, ["p000"], *ENCODERS, pictures="images", progress=False)


def test_a_draw_is_of_the_person_and_reaches_all_pictures(town: Any) -> None:
    features = town.features
    places = torch.tensor([4, 0, 29])
    for uniform, which in ((0.0, 0), (0.5, 1), (0.99999, 2), (1.0, 2)):
        face, image = features.draw(places, torch.full((3,), uniform))
        assert torch.equal(face, features.face[3 * places + which])
        assert torch.equal(image, features.image[3 * places + which])


def test_some_people_in_another_order(town: Any) -> None:
    some = town.features.of(["p007", "p002"])
    assert some.names == ("p007", "p002")
    assert torch.equal(some.face, town.features.face[[21, 22, 23, 6, 7, 8]])
    with pytest.raises(BadParameter, match=r"nobody-1 has none \(1 such\)"):
        town.features.of(["p007", "nobody-1"])


def test_saved_and_loaded(town: Any, tmp_path: Path) -> None:
    town.features.save(tmp_path / "a.safetensors")
    loaded = ConditionFeatures.load(tmp_path / "a.safetensors")
    assert loaded.names == town.features.names
    assert torch.equal(loaded.face, town.features.face)
    assert loaded.digest == town.features.digest != town.features.of(["p001"]).digest
    loaded.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    with pytest.raises(BadFile, match="holds no features"):
        ConditionFeatures.load(next((town.corpus.folder / "shards").iterdir()))


@pytest.mark.parametrize(
    ("names", "faces", "images", "counts"),
    [(("a",), 3, 3, [2]), (("a",), 3, 2, [3]), (("a", "b"), 3, 3, [3]), (("a", "b"), 3, 3, [3, 0])],
)
def test_features_that_do_not_fit_together(names: Any, faces: int, images: int, counts: list[int]) -> None:
    with pytest.raises(BadParameter, match="do not fit counts"):
        ConditionFeatures(names, torch.ones(faces, 2), torch.ones(images, 2), torch.tensor(counts))

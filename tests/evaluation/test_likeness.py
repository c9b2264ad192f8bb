from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from difflora.encoders.faces import InsightFaceEncoder
from difflora.errors import BadFile, BadParameter
from difflora.evaluation.likeness import RECOGNISERS, Faces, Likeness, similarity


def test_both_recognisers_tell_people_apart(likeness: Likeness, renders: Callable[[int, int], Tensor]) -> None:
    one, again, other = (likeness.look(renders(person, 6)) for person in (0, 0, 1))
    assert likeness.recognisers == RECOGNISERS
    own, strange = similarity(one, again), similarity(one, other)
    for name in RECOGNISERS:
        assert own[name].mean() > strange[name].mean() + 0.3
    assert not torch.allclose(one.embeddings["face_sim"], one.embeddings["face_sim_independent"])


def test_the_pack_sees_what_its_encoder_sees(
    likeness: Likeness, pack: InsightFaceEncoder, renders: Callable[[int, int], Tensor]
) -> None:
    images = renders(2, 3)
    expected = pack.encode([image.permute(1, 2, 0).contiguous().numpy() for image in images])
    for form in (images, images.float() / 255):
        found = likeness.look(form)
        torch.testing.assert_close(found.embeddings["face_sim"], torch.from_numpy(expected.embeddings))
        assert found.found.tolist() == expected.found.tolist()


def test_pictures_without_a_face_count_as_zero(likeness: Likeness, renders: Callable[[int, int], Tensor]) -> None:
    images = torch.cat([renders(0, 2), torch.full((1, 3, 64, 64), 120, dtype=torch.uint8)])
    faces, others = likeness.look(images), likeness.look(renders(0, 4))
    assert faces.found.tolist() == [True, True, False]
    assert similarity(faces, others)["face_sim"][2] == 0


def test_faceless_pictures_to_compare_with_are_left_out() -> None:
    face = torch.tensor([[1.0, 0], [0, 0]])
    others = Faces({"face_sim": face}, torch.tensor([True, False]))
    assert similarity(Faces({"face_sim": face[:1]}, torch.tensor([True])), others)["face_sim"].item() == 1
    nobody = Faces({"face_sim": torch.zeros(1, 2)}, torch.tensor([False]))
    with pytest.raises(BadParameter, match="none of the pictures to compare with"):
        similarity(others, nobody)


def test_an_independent_recogniser_must_be_one(pack: InsightFaceEncoder, tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="is the face pack's own recogniser"):
        Likeness(pack, pack.files[1])
    with pytest.raises(BadFile, match="is no face recogniser"):
        Likeness(pack, pack.files[0])
    with pytest.raises(BadFile, match="no such file"):
        Likeness(pack, tmp_path / "none.onnx")
    (tmp_path / "cut.onnx").write_bytes(pack.files[1].read_bytes()[:1000])
    with pytest.raises(BadFile, match=r"cut\.onnx: not a readable ONNX file"):
        Likeness(pack, tmp_path / "cut.onnx")
    assert Likeness(pack, None).recognisers == RECOGNISERS[:1]

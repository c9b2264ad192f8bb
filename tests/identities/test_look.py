"""Photographs looked over: every reason that one is not used, by file, and what is kept of those that are."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from difflora.encoders.faces import InsightFaceEncoder
from difflora.identities.look import Looker, look_over
from difflora.identities.photographs import Photograph
from difflora.identities.screen_settings import ScreenSettings

SETTINGS = ScreenSettings(least_face=16)
Portraits = list[list[Image.Image]]


def _beside(*pictures: Image.Image) -> Image.Image:
    """Pictures side by side."""
    whole = Image.new("RGB", (sum(one.width for one in pictures), max(one.height for one in pictures)))
    left = 0
    for one in pictures:
        whole.paste(one, (left, 0))
        left += one.width
    return whole


def test_each_reason_is_told_with_the_file_and_what_to_do(
    face_pack: InsightFaceEncoder, portraits: Portraits, tmp_path: Path
) -> None:
    good = portraits[0][0]
    good.save(tmp_path / "good.png")
    good.resize((128, 128)).save(tmp_path / "png-called.jpg", "PNG")
    Image.new("RGB", (64, 64), "grey").save(tmp_path / "nobody.png")
    _beside(portraits[0][0], portraits[1][0]).save(tmp_path / "two.png")
    (tmp_path / "letter.jpg").write_text("dear")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:900])
    names = ["good.png", "png-called.jpg", "nobody.png", "two.png", "letter.jpg", "cut.png", "gone.png"]
    photographs = [Photograph(tmp_path / name, f"a photo of {name}") for name in names]
    seen = look_over(face_pack, photographs, SETTINGS)
    assert [one.path.name for one in seen.portraits] == ["good.png", "png-called.jpg"]
    assert [one.caption for one in seen.portraits] == ["a photo of good.png", "a photo of png-called.jpg"]
    assert seen.faces.shape == (2, face_pack.dimension)
    assert seen.faces[0] @ seen.faces[1] > 0.8, "the same picture, twice as large"
    assert seen.thumbnails[0] @ seen.thumbnails[1] > 0.97
    for name, said in (
        ("nobody.png", "no face found; give a clear picture of one person"),
        ("two.png", "2 faces found; crop the picture to the one person who is meant"),
        ("letter.jpg", "not a whole JPEG, PNG or WebP"),
        ("cut.png", "not a whole JPEG, PNG or WebP"),
        ("gone.png", "no such file"),
    ):
        words = seen.faults[str(tmp_path / name)]
        assert words.startswith(str(tmp_path / name))
        assert said in words
    tiny = look_over(face_pack, photographs[:2], ScreenSettings(least_face=45)).faults
    assert list(tiny) == [str(tmp_path / "good.png")]
    assert "pixels wide, the least is 45; give a larger picture" in tiny[str(tmp_path / "good.png")]


def test_small_bystanders_are_let_pass_where_the_settings_say_so(
    face_pack: InsightFaceEncoder, portraits: Portraits, tmp_path: Path
) -> None:
    large = portraits[0][0].resize((128, 128))
    path = tmp_path / "both.png"
    _beside(large, portraits[1][0]).save(path)
    assert len(face_pack.faces(Image.open(path))) == 2
    assert "2 faces found" in str(look_over(face_pack, [Photograph(path)], SETTINGS).faults)
    lenient = ScreenSettings(least_face=16, bystanders=0.6)
    seen = look_over(face_pack, [Photograph(path)], lenient)
    assert not seen.faults
    box = seen.portraits[0].box
    assert box is not None
    assert box[2] < 140, "the large one is meant"


def test_what_was_seen_is_found_again_until_a_file_changes(
    face_pack: InsightFaceEncoder,
    portraits: Portraits,
    lay_out: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = lay_out(anna=(0, range(2)))
    photographs = [Photograph(folder / "anna" / f"{place}.png", f"picture {place}") for place in range(2)]
    looked = list[object]()
    real = face_pack.faces
    monkeypatch.setattr(face_pack, "faces", lambda picture: looked.append(picture) or real(picture))
    first = Looker(tmp_path / "seen", face_pack, SETTINGS)("anna", photographs)
    again = Looker(tmp_path / "seen", face_pack, SETTINGS)("anna", photographs)
    assert len(looked) == 2
    assert again.portraits == first.portraits
    assert torch.equal(again.faces, first.faces)
    assert torch.equal(again.thumbnails, first.thumbnails)
    Looker(tmp_path / "seen", face_pack, ScreenSettings(least_face=17))("anna", photographs)
    assert len(looked) == 4, "other settings"
    portraits[1][0].save(photographs[0].path)
    os.utime(photographs[0].path, (1, 1))
    changed = Looker(tmp_path / "seen", face_pack, SETTINGS)("anna", photographs)
    assert len(looked) == 6, "another file"
    assert not torch.equal(changed.faces[0], first.faces[0])
    (tmp_path / "seen" / "anna.safetensors").write_bytes(b"spoilt")
    assert torch.equal(Looker(tmp_path / "seen", face_pack, SETTINGS)("anna", photographs).faces, changed.faces)

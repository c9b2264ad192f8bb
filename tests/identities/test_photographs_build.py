"""People made of photographs: screened, with consent on every line, and the same after a stop."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from difflora.corpus.people import PeopleFolder
from difflora.encoders.faces import InsightFaceEncoder
from difflora.errors import BadImage, BadParameter
from difflora.identities import build
from difflora.identities.build import IdentitySettings, build_people
from difflora.identities.forgotten import ForgottenList
from difflora.identities.incoming import take_in
from difflora.identities.photographs import PeopleFolders
from difflora.identities.screen_settings import ScreenSettings
from difflora.world.identities import RenderedPeople

CONSENT = {"source": "a study", "licence": "research only", "date": "2020-01-02"}
SETTINGS = IdentitySettings(candidates=9, keep=8, references=1)
Portraits = list[list[Image.Image]]


def _build(out: Path, folder: Path, encoder: InsightFaceEncoder, count: int, **more: Any) -> PeopleFolder:
    repeated = more.pop("repeated", "refuse")
    source = PeopleFolders(str(folder), consent=CONSENT, size=64)
    screening = ScreenSettings(least_face=16, repeated=repeated)
    return build_people(out, source, encoder, SETTINGS, count, screening=screening, progress=False, **more)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_consent_and_merged_ids_stay_with_the_person(
    face_pack: InsightFaceEncoder, lay_out: Callable[..., Path], tmp_path: Path
) -> None:
    folder = lay_out(anna=(0, range(3)), bert=(1, range(3)), carl=(0, range(2, 5)))
    with pytest.raises(
        BadImage, match=r"anna/2\.png and .*carl/2\.png are the same picture.*anna and carl are the same"
    ):
        _build(tmp_path / "out", folder, face_pack, 3)
    people = _build(tmp_path / "out", folder, face_pack, 3, repeated="merge")
    assert people.ids == ["anna", "bert"]
    line = people.line("anna")
    assert line["consent"] == CONSENT
    assert line["merged"] == {"carl": CONSENT}
    assert list(line["left_out"]) == [str(folder / "carl" / "2.png")]
    assert (line["images"], line["references"]) == (4, 1)
    assert people.skipped["carl"]["same_as"] == "anna"
    assert (people.line("bert")["images"], "merged" in people.line("bert")) == (2, False)
    assert not (tmp_path / "out" / "seen").exists(), "what was seen goes once everyone is made"
    lay_out(dora=(1, range(3, 5)), emil=(2, range(2)))
    people = _build(tmp_path / "out", folder, face_pack, 5, repeated="drop")
    assert people.ids == ["anna", "bert", "emil"]
    assert people.skipped["dora"]["same_as"] == "bert", "known from an earlier call"


def test_stopped_and_continued_is_the_same_and_nothing_is_looked_at_twice(
    face_pack: InsightFaceEncoder, lay_out: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = lay_out(anna=(0, range(2)), bert=(1, range(3)), carl=(0, range(2, 5)), emil=(2, range(3)))
    _build(tmp_path / "one", folder, face_pack, 4, repeated="merge")
    made, real = list[str](), build.make_person

    def stop(source: Any, encoder: Any, identity: str, settings: Any) -> Any:
        made.append(identity)
        if identity == "bert" and made.count("bert") == 1:
            raise KeyboardInterrupt
        return real(source, encoder, identity, settings)

    monkeypatch.setattr(build, "make_person", stop)
    with pytest.raises(KeyboardInterrupt):
        _build(tmp_path / "two", folder, face_pack, 4, repeated="merge")
    assert PeopleFolder(tmp_path / "two").ids == ["anna"]
    _build(tmp_path / "two", folder, face_pack, 4, repeated="merge")
    assert made == ["anna", "bert", "bert", "emil"]
    assert _bytes(tmp_path / "one") == _bytes(tmp_path / "two")


def test_bad_photographs_stop_the_build_or_are_left_out(
    face_pack: InsightFaceEncoder, portraits: Portraits, lay_out: Callable[..., Path], tmp_path: Path
) -> None:
    folder = lay_out(anna=(0, range(3)), bert=(1, range(1)), carl=(2, range(0)))
    (folder / "anna" / "9.png").write_text("no picture")
    Image.new("RGB", (64, 64)).save(folder / "carl" / "0.png")
    with pytest.raises(BadImage, match=r"anna/9\.png: not a whole JPEG, PNG or WebP.* \(of anna\)"):
        _build(tmp_path / "out", folder, face_pack, 3)
    people = _build(tmp_path / "out", folder, face_pack, 3, skip_unusable=True)
    assert people.ids == ["anna"]
    assert "not a whole JPEG" in people.line("anna")["left_out"][str(folder / "anna" / "9.png")]
    assert "bert: 1 pictures show a face, but 2 are needed" in people.skipped["bert"]["skipped"]
    assert "carl/0.png: no face found" in people.skipped["carl"]["skipped"]


def test_nobody_comes_back_who_was_forgotten(
    face_pack: InsightFaceEncoder, lay_out: Callable[..., Path], tmp_path: Path
) -> None:
    folder = lay_out(anna=(0, range(2)), bert=(1, range(2)))
    forgotten = ForgottenList(tmp_path)
    forgotten.add(["anna"])
    assert "anna" not in forgotten.path.read_text()
    again = ForgottenList(tmp_path)
    people = _build(tmp_path / "out", folder, face_pack, 2, forgotten=again.__contains__)
    assert people.ids == ["bert"]
    assert not people.skipped


class Silent(RenderedPeople):
    """Says too little of consent."""

    def consent(self, identity: str) -> dict[str, Any]:
        return {"source": "somewhere", "date": "2020-01-02"}


def test_a_source_must_tell_of_consent(face_pack: InsightFaceEncoder, tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="no good consent record of rendered-0-000000: licence: Field required"):
        build_people(tmp_path, Silent(), face_pack, SETTINGS, 1, progress=False)


def _drop(incoming: Path, identity: str, pictures: list[Image.Image], **more: Any) -> None:
    folder = incoming / identity
    folder.mkdir(parents=True)
    for place, picture in enumerate(pictures):
        picture.save(folder / f"{place}.png")
    names = [f"{place}.png" for place in range(len(pictures))]
    record = {**CONSENT, "identity": identity, "pictures": names, **more}
    (folder / "consent.json").write_text(json.dumps(record))


def test_people_who_come_in_are_looked_over_too(
    face_pack: InsightFaceEncoder, portraits: Portraits, lay_out: Callable[..., Path], tmp_path: Path
) -> None:
    people = _build(tmp_path / "out", lay_out(anna=(0, range(2))), face_pack, 1)
    incoming, screening = tmp_path / "incoming", ScreenSettings(least_face=16)
    _drop(incoming, "twin", portraits[0][2:4])
    _drop(incoming, "new", [*portraits[1][:2], Image.new("RGB", (64, 64))])
    _drop(incoming, "newer", portraits[1][2:4])
    _drop(incoming, "late", portraits[2][:2])
    _drop(incoming, "empty", [Image.new("RGB", (64, 64))])
    ForgottenList(incoming).add(["late"])
    report = take_in(incoming, people, face_pack, SETTINGS, screening)
    assert report.added == ["new"]
    assert set(report.refused) == {"twin", "newer", "late", "empty"}
    assert "twin: is the same person as anna, who is there (cosine 0." in report.refused["twin"]
    assert "newer: is the same person as new, who is there" in report.refused["newer"]
    assert "late was forgotten and does not come back; take the folder away" in report.refused["late"]
    assert "no face found" in report.refused["empty"]
    line = PeopleFolder(tmp_path / "out").line("new")
    assert line["consent"]["licence"] == "research only"
    assert "record_sha256" in line["consent"]
    assert list(line["left_out"]) == ["2.png"]
    kept = ScreenSettings(least_face=16, repeated="keep")
    assert take_in(incoming, PeopleFolder(tmp_path / "out"), face_pack, SETTINGS, kept).added == ["newer", "twin"]

"""Layouts of collections: who there is, and what is wrong, by file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from difflora.errors import BadFile, BadImage, BadParameter
from difflora.identities.photographs import FFHQ, CelebAHQ, PeopleFolders, PhotographSource, SingleImages
from difflora.identities.photographs.source import square
from difflora.identities.source import load_source

CONSENT = {"source": "a study", "licence": "research only", "date": "2020-01-02"}


def _picture(path: Path, colour: str = "red", size: tuple[int, int] = (20, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def _ffhq(root: Path, *numbers: int, variant: str = "images1024x1024") -> Path:
    for number in numbers:
        _picture(root / variant / f"{number // 1000 * 1000:05d}" / f"{number:05d}.png")
    return root


def _entry(number: int, licence: str = "Public Domain Mark 1.0") -> dict[str, Any]:
    told = {"photo_url": f"https://example.org/{number}", "license": licence, "date_crawled": "2018-10-10"}
    return {"category": "training", "metadata": told}


def test_ffhq_is_a_person_a_picture(tmp_path: Path) -> None:
    _ffhq(tmp_path, 0, 1, 1002)
    (tmp_path / "images1024x1024" / ".DS_Store").write_bytes(b"")
    source = load_source("difflora.identities.photographs:FFHQ", {"folder": str(tmp_path), "consent": CONSENT})
    assert isinstance(source, PhotographSource)
    assert source.ids(3) == ["ffhq-00000", "ffhq-00001", "ffhq-01002"]
    assert source.consent("ffhq-00001") == CONSENT
    made = source.candidates("ffhq-01002", 5, 0)
    assert made.images.shape == (1, 3, 1024, 1024)
    assert (made.class_word, list(made.captions)) == ("person", ["a photo of a person"])
    with pytest.raises(BadParameter, match=r"count is 4, but .* has 3 people"):
        source.ids(4)
    with pytest.raises(BadParameter, match="shows nobody called 'ffhq-9'; ids are like ffhq-00000"):
        source.candidates("ffhq-9", 1, 0)


def test_ffhq_takes_source_and_licence_from_its_metadata_and_words_from_a_table(tmp_path: Path) -> None:
    _ffhq(tmp_path, 0, 1, variant="in-the-wild-images")
    (tmp_path / "meta.json").write_text(json.dumps({"0": _entry(0), "1": _entry(1, licence="")}))
    table = tmp_path / "people.csv"
    table.write_text("identity,class_word,licence\nffhq-00001,woman,asked her\n")
    options = {"folder": str(tmp_path), "variant": "in-the-wild-images", "metadata": "meta.json"}
    source = FFHQ(**options, records=str(table))
    first = {"source": "https://example.org/0", "licence": "Public Domain Mark 1.0", "date": "2018-10-10"}
    assert source.consent("ffhq-00000") == first
    assert source.consent("ffhq-00001")["licence"] == "asked her"
    assert [source.candidates(name, 1, 0).class_word for name in source.ids(2)] == ["person", "woman"]
    with pytest.raises(BadFile, match="ffhq-00001 has no good consent record: licence: Field required; give source"):
        FFHQ(**options)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("images1024x1024/00000/00000.jpg", r"00000\.jpg: is no picture of FFHQ, which are 00000/00000\.png"),
        ("images1024x1024/00000/01000.png", r"01000\.png: is no picture of FFHQ"),
        ("images1024x1024/00000/me.png", r"me\.png: is no picture of FFHQ"),
        ("images1024x1024/00500/00500.png", "00500: is no folder of FFHQ, which are 00000, 01000"),
        ("images1024x1024/LICENSE.txt", r"LICENSE\.txt: is no folder of FFHQ"),
    ],
)
def test_what_is_not_ffhqs_is_named(tmp_path: Path, spoil: str, said: str) -> None:
    _ffhq(tmp_path, 0)
    (tmp_path / spoil).parent.mkdir(exist_ok=True)
    (tmp_path / spoil).write_bytes(b"")
    with pytest.raises(BadFile, match=said):
        FFHQ(str(tmp_path), consent=CONSENT)


def test_missing_and_malformed_parts_of_ffhq_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="nowhere: no such folder; give that of FFHQ"):
        FFHQ(str(tmp_path / "nowhere"))
    with pytest.raises(BadFile, match="images1024x1024: no such folder"):
        FFHQ(str(tmp_path), consent=CONSENT)
    with pytest.raises(BadParameter, match="variant is 'big'"):
        FFHQ(str(tmp_path), variant="big")
    (tmp_path / "images1024x1024").mkdir()
    with pytest.raises(BadFile, match="shows nobody"):
        FFHQ(str(tmp_path), consent=CONSENT)
    _ffhq(tmp_path, 0)
    with pytest.raises(BadFile, match=r"meta\.json: no such file, though option metadata names it"):
        FFHQ(str(tmp_path), metadata="meta.json")
    for text, said in (("{", "not readable as JSON"), ('{"7": {"url": 1}}', "entry '7' is .*without FFHQ's metadata")):
        (tmp_path / "meta.json").write_text(text)
        with pytest.raises(BadFile, match=said):
            FFHQ(str(tmp_path), metadata="meta.json")


def _celeba(root: Path) -> Path:
    """Three people: 7 (a man, two pictures), 12 (a woman, one), 30 (one of each, so neither)."""
    for place in range(5):
        _picture(root / "CelebA-HQ-img" / f"{place}.jpg")
    lines = [f"{place:<11}{100 + place:<11}{100 + place:06d}.jpg" for place in range(5)]
    (root / "CelebA-HQ-to-CelebA-mapping.txt").write_text("\n".join(["idx        orig_idx   orig_file", *lines]) + "\n")
    persons = zip(range(5), (12, 7, 30, 7, 30), strict=True)
    (root / "identity_CelebA.txt").write_text("".join(f"{100 + n:06d}.jpg {person}\n" for n, person in persons))
    male = zip(range(5), (-1, 1, 1, 1, -1), strict=True)
    rows = "".join(f"{100 + n:06d}.jpg  1 {sign:2d} -1\n" for n, sign in male)
    (root / "list_attr_celeba.txt").write_text(f"5\nBald Male Young \n{rows}")
    return root


def test_celeba_hq_is_a_person_a_person(tmp_path: Path) -> None:
    source = CelebAHQ(str(_celeba(tmp_path)), consent=CONSENT, size=32)
    assert source.ids(3) == ["celeba-7", "celeba-12", "celeba-30"]
    assert [one.path.name for one in source.photographs("celeba-7")] == ["1.jpg", "3.jpg"]
    words = {name: source.candidates(name, 9, 0).class_word for name in source.ids(3)}
    assert words == {"celeba-7": "man", "celeba-12": "woman", "celeba-30": "person"}
    assert source.candidates("celeba-7", 9, 0).images.shape == (2, 3, 32, 32)
    assert source.candidates("celeba-7", 1, 0).images.shape == (1, 3, 32, 32)
    (tmp_path / "list_attr_celeba.txt").unlink()
    source = CelebAHQ(str(tmp_path), attributes=False, consent=CONSENT)
    assert source.candidates("celeba-7", 1, 0).class_word == "person"


_MAP, _WHO, _ATTR = "CelebA-HQ-to-CelebA-mapping.txt", "identity_CelebA.txt", "list_attr_celeba.txt"


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        (_MAP, "orig_idx", "original", rf"{_MAP}: line 1 is 'idx original orig_file'"),
        (
            _MAP,
            "3          103        000103.jpg",
            "3 000103.jpg",
            rf"{_MAP}: line 5 is '3 000103.jpg', not two",
        ),
        (_MAP, "3          103", "2          103", rf"{_MAP}: line 5 is of picture 2, as one before it is"),
        (_MAP, "000103.jpg", "999999.jpg", rf"{_MAP}: line 5 names 999999.jpg, of whom {_WHO} tells no person"),
        (_MAP, "3          103        000103.jpg\n", "", r"3\.jpg: is not in .*nobody can tell whom it shows"),
        (_WHO, "000103.jpg 7", "000103.jpg", rf"{_WHO}: line 4 is '000103.jpg', not a file and a person"),
        (_WHO, "000103.jpg", "000102.jpg", rf"{_WHO}: line 4 is of 000102.jpg, as one before it is"),
        (_ATTR, "Male", "Female", rf"{_ATTR}: lines 1 and 2 are not"),
        (_ATTR, "000103.jpg  1  1", "000103.jpg  1  0", rf"{_ATTR}: line 6 is not a file and 3 times 1 or -1"),
        (_ATTR, "000103.jpg  1  1", "000103.jpg  1", rf"{_ATTR}: line 6 is not a file and 3 times 1 or -1"),
        (_ATTR, "5\n", "6\n", rf"{_ATTR}: line 1 says 6 pictures, but 5 follow"),
        (_ATTR, "000103.jpg", "000109.jpg", rf"{_MAP}: line 5 names 000103.jpg, which {_ATTR} lacks"),
    ],
)
def test_malformed_lines_of_celeba_are_named(tmp_path: Path, file: str, old: str, new: str, said: str) -> None:
    path = _celeba(tmp_path) / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(BadFile, match=said):
        CelebAHQ(str(tmp_path), consent=CONSENT)


def test_missing_parts_of_celeba_are_named(tmp_path: Path) -> None:
    for file in (_MAP, _WHO, _ATTR):
        root = _celeba(tmp_path / file)
        (root / file).unlink()
        with pytest.raises(BadFile, match=rf"{file}: no such file; it comes with CelebA"):
            CelebAHQ(str(root), consent=CONSENT)
    root = _celeba(tmp_path / "cut")
    with pytest.raises(BadFile, match="img512: no such folder; give the name"):
        CelebAHQ(str(root), images="img512", consent=CONSENT)
    with pytest.raises(BadFile, match="celeba-7 has no good consent record: source: Field required"):
        CelebAHQ(str(root))
    (root / "CelebA-HQ-img" / "3.jpg").unlink()
    with pytest.raises(BadFile, match=r"line 5 is of picture 3, which is not in .*CelebA-HQ-img; restore the picture"):
        CelebAHQ(str(root), consent=CONSENT)
    _picture(root / "CelebA-HQ-img" / "00003.jpg")
    assert CelebAHQ(str(root), consent=CONSENT).photographs("celeba-7")[1].path.name == "00003.jpg"
    _picture(root / "CelebA-HQ-img" / "3.png")
    with pytest.raises(BadFile, match=r"3\.png: is picture 3, as 00003\.jpg is"):
        CelebAHQ(str(root), consent=CONSENT)


def test_a_folder_of_folders(tmp_path: Path) -> None:
    for name in ("bert/1.png", "bert/2.png", "anna/x.png"):
        _picture(tmp_path / name)
    record = {**CONSENT, "identity": "volunteer-1", "class_word": "woman", "licence": "asked"}
    pictures = ["x.png", {"file": "y.png", "caption": "a photo of a woman, smiling"}]
    _picture(tmp_path / "anna" / "y.png")
    (tmp_path / "anna" / "consent.json").write_text(json.dumps({**record, "pictures": pictures}))
    source = PeopleFolders(str(tmp_path), consent=CONSENT, class_word="man", size=16)
    assert source.ids(2) == ["volunteer-1", "bert"]
    assert source.consent("volunteer-1") == {**CONSENT, "licence": "asked"}
    assert source.consent("bert") == CONSENT
    made = source.candidates("volunteer-1", 5, 0)
    assert (made.class_word, made.captions) == ("woman", ["a photo of a woman", "a photo of a woman, smiling"])
    assert source.candidates("bert", 5, 0).captions == ["a photo of a man"] * 2
    with pytest.raises(BadFile, match="bert has no good consent record: source"):
        PeopleFolders(str(tmp_path))
    (tmp_path / "bert" / "more").mkdir()
    with pytest.raises(BadFile, match="more: is a folder within a person's"):
        PeopleFolders(str(tmp_path), consent=CONSENT)
    (tmp_path / "bert" / "more").rmdir()
    (tmp_path / "nobody").mkdir()
    with pytest.raises(BadFile, match="nobody: holds no picture"):
        PeopleFolders(str(tmp_path), consent=CONSENT)
    (tmp_path / "nobody").rmdir()
    _picture(tmp_path / "loose.png")
    with pytest.raises(BadFile, match=r"loose\.png: is no folder of a person"):
        PeopleFolders(str(tmp_path), consent=CONSENT)
    (tmp_path / "loose.png").rename(tmp_path / "bert" / "z.png")
    (tmp_path / "bert").rename(tmp_path / "volunteer-1")
    with pytest.raises(BadFile, match="'volunteer-1' is there 2 times; one person has one id"):
        PeopleFolders(str(tmp_path), consent=CONSENT)
    (tmp_path / "volunteer-1").rename(tmp_path / "bert & co")
    with pytest.raises(BadFile, match="'bert & co' cannot be an id; rename it"):
        PeopleFolders(str(tmp_path), consent=CONSENT)


def test_single_images(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg"):
        _picture(tmp_path / name)
    table = tmp_path / "people.csv"
    table.write_text(
        "identity,class_word,source,licence,date\na,woman,sent,form 3,2020-01-02\nb,,sent,form 3,2020-01-03\n"
    )
    source = SingleImages(str(tmp_path), records=str(table), size=16)
    assert source.ids(2) == ["a", "b"]
    assert source.consent("b") == {"source": "sent", "licence": "form 3", "date": "2020-01-03"}
    assert [source.candidates(name, 1, 0).class_word for name in "ab"] == ["woman", "person"]
    assert SingleImages(str(tmp_path), records=str(table)).settings != source.settings
    (tmp_path / "a.jpg").write_text("no picture")
    with pytest.raises(BadImage, match=r"a\.jpg: not a whole JPEG"):
        source.candidates("a", 1, 0)
    (tmp_path / "c").mkdir()
    with pytest.raises(BadFile, match="c: is a folder; for a folder a person, take the source PeopleFolders"):
        SingleImages(str(tmp_path), records=str(table))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"line 1 is ''; give identity"),
        ("name,licence\na,x\n", r"line 1 is 'name,licence'; give identity and any of class_word"),
        ("identity,colour\na,x\n", "line 1 is 'identity,colour'"),
        ("identity,licence\na\n", "line 2 does not have 2 columns and an identity"),
        ("identity,licence\na,x\n,x\n", "line 3 does not have 2 columns and an identity"),
        ("identity,licence\na,x\na,y\n", "line 3 is of 'a', as one before it is"),
        ("identity,licence\nz,x\n", "has a line of 'z', who is not in the collection"),
        ("identity,date\na,2999-01-01\n", "a has no good consent record: date: is 2999-01-01, which is still to come"),
        ("identity,date\na,soon\n", "a has no good consent record: date"),
    ],
)
def test_malformed_tables_are_named(tmp_path: Path, text: str, said: str) -> None:
    _picture(tmp_path / "a.png")
    (tmp_path / "people.csv").write_text(text)
    with pytest.raises(BadFile, match=rf"people\.csv: {said}"):
        SingleImages(str(tmp_path), consent=CONSENT, records=str(tmp_path / "people.csv"))


def test_bad_options_are_named(tmp_path: Path) -> None:
    _picture(tmp_path / "a.png")
    for options, kind, said in (
        ({"consent": {"license": "x"}}, BadParameter, "consent.license is not known: give source, licence, date"),
        ({"consent": CONSENT, "size": 4}, BadParameter, "size is 4"),
        ({"consent": CONSENT, "class_word": ""}, BadParameter, "class_word is empty"),
        ({"records": "none.csv"}, BadFile, "none.csv: no such file, though option records"),
    ):
        with pytest.raises(kind, match=said):
            SingleImages(str(tmp_path), **options)


def test_squares_hold_the_face() -> None:
    picture = Image.new("RGB", (100, 40), "black")
    picture.paste("white", (80, 10, 95, 25))
    for box, bright in (((80, 10, 95, 25), True), (None, False), ((0, 0, 10, 10), False)):
        made = square(picture, box, 20)
        assert made.shape == (3, 20, 20)
        assert made.dtype == torch.uint8
        assert bool(made.max() > 200) is bright
    tall = Image.new("RGB", (40, 100), "black")
    tall.paste("white", (10, 90, 20, 99))
    assert square(tall, (10, 90, 20, 99), 20).max() > 200

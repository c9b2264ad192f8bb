from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from difflora.encoders.pictures import read_picture
from difflora.errors import BadImage

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


def _bytes(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_path_bytes_and_picture_are_the_same(kind: str, tmp_path: Path) -> None:
    data = _bytes(kind, **({"lossless": True} if kind == "WEBP" else {}))
    (tmp_path / "me.any").write_bytes(data)
    for source in (data, tmp_path / "me.any", str(tmp_path / "me.any"), Image.fromarray(PIXELS)):
        assert np.array_equal(np.asarray(read_picture(source)), PIXELS)


def test_pictures_are_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    assert read_picture(_bytes("JPEG", exif=exif)).size == (20, 30)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a whole JPEG, PNG or WebP"),
        (_bytes("PNG")[:200], "not a whole JPEG, PNG or WebP"),
        (_bytes("GIF"), "not a whole JPEG, PNG or WebP"),
    ],
    ids=["empty", "cut", "gif"],
)
def test_bad_bytes(data: bytes, words: str) -> None:
    with pytest.raises(BadImage, match=f"mine: {words}"):
        read_picture(data, "mine")


def test_bad_paths(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match=r"nowhere\.png: no such file"):
        read_picture(tmp_path / "nowhere.png")
    with pytest.raises(BadImage, match="not a whole JPEG, PNG or WebP"):
        read_picture(tmp_path)


def test_more_pixels_than_pillow_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    for most in (400, 100):  # a warning and an error of Pillow's
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
        with pytest.raises(BadImage, match="too many pixels"):
            read_picture(_bytes("PNG"))

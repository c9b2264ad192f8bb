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


def _saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def _pixel(data: bytes) -> tuple[int, ...]:
    """The colour of a plain picture, as it was read."""
    read = read_picture(data)
    assert read.mode == "RGB"
    assert read.size == (30, 20)
    return tuple(np.asarray(read).reshape(-1, 3).mean(0).round().astype(int).tolist())


def test_pictures_of_every_kind_come_out_in_their_colours() -> None:
    size = (30, 20)
    grey16 = Image.fromarray(np.full((20, 30), 200 * 257, np.uint16))
    palette = Image.new("RGB", size, (10, 200, 30)).quantize(4)
    half = Image.new("RGBA", size, (0, 0, 0, 128))
    hidden = Image.new("RGBA", size, (255, 0, 0, 0))
    assert _pixel(_saved(Image.new("L", size, 77), "PNG")) == (77, 77, 77)
    assert _pixel(_saved(Image.new("L", size, 77), "JPEG")) == (77, 77, 77)
    assert _pixel(_saved(Image.new("1", size, 1), "PNG")) == (255, 255, 255)
    assert _pixel(_saved(grey16, "PNG")) == (200, 200, 200), "16 bits are scaled, not clipped"
    assert _pixel(_saved(palette, "PNG")) == (10, 200, 30)
    assert _pixel(_saved(palette, "PNG", transparency=0)) == (255, 255, 255)
    assert _pixel(_saved(Image.new("LA", size, (40, 255)), "PNG")) == (40, 40, 40)
    assert _pixel(_saved(half, "PNG")) == (127, 127, 127), "over white"
    assert _pixel(_saved(hidden, "PNG")) == (255, 255, 255)
    assert _pixel(_saved(hidden, "WEBP", lossless=True)) == (255, 255, 255)
    red, green, blue = _pixel(_saved(Image.new("CMYK", size, (0, 255, 255, 0)), "JPEG", quality=100))
    assert red > 240
    assert max(green, blue) < 15


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animated_pictures_are_refused(kind: str) -> None:
    frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
    data = _saved(frames[0], kind, save_all=True, append_images=frames[1:])
    with pytest.raises(BadImage, match=r"mine: is animated \(2 frames\); give one frame"):
        read_picture(data, "mine")


def test_the_first_picture_of_a_telephones_jpeg_is_taken() -> None:
    frames = [Image.new("RGB", (30, 20), "red"), Image.new("RGB", (30, 20), "blue")]
    red, _, blue = _pixel(_saved(frames[0], "MPO", save_all=True, append_images=frames[1:]))
    assert red > 240
    assert blue < 15


def test_words_and_cut_pictures_are_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "me.jpg").write_text("not a picture")
    for kind in ("JPEG", "PNG", "WEBP"):
        whole = _bytes(kind)
        (tmp_path / "cut").write_bytes(whole[: len(whole) * 2 // 3])
        with pytest.raises(BadImage, match="cut: not a whole JPEG, PNG or WebP"):
            read_picture(tmp_path / "cut")
    with pytest.raises(BadImage, match=r"me\.jpg: not a whole JPEG, PNG or WebP"):
        read_picture(tmp_path / "me.jpg")

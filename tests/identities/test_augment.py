from __future__ import annotations

import pytest
import torch
from torch import Tensor

from difflora.identities.augment import AugmentSettings, augment, mirror_words


def _marked(box: tuple[int, int, int, int]) -> Tensor:
    """A black picture (3, 40, 60) with a white box."""
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    x1, y1, x2, y2 = box
    image[:, y1:y2, x1:x2] = 255
    return image


def _run(images: Tensor, boxes: Tensor, settings: AugmentSettings, seed: int = 0) -> tuple[Tensor, list[str], Tensor]:
    captions = [f"a woman {i}, turned to the left, lit from the right" for i in range(len(images))]
    landmarks = torch.zeros(len(images), 5, 2)
    made, said, moved, _ = augment(images, captions, boxes, landmarks, settings, torch.Generator().manual_seed(seed))
    return made, said, moved


@pytest.mark.parametrize("box", [(20, 10, 40, 30), (0, 0, 15, 12), (45, 28, 60, 40), (2, 5, 58, 39)])
def test_crops_keep_the_face_whole_and_the_pictures_shape(box: tuple[int, int, int, int]) -> None:
    images = _marked(box)[None].repeat(50, 1, 1, 1)
    boxes = torch.tensor([box], dtype=torch.float32).repeat(50, 1)
    made, _, moved = _run(images, boxes, AugmentSettings(least_crop=0.5, flip=0.0))
    assert made.shape == images.shape
    assert made.dtype == torch.uint8
    area = (made[:, 0] > 127).float().mean((1, 2))
    before = (images[0, 0] > 127).float().mean()
    assert (area > 0.9 * before).all(), "a crop enlarges the face, and never cuts it"
    assert area.max() <= 4.6 * before
    for one, (x1, y1, x2, y2) in zip(made, moved.round().int().tolist(), strict=True):
        inside = (one[0, max(0, y1) : y2, max(0, x1) : x2] > 127).float()
        assert inside.mean() > 0.93, "the box moves with the face"
        assert inside.sum() > 0.9 * (one[0] > 127).sum()
    if box != (2, 5, 58, 39):
        assert area.max() > 1.5 * before


def test_nothing_to_do_leaves_pictures_as_they_are() -> None:
    images = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    made, captions, _ = _run(images, torch.zeros(3, 4), AugmentSettings(least_crop=1, flip=0))
    assert torch.equal(made, images)
    assert captions[1] == "a woman 1, turned to the left, lit from the right"


def test_mirrored_pictures_have_mirrored_captions() -> None:
    images = torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8)
    made, captions, _ = _run(images, torch.zeros(40, 4), AugmentSettings(least_crop=1, flip=0.5))
    mirrored = [torch.equal(one, image.flip(-1)) for one, image in zip(made, images, strict=True)]
    assert 10 < sum(mirrored) < 30
    assert [caption.endswith("turned to the right, lit from the left") for caption in captions] == mirrored
    assert mirror_words("Left of the lefthand room, RIGHT") == "Right of the lefthand room, Left"


def test_a_mirrored_face_has_a_mirrored_box() -> None:
    boxes = torch.tensor([[2.0, 3.0, 9.0, 12.0], [0.0, 0.0, 0.0, 0.0]])
    images = torch.zeros(2, 3, 16, 20, dtype=torch.uint8)
    _, _, moved = _run(images, boxes, AugmentSettings(least_crop=1, flip=1))
    assert moved.tolist() == [[11, 3, 18, 12], [0, 0, 0, 0]]


def test_features_move_with_the_face() -> None:
    points = torch.tensor([[22, 14], [36, 14], [29, 20], [24, 26], [34, 26]])
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    for x, y in points.tolist():
        image[:, y, x] = 255
    boxes = torch.tensor([[20.0, 10, 40, 30]]).repeat(30, 1)
    images, landmarks = image[None].repeat(30, 1, 1, 1), (points + 0.5)[None].repeat(30, 1, 1)
    settings = AugmentSettings(least_crop=0.7, flip=0.5)
    made, _, moved, found = augment(images, ["a"] * 30, boxes, landmarks, settings, torch.Generator().manual_seed(1))
    assert found.shape == (30, 5, 2)
    for one, five in zip(made, found, strict=True):
        for x, y in five.floor().int().tolist():
            assert one[0, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].max() > 60
        assert five[0, 0] < five[1, 0], "the eye on the picture's left comes first, in the mirror too"
    assert (found[:, 2, 0] > moved[:, 0]).all()
    none = torch.zeros(1, 5, 2)
    assert not augment(images[:1], ["a"], torch.zeros(1, 4), none, settings, torch.Generator())[3].any()


def test_copies_come_one_after_the_other_and_by_seed() -> None:
    images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    settings = AugmentSettings(copies=3, least_crop=0.6)
    made, captions, _ = _run(images, torch.zeros(4, 4), settings)
    assert made.shape == (12, 3, 16, 16)
    assert [caption.split(",")[0] for caption in captions] == [f"a woman {i}" for i in range(4)] * 3
    assert torch.equal(made, _run(images, torch.zeros(4, 4), settings)[0])
    assert not torch.equal(made[:4], made[4:8])

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from difflora.world.render import SIZE, Renders, render, render_backgrounds
from difflora.world.scenes import BACKGROUNDS, EXPRESSIONS, Scenes, sample_scenes
from difflora.world.traits import HAIR_STYLES, People, sample_people

LEVEL = 1 / 255


@pytest.fixture(scope="module")
def sample() -> tuple[People, Scenes, Renders]:
    """Twenty-four people as they come."""
    generator = torch.Generator().manual_seed(7)
    people, scenes = sample_people(24, generator), sample_scenes(24, generator)
    return people, scenes, render(people, scenes)


@pytest.fixture(scope="module")
def plain() -> tuple[People, Scenes]:
    """Eight bald, beardless, unmarked people before a grey wall, facing us, in even light."""
    generator = torch.Generator().manual_seed(8)
    people = sample_people(8, generator).replace(
        hair_style="bald", beard="none", mark="none", skin_tone=0.3, eye_size=0.9, eye_openness=0.9, mouth_width=0.5
    )
    scenes = sample_scenes(8, generator).replace(
        expression="neutral", accessory="none", clothing_colour="red", clothes="hoodie", background="grey studio",
        light="even", pose="front", framing="portrait", yaw=0.5, tilt=0.5, x=0.5, y=0.5, scale=0.5, gaze=0.5,
    )  # fmt: skip
    return people, scenes


def changed_at(a: Tensor, b: Tensor) -> Tensor:
    """Where two pictures differ by more than a level, (N, H, W) bool."""
    return ((a - b).abs() > LEVEL).any(1)


def distance_to(points: Tensor) -> Tensor:
    """Of every pixel to the nearest of each picture's points (N, K, 2), (N, H, W)."""
    axis = torch.arange(SIZE) + 0.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    grid = torch.stack([x, y], dim=-1)  # (H, W, 2)
    return (grid[None, :, :, None] - points[:, None, None]).norm(dim=-1).amin(-1)


def at(images: Tensor, points: Tensor) -> Tensor:
    """Colours under points (N, 2), (N, 3)."""
    rows, (x, y) = torch.arange(len(images)), points.long().clamp(0, SIZE - 1).unbind(1)
    return images[rows, :, y, x]


def test_shapes_and_ranges(sample: tuple[People, Scenes, Renders]) -> None:
    drawn = sample[2]
    assert drawn.images.shape == (24, 3, 64, 64)
    assert drawn.images.dtype == torch.float32
    assert drawn.images.min() >= 0
    assert drawn.images.max() <= 1
    assert drawn.boxes.shape == (24, 4)
    assert drawn.landmarks.shape == (24, 5, 2)


def test_pictures_are_a_function_of_the_tables(sample: tuple[People, Scenes, Renders]) -> None:
    people, scenes, drawn = sample
    again = render(people, scenes)
    assert torch.equal(again.images, drawn.images)
    assert torch.equal(again.landmarks, drawn.landmarks)
    assert torch.equal(again.boxes, drawn.boxes)


def test_a_row_is_the_same_in_any_batch(sample: tuple[People, Scenes, Renders]) -> None:
    people, scenes, drawn = sample
    rows = torch.tensor([20, 3, 11])
    part = render(people[rows], scenes[rows])
    torch.testing.assert_close(part.images, drawn.images[rows], atol=LEVEL / 10, rtol=0)
    torch.testing.assert_close(part.landmarks, drawn.landmarks[rows])


def test_box_contains_the_landmarks_in_order(sample: tuple[People, Scenes, Renders]) -> None:
    boxes, landmarks = sample[2].boxes, sample[2].landmarks
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    assert (landmarks > boxes[:, None, :2]).all()
    assert (landmarks < boxes[:, None, 2:]).all()
    left_eye, right_eye, nose, left_mouth, right_mouth = landmarks.unbind(1)
    assert (left_eye[:, 0] < right_eye[:, 0]).all()
    assert (left_mouth[:, 0] < right_mouth[:, 0]).all()
    middle = (left_eye + right_eye) / 2
    mouth = (left_mouth + right_mouth) / 2
    assert (middle[:, 1] < nose[:, 1]).all()
    assert (nose[:, 1] < mouth[:, 1]).all()


def test_eyes_are_where_their_landmarks_are(plain: tuple[People, Scenes]) -> None:
    people, scenes = plain
    brown = render(people.replace(eye_colour="brown", eye_shade=0.0), scenes)
    blue = render(people.replace(eye_colour="blue", eye_shade=1.0), scenes)
    changed = changed_at(brown.images, blue.images)
    distance = distance_to(brown.landmarks[:, :2])
    assert (distance[changed] < 4.5).all(), "nothing changes away from the eyes"
    for eye in (0, 1):
        near = distance_to(brown.landmarks[:, eye : eye + 1]) < 3
        assert (changed & near).flatten(1).any(1).all(), f"eye {eye} changes"


def test_pupils_are_dark_at_the_landmarks(plain: tuple[People, Scenes]) -> None:
    drawn = render(*plain)
    for eye in (0, 1):
        pupil = at(drawn.images, drawn.landmarks[:, eye]).mean(1)
        cheek = at(drawn.images, drawn.landmarks[:, eye] + torch.tensor([0.0, 8.0])).mean(1)
        assert (pupil < cheek - 0.15).all()


@pytest.mark.parametrize(("name", "axis"), [("x", 0), ("y", 1)])
def test_landmarks_and_picture_move_together(plain: tuple[People, Scenes], name: str, axis: int) -> None:
    people, scenes = plain
    near, far = render(people, scenes.replace(**{name: 0.1})), render(people, scenes.replace(**{name: 0.9}))
    shift = (far.landmarks - near.landmarks).mean(1)  # (N, 2)
    assert (shift[:, axis] > 1).all()
    assert shift[:, 1 - axis].abs().max() < 1e-3
    torch.testing.assert_close((far.boxes - near.boxes)[:, axis], shift[:, axis], atol=1e-3, rtol=0)
    for drawn in (near, far):  # the eyes went along
        other = render(people.replace(eye_colour="blue"), scenes.replace(**{name: 0.1 if drawn is near else 0.9}))
        base = render(people.replace(eye_colour="brown"), scenes.replace(**{name: 0.1 if drawn is near else 0.9}))
        changed = changed_at(base.images, other.images)
        assert changed.flatten(1).any(1).all()
        assert (distance_to(drawn.landmarks[:, :2])[changed] < 4.5).all()


def test_scale_spreads_the_landmarks(plain: tuple[People, Scenes]) -> None:
    people, scenes = plain
    spans = [
        (drawn.landmarks[:, 1] - drawn.landmarks[:, 0]).norm(dim=1)
        for drawn in (render(people, scenes.replace(framing=word)) for word in ("distant", "portrait", "close-up"))
    ]
    torch.testing.assert_close(spans[0] / spans[1], torch.full((8,), 0.63 / 0.71))
    torch.testing.assert_close(spans[2] / spans[1], torch.full((8,), 0.78 / 0.71))


def test_tilt_turns_the_line_between_the_eyes(plain: tuple[People, Scenes]) -> None:
    people, scenes = plain
    drawn = render(people, scenes.replace(tilt=1.0))
    dx, dy = (drawn.landmarks[:, 1] - drawn.landmarks[:, 0]).unbind(1)
    torch.testing.assert_close(torch.atan2(dy, dx).rad2deg(), torch.full((8,), 9.0), atol=0.01, rtol=0)


def test_turning_moves_the_nose_towards_the_side(plain: tuple[People, Scenes]) -> None:
    people, scenes = plain

    def nose_offset(pose: str) -> Tensor:
        landmarks = render(people, scenes.replace(pose=pose)).landmarks
        return landmarks[:, 2, 0] - landmarks[:, :2, 0].mean(1)

    assert (nose_offset("left") < nose_offset("front")).all()
    assert (nose_offset("front") < nose_offset("right")).all()


def test_mouth_is_between_its_corners(plain: tuple[People, Scenes]) -> None:
    people, scenes = plain
    pale, red = (render(people.replace(lip_redness=value), scenes) for value in (0.0, 1.0))
    changed = changed_at(pale.images, red.images)
    left, right = pale.landmarks[:, 3], pale.landmarks[:, 4]
    for row in range(8):
        y, x = changed[row].nonzero(as_tuple=True)
        assert abs(float(x.min()) - float(left[row, 0])) < 2
        assert abs(float(x.max()) + 1 - float(right[row, 0])) < 2
        assert (y - left[row, 1]).abs().max() < 5


def test_expressions_move_the_mouth_corners(plain: tuple[People, Scenes]) -> None:
    people, scenes = plain
    neutral, smiling, sad, surprised = (
        render(people, scenes.replace(expression=word)).landmarks[:, 3:]
        for word in ("neutral", "smiling", "sad", "surprised")
    )
    assert (smiling[..., 1] < neutral[..., 1]).all(), "corners up"
    assert (sad[..., 1] > neutral[..., 1]).all(), "corners down"
    width = neutral[:, 1, 0] - neutral[:, 0, 0]
    assert (smiling[:, 1, 0] - smiling[:, 0, 0] > width).all()
    assert (surprised[:, 1, 0] - surprised[:, 0, 0] < width).all()


def test_every_expression_and_background_looks_different(plain: tuple[People, Scenes]) -> None:
    people, scenes = plain
    for name, words in (("expression", EXPRESSIONS), ("background", BACKGROUNDS)):
        n = len(words)
        drawn = render(people[[0] * n], scenes[[0] * n].replace(**{name: torch.arange(n)})).images
        difference = (drawn[:, None] - drawn[None]).abs().flatten(2).mean(2)
        assert (difference + torch.eye(n) > 1e-3).all(), name


def test_skin_is_light_or_dark_as_the_trait_says(plain: tuple[People, Scenes]) -> None:
    people, scenes = plain
    light, dark = (render(people.replace(skin_tone=value), scenes) for value in (0.0, 1.0))
    forehead = light.landmarks[:, :2].mean(1)
    forehead[:, 1] = light.boxes[:, 1] + 2
    assert (at(light.images, forehead).mean(1) > at(dark.images, forehead).mean(1) + 0.3).all()


def test_hair_has_its_colour_above_the_face(plain: tuple[People, Scenes]) -> None:
    people, scenes = plain
    short = people.replace(hair_style="short", hair_shade=0.5, hairline=0.5)
    drawn = [render(short.replace(hair_colour=word), scenes) for word in ("black", "blond", "red")]
    left, upper, right, _ = drawn[0].boxes.unbind(1)
    top = torch.stack([(left + right) / 2, upper - 1.5], dim=1)
    black, blond, red = (at(d.images, top) for d in drawn)
    assert (black.mean(1) < 0.35).all()
    assert (blond.mean(1) > black.mean(1) + 0.25).all()
    assert (red[:, 0] > red[:, 2] + 0.3).all()


def test_every_hair_style_looks_different(plain: tuple[People, Scenes]) -> None:
    people, scenes = plain
    n = len(HAIR_STYLES)
    one = people[[0] * n].replace(hair_style=torch.arange(n), hair_colour="black")
    drawn = render(one, scenes[[0] * n]).images
    difference = (drawn[:, None] - drawn[None]).abs().flatten(2).mean(2)
    assert (difference + torch.eye(n) > 2e-3).all()


def test_clothes_have_their_colour_below_the_face(plain: tuple[People, Scenes]) -> None:
    people, scenes = plain
    bottom = torch.tensor([[20.0, 62.0]]).expand(8, 2)
    red, green = (at(render(people, scenes.replace(clothing_colour=c)).images, bottom) for c in ("red", "green"))
    assert (red[:, 0] > red[:, 1] + 0.3).all()
    assert (green[:, 1] > green[:, 0] + 0.1).all()


def test_light_comes_from_its_side_and_dim_is_darker(plain: tuple[People, Scenes]) -> None:
    people, scenes = plain

    def halves(word: str) -> tuple[Tensor, Tensor]:
        images = render(people, scenes.replace(light=word)).images
        return images[..., :32].flatten(1).mean(1), images[..., 32:].flatten(1).mean(1)

    even, left, right, dim = (halves(word) for word in ("even", "left", "right", "dim"))
    assert (left[0] - left[1] > even[0] - even[1] + 0.05).all()
    assert (right[1] - right[0] > even[1] - even[0] + 0.05).all()
    assert (dim[0] < even[0] * 0.8).all()


def test_backgrounds_are_the_pictures_without_the_person(plain: tuple[People, Scenes]) -> None:
    people, scenes = plain
    empty, drawn = render_backgrounds(scenes), render(people, scenes)
    assert empty.shape == (8, 3, 64, 64)
    torch.testing.assert_close(empty[:, :, 0, 0], drawn.images[:, :, 0, 0], atol=LEVEL, rtol=0)
    face = drawn.landmarks[:, 2]
    assert ((at(empty, face) - at(drawn.images, face)).abs().amax(1) > 0.05).all()


def test_tables_of_different_length_are_refused(plain: tuple[People, Scenes]) -> None:
    with pytest.raises(ValueError, match="8 people but 7 scenes"):
        render(plain[0], plain[1][:7])

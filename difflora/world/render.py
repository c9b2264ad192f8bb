"""Pictures of people in scenes, with the truth about them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from difflora.world.drawing.accessories import draw_accessory
from difflora.world.drawing.backgrounds import paint_backgrounds
from difflora.world.drawing.clothing import draw_body
from difflora.world.drawing.face import (
    draw_beard,
    draw_ears,
    draw_eyes,
    draw_head,
    draw_mark,
    draw_mouth,
    draw_nose,
)
from difflora.world.drawing.geometry import boxes_of, geometry_of, landmarks_of
from difflora.world.drawing.hair import draw_hair, draw_hair_behind
from difflora.world.drawing.painter import Frame, Painter, column
from difflora.world.drawing.pose import pose_of
from difflora.world.scenes import LIGHTS, Scenes
from difflora.world.traits import People

SIZE = 64
"""Side of a picture in pixels."""


@dataclass(frozen=True)
class Renders:
    """N pictures and where the faces in them are.

    Attributes:
        images: (N, 3, 64, 64) float32 in [0, 1], RGB.
        boxes: (N, 4) float32, x1, y1, x2, y2 in pixels.
        landmarks: (N, 5, 2) float32, x and y in pixels: eyes, nose, mouth corners, each left one first.
    """

    images: Tensor
    boxes: Tensor
    landmarks: Tensor


def _lit(image: Tensor, scenes: Scenes) -> Tensor:
    """The picture under the scene's light."""
    index, strength = scenes.index("light"), column(scenes.value("light_strength"))
    across = torch.linspace(-1, 1, image.shape[-1])[None, None, :]

    def when(name: str) -> Tensor:
        return column((index == LIGHTS.index(name)).float())

    side = when("right") - when("left")
    factor = 1 + side * across * (0.22 + 0.10 * strength) - side.abs() * 0.10 - when("dim") * (0.28 + 0.12 * strength)
    warm = torch.tensor([0.02, -0.07, -0.22]).view(1, 3, 1, 1) * (0.8 + 0.4 * strength)[:, None]
    return image * (factor[:, None] + warm * when("warm")[:, None])


def render_backgrounds(scenes: Scenes) -> Tensor:
    """The scenes' places under their light, with nobody in them, (N, 3, 64, 64) float32 in [0, 1]."""
    return _lit(paint_backgrounds(scenes, SIZE), scenes).clamp(0, 1)


@torch.no_grad()
def render(people: People, scenes: Scenes) -> Renders:
    """Draws each person in the scene of the same row.

    The pictures are a function of the two tables alone; a row comes out the same in any batch up to the rounding of
    the vectorised arithmetic, far below one of 255 levels.

    Raises:
        ValueError: if the tables differ in length.
    """
    if len(people) != len(scenes):
        raise ValueError(f"{len(people)} people but {len(scenes)} scenes: give one scene a person")
    pose, g = pose_of(scenes), geometry_of(people, scenes)
    canvas = Frame.canvas(len(people), SIZE)
    head = canvas.placed(pose.x, pose.y, pose.scale, pose.tilt)
    painter = Painter(paint_backgrounds(scenes, SIZE))
    draw_hair_behind(painter, head, g, pose, people)
    draw_body(painter, canvas, g, pose, people, scenes)
    draw_ears(painter, head, g, pose)
    face = draw_head(painter, head, g, people)
    scaled = Frame(head.u, head.v / column(g.length), head.pixel)
    draw_mark(painter, scaled, g, pose, people, face)
    draw_beard(painter, scaled, g, pose, people, face)
    draw_nose(painter, scaled, g, pose)
    draw_mouth(painter, scaled, g, pose, face)
    draw_eyes(painter, scaled, g, pose, scenes)
    draw_hair(painter, head, g, pose, people)
    draw_accessory(painter, scaled, g, pose, scenes)
    images = _lit(painter.image, scenes).clamp(0, 1)
    return Renders(images, boxes_of(g, pose, SIZE), landmarks_of(g, pose, SIZE))

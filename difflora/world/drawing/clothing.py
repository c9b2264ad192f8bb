"""Neck, shoulders and three kinds of clothes in eight colours."""

from __future__ import annotations

import torch

from difflora.world.drawing.geometry import Geometry
from difflora.world.drawing.painter import Frame, Painter, column, palette, rgb
from difflora.world.drawing.pose import Pose
from difflora.world.scenes import CLOTHES, Scenes
from difflora.world.traits import People

_COLOURS = palette("#d8262b", "#f18a1c", "#f4d52c", "#2f9e44", "#2558c9", "#7d35b0", "#1d1d21", "#f2f2f2")


def draw_body(painter: Painter, canvas: Frame, g: Geometry, pose: Pose, people: People, scenes: Scenes) -> None:
    """Hood, neck and shoulders under the head; they stand upright and follow its place and size."""
    upright = canvas.placed(pose.x, pose.y, pose.scale, torch.zeros_like(pose.tilt))
    lean = column(pose.tilt.sin() * -0.9)
    shade = 0.08 * (scenes.value("clothing_shade") - 0.5)[:, None]
    colour = (_COLOURS[scenes.index("clothing_colour")] + shade).clamp(0, 1)
    kind = scenes.index("clothes")
    hoodie, shirt, tee = (column((kind == CLOTHES.index(name)).float()) for name in ("hoodie", "shirt", "t-shirt"))
    hood = upright.ellipse(lean, torch.tensor(0.85), torch.tensor(0.92), torch.tensor(0.55))
    painter.paint(upright.cover(hood) * hoodie, colour * 0.72)
    half = column(0.26 + 0.16 * people.value("neck_width"))
    neck = upright.box(lean * 0.8, torch.tensor(1.05), half, torch.tensor(0.5))
    painter.paint(upright.cover(neck), g.skin * 0.82)
    shoulders = upright.box(lean, torch.tensor(2.10), torch.tensor(1.38), torch.tensor(1.0), 0.55)
    cover = upright.cover(shoulders)
    painter.paint(cover, colour)
    neckline = upright.ellipse(lean * 0.9, torch.tensor(1.08), half + 0.08, torch.tensor(0.24))
    painter.paint(upright.cover(neckline) * tee, g.skin * 0.88)
    v_neck = (upright.u - lean).abs() * 1.3 + upright.v - 1.62
    painter.paint(upright.cover(v_neck) * cover * shirt, g.skin * 0.88)
    collar = torch.maximum(v_neck - 0.24, -v_neck)
    painter.paint(upright.cover(torch.maximum(collar, upright.v - 1.6)) * cover * shirt, (colour * 0.7 + 0.25))
    for side in (-1.0, 1.0):
        cord = upright.capsule(lean + side * 0.22, torch.tensor(1.25), lean + side * 0.26, torch.tensor(1.75), 0.05)
        painter.paint(upright.cover(cord) * hoodie, rgb("#e8e8e8"))
    neck_opening = upright.ellipse(lean, torch.tensor(1.06), half + 0.1, torch.tensor(0.18))
    painter.paint(upright.cover(neck_opening) * hoodie, colour * 0.55)
    painter.paint(
        upright.cover(upright.ellipse(lean, torch.tensor(1.0), half * 0.95, torch.tensor(0.14))) * hoodie, g.skin * 0.8
    )

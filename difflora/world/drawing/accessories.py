"""Glasses, sunglasses, hat, beanie and headphones."""

from __future__ import annotations

import torch
from torch import Tensor

from difflora.world.drawing.face import head_distance
from difflora.world.drawing.geometry import EYE_DEPTH, Geometry
from difflora.world.drawing.painter import Frame, Painter, column, rgb
from difflora.world.drawing.pose import Pose
from difflora.world.scenes import ACCESSORIES, Scenes


def draw_accessory(painter: Painter, head: Frame, g: Geometry, pose: Pose, scenes: Scenes) -> None:
    """Draws what the scene puts on the head, over everything else."""
    index = scenes.index("accessory")

    def when(name: str) -> Tensor:
        return column((index == ACCESSORIES.index(name)).float())

    glasses, sunglasses = when("glasses"), when("sunglasses")
    frame_colour, dark = rgb("#17171a"), rgb("#0d0d10")
    y = column(g.eye_y)
    inner = []
    for side in (-1.0, 1.0):
        x = column(pose.across(side * g.eye_x, EYE_DEPTH + 0.05))
        half = 0.235 * column(pose.narrowing(side * g.eye_x))
        lens = head.ellipse(x, y + 0.02, half, torch.tensor(0.21))
        rim = (lens + 0.012).abs() - 0.034
        painter.paint(head.cover(rim) * glasses, frame_colour)
        painter.paint(head.cover(lens) * glasses * 0.10, rgb("#ffffff"))
        shade = head.box(x, y + 0.03, half + 0.02, torch.tensor(0.185), 0.1)
        painter.paint(head.cover(shade) * sunglasses, dark)
        glint = head.capsule(x - 0.08, y + 0.06, x + 0.02, y - 0.06, 0.034)
        painter.paint(head.cover(glint) * sunglasses * 0.45, rgb("#8b93a5"))
        inner.append(x - side * half)
        arm_end = column(pose.across(side * g.width, 0.0))
        arm = head.capsule(x + side * half, y, arm_end, y - 0.02, 0.034)
        painter.paint(head.cover(arm) * (glasses + sunglasses), frame_colour)
    bridge = head.capsule(inner[0], y, inner[1], y, 0.036)
    painter.paint(head.cover(bridge) * (glasses + sunglasses), frame_colour)

    top = column(pose.across(torch.zeros_like(g.width), 0.0))
    width, length = column(g.width), column(g.length)
    hat = when("hat")
    crown = head.box(top, -1.08 * length, width * 0.88, torch.tensor(0.42), 0.14)
    painter.paint(head.cover(crown) * hat, rgb("#7a4a26"))
    band = head.box(top, -0.76 * length, width * 0.90, torch.tensor(0.075))
    painter.paint(head.cover(band) * hat, rgb("#2b1a10"))
    brim = head.ellipse(top, -0.66 * length, width * 1.55, torch.tensor(0.125))
    painter.paint(head.cover(brim) * hat, rgb("#8f5a30"))

    beanie = when("beanie")
    cap = torch.maximum(head_distance(head, g, grow=0.07), head.v + 0.48 * length)
    painter.paint(head.cover(cap) * beanie, rgb("#1f8f8a"))
    fold = torch.maximum(head_distance(head, g, grow=0.10), (head.v + 0.55 * length).abs() - 0.13)
    painter.paint(head.cover(fold) * beanie, rgb("#166a66"))
    pom = head.ellipse(top, -1.13 * length, torch.tensor(0.17), torch.tensor(0.16))
    painter.paint(head.cover(pom) * beanie, rgb("#e9f5f4"))

    phones = when("headphones")
    arc = (head.ellipse(top, torch.tensor(-0.02), width + 0.13, 1.16 * length)).abs() - 0.055
    painter.paint(head.cover(torch.maximum(arc, head.v + 0.1)) * phones, rgb("#d9d9de"))
    for side in (-1.0, 1.0):
        x = column(pose.across(side * (g.width + 0.08), 0.0))
        cup = head.box(x, column(g.eye_y + 0.10), torch.tensor(0.15), torch.tensor(0.27), 0.12)
        painter.paint(head.cover(cup) * phones, rgb("#e23b8e"))

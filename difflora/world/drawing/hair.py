"""Nine hair styles, each a part behind the head and a part over it."""

from __future__ import annotations

import torch
from torch import Tensor

from difflora.world.drawing.face import head_distance
from difflora.world.drawing.geometry import Geometry
from difflora.world.drawing.painter import Frame, Painter, column
from difflora.world.drawing.pose import Pose
from difflora.world.traits import HAIR_STYLES, People


def _is(people: People, *styles: str) -> Tensor:
    index = people.index("hair_style")
    chosen = torch.zeros(len(people))
    for style in styles:
        chosen = chosen + (index == HAIR_STYLES.index(style)).float()
    return column(chosen)


def _volume(people: People) -> Tensor:
    return column(0.06 + 0.14 * people.value("hair_volume"))


def draw_hair_behind(painter: Painter, head: Frame, g: Geometry, pose: Pose, people: People) -> None:
    """What shows behind neck and head: long hair, a bob, curls and a bun."""
    colour, grow = g.hair * 0.78, _volume(people)
    width = column(g.width)
    shift = column(pose.across(torch.zeros_like(g.width), -0.25))
    long = head.box(shift, torch.tensor(0.45), width + grow, torch.tensor(1.25), 0.4)
    bob = head.box(shift, torch.tensor(0.05), width + 0.06 + grow, torch.tensor(0.80), 0.4)
    painter.paint(head.cover(long) * _is(people, "long"), colour)
    painter.paint(head.cover(bob) * _is(people, "bob"), colour)
    wave = 0.06 * torch.sin(torch.atan2(head.v + 0.2, head.u) * 14)
    curls = head.ellipse(shift, torch.tensor(-0.25), width + grow + 0.10, 0.95 + grow) - wave
    painter.paint(head.cover(curls) * _is(people, "curly"), colour)
    bun = head.ellipse(shift, -1.12 - grow * 0.3, torch.tensor(0.30), torch.tensor(0.26))
    painter.paint(head.cover(bun) * _is(people, "bun"), g.hair)


def draw_hair(painter: Painter, head: Frame, g: Geometry, pose: Pose, people: People) -> None:
    """What lies over the skull: everything above the hairline, and sides by style."""
    grow = _volume(people)
    line = column(-0.62 + 0.26 * (people.value("hairline") - 0.5)) * column(g.length)
    middle = column(pose.across(torch.zeros_like(g.width), 0.30))
    u, v = head.u - middle, head.v
    skull = head_distance(head, g)

    def cap(outside: Tensor | float, edge: Tensor) -> Tensor:
        """Inside the grown skull and above an edge."""
        return head.cover(skull - outside) * head.cover(edge)

    arch = 0.45 * u * u
    colour = g.hair
    buzz = cap(0.01, v - line - arch * 2.2)
    painter.paint(buzz * _is(people, "buzz cut") * 0.72, colour)
    painter.paint(cap(grow * 0.7, v - line - arch * 2.4) * _is(people, "short"), colour)
    part = line - 0.04 + 0.34 * (u * torch.where(column(people.value("mark_place")) < 0.5, 1.0, -1.0) + 0.12).abs()
    painter.paint(cap(grow, v - part - arch) * _is(people, "side part"), colour)
    wave = 0.05 * torch.sin(head.u * 16)
    painter.paint(cap(grow, v - line - arch * 2.0 - wave) * _is(people, "curly"), colour)
    fringe = line + 0.14 - 0.9 * (u.abs() - column(g.width) * 0.62).clamp(min=0) * -4
    painter.paint(cap(grow * 0.8, v - fringe) * _is(people, "bob"), colour)
    curtain = line - 0.05 + 1.15 * u.abs() ** 1.3
    painter.paint(cap(grow, v - curtain) * _is(people, "long"), colour)
    painter.paint(cap(0.03, v - line - arch * 1.6) * _is(people, "bun"), colour)
    strip = head.box(middle * 0.6, -0.98 - grow * 0.8, torch.tensor(0.14), 0.40 + grow * 0.8, 0.08)
    painter.paint(head.cover(strip) * head.cover(v - line) * _is(people, "mohawk"), colour)
    sides = cap(0.0, v - line - arch * 2.4) * _is(people, "mohawk")
    painter.paint(sides * 0.30 * (1 - head.cover(strip)), colour)
    shine = head.ellipse(middle - 0.18, line - 0.18, torch.tensor(0.22), torch.tensor(0.07))
    glossy = _is(people, "short", "side part", "bob", "long", "bun")
    painter.paint(head.cover(shine, 3.0) * head.cover(skull - grow * 0.6) * glossy * 0.25, (colour + 0.35).clamp(max=1))

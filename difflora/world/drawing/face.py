"""Head, eyes, brows, nose, mouth, beard and marks."""

from __future__ import annotations

import torch
from torch import Tensor

from difflora.world.drawing.geometry import EYE_DEPTH, MOUTH_DEPTH, NOSE_DEPTH, Geometry
from difflora.world.drawing.painter import Frame, Painter, column, mix, rgb
from difflora.world.drawing.pose import Pose
from difflora.world.scenes import Scenes
from difflora.world.traits import BEARDS, MARKS, People


def head_distance(head: Frame, g: Geometry, grow: float = 0.0) -> Tensor:
    """Signed distance to the head's outline: a round skull over a jaw that narrows towards the chin, (N, H, W)."""
    u, v = head.u, head.v / column(g.length)
    down = v.clamp(0, 1)
    smooth = down * down * (3 - 2 * down)
    width = column(g.width) * (1 - (1 - column(g.jaw)) * 0.62 * smooth) + grow
    power = 2 + (column(g.chin) - 2) * smooth
    p, q = (u.abs() / width).clamp(min=1e-4), (v.abs() / (1 + grow)).clamp(min=1e-4)
    radius = (p**power + q**power) ** (1 / power)
    return (radius - 1) * width


def draw_ears(painter: Painter, head: Frame, g: Geometry, pose: Pose) -> None:
    """Both ears, behind the head."""
    for side in (-1.0, 1.0):
        x = column(pose.across(side * (g.width + 0.3 * g.ear), 0.0))
        ear = head.ellipse(x, column(g.eye_y + 0.12), column(g.ear) * 0.8, column(g.ear) * 1.35)
        painter.paint(head.cover(ear), g.skin * 0.92)
        inner = head.ellipse(x, column(g.eye_y + 0.12), column(g.ear) * 0.4, column(g.ear) * 0.8)
        painter.paint(head.cover(inner) * 0.7, g.skin * 0.72)


def draw_head(painter: Painter, head: Frame, g: Geometry, people: People) -> Tensor:
    """The head with its soft shading; returns its coverage (N, H, W)."""
    distance = head_distance(head, g)
    cover = head.cover(distance)
    painter.paint(cover, g.skin)
    edge = ((distance + 0.22) / 0.22).clamp(0, 1) ** 2
    painter.shade(1 - cover * edge * 0.16)
    wrinkles = column((people.value("wrinkles") - 0.55).clamp(min=0) / 0.45)
    for v in (-0.55, -0.45):
        line = head.capsule(torch.tensor(-0.25), torch.tensor(v), torch.tensor(0.25), torch.tensor(v), 0.028)
        painter.shade(1 - head.cover(line) * cover * wrinkles * 0.30)
    for side in (-1.0, 1.0):
        x = side * 0.36
        cheek = head.ellipse(torch.tensor(x), torch.tensor(0.30), torch.tensor(0.2), torch.tensor(0.16))
        blush = column(people.value("cheeks")) * 0.35
        painter.paint(head.cover(cheek, 5.0) * cover * blush, g.skin * torch.tensor([[1.0, 0.66, 0.66]]))
        fold = head.capsule(
            column(0.24 * side * torch.ones_like(g.nose_y)),
            column(g.nose_y + 0.05),
            column(0.34 * side * torch.ones_like(g.nose_y)),
            column(g.mouth_y),
            0.026,
        )
        painter.shade(1 - head.cover(fold) * cover * wrinkles * 0.30)
    return cover


def draw_eyes(painter: Painter, head: Frame, g: Geometry, pose: Pose, scenes: Scenes) -> None:
    """Whites, irises, pupils, lids and brows."""
    gaze = column((scenes.value("gaze") - 0.5) * 0.05)
    for side in (-1.0, 1.0):
        x = column(pose.across(side * g.eye_x, EYE_DEPTH))
        narrow = column(pose.narrowing(side * g.eye_x))
        half, tall = column(g.eye_half_width) * narrow, column(g.eye_half_height)
        y, angle = column(g.eye_y), column(-side * g.eye_slant)
        eye = head.ellipse(x, y, half, tall, angle)
        white = head.cover(eye)
        painter.paint(head.cover(eye - 0.032), g.skin * 0.45)
        painter.paint(white, rgb("#fdfdfb"))
        radius = torch.minimum(tall, half) * 0.86
        iris = head.ellipse(x + gaze, y, radius, radius)
        painter.paint(head.cover(iris) * white, g.iris)
        painter.paint(head.cover(iris + radius * 0.55) * white, rgb("#101014"))
        brow_half = column(g.brow_half_length) * narrow
        rise = column(g.brow_slant) * brow_half
        brow = head.capsule(
            x - side * brow_half,
            column(g.brow_y) + rise,
            x + side * brow_half,
            column(g.brow_y) - rise * 0.6,
            column(g.brow_thickness),
        )
        painter.paint(head.cover(brow), mix(g.hair, g.skin * 0.4, torch.tensor(0.35)) * 0.85)


def draw_nose(painter: Painter, head: Frame, g: Geometry, pose: Pose) -> None:
    """The bridge's shadow, the tip and the nostrils."""
    zero = torch.zeros_like(g.nose_y)
    tip, root = column(pose.across(zero, NOSE_DEPTH)), column(pose.across(zero, EYE_DEPTH))
    half = column(g.nose_half_width)
    side = column(torch.where(pose.yaw >= 0, 1.0, -1.0))
    bridge = head.capsule(
        root + side * half * 0.4, column(g.eye_y), tip + side * half * 0.7, column(g.nose_y) - 0.03, 0.022
    )
    painter.paint(head.cover(bridge) * 0.5, g.skin * 0.72)
    painter.paint(head.cover(head.ellipse(tip, column(g.nose_y), half, half * 0.62 + 0.02)), g.skin * 0.86)
    painter.paint(head.cover(head.ellipse(tip, column(g.nose_y) - 0.035, half * 0.7, half * 0.5)), g.skin * 1.04)
    for s in (-1.0, 1.0):
        nostril = head.ellipse(tip + s * half * 0.5, column(g.nose_y) + half * 0.3, half * 0.26, half * 0.18 + 0.008)
        painter.paint(head.cover(nostril) * 0.9, g.skin * 0.42)


def draw_mouth(painter: Painter, head: Frame, g: Geometry, pose: Pose, face: Tensor) -> None:
    """Lips along a curve, open over teeth and a dark mouth where the expression opens it."""
    left, right = (column(pose.across(s * g.mouth_half_width, MOUTH_DEPTH)) for s in (-1.0, 1.0))
    middle, half = (left + right) / 2, (right - left) / 2
    t = (head.u - middle) / half
    inside = (1 - t * t).clamp(min=0)
    line = column(g.mouth_y) + column(g.mouth_curve) * (0.5 - t * t)
    opened, lip = column(g.mouth_open), column(g.lip) * inside.sqrt()
    upper, lower = line - 0.3 * opened * inside, line + 0.7 * opened * inside
    ends = (t.abs() - 1) * half
    lips = torch.maximum(torch.maximum(upper - lip - head.v, head.v - lower - lip * 1.25), ends)
    painter.paint(face * head.cover(lips), g.lips)
    gap = torch.maximum(torch.maximum(upper - head.v, head.v - lower), ends)
    is_open = column((g.mouth_open > 0.015).float())
    painter.paint(face * head.cover(gap) * is_open, rgb("#4a1418"))
    teeth = torch.maximum(gap, head.v - upper - 0.075 * inside)
    painter.paint(face * head.cover(teeth) * is_open, rgb("#fafaf5"))
    seam = (head.v - line).abs() - 0.024
    painter.paint(face * head.cover(torch.maximum(seam, ends)) * (1 - is_open) * 0.8, g.lips * 0.45)


def draw_beard(painter: Painter, head: Frame, g: Geometry, pose: Pose, people: People, face: Tensor) -> None:
    """Stubble, moustache, goatee or full beard, under the mouth that is drawn later."""
    kind = people.index("beard")
    zero = torch.zeros_like(g.mouth_y)
    middle = column(pose.across(zero, MOUTH_DEPTH))
    mouth = column(g.mouth_y)
    cheek = head.cover((mouth - 0.30) + 0.25 * (1 - ((head.u - middle) / column(g.width)).abs()) - head.v, 2.0)
    lower = head.cover((mouth - 0.14) - head.v) * face
    rim = head.cover(-(head_distance(head, g) + 0.16)) * head.cover((mouth - 0.42) - head.v) * face
    goatee = head.cover(head.ellipse(middle, mouth + 0.25, torch.tensor(0.19), torch.tensor(0.24))) * face
    moustache = (
        head.cover(head.ellipse(middle, mouth - 0.12, column(g.mouth_half_width) * 1.05, torch.tensor(0.075))) * face
    )
    dark = mix(g.hair, g.skin * 0.35, torch.tensor(0.25))

    def when(name: str) -> Tensor:
        return column((kind == BEARDS.index(name)).float())

    painter.paint(cheek * face * when("stubble") * 0.42, dark)
    painter.paint(torch.maximum(lower, rim) * when("full beard"), dark)
    painter.paint(goatee * (when("goatee")), dark)
    painter.paint(moustache * (when("moustache") + when("goatee") * 0.9), dark)


def draw_mark(painter: Painter, head: Frame, g: Geometry, pose: Pose, people: People, face: Tensor) -> None:
    """Freckles, a mole, a scar or a birthmark."""
    kind, place = people.index("mark"), people.value("mark_place")
    side = torch.where(place < 0.5, -1.0, 1.0)
    along = (place * 2) % 1
    x = column(pose.across(side * (0.28 + 0.16 * along), 0.4))
    y = column(0.18 + 0.25 * (along - 0.5))

    def when(name: str) -> Tensor:
        return column((kind == MARKS.index(name)).float()) * face

    mole = head.ellipse(x, y + 0.1, torch.tensor(0.06), torch.tensor(0.06))
    painter.paint(head.cover(mole) * when("mole"), rgb("#3a2018"))
    scar = head.capsule(x - 0.05, y - 0.14, x + 0.07, y + 0.14, 0.034)
    painter.paint(head.cover(scar) * when("scar"), mix(g.skin, rgb("#c8616a"), torch.tensor(0.65)))
    birthmark = head.ellipse(x, y, torch.tensor(0.14), torch.tensor(0.10))
    painter.paint(head.cover(birthmark) * when("birthmark"), g.skin * torch.tensor([[0.72, 0.50, 0.52]]))
    for i in range(6):
        fx = column(pose.across(torch.full_like(place, (-1) ** i * (0.18 + 0.11 * (i // 2))), 0.45))
        fy = torch.tensor(0.14 + 0.12 * ((i * 0.618) % 1))
        dot = head.ellipse(fx, fy, torch.tensor(0.042), torch.tensor(0.042))
        painter.paint(head.cover(dot) * when("freckles") * 0.75, g.skin * torch.tensor([[0.68, 0.48, 0.38]]))

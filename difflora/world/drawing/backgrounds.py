"""The eight places a person can be in."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from difflora.world.drawing.painter import Frame, Painter, column, mix, rgb
from difflora.world.scenes import BACKGROUNDS, Scenes


def _gradient(frame: Frame, top: Tensor, bottom: Tensor) -> Painter:
    t = ((frame.v + 1) / 2)[:, None]  # (N, 1, H, W)
    return Painter(mix(top[None, :, None, None], bottom[None, :, None, None], t))


def _beach(frame: Frame, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    painter = _gradient(frame, rgb("#8fd0f5"), rgb("#d8f0fb"))
    horizon = mix(torch.tensor(-0.1), torch.tensor(0.25), a)
    painter.paint(frame.cover(horizon - frame.v), rgb("#2d8fc4"))
    shore = horizon + 0.35 + 0.06 * torch.sin(frame.u * 4 + b * 6)
    painter.paint(frame.cover(shore - frame.v), rgb("#ecd9a0"))
    painter.paint(
        frame.cover(
            frame.ellipse(
                mix(torch.tensor(-0.8), torch.tensor(0.8), c), horizon - 0.6, torch.tensor(0.16), torch.tensor(0.16)
            )
        ),
        rgb("#fff3b0"),
    )
    return painter.image


def _forest(frame: Frame, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    painter = _gradient(frame, rgb("#5f9c58"), rgb("#2f5d33"))
    for i in range(4):
        x = -0.9 + 0.6 * i + 0.3 * (b - 0.5)
        trunk = frame.box(x, torch.tensor(0.3), torch.tensor(0.08) + 0.04 * c, torch.tensor(1.0))
        painter.paint(frame.cover(trunk), rgb("#5b4029"))
        crown = frame.ellipse(x, -0.75 + 0.25 * (a - 0.5), torch.tensor(0.38), torch.tensor(0.34))
        painter.paint(frame.cover(crown), rgb("#3c7a3c") * (0.85 + 0.15 * (i % 2)))
    return painter.image


def _night(frame: Frame, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    painter = _gradient(frame, rgb("#0b1033"), rgb("#2c2f63"))
    painter.paint(
        frame.cover(
            frame.ellipse(
                mix(torch.tensor(-0.8), torch.tensor(0.8), a), -0.6 + 0.2 * b, torch.tensor(0.17), torch.tensor(0.17)
            )
        ),
        rgb("#f6f1d0"),
    )
    for x, y in ((-0.85, -0.35), (-0.55, -0.85), (0.15, -0.9), (0.6, -0.3), (0.88, 0.1), (-0.8, 0.25)):
        star = frame.ellipse(x + 0.2 * (c - 0.5), torch.tensor(y), torch.tensor(0.05), torch.tensor(0.05))
        painter.paint(frame.cover(star), rgb("#ffffff"))
    return painter.image


def _city(frame: Frame, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    painter = _gradient(frame, rgb("#a9c3d9"), rgb("#dde3e6"))
    greys = ("#6d7480", "#8a6f66", "#586577", "#7d8288")
    for i in range(4):
        x = -0.84 + 0.56 * i + 0.2 * (a - 0.5)
        top = -0.5 + 0.35 * (b - 0.5) - 0.25 * (i % 2)
        painter.paint(frame.cover(frame.box(x, top + 1.2, torch.tensor(0.25), torch.tensor(1.2))), rgb(greys[i]))
        for side in (-1, 1):
            for row in range(3):
                window = frame.box(x + side * 0.11, top + 0.18 + 0.3 * row, torch.tensor(0.06), torch.tensor(0.08))
                painter.paint(frame.cover(window) * (0.6 + 0.4 * c), rgb("#f4dd8f"))
    return painter.image


def _mountains(frame: Frame, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    painter = _gradient(frame, rgb("#7fb2e5"), rgb("#e6f1f7"))
    for i, (colour, base) in enumerate((("#7d8fa6", -0.75), ("#5c7088", -0.5))):
        for side in (-1, 1):
            x = side * (0.45 + 0.25 * i) + 0.5 * ((a if side < 0 else b) - 0.5)
            slope = (frame.u - x).abs() * (1.1 + 0.5 * c)
            painter.paint(frame.cover((base + slope - frame.v) * 0.7), rgb(colour))
            snow = torch.maximum(base + slope - frame.v, frame.v - base - 0.3)
            painter.paint(frame.cover(snow * 0.7), rgb("#f7fafc"))
    painter.paint(frame.cover(0.45 + 0.05 * torch.sin(frame.u * 3 + a * 6) - frame.v), rgb("#eef3f6"))
    return painter.image


def _room(frame: Frame, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    painter = _gradient(frame, rgb("#e3cfa9"), rgb("#d6bd92"))
    side = torch.where(a < 0.5, -0.62, 0.62)
    y, half = -0.5 + 0.15 * b, torch.tensor(0.28)
    painter.paint(frame.cover(frame.box(side, y, half + 0.05, half + 0.09)), rgb("#ffffff"))
    painter.paint(frame.cover(frame.box(side, y, half, half + 0.04)), rgb("#a8d8f0"))
    painter.paint(frame.cover(frame.box(side, y, torch.tensor(0.035), half + 0.04)), rgb("#ffffff"))
    painter.paint(frame.cover(frame.box(side, y, half, torch.tensor(0.035))), rgb("#ffffff"))
    painter.paint(frame.cover(0.62 + 0.1 * c - frame.v), rgb("#8a5f3a"))
    return painter.image


def _studio(top: str, bottom: str) -> Callable[[Frame, Tensor, Tensor, Tensor], Tensor]:
    def paint(frame: Frame, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        painter = _gradient(frame, rgb(top), rgb(bottom))
        glow = torch.exp(-((frame.u - a + 0.5) ** 2 + (frame.v + b * 0.5) ** 2) * 1.5)
        painter.shade(0.9 + (0.06 + 0.12 * c) * glow)
        return painter.image

    return paint


_PAINTERS: dict[str, Callable[[Frame, Tensor, Tensor, Tensor], Tensor]] = {
    "beach": _beach,
    "forest": _forest,
    "night sky": _night,
    "city": _city,
    "mountains": _mountains,
    "room": _room,
    "grey studio": _studio("#a5a8ad", "#8b8e93"),
    "pink studio": _studio("#f5b5cd", "#e89ab8"),
}


def paint_backgrounds(scenes: Scenes, size: int) -> Tensor:
    """The places without anybody in them, (N, 3, size, size) float32 in [0, 1]."""
    image = torch.empty(len(scenes), 3, size, size)
    index = scenes.index("background")
    for i, name in enumerate(BACKGROUNDS):
        rows = (index == i).nonzero().squeeze(1)
        if len(rows):
            frame = Frame.canvas(len(rows), size)
            a, b, c = (column(scenes.value(f"background_{k}")[rows]) for k in "abc")
            image[rows] = _PAINTERS[name](frame, a, b, c)
    return image

"""A batch of canvases with antialiased signed-distance shapes."""

from __future__ import annotations

import torch
from torch import Tensor


def column(values: Tensor) -> Tensor:
    """(N,) -> (N, 1, 1), to go with (N, H, W)."""
    return values[:, None, None]


def mix(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Linear interpolation from a (t = 0) to b (t = 1)."""
    return a + (b - a) * t


class Frame:
    """Coordinates (u right, v down) in which shapes are given, with the size of a pixel in their unit.

    Attributes:
        u: (N, H, W), v: (N, H, W).
        pixel: (N, 1, 1) length of a pixel's side in the frame's unit.
    """

    def __init__(self, u: Tensor, v: Tensor, pixel: Tensor) -> None:
        self.u, self.v, self.pixel = u, v, pixel

    @classmethod
    def canvas(cls, n: int, size: int) -> Frame:
        """The whole picture: u and v run from -1 to 1 over its edges."""
        axis = (torch.arange(size, dtype=torch.float32) + 0.5) * (2 / size) - 1
        v, u = torch.meshgrid(axis, axis, indexing="ij")
        return cls(u.expand(n, -1, -1), v.expand(n, -1, -1), torch.full((n, 1, 1), 2 / size))

    def placed(self, x: Tensor, y: Tensor, scale: Tensor, angle: Tensor) -> Frame:
        """The frame whose origin is at (x, y) here, its unit ``scale`` long, turned by ``angle`` radians; all (N,)."""
        du, dv = self.u - column(x), self.v - column(y)
        cosine, sine, scale = column(angle.cos()), column(angle.sin()), column(scale)
        return Frame((du * cosine + dv * sine) / scale, (dv * cosine - du * sine) / scale, self.pixel / scale)

    def cover(self, distance: Tensor, softness: float = 1.0) -> Tensor:
        """Coverage in [0, 1] of a shape from its signed distance (negative inside), (N, H, W)."""
        return (0.5 - distance / (self.pixel * softness)).clamp(0, 1)

    def ellipse(self, x: Tensor, y: Tensor, rx: Tensor, ry: Tensor, angle: Tensor | None = None) -> Tensor:
        """Approximate signed distance to an ellipse; parameters are (N, 1, 1)."""
        du, dv = self.u - x, self.v - y
        if angle is not None:
            cosine, sine = angle.cos(), angle.sin()
            du, dv = du * cosine + dv * sine, dv * cosine - du * sine
        p, q = du / rx, dv / ry
        k = (p * p + q * q).sqrt()
        g = ((p / rx) ** 2 + (q / ry) ** 2).sqrt()
        return k * (k - 1) / g.clamp(min=1e-6)

    def box(self, x: Tensor, y: Tensor, hx: Tensor, hy: Tensor, round_: Tensor | float = 0.0) -> Tensor:
        """Signed distance to an axis-aligned box with half-sizes hx, hy and rounded corners."""
        du, dv = (self.u - x).abs() - hx + round_, (self.v - y).abs() - hy + round_
        outside = (du.clamp(min=0) ** 2 + dv.clamp(min=0) ** 2).sqrt()
        return outside + torch.maximum(du, dv).clamp(max=0) - round_

    def capsule(self, x1: Tensor, y1: Tensor, x2: Tensor, y2: Tensor, radius: Tensor | float) -> Tensor:
        """Signed distance to a line from (x1, y1) to (x2, y2) of the given half-thickness."""
        dx, dy = x2 - x1, y2 - y1
        du, dv = self.u - x1, self.v - y1
        t = ((du * dx + dv * dy) / (dx * dx + dy * dy).clamp(min=1e-9)).clamp(0, 1)
        return ((du - t * dx) ** 2 + (dv - t * dy) ** 2).sqrt() - radius


class Painter:
    """N pictures being painted over, layer by layer.

    Attributes:
        image: (N, 3, H, W) float32.
    """

    def __init__(self, image: Tensor) -> None:
        self.image = image

    def paint(self, cover: Tensor, colour: Tensor) -> None:
        """Lays ``colour`` (N, 3), (3,) or (N, 3, H, W) over the picture where ``cover`` (N, H, W) says."""
        if colour.dim() == 1:
            colour = colour[None]
        if colour.dim() == 2:
            colour = colour[:, :, None, None]
        self.image = self.image + cover[:, None] * (colour - self.image)

    def shade(self, factor: Tensor) -> None:
        """Multiplies the picture by ``factor`` (N, H, W)."""
        self.image = self.image * factor[:, None]


def rgb(text: str) -> Tensor:
    """'#rrggbb' -> (3,) float32 in [0, 1]."""
    return torch.tensor([int(text[i : i + 2], 16) / 255 for i in (1, 3, 5)])


def palette(*texts: str) -> Tensor:
    """Several colours, (K, 3)."""
    return torch.stack([rgb(text) for text in texts])

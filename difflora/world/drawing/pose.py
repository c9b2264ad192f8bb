"""Where a head is and how it is turned; where its features then appear."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from difflora.world.scenes import FRAMINGS, POSES, Scenes


@dataclass(frozen=True)
class Pose:
    """The head's placement; all (N,) float32.

    Attributes:
        x: centre in canvas units (-1 to 1).
        y: centre in canvas units.
        scale: half the head's height in canvas units.
        tilt: in-plane rotation in radians.
        yaw: turn in radians, positive to the picture's right.
    """

    x: Tensor
    y: Tensor
    scale: Tensor
    tilt: Tensor
    yaw: Tensor

    def across(self, x: Tensor, depth: float) -> Tensor:
        """Where a point at lateral position x and ``depth`` in front of the head's axis appears, (N,)."""
        return x * self.yaw.cos() + depth * self.yaw.sin()

    def narrowing(self, x: Tensor) -> Tensor:
        """How much a patch of skin at lateral position x is foreshortened, (N,), about 0.5 to 1."""
        angle = self.yaw + torch.asin(x.clamp(-0.9, 0.9)) * 0.6
        return angle.cos().clamp(min=0.4)

    def to_pixels(self, u: Tensor, v: Tensor, size: int) -> Tensor:
        """Head coordinates (N,) to picture coordinates, (N, 2) in pixels."""
        cosine, sine = self.tilt.cos(), self.tilt.sin()
        x = self.x + self.scale * (u * cosine - v * sine)
        y = self.y + self.scale * (u * sine + v * cosine)
        return (torch.stack([x, y], dim=1) + 1) * (size / 2)


def pose_of(scenes: Scenes) -> Pose:
    """The placement that a scene's words and numbers mean.

    "turned to the left" is 12 to 28 degrees to the picture's left; "facing the camera" stays within 8 degrees.
    """
    degrees = math.pi / 180
    turn = scenes.value("yaw")
    side = torch.tensor([0.0, -1.0, 1.0])[scenes.index("pose")]
    yaw = torch.where(side == 0, (turn * 2 - 1) * 8, side * (12 + 16 * turn)) * degrees
    base = torch.tensor([0.71, 0.78, 0.63])[scenes.index("framing")]
    scale = base * (1 + 0.08 * (scenes.value("scale") - 0.5))
    room = 1 - scale
    return Pose(
        x=(scenes.value("x") - 0.5) * 0.55 * room,
        y=(scenes.value("y") - 0.5) * 0.3 * room - 0.06,
        scale=scale,
        tilt=(scenes.value("tilt") * 2 - 1) * 9 * degrees,
        yaw=yaw,
    )


assert len(FRAMINGS) == 3
assert POSES[0] == "front"

"""The measures of a face in its head's coordinates, from identity, expression and pose."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from difflora.world.drawing.painter import mix, palette
from difflora.world.drawing.pose import Pose
from difflora.world.scenes import EXPRESSIONS, Scenes
from difflora.world.traits import People

_SKIN = palette("#fbe3d0", "#f0c8a4", "#d9a273", "#b07a4c", "#7f5233", "#4f3222")
_HAIR = palette("#1c1a1c", "#5a3a22", "#dcb865", "#b4491f", "#8f9196", "#ececec")
_EYES = palette("#6b3f1d", "#3f7fc4", "#4d9a55", "#8d979c")
# Per expression: corners up, mouth open, brow raise, brow slant (inner end down), eyes open, width.
_EXPRESSION = torch.tensor(
    [
        [0.00, 0.00, 0.00, 0.00, 1.00, 1.00],
        [0.19, 0.02, 0.02, 0.00, 0.92, 1.25],
        [0.18, 0.30, 0.04, 0.00, 0.70, 1.28],
        [-0.20, 0.00, 0.04, -0.17, 0.85, 0.95],
        [-0.10, 0.04, -0.08, 0.22, 0.78, 1.00],
        [0.00, 0.36, 0.15, -0.03, 1.38, 0.66],
    ]
)


def _between(low: float, high: float, t: Tensor) -> Tensor:
    return low + (high - low) * t


def _along(colours: Tensor, t: Tensor) -> Tensor:
    """Colour at t in [0, 1] along a list of colours, (K, 3), (N,) -> (N, 3)."""
    place = t * (len(colours) - 1)
    low = place.floor().long().clamp(max=len(colours) - 2)
    return mix(colours[low], colours[low + 1], (place - low)[:, None])


@dataclass(frozen=True)
class Geometry:
    """Measures in head units (half the head's height is 1), all (N,) float32; colours are (N, 3)."""

    width: Tensor
    length: Tensor
    jaw: Tensor
    chin: Tensor
    eye_x: Tensor
    eye_y: Tensor
    eye_half_width: Tensor
    eye_half_height: Tensor
    eye_slant: Tensor
    brow_y: Tensor
    brow_slant: Tensor
    brow_half_length: Tensor
    brow_thickness: Tensor
    nose_y: Tensor
    nose_half_width: Tensor
    mouth_y: Tensor
    mouth_half_width: Tensor
    mouth_curve: Tensor
    mouth_open: Tensor
    lip: Tensor
    ear: Tensor
    skin: Tensor
    hair: Tensor
    iris: Tensor
    lips: Tensor


def geometry_of(people: People, scenes: Scenes) -> Geometry:
    """Measures and colours of N faces under their expressions."""
    p = people.value
    strength = _between(0.8, 1.2, scenes.value("intensity"))
    face = _EXPRESSION[scenes.index("expression")]
    corners, opened, raised, frown, eyes, widened = (face - _EXPRESSION[0]).mul(strength[:, None]).unbind(1)
    assert EXPRESSIONS[0] == "neutral"
    skin = _along(_SKIN, p("skin_tone"))
    warm = (p("skin_warmth") - 0.5)[:, None] * torch.tensor([[0.10, 0.0, -0.14]])
    shade = _between(-0.14, 0.14, p("hair_shade"))[:, None]
    iris_shade = _between(-0.12, 0.12, p("eye_shade"))[:, None]
    eye_half_width = _between(0.125, 0.205, p("eye_size"))
    eye_y = _between(-0.20, 0.02, p("eye_height"))
    skin = (skin + warm).clamp(0, 1)
    redness = _between(0.15, 0.9, p("lip_redness"))[:, None]
    lip_colour = mix(skin * torch.tensor([[0.86, 0.68, 0.66]]), torch.tensor([[0.76, 0.18, 0.24]]), redness * 0.8)
    return Geometry(
        width=_between(0.62, 0.84, p("face_width")),
        length=_between(0.90, 1.08, p("face_length")),
        jaw=_between(0.42, 0.95, p("jaw_width")),
        chin=_between(1.6, 3.0, p("chin")),
        eye_x=_between(0.24, 0.40, p("eye_spacing")),
        eye_y=eye_y,
        eye_half_width=eye_half_width,
        eye_half_height=eye_half_width * _between(0.42, 0.80, p("eye_openness")) * (1 + eyes),
        eye_slant=_between(-0.30, 0.30, p("eye_slant")),
        brow_y=eye_y - _between(0.17, 0.32, p("brow_height")) - raised,
        brow_slant=_between(-0.20, 0.22, p("brow_slant")) + frown * 2.2,
        brow_half_length=_between(0.13, 0.21, p("brow_length")),
        brow_thickness=_between(0.028, 0.08, p("brow_thickness")),
        nose_y=eye_y + _between(0.25, 0.45, p("nose_length")),
        nose_half_width=_between(0.07, 0.19, p("nose_width")),
        mouth_y=_between(0.50, 0.64, p("mouth_height")),
        mouth_half_width=_between(0.16, 0.32, p("mouth_width")) * (1 + widened),
        mouth_curve=corners,
        mouth_open=opened.clamp(min=0),
        lip=_between(0.028, 0.085, p("lip_thickness")),
        ear=_between(0.10, 0.24, p("ear_size")),
        skin=skin,
        hair=(_HAIR[people.index("hair_colour")] + shade).clamp(0, 1),
        iris=(_EYES[people.index("eye_colour")] + iris_shade).clamp(0, 1),
        lips=lip_colour,
    )


def landmarks_of(geometry: Geometry, pose: Pose, size: int) -> Tensor:
    """Eyes, nose tip and mouth corners in pixels, (N, 5, 2), left to right in the picture: InsightFace's order."""
    g = geometry
    points = [
        (pose.across(-g.eye_x, EYE_DEPTH), g.eye_y),
        (pose.across(g.eye_x, EYE_DEPTH), g.eye_y),
        (pose.across(torch.zeros_like(g.nose_y), NOSE_DEPTH), g.nose_y),
        (pose.across(-g.mouth_half_width, MOUTH_DEPTH), g.mouth_y - g.mouth_curve / 2),
        (pose.across(g.mouth_half_width, MOUTH_DEPTH), g.mouth_y - g.mouth_curve / 2),
    ]
    return torch.stack([pose.to_pixels(u, v * g.length, size) for u, v in points], dim=1)


def boxes_of(geometry: Geometry, pose: Pose, size: int) -> Tensor:
    """The face from the middle of the forehead to the chin, ear to ear: (N, 4) as x1, y1, x2, y2 in pixels."""
    g = geometry
    turns = torch.arange(16) * (2 * torch.pi / 16)
    u = g.width[:, None] * turns.cos()
    v = torch.where(turns.sin() < 0, 0.72, 1.0) * turns.sin() * g.length[:, None]
    n, k = u.shape
    spread = Pose(*(getattr(pose, name).repeat_interleave(k) for name in ("x", "y", "scale", "tilt", "yaw")))
    points = spread.to_pixels(u.flatten(), v.flatten(), size).reshape(n, k, 2)
    return torch.cat([points.amin(1), points.amax(1)], dim=1)


EYE_DEPTH, NOSE_DEPTH, MOUTH_DEPTH = 0.42, 0.58, 0.46

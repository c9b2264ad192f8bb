"""Pictures to train a detector on: people at many sizes and places on larger canvases, and places without people."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from difflora.encoders.align import warp
from difflora.world.faces.augment import degrade
from difflora.world.pool import Pool
from difflora.world.render import SIZE, render_backgrounds
from difflora.world.scenes import sample_scenes

_PLAIN, _EMPTY = 0.35, 0.15
_SIDES = (16.0, 110.0)


@dataclass(frozen=True)
class Canvases:
    """A batch for the detector.

    Attributes:
        images: (B, 3, S, S) float32 in [0, 1].
        boxes: (B, 4) float32 in pixels.
        landmarks: (B, 5, 2) float32 in pixels.
        present: (B,) bool, false where there is no face.
    """

    images: Tensor
    boxes: Tensor
    landmarks: Tensor
    present: Tensor


def empty_places(count: int, seed: int) -> Tensor:
    """Backgrounds with nobody in them, (count, 3, 64, 64) uint8."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for start in range(0, count, 64):
        scenes = sample_scenes(min(64, count - start), generator)
        parts.append(render_backgrounds(scenes).mul(255).round().byte())
    return torch.cat(parts)


def _matrices(zoom: Tensor, shift: Tensor) -> Tensor:
    """(B, 2, 3) of ``centre = zoom * source + shift``, for pixel centres; the shift is given for pixel edges."""
    centre = shift + 0.5 * zoom[:, None] - 0.5
    output = torch.zeros(len(zoom), 2, 3)
    output[:, 0, 0] = output[:, 1, 1] = zoom
    output[:, :, 2] = centre
    return output


def draw_canvases(
    pool: Pool, empty: Tensor, batch: int, side: int, generator: torch.Generator, strength: float
) -> Canvases:
    """Draws a training batch.

    A third of the pictures fill the canvas, as InsightFace hands them to the detector; half show a face of 16 to 110
    pixels anywhere on another background; the rest show nobody.

    Args:
        pool: pictures of people.
        empty: (K, 3, 64, 64) uint8, backgrounds.
        batch: pictures to draw.
        side: of a canvas in pixels.
        generator: the randomness.
        strength: of blur and noise, see :func:`augment.degrade`.
    """
    rows = torch.randint(len(pool), (batch,), generator=generator)
    boxes, landmarks = pool.boxes[rows], pool.landmarks[rows]
    kind = torch.rand(batch, generator=generator)
    plain, present = kind < _PLAIN, kind < 1 - _EMPTY

    low, high = (torch.tensor(value).log() for value in _SIDES)
    wanted = (torch.rand(batch, generator=generator) * (high - low) + low).exp()
    extent = boxes[:, 2:] - boxes[:, :2]  # (B, 2)
    zoom = torch.minimum(wanted / extent.prod(dim=-1).sqrt(), (side - 4) / extent.amax(dim=-1))
    room = side - extent * zoom[:, None]  # (B, 2)
    shift = torch.rand(batch, 2, generator=generator) * room - boxes[:, :2] * zoom[:, None]
    zoom = torch.where(plain, side / SIZE, zoom)
    shift = torch.where(plain[:, None], 0.0, shift)

    opaque = torch.ones(batch, 1, SIZE, SIZE)
    people = torch.cat([degrade(pool.batch(rows), generator, strength), opaque], dim=1)  # (B, 4, 64, 64)
    people = warp(people, _matrices(zoom, shift), side)  # (B, 4, S, S)
    people = people * present.float()[:, None, None, None]
    images = people[:, :3] + (1 - people[:, 3:]) * _fill(empty, batch, side, generator, strength)  # (B, 3, S, S)
    return Canvases(
        images,
        boxes * zoom[:, None] + shift.repeat(1, 2),
        landmarks * zoom[:, None, None] + shift[:, None],
        present,
    )


def _fill(empty: Tensor, batch: int, side: int, generator: torch.Generator, strength: float) -> Tensor:
    """What lies about the pictures, (B, 3, S, S): a place, a colour, or the black of InsightFace's padding."""
    rows = torch.randint(len(empty), (batch,), generator=generator)
    zoom = side / SIZE * (1 + 1.5 * torch.rand(batch, generator=generator).square())
    shift = torch.rand(batch, 2, generator=generator) * (side - SIZE * zoom)[:, None]
    places = degrade(empty[rows].float() / 255, generator, strength)
    fill = warp(places, _matrices(zoom, shift), side)
    colour = torch.rand(batch, 3, 1, 1, generator=generator)
    colour = colour * (torch.rand(batch, 1, 1, 1, generator=generator) < 0.5)
    flat = torch.rand(batch, 1, 1, 1, generator=generator) < 0.25
    return torch.where(flat, colour, fill)

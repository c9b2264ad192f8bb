"""The kinds of style: each a function of pictures and of the numbers that vary it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from difflora.world.styles import filters as f

if TYPE_CHECKING:
    from difflora.world.styles.table import Styles

Paint = Callable[[Tensor, Mapping[str, Tensor], torch.Generator], Tensor]
KINDS: dict[str, Paint] = {}
"""Kind -> function of (N, 3, H, W) pictures in [0, 1], the style's numbers as (N, 1, 1, 1), and a generator."""


def _kind(name: str) -> Callable[[Paint], Paint]:
    def keep(paint: Paint) -> Paint:
        KINDS[name] = paint
        return paint

    return keep


@torch.no_grad()
def apply_styles(images: Tensor, styles: Styles, generator: torch.Generator) -> Tensor:
    """Draws each picture in its style.

    Args:
        images: (N, 3, H, W) float32 in [0, 1].
        styles: N rows.
        generator: draws textures, which differ from picture to picture.

    Returns:
        (N, 3, H, W) float32 in [0, 1].
    """
    painted = torch.empty_like(images)
    for number, paint in enumerate(KINDS.values()):
        rows = (styles.index("kind") == number).nonzero().flatten()
        if len(rows):
            own = styles[rows]
            numbers = {name: own.value(name).view(-1, 1, 1, 1) for name in own.CONTINUOUS}
            painted[rows] = paint(images[rows], numbers, generator).clamp(0, 1)
    return painted


Numbers = Mapping[str, Tensor]
Generator = torch.Generator


def _hue(numbers: Numbers, name: str = "hue") -> Tensor:
    return numbers[name].flatten()


def _between(numbers: Numbers, name: str, low: float, high: float) -> Tensor:
    return low + (high - low) * numbers[name]


def _by(numbers: Numbers, name: str, choices: tuple[Any, ...]) -> Any:
    """One of several whole settings, by the batch's first row; for what cannot differ within a batch."""
    return choices[min(len(choices) - 1, int(float(numbers[name].flatten()[0]) * len(choices)))]


def _each(paint: Paint) -> Paint:
    """For kinds whose settings cannot differ within a batch: one picture at a time."""

    def one_by_one(images: Tensor, numbers: Numbers, generator: Generator) -> Tensor:
        rows = range(len(images))
        own = [{name: value[row : row + 1] for name, value in numbers.items()} for row in rows]
        return torch.cat([paint(images[row : row + 1], own[row], generator) for row in rows])

    return one_by_one


def _tinted(tone: Tensor, dark: Tensor, light: Tensor) -> Tensor:
    """Brightness (N, 1, H, W) as a way from one colour to another."""
    return dark + (light - dark) * tone


def _paper(images: Tensor, numbers: Numbers, generator: Generator, amount: float = 0.06) -> Tensor:
    """The roughness of paper, to add."""
    n, _, height, width = images.shape
    return amount * (0.3 + numbers["grain"]) * f.noise((n, 1, height, width), 0.7, generator)


@_kind("photograph")
def _photograph(images: Tensor, numbers: Numbers, generator: Generator) -> Tensor:
    down, across = f.coordinates(images)
    far = ((down / 32 - 1).square() + (across / 32 - 1).square()) / 2
    grain = 0.05 * numbers["grain"] * f.noise(tuple(images.shape), 0.0, generator)
    return f.contrast(images, _between(numbers, "strength", 1.0, 1.3)) * (1 - 0.4 * numbers["detail"] * far) + grain


@_kind("faded film")
def _film(images: Tensor, numbers: Numbers, generator: Generator) -> Tensor:
    tint = f.colour(_hue(numbers), 0.5, 1.0)
    faded = 0.25 + 0.6 * f.saturate(images, _between(numbers, "strength", 0.3, 0.7))
    return faded * (0.7 + 0.3 * tint) + 0.04 * f.noise(tuple(images.shape), 0.0, generator)


@_kind("black and white")
def _black_and_white(images: Tensor, numbers: Numbers, generator: Generator) -> Tensor:
    tone = f.contrast(f.grey(images), _between(numbers, "strength", 0.9, 2.2))
    return (tone + 0.08 * numbers["grain"] * f.noise(tuple(tone.shape), 0.0, generator)).expand_as(images)


@_kind("duotone")
def _duotone(images: Tensor, numbers: Numbers, generator: Generator) -> Tensor:
    dark, light = f.colour(_hue(numbers), 0.9, 0.35), f.colour(_hue(numbers, "other_hue"), 0.5, 1.0)
    return _tinted(f.contrast(f.grey(images), _between(numbers, "strength", 1.0, 1.8)), dark, light)


@_kind("negative")
def _negative(images: Tensor, numbers: Numbers, generator: Generator) -> Tensor:
    return (1 - images) * (0.6 + 0.4 * f.colour(_hue(numbers), 0.8, 1.0))


@_kind("thermal")
def _thermal(images: Tensor, numbers: Numbers, generator: Generator) -> Tensor:
    turned = _between(numbers, "hue", 0.0, 0.3) + 0.75 * (1 - f.blur(f.grey(images), 1.0))
    pure = ((turned % 1 + torch.tensor([0.0, 2 / 3, 1 / 3]).view(1, 3, 1, 1)) % 1 * 6 - 3).abs() - 1
    return pure.clamp(0, 1)


@_kind("sketch")
def _sketch(images: Tensor, numbers: Numbers, generator: Generator) -> Tensor:
    lines = f.edges(images) * _between(numbers, "strength", 1.2, 2.4)
    shade = (1 - f.grey(images)) * f.waves(images, numbers["hue"].flatten(), 2.5 + 2 * numbers["detail"].flatten())
    return (0.97 - lines.clamp(0, 1) * 0.85 - 0.35 * shade + _paper(images, numbers, generator)).expand_as(images)


@_kind("charcoal")
def _charcoal(images: Tensor, numbers: Numbers, generator: Generator) -> Tensor:
    tone = f.contrast(f.blur(f.grey(images), 0.8), 1.6)
    rough = f.noise((len(images), 1, *images.shape[-2:]), 0.5, generator)
    black = ((1 - tone) * 1.2 + f.edges(images, 1.0)).clamp(0, 1)
    return (0.95 - black * (0.75 + _between(numbers, "grain", 0.08, 0.2) * rough)).expand_as(images)


@_kind("ink")
def _ink(images: Tensor, numbers: Numbers, generator: Generator) -> Tensor:
    lines = (f.edges(images) > _between(numbers, "detail", 0.25, 0.45)).float()
    dark = (f.grey(images) < _between(numbers, "strength", 0.2, 0.4)).float()
    ink, sheet = f.colour(_hue(numbers), 0.9, 0.3), f.colour(_hue(numbers, "other_hue"), 0.12, 1.0)
    return _tinted(1 - f.blur(torch.maximum(lines, dark), 0.45), ink, sheet)


@_kind("engraving")
def _engraving(images: Tensor, numbers: Numbers, generator: Generator) -> Tensor:
    period = 2.5 + 2.0 * numbers["detail"].flatten()
    lines = f.waves(images, numbers["hue"].flatten(), period)
    crossed = f.waves(images, numbers["hue"].flatten() + 0.25, period)
    tone = f.contrast(f.grey(images), 1.3)
    black = torch.sigmoid((1 - tone - lines * 0.8) * 8) + 0.6 * torch.sigmoid((0.35 - tone - crossed * 0.4) * 8)
    return _tinted((1 - black).clamp(0, 1), f.colour(_hue(numbers, "other_hue"), 0.5, 0.2), torch.tensor(0.96))


@_kind("woodcut")
def _woodcut(images: Tensor, numbers: Numbers, generator: Generator) -> Tensor:
    veins = 0.12 * f.waves(images, numbers["grain"].flatten(), 3 + 2 * numbers["detail"].flatten())
    tone = f.blur(f.grey(images), 0.8) + veins - 0.9 * f.edges(images)
    cut = torch.sigmoid((tone - _between(numbers, "strength", 0.3, 0.5)) * 18)
    return _tinted(cut, f.colour(_hue(numbers), 0.8, 0.25), f.colour(_hue(numbers, "other_hue"), 0.35, 0.95))


@_kind("anime")
def _anime(images: Tensor, numbers: Numbers, generator: Generator) -> Tensor:
    flat = f.steps(f.smooth_patches(images, 2), (3 + (numbers["detail"] * 3).round()))
    vivid = f.saturate(0.15 + 0.85 * flat, _between(numbers, "strength", 1.4, 2.2))
    return vivid * (1 - 0.9 * (f.edges(images) * 1.6 - 0.25).clamp(0, 1))


@_kind("comic")
@_each
def _comic(images: Tensor, numbers: Numbers, generator: Generator) -> Tensor:
    side = _by(numbers, "detail", (3, 4, 5))
    down, across = f.coordinates(images)
    middle = ((down % side - (side - 1) / 2).square() + (across % side - (side - 1) / 2).square()).sqrt() / side
    dots: Tensor = (middle < 0.62 * (1 - f.blocks(f.grey(images), side)).sqrt()).float()
    flat = f.saturate(f.steps(f.smooth_patches(images, 2), torch.tensor(4.0)), 2.0)
    inked = flat * (1 - _between(numbers, "strength", 0.2, 0.5) * dots)
    return inked * (1 - (f.edges(images) * 2 - 0.4).clamp(0, 1))


@_kind("pop art")
def _pop_art(images: Tensor, numbers: Numbers, generator: Generator) -> Tensor:
    level = (f.contrast(f.grey(images), 1.4) * 3.999).floor()
    inks = [
        f.colour(_hue(numbers), 1.0, 0.3),
        f.colour(_hue(numbers, "other_hue"), 0.9, 0.8),
        f.colour(_hue(numbers) + 0.35, 0.7, 1.0),
        f.colour(_hue(numbers, "other_hue") + 0.5, 0.25, 1.0),
    ]
    return torch.stack([(level == place) * ink for place, ink in enumerate(inks)]).sum(0)


@_kind("pixels")
@_each
def _pixels(images: Tensor, numbers: Numbers, generator: Generator) -> Tensor:
    return f.steps(f.blocks(images, _by(numbers, "detail", (2, 3, 4, 5))), 3 + (numbers["strength"] * 5).round())


@_kind("mosaic")
@_each
def _mosaic(images: Tensor, numbers: Numbers, generator: Generator) -> Tensor:
    side = _by(numbers, "detail", (4, 5, 6))
    down, across = f.coordinates(images)
    joints: Tensor = ((down % side == 0) | (across % side == 0)).float()
    wobble = 0.12 * numbers["grain"] * f.blocks(f.noise((1, 1, *images.shape[-2:]), 0.0, generator), side)
    return (f.blocks(images, side) + wobble) * (1 - joints) + f.colour(_hue(numbers), 0.3, 0.85) * joints


@_kind("stained glass")
@_each
def _stained_glass(images: Tensor, numbers: Numbers, generator: Generator) -> Tensor:
    panes, lead = f.cells(images, _by(numbers, "detail", (5, 6, 8)), generator)
    return f.saturate(panes, _between(numbers, "strength", 1.8, 3.0)) * (1 - lead) + 0.05 * lead


@_kind("watercolour")
def _watercolour(images: Tensor, numbers: Numbers, generator: Generator) -> Tensor:
    wet = f.blur(f.smooth_patches(images, 3), 0.7)
    stain = f.noise((len(images), 1, *images.shape[-2:]), 3.0, generator)
    washed = 1 - (1 - wet) * (_between(numbers, "strength", 0.55, 0.85) + 0.12 * stain)
    return washed * (1 - 0.35 * f.edges(wet, 1.0)) + _paper(images, numbers, generator)


@_kind("oil")
@_each
def _oil(images: Tensor, numbers: Numbers, generator: Generator) -> Tensor:
    brushed = f.smooth_patches(images, _by(numbers, "detail", (2, 3, 4)))
    ridges = f.noise((1, 1, *images.shape[-2:]), 0.9, generator)
    relief = ridges - ridges.roll(1, -1)
    return f.saturate(brushed, _between(numbers, "strength", 1.2, 1.8)) + 0.07 * (0.4 + numbers["grain"]) * relief


@_kind("pastel")
def _pastel(images: Tensor, numbers: Numbers, generator: Generator) -> Tensor:
    soft = 0.45 + 0.55 * f.blur(images, 0.8)
    chalk = f.noise(tuple(images.shape), 0.6, generator) * 0.09 * (0.4 + numbers["grain"])
    return soft * (0.85 + 0.15 * f.colour(_hue(numbers), 0.4, 1.0)) + chalk


@_kind("crayon")
def _crayon(images: Tensor, numbers: Numbers, generator: Generator) -> Tensor:
    strokes = f.waves(images, numbers["hue"].flatten(), 3 + 2 * numbers["detail"].flatten())
    rough = f.noise((len(images), 1, *images.shape[-2:]), 0.4, generator)
    cover = (0.55 + 0.35 * strokes + 0.2 * (0.3 + numbers["grain"]) * rough).clamp(0, 1)
    return f.saturate(images, 1.7) * cover + 0.98 * (1 - cover)


@_kind("impasto dots")
@_each
def _dots(images: Tensor, numbers: Numbers, generator: Generator) -> Tensor:
    daubs, gaps = f.cells(images, _by(numbers, "detail", (2, 3, 4)), generator)
    shaken = daubs + 0.12 * (0.3 + numbers["grain"]) * f.blocks(f.noise((1, 3, *images.shape[-2:]), 0.0, generator), 2)
    return f.saturate(shaken, _between(numbers, "strength", 1.2, 2.0)) * (1 - 0.15 * gaps) + 0.12 * gaps


@_kind("halftone")
@_each
def _halftone(images: Tensor, numbers: Numbers, generator: Generator) -> Tensor:
    side = _by(numbers, "detail", (3.0, 3.7, 4.5))
    ink = torch.ones_like(images)
    for channel, turn in enumerate((0.04, 0.21, 0.13)):
        angle = torch.tensor([turn]) + 0.1 * numbers["hue"].flatten()
        rows, columns = (f.waves(images, angle + more, torch.tensor([side])) for more in (0.0, 0.25))
        tone = f.contrast(images[:, channel : channel + 1], 1.2)
        ink[:, channel : channel + 1] = torch.sigmoid((tone + (rows + columns) / 2 - 1) * 10)
    return ink


@_kind("neon")
def _neon(images: Tensor, numbers: Numbers, generator: Generator) -> Tensor:
    lines = (f.edges(images) * _between(numbers, "strength", 1.5, 2.5)).clamp(0, 1)
    glow = (lines + 0.8 * f.blur(lines, 1.5)).clamp(0, 1)
    own = _tinted(f.grey(images), f.colour(_hue(numbers), 1.0, 1.0), f.colour(_hue(numbers, "other_hue"), 1.0, 1.0))
    return 0.04 + glow * own


@_kind("blueprint")
def _blueprint(images: Tensor, numbers: Numbers, generator: Generator) -> Tensor:
    lines = (f.edges(images) * _between(numbers, "strength", 1.2, 2.0)).clamp(0, 1)
    down, across = f.coordinates(images)
    ruled = ((down % 8 == 0) | (across % 8 == 0)).float() * 0.12
    sheet = f.colour(0.5 + 0.25 * _hue(numbers), 0.8, 0.55)
    return sheet + (0.95 - sheet) * (lines + ruled).clamp(0, 1) + _paper(images, numbers, generator, 0.03)


@_kind("chalkboard")
def _chalkboard(images: Tensor, numbers: Numbers, generator: Generator) -> Tensor:
    rough = f.noise((len(images), 1, *images.shape[-2:]), 0.5, generator)
    chalk = (f.edges(images) * 1.6 + 0.35 * f.grey(images)) * (0.75 + _between(numbers, "grain", 0.1, 0.35) * rough)
    board = f.colour(0.3 + 0.3 * _hue(numbers), 0.5, 0.25)
    return board + (f.colour(_hue(numbers, "other_hue"), 0.2, 1.0) - board) * chalk.clamp(0, 1)


@_kind("low relief")
def _relief(images: Tensor, numbers: Numbers, generator: Generator) -> Tensor:
    tone = f.blur(f.grey(images), 0.7)
    lit = (tone - tone.roll((1, 1), (-2, -1))) * _between(numbers, "strength", 2.5, 5.0)
    stone = f.colour(_hue(numbers), 0.35, 0.75)
    return stone * (0.8 + lit + 0.05 * numbers["grain"] * f.noise(tuple(tone.shape), 0.0, generator))


@_kind("glitch")
@_each
def _glitch(images: Tensor, numbers: Numbers, generator: Generator) -> Tensor:
    apart = _by(numbers, "strength", (1, 2, 3))
    split = torch.stack([images[:, 0].roll(apart, -1), images[:, 1], images[:, 2].roll(-apart, -1)], 1)
    down, _ = f.coordinates(images)
    return split * (1 - 0.35 * (down % 2)) + 0.05 * numbers["grain"] * f.noise(tuple(images.shape), 0.0, generator)

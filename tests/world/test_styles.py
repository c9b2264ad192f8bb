"""Styles differ from each other, hold still, and are drawn alike whatever else is in the batch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from difflora.errors import BadParameter
from difflora.identities.source import ImageSource, load_source
from difflora.world.render import render
from difflora.world.scenes import sample_scenes
from difflora.world.styled import RenderedStyles
from difflora.world.styles import KINDS, Styles, apply_styles, sample_styles
from difflora.world.styles.filters import edges, grey
from difflora.world.traits import sample_people


def _pictures(count: int, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return render(sample_people(count, generator), sample_scenes(count, generator)).images


def _painted(kind: str, images: Tensor, seed: int = 0, **numbers: float) -> Tensor:
    middle = torch.full((len(images), len(Styles.CONTINUOUS)), 0.5)
    styles = Styles(middle, torch.zeros(len(images), 1, dtype=torch.int64)).replace(kind=kind, **numbers)
    return apply_styles(images, styles, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_changes_pictures_and_keeps_what_they_show(kind: str) -> None:
    images = _pictures(8)
    painted = _painted(kind, images)
    assert painted.shape == images.shape
    assert painted.isfinite().all()
    assert 0 <= painted.min() <= painted.max() <= 1
    assert (painted - images).abs().mean() > 0.02
    assert torch.equal(painted, _painted(kind, images)), "the same seed, the same strokes"
    # Which picture it was can still be seen, in some channel, as tones or as lines, of whichever sign.
    shown = [_coarse(painted[:, channel : channel + 1]) for channel in range(3)]
    found = [one @ _coarse(other).T for one in shown for other in (grey(images), edges(images))]  # (8, 8) each
    assert max(float((alike.abs().argmax(1) == torch.arange(8)).float().mean()) for alike in found) >= 0.75


def _coarse(images: Tensor) -> Tensor:
    """Unit vectors of what tells a batch's pictures apart at a quarter of their size."""
    small = F.avg_pool2d(images, 4).flatten(1)
    return F.normalize(small - small.mean(0))


def test_there_are_enough_kinds_and_each_comes_as_often() -> None:
    assert len(KINDS) >= 24
    kinds = sample_styles(3 * len(KINDS), torch.Generator().manual_seed(1)).index("kind")
    assert kinds.bincount().tolist() == [3] * len(KINDS)


@pytest.mark.parametrize("kind", ["duotone", "anime", "pixels", "stained glass"])
def test_numbers_vary_a_kind(kind: str) -> None:
    images = _pictures(2)
    low, high = (_painted(kind, images, hue=n, other_hue=n, strength=n, detail=n) for n in (0.1, 0.7))
    assert (low - high).abs().mean() > 0.03


def test_a_batch_of_many_styles_is_each_of_them() -> None:
    images = _pictures(6)
    styles = sample_styles(6, torch.Generator().manual_seed(5))
    calm = [place for place, kind in enumerate(styles.names("kind")) if kind in ("duotone", "negative", "anime")]
    together = apply_styles(images, styles, torch.Generator().manual_seed(0))
    for place in calm:
        rows = slice(place, place + 1)
        torch.testing.assert_close(
            together[rows], apply_styles(images[rows], styles[rows], torch.Generator().manual_seed(9))
        )


def test_a_source_of_styles() -> None:
    source = load_source("difflora.world.styled:RenderedStyles", {"seed": 2, "same_scenes": 3})
    assert isinstance(source, ImageSource)
    assert isinstance(source, RenderedStyles)
    one, two = source.ids(2)
    assert source.ids(5)[:2] == [one, two]
    made, again, other = (source.candidates(name, 5, 7) for name in (one, one, two))
    assert made.images.shape == (5, 3, 64, 64)
    assert made.images.dtype == torch.uint8
    assert torch.equal(made.images, again.images)
    assert made.captions == again.captions
    assert made.captions[:3] == other.captions[:3], "the same people in the same scenes"
    assert made.captions[3:] != other.captions[3:]
    assert not torch.equal(made.images[:3], other.images[:3])
    assert source.style(one).names("kind") != source.style(two).names("kind")
    assert not any(kind in sentence for sentence in made.captions for kind in KINDS)
    assert source.settings == RenderedStyles(2, 3).settings
    with pytest.raises(BadParameter, match="no style of seed 2"):
        source.candidates("style-1-000000", 1, 0)
    with pytest.raises(BadParameter, match="same_scenes is -1"):
        RenderedStyles(same_scenes=-1)

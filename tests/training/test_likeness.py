"""Likeness as a loss, on the tiny base and a recogniser that sees colours."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from difflora.corpus.base import FrozenBase
from difflora.corpus.latents import embed_captions
from difflora.corpus.many import ManyLoras
from difflora.drawing import draw
from difflora.lora import LoraLayout
from difflora.prompt_cache import PromptCache
from difflora.samplers import make_scheduler
from difflora.training.features import ConditionFeatures
from difflora.training.likeness import Asked, LikenessLoss
from difflora.training.likeness_settings import LikenessSettings

PROMPTS = ["a photo of a man", "a man on a beach", "a man in a forest"]


class Colours(nn.Module):
    """Stands for a face pack: a picture's mean colour says who it is; dark pictures show nobody."""

    def __init__(self, dark: float = -1.0) -> None:
        super().__init__()
        self.dark = dark

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        means = pictures.mean((2, 3)) - 0.5  # (N, 3)
        found = pictures.mean((1, 2, 3)) > self.dark
        return F.normalize(means, dim=1) * found[:, None], found


@pytest.fixture
def features() -> ConditionFeatures:
    """Two people, with two and one picture."""
    face = F.normalize(torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 1]]), dim=1)
    return ConditionFeatures(("a", "b"), face, face.clone(), torch.tensor([2, 1]))


def _asked(base: FrozenBase, seeds: list[int]) -> Asked:
    side, channels = base.pipeline.unet.config.sample_size, base.pipeline.unet.config.in_channels
    noise = torch.cat([torch.randn(1, channels, side, side, generator=torch.Generator().manual_seed(s)) for s in seeds])
    prompt, pooled = embed_captions(base, PROMPTS[: len(seeds)])
    return Asked(noise, prompt, pooled, None)


@pytest.mark.parametrize("sampler", ["dpm++", "ddim", "euler"])
def test_it_draws_what_the_pipeline_draws(base: FrozenBase, features: ConditionFeatures, sampler: Any) -> None:
    loss = LikenessLoss(base, Colours(), features, LikenessSettings(steps=5, sampler=sampler, through=2))
    with torch.no_grad():
        found = loss._draw(base.unet, _asked(base, [1, 2, 3])).clamp(0, 1)
    pipeline, own = base.pipeline, base.pipeline.scheduler
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = make_scheduler(sampler, own)
    try:
        expected = draw(pipeline, PromptCache(pipeline), PROMPTS, [1, 2, 3], steps=5, guidance_scale=1.0)
    finally:
        pipeline.scheduler = own
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_the_loss_by_hand(base: FrozenBase, features: ConditionFeatures) -> None:
    settings, asked, places = LikenessSettings(steps=4, through=2), _asked(base, [1, 2, 3]), torch.tensor([0, 1, 1])
    loss = LikenessLoss(base, Colours(), features, settings)
    with torch.no_grad():
        pictures = loss._draw(base.unet, asked)
        found, share = loss(base.unet, asked, places)
    people = F.normalize(torch.stack([features.face[:2].mean(0), features.face[2]]), dim=1)
    cosines = F.cosine_similarity(pictures.mean((2, 3)) - 0.5, people[places])
    torch.testing.assert_close(found, 1 - cosines.mean())
    assert share == 1
    dark = float(pictures.mean((1, 2, 3)).sort().values[0])  # the darkest picture shows nobody
    shown = pictures.mean((1, 2, 3)) > dark
    with torch.no_grad():
        found, share = LikenessLoss(base, Colours(dark), features, settings)(base.unet, asked, places)
    torch.testing.assert_close(found, 1 - cosines[shown].mean())
    assert float(share) == pytest.approx(2 / 3)
    with torch.no_grad():
        found, share = LikenessLoss(base, Colours(2.0), features, settings)(base.unet, asked, places)
    assert (found, share) == (0, 0), "nobody anywhere"


def test_loras_follow_the_gradient(base: FrozenBase, features: ConditionFeatures) -> None:
    layout = LoraLayout.from_unet(base.unet, ("attention",), 2)
    flat = (0.05 * torch.randn(2, layout.size, generator=torch.Generator().manual_seed(3))).requires_grad_()
    loss = LikenessLoss(base, Colours(), features, LikenessSettings(steps=3, through=3))
    asked, places = _asked(base, [1, 2]), torch.tensor([0, 1])
    optimiser, history = torch.optim.Adam([flat], lr=0.02), []
    with ManyLoras(base.unet, layout, 1.0) as loras:
        for _ in range(8):
            loras.set(flat)
            unlike, _ = loss(base.unet, asked, places)
            optimiser.zero_grad()
            unlike.backward()
            optimiser.step()
            history.append(float(unlike.detach()))
    assert history[-1] < history[0] - 0.05, history


def test_the_gradient_flows_through_the_last_steps_alone(base: FrozenBase, features: ConditionFeatures) -> None:
    """Each step of the UNet under a gradient is one more that autograd keeps."""
    layout, counted = LoraLayout.from_unet(base.unet, ("attention",), 2), []
    handle = base.unet.register_forward_hook(lambda *_: counted.append(torch.is_grad_enabled()))
    try:
        with ManyLoras(base.unet, layout, 1.0) as loras:
            loras.set(torch.zeros(1, layout.size, requires_grad=True))
            for through, expected in ((1, [False] * 4 + [True]), (3, [False] * 2 + [True] * 3), (5, [True] * 5)):
                counted.clear()
                settings = LikenessSettings(steps=5, through=through)
                LikenessLoss(base, Colours(), features, settings)._draw(base.unet, _asked(base, [1]))
                assert counted == expected
    finally:
        handle.remove()


def test_more_steps_of_gradient_than_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="through is 9 of 8 steps"):
        LikenessSettings(weight=1.0, through=9)

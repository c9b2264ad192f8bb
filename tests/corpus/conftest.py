"""A tiny base model and a few people, shared by the tests of a process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel

from difflora.corpus.base import FrozenBase
from difflora.corpus.latents import Encoded
from difflora.corpus.people import PeopleFolder, PeopleWriter, Person, no_boxes
from difflora.corpus.splits import SplitSettings
from difflora.world.identities import RenderedPeople
from difflora.world.text import build_text_encoders
from difflora.world.tokenizer import build_tokenizer
from difflora.world.vae import VaeSettings, build_vae
from tests.checkpoints import sdxl_pipeline
from tests.tiny import TEXT, sdxl, wake


@pytest.fixture(scope="session")
def make_pipeline() -> Callable[[], Any]:
    """Makes the same tiny SDXL pipeline each time."""
    return sdxl


@pytest.fixture(scope="session")
def base(make_pipeline: Callable[[], Any]) -> FrozenBase:
    """The tiny SDXL, frozen."""
    return FrozenBase.of(make_pipeline(), "tiny", "tiny weights")


@pytest.fixture(scope="session")
def sd15() -> FrozenBase:
    """A tiny Stable Diffusion 1.5: epsilon, one text encoder, projections by convolution."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    text_encoder, _ = build_text_encoders(TEXT, tokenizer)
    unet = UNet2DConditionModel(
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(32, 32),
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=16,
        norm_num_groups=8,
    )
    wake(unet)
    pipeline = StableDiffusionPipeline(
        vae=build_vae(VaeSettings(latent_channels=4, channels=(8, 8, 16))),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=PNDMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return FrozenBase.of(pipeline, "tiny-15", "tiny weights")


@pytest.fixture(scope="session")
def epsilon() -> FrozenBase:
    """SDXL's own block structure, small, with SDXL's noise levels and kind of prediction."""
    pipeline = sdxl_pipeline()
    wake(pipeline.unet)
    return FrozenBase.of(pipeline, "small-sdxl", "small weights")


@pytest.fixture(scope="session")
def make_people() -> Callable[..., PeopleFolder]:
    """Makes a folder of rendered people without a face filter."""

    def make(folder: Path, count: int, images: int = 5) -> PeopleFolder:
        source = RenderedPeople(seed=5)
        with PeopleWriter(folder, {"source": dict(source.settings)}, SplitSettings(validation=0.2, test=0.3)) as writer:
            for identity in source.ids(count):
                if identity not in writer.done:
                    made = source.candidates(identity, images + 1, 0)
                    captions, other = made.captions[:images], made.captions[images:]
                    learnt, shown = made.images[:images], made.images[images:]
                    writer.add(Person(identity, made.class_word, learnt, captions, shown, other, no_boxes(learnt)))
            writer.finish()
        return PeopleFolder(folder)

    return make


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory, make_people: Callable[..., PeopleFolder]) -> PeopleFolder:
    """Five people."""
    return make_people(tmp_path_factory.mktemp("people"), 5)


@pytest.fixture(scope="session")
def make_encoded() -> Callable[..., list[Encoded]]:
    """Makes people of random latents and prompts for the tiny SDXL, person i with ``images + i`` pictures."""

    def make(count: int, images: int = 4, *, xl: bool = True) -> list[Encoded]:
        made = []
        for place in range(count):
            generator = torch.Generator().manual_seed(100 + place)
            size = images + place
            latents = torch.randn(size, 4, 8, 8, generator=generator) + torch.randn(1, 4, 1, 1, generator=generator)
            prompt = torch.randn(size, 7, 48 if xl else 16, generator=generator)
            pooled = torch.randn(size, 32, generator=generator) if xl else None
            made.append(Encoded(f"person-{place}", latents, prompt, pooled, (64, 64), torch.zeros(size, 8, 8)))
        return made

    return make

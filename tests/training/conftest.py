"""Tiny corpora whose people's LoRAs are a linear matter of their faces, and a tiny base model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor

from difflora.corpus.base import FrozenBase
from difflora.corpus.people import PeopleFolder, PeopleWriter, Person, no_boxes
from difflora.corpus.reader import Corpus
from difflora.corpus.splits import SplitSettings, split_of
from difflora.corpus.writer import CorpusWriter, NewRow
from difflora.lora import LoraLayout
from difflora.lora.layout import LoraModule
from difflora.models import LaeModelSettings, LoraAutoencoder
from difflora.training import ConditionFeatures, LaeSettings, LoopSettings, train_lae
from difflora.world.text import TextSettings, build_text_encoders
from difflora.world.tokenizer import build_tokenizer
from difflora.world.vae import VaeSettings, build_vae

LAYOUT = LoraLayout((LoraModule("a.to_q", 9, 7), LoraModule("a.to_k", 8, 5)), 2)
SPLITS = SplitSettings(validation=0.2, test=0.1)
TRAITS, PICTURES = 4, 3


@dataclass(frozen=True)
class Town:
    """A corpus and what conditions its people.

    Attributes:
        corpus: LoRAs.
        features: three pictures of each person.
        traits: (N, 4) what a person is.
    """

    corpus: Corpus
    features: ConditionFeatures
    traits: Tensor


@pytest.fixture(scope="session")
def loop() -> Callable[..., LoopSettings]:
    """Makes settings of a short training."""

    def make(**changes: Any) -> LoopSettings:
        values: dict[str, Any] = {
            "steps": 20,
            "batch_size": 4,
            "lr": 1e-3,
            "warmup_steps": 2,
            "ema_decay": 0.9,
            "log_every": 5,
            "save_every": 5,
        }
        return LoopSettings(**(values | changes))

    return make


@pytest.fixture(scope="session")
def make_town() -> Callable[..., Town]:
    """Makes a corpus of people, their LoRAs linear in their traits up to a little noise."""

    def make(folder: Path, count: int = 30, layout: LoraLayout = LAYOUT, scale: float = 0.02) -> Town:
        generator = torch.Generator().manual_seed(4)
        traits = torch.randn(count, TRAITS, generator=generator)
        common = torch.randn(layout.size, generator=generator)
        flat = common + traits @ torch.randn(TRAITS, layout.size, generator=generator)
        flat = scale * (flat + 0.1 * torch.randn(flat.shape, generator=generator))
        names = [f"p{place:03d}" for place in range(count)]
        with CorpusWriter(folder, layout, {"seed": 1}, dtype="fp32") as writer:
            new = [
                NewRow(name, split_of(name, SPLITS), "man", row, 0, PICTURES, 0.1)
                for name, row in zip(names, flat, strict=True)
            ]
            writer.append(new)
            writer.finish()
        face = traits.repeat_interleave(PICTURES, dim=0)
        face = face + 0.05 * torch.randn(face.shape, generator=generator)
        # A unit vector keeps no length: a constant beside the traits keeps it.
        face = F.normalize(torch.cat([face, 3 * torch.ones(len(face), 1)], dim=1), dim=1)
        image = F.normalize(torch.randn(len(face), 3, generator=generator), dim=1)
        features = ConditionFeatures(tuple(names), face, image, torch.full((count,), PICTURES))
        return Town(Corpus.open(folder), features, traits)

    return make


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory, make_town: Callable[..., Town]) -> Town:
    """Thirty people."""
    return make_town(tmp_path_factory.mktemp("town") / "corpus")


@pytest.fixture(scope="session")
def base() -> FrozenBase:
    """A tiny Stable Diffusion 1.5 whose attention counts, though it is not trained."""
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    text_encoder, _ = build_text_encoders(TextSettings(width=(16, 32), layers=2, head_dim=16), tokenizer)
    unet = UNet2DConditionModel(
        sample_size=8,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        block_out_channels=(16,),
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=16,
        norm_num_groups=8,
    )
    with torch.no_grad():
        for parameter in unet.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape) / parameter[0].numel() ** 0.5)
    pipeline = StableDiffusionPipeline(
        vae=build_vae(VaeSettings(latent_channels=4, channels=(8, 8, 16, 16))),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, clip_sample=False
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return FrozenBase.of(pipeline, "tiny", "tiny weights")


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> PeopleFolder:
    """Pictures of the first fourteen: two to learn from and one to show, each of a colour of its own."""
    folder = tmp_path_factory.mktemp("people")
    generator = torch.Generator().manual_seed(6)
    with PeopleWriter(folder, {"seed": 1}, SPLITS) as writer:
        for place in range(14):
            colour = torch.randint(0, 200, (1, 3, 1, 1), generator=generator)
            grain = torch.randint(0, 55, (3, 3, 64, 64), generator=generator)
            images = (colour + grain).to(torch.uint8)
            captions = ["a photo of a man", "a man on a beach"]
            writer.add(
                Person(
                    f"p{place:03d}",
                    "man",
                    images[:2],
                    captions,
                    images[2:],
                    ["a man in a forest"],
                    no_boxes(images[:2]),
                )
            )
        writer.finish()
    return PeopleFolder(folder)


@pytest.fixture(scope="session")
def village(base: FrozenBase, make_town: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Fourteen people with LoRAs of the tiny base, far from what their pictures would ask for."""
    layout = LoraLayout.from_unet(base.unet, ("attention",), 2)
    return make_town(tmp_path_factory.mktemp("village") / "corpus", 14, layout, 0.05)


@pytest.fixture(scope="session")
def lae(
    village: Any, base: FrozenBase, loop: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> LoraAutoencoder:
    stride = village.corpus.layout.size // 6
    model = LaeModelSettings(linear_path=True, networks=False, strides=(stride,), channels=(8,), latent_channels=1)
    settings = LaeSettings(model=model, loop=loop(steps=5, lr=1e-5))
    folder = tmp_path_factory.mktemp("lae")
    return train_lae(village.corpus, settings, checkpoint=folder, base=base.name, progress=False).model


@pytest.fixture
def names(village: Any) -> list[str]:
    return [village.corpus.entries[place].identity for place in village.corpus.indices("train")]


@pytest.fixture
def start(village: Any, lae: LoraAutoencoder, names: list[str]) -> Tensor:
    """What an autoencoder makes of the people's LoRAs."""
    with torch.no_grad():
        return lae.encode(village.corpus.rows([village.corpus.places[name] for name in names]).float())

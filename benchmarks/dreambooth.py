"""Steps of LoRA-DreamBooth on a base model's UNet with random weights, several people at once."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import nn

from benchmarks.clock import Row, Took, measure
from benchmarks.sizes import Setup
from difflora.corpus.base import DTYPES, FrozenBase
from difflora.corpus.dreambooth import Trainer
from difflora.corpus.latents import Encoded
from difflora.errors import DiffLoRAError
from difflora.lora import BaseModelId
from difflora.plan.bases import read_base

TOKENS = 77


def dreambooth_rows(setup: Setup) -> Iterator[Row]:
    """Steps of DreamBooth on the full UNet with random weights, for several numbers of people at once."""
    chosen = setup.params.corpus.dreambooth.model_copy(update={"steps": setup.dreambooth_steps, "warmup_steps": 0})
    base = random_base(setup, DTYPES[chosen.precision])
    size, side = setup.base.latent_side, setup.base.side
    dtype, device = DTYPES[chosen.precision], setup.device

    def person(place: int) -> Encoded:
        generator = torch.Generator().manual_seed(place)
        latents = torch.randn(1, int(base.pipeline.unet.config.in_channels), size, size, generator=generator)
        width = int(base.pipeline.unet.config.cross_attention_dim)
        prompt = torch.randn(1, TOKENS, width, generator=generator).to(device, dtype)
        pooled = torch.randn(1, setup.base.text_width, generator=generator).to(device, dtype) if base.is_xl else None
        return Encoded(
            f"nobody-{place}",
            latents.to(device),
            prompt,
            pooled,
            (side, side),
            torch.zeros(1, size, size, device=device),
        )

    for method in ("eager", "regional") if setup.compile else ("eager",):
        with Trainer(base, setup.layout, chosen, compile="regional" if method == "regional" else False) as trainer:
            for count in setup.people:
                expected = setup.expected_gib("corpus", count)
                if not setup.fits(f"dreambooth of {count} at once", expected):
                    continue
                people = [person(place) for place in range(count)]

                def train(trainer: Trainer = trainer, people: list[Encoded] = people) -> None:
                    if failed := trainer.train(people).failed:
                        raise DiffLoRAError(next(iter(failed.values())))

                took = measure(train, device, setup.rounds)
                each = Took([seconds / chosen.steps for seconds in took.seconds], took.peak_gib)
                saving = ", gradient checkpointing" if chosen.gradient_checkpointing else ""
                case = f"a step of {count} at once, {side} px, batch {chosen.batch_size}, {chosen.precision}{saving}"
                yield setup.row("dreambooth", case, method, each, expected, count=count)


def random_base(setup: Setup, dtype: torch.dtype) -> FrozenBase:
    """The base's UNet with random weights, without VAE and text encoders: what a LoRA's training needs of it."""
    unet: Any = read_base(setup.params.models.base.folder, setup.params.models.base.name).unet
    nn.Module.to(unet, dtype).to_empty(device=setup.device)
    for name, parameter in unet.named_parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(0, parameter[0].numel() ** -0.5)
        else:
            parameter.data.fill_(1.0 if name.endswith("weight") else 0.0)
    unet.to(memory_format=torch.channels_last).train(False)
    scheduler = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    return FrozenBase(SimpleNamespace(unet=unet), scheduler, BaseModelId.of("random", unet), "random")

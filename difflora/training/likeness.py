"""Likeness as a loss: pictures are drawn under generated LoRAs, and their faces compared with the person's.

The denoising loss says little of a face: most of it is noise that no LoRA foretells. So pictures are drawn from pure
noise, as a user will draw them, and the gradient of the face's cosine to the person's other pictures flows back through
the VAE's decoder and the last steps of sampling (after ID losses such as PuLID's, arXiv 2404.16022, and DRaFT's
truncated gradient, arXiv 2309.17400). The recogniser is the one that conditions, so the cosine by it flatters: what
counts is the cosine by a recogniser that nothing else uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from difflora.corpus.base import FrozenBase
from difflora.corpus.draws import Prompts, predict
from difflora.corpus.latents import decode_latents
from difflora.encoders.face_gradient import FaceGradient
from difflora.samplers import make_scheduler
from difflora.training.drawn_settings import DrawnSettings
from difflora.training.features import ConditionFeatures


@dataclass(frozen=True)
class Asked:
    """What N pictures are drawn from.

    Attributes:
        noise: (N, C, h, w) float32, normal.
        prompt_embeds: (N, L, W), in the UNet's type.
        pooled_embeds: (N, W2) likewise; None where the UNet takes none.
        time_ids: (N, 6) with them.
    """

    noise: Tensor
    prompt_embeds: Tensor
    pooled_embeds: Tensor | None
    time_ids: Tensor | None

    @classmethod
    def of(cls, prompts: Prompts, rows: Tensor, noise: Tensor) -> Asked:
        """The captions of N of the people's pictures, at rows (N,) int64, and noise (N, C, h, w) on their device."""
        pooled, told = prompts.pooled_embeds, prompts.time_ids
        return cls(
            noise,
            prompts.prompt_embeds[rows],
            None if pooled is None else pooled[rows],
            None if told is None else told[rows],
        )

    @classmethod
    def drawn(
        cls,
        prompts: Prompts,
        shape: Sequence[int],
        people: int,
        count: int,
        generator: torch.Generator,
        device: torch.device,
        mine: slice = slice(None),
    ) -> Asked:
        """Captions of the people's pictures and noise by chance, for ``count`` pictures of each.

        Args:
            prompts: the captions of those in ``mine``.
            shape: of a picture's latents, (C, h, w).
            people: how many are drawn for, so that a share of them gets what it would get alone.
            count: pictures of each.
            generator: on the CPU.
            device: the base's.
            mine: the share of the people in ``prompts``.
        """
        places = torch.rand(people, count, generator=generator)[mine]
        noise = torch.randn(people, count, *shape, generator=generator)[mine]
        return cls.of(prompts, prompts.rows(places.to(device)).flatten(), noise.flatten(0, 1).to(device))


class LikenessLoss:
    """One less the cosine of drawn faces to their people's.

    Args:
        base: the frozen base model, under LoRAs when this is called.
        faces: the recogniser, on the base's device.
        features: of N people, computed by the same recogniser: a person's mean embedding is what is aimed at.
        settings: how pictures are drawn.
    """

    def __init__(
        self, base: FrozenBase, faces: FaceGradient, features: ConditionFeatures, settings: DrawnSettings
    ) -> None:
        self._base, self._faces, self._settings = base, faces, settings
        self._people = features.mean_faces  # (N, D)

    def __call__(self, unet: nn.Module, asked: Asked, places: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of one batch.

        Args:
            unet: the base's, compiled or not.
            asked: what N pictures are drawn from.
            places: (N,) int64, whom each shows.

        Returns:
            The mean over pictures with a face of 1 - cosine, a scalar, 0 where there is none; and the share of
            pictures with one.
        """
        embeddings, found = self._faces(self._draw(unet, asked))  # (N, D), (N,)
        cosines = (embeddings * self._people[places.to(embeddings.device)]).sum(1)  # (N,)
        loss = ((1 - cosines) * found).sum() / found.sum().clamp(min=1)
        return loss, found.float().mean()

    def _draw(self, unet: nn.Module, asked: Asked) -> Tensor:
        """Pictures (N, 3, H, W), with a gradient of the last steps."""
        scheduler = make_scheduler(self._settings.sampler, self._base.pipeline.scheduler)
        scheduler.set_timesteps(self._settings.steps, device=asked.noise.device)
        latents = asked.noise * scheduler.init_noise_sigma  # (N, C, h, w)
        first = len(scheduler.timesteps) - self._settings.through
        for place, timestep in enumerate(scheduler.timesteps):
            with torch.set_grad_enabled(place >= first and torch.is_grad_enabled()):
                shown = scheduler.scale_model_input(latents, timestep)
                output = predict(unet, shown, timestep, asked.prompt_embeds, asked.pooled_embeds, asked.time_ids)
                latents = scheduler.step(output, timestep, latents).prev_sample
        return decode_latents(self._base, latents)

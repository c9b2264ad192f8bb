"""A step of PhotoMaker's training through the frozen base: of what named traits do, or of the base's own loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTokenizer

from difflora.errors import BadParameter
from difflora.photomaker.id_encoder import IdEncoder
from difflora.world.base import TRAIN_STEPS, face_weights, size_ids, velocity_loss
from difflora.world.captions import caption
from difflora.world.clip import normalise
from difflora.world.photomaker.settings import PhotoMakerSettings
from difflora.world.photomaker.words import name_traits, visible_traits
from difflora.world.pool import Pool, rows_by_person
from difflora.world.text import encode_tokens
from difflora.world.tokenizer import token_ids
from difflora.world.traits import GENDERS


def repeat_token(ids: Tensor, places: Tensor, count: int) -> Tensor:
    """Says the token at a place ``count`` times over; as many tokens of the end are cut off.

    Args:
        ids: (B, L) int64.
        places: (B,) int64.
        count: at least 1.

    Returns:
        (B, L) int64.
    """
    spread = torch.arange(ids.shape[1])
    source = torch.where(spread < places[:, None] + count, spread.minimum(places[:, None]), spread - (count - 1))
    return ids.gather(1, source)


def class_tokens(tokenizer: CLIPTokenizer) -> Tensor:
    """Tokens of the world's class words, each one token."""
    return torch.tensor([tokenizer(word, add_special_tokens=False).input_ids for word in GENDERS]).squeeze(1)


class Lesson:
    """One step through the base: people, a picture of each to draw, and others of theirs to look at."""

    def __init__(self, pipeline: Any, encoder: IdEncoder, pool: Pool, settings: PhotoMakerSettings) -> None:
        self.pipeline, self.encoder, self.pool, self.settings = pipeline, encoder, pool, settings
        self.rows_of = rows_by_person(pool.identity, settings.references + 1)
        self.words = class_tokens(pipeline.tokenizer)
        side, size = int(encoder.config.image_size), pool.batch(torch.arange(1)).shape[-1]
        if side != size:
            raise BadParameter(f"CLIP looks at {side} pixels, the world's pictures have {size}: train clip again")
        self.none = self.said([""])

    def __call__(self, i: int, generator: torch.Generator) -> Tensor:
        """The loss of step ``i``: of named traits at first, then the base's own."""
        settings, pool = self.settings, self.pool
        people = torch.randint(0, len(self.rows_of), (settings.batch_size,), generator=generator)
        count = int(torch.randint(1, settings.references + 1, (1,), generator=generator))
        chosen = torch.rand(len(people), self.rows_of.shape[1], generator=generator).argsort(dim=1)[:, : count + 1]
        rows = self.rows_of[people].gather(1, chosen)  # (B, 1 + R): the picture to draw, and those to look at
        target = rows[:, 0]
        said = caption(pool.people[target], pool.scenes[target], generator, trait_dropout=1.0)
        latents = self.latents(target)
        weight = face_weights(pool.boxes[target], pool.landmarks[target], settings.face_weight, settings.feature_weight)
        (prompt, pooled), _ = self.shown(said, rows[:, 1:])
        unet, scheduler = self.pipeline.unet, self.pipeline.scheduler
        if i < settings.words_steps:
            named = [
                name_traits(text, visible_traits(pool.people, int(row))) for text, row in zip(said, target, strict=True)
            ]
            return self._words_loss(latents, named, (prompt, pooled), generator, weight)
        dropped = torch.rand(len(people), generator=generator) < settings.prompt_dropout
        prompt = torch.where(dropped[:, None, None], self.none[0], prompt)
        pooled = torch.where(dropped[:, None], self.none[1], pooled)
        return velocity_loss(unet, scheduler, latents, (prompt, pooled), generator, weight, settings.snr_cap)

    def _words_loss(
        self,
        latents: Tensor,
        named: list[str],
        embeddings: tuple[Tensor, Tensor],
        generator: torch.Generator,
        weight: Tensor,
    ) -> Tensor:
        unet, count = self.pipeline.unet, len(latents)
        noise = torch.randn(latents.shape, generator=generator)
        early = torch.randint(self.settings.words_from, TRAIN_STEPS, (count,), generator=generator)
        anywhere = torch.randint(0, TRAIN_STEPS, (count,), generator=generator)
        timesteps = torch.where(torch.rand(count, generator=generator) < self.settings.words_share, early, anywhere)
        noisy = self.pipeline.scheduler.add_noise(latents, noise, timesteps)  # (B, C, 16, 16)

        with torch.no_grad():
            unet.disable_adapters()
            wanted = self.output(noisy, timesteps, *self.said(named))
            unet.enable_adapters()
        return ((self.output(noisy, timesteps, *embeddings) - wanted).square() * weight).mean()

    def output(self, noisy: Tensor, timesteps: Tensor, prompt: Tensor, pooled: Tensor) -> Tensor:
        """The UNet's prediction, (B, C, 16, 16)."""
        conditions = {"text_embeds": pooled, "time_ids": size_ids(len(noisy))}
        made: Tensor = self.pipeline.unet(
            noisy, timesteps, encoder_hidden_states=prompt, added_cond_kwargs=conditions
        ).sample
        return made

    @torch.no_grad()
    def latents(self, rows: Tensor) -> Tensor:
        """Scaled latents of pictures (B,), (B, C, 16, 16)."""
        vae = self.pipeline.vae
        latents: Tensor = vae.encode(self.pool.batch(rows) * 2 - 1).latent_dist.mode() * vae.config.scaling_factor
        return latents

    def shown(self, said: list[str], rows: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Embeddings of sentences that show the people of pictures (B, R), and the places (B,) of their class words."""
        ids = token_ids(self.pipeline.tokenizer, said)
        places = torch.isin(ids, self.words).int().argmax(dim=1)  # (B,)
        ids = repeat_token(ids, places, rows.shape[1])
        prompt, pooled = self._embedded(ids)
        pictures = self.encoder.embed(normalise(self.pool.batch(rows.flatten()))).unflatten(0, rows.shape)  # (B, R, W)
        return (self.encoder.put(prompt, pictures, places), pooled), places

    def said(self, said: list[str]) -> tuple[Tensor, Tensor]:
        """Embeddings of sentences alone."""
        return self._embedded(token_ids(self.pipeline.tokenizer, said))

    @torch.no_grad()
    def _embedded(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        return encode_tokens(self.pipeline.text_encoder, self.pipeline.text_encoder_2, ids)

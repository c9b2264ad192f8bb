"""Training through the frozen base model: transformer and decoder learn from what their LoRAs do to pictures.

A loss on weights does not know which weights matter. Here a generated LoRA is laid on the base model, and the base's
own denoising loss on the person's pictures flows back through it. The transformer is trained where sampling takes it:
at a step of a short DDIM run of its own from pure noise, so that sampled LoRAs improve and not only those of one step.
``effect.likeness`` adds what the faces of drawn pictures are like.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from difflora.corpus.base import FrozenBase
from difflora.corpus.draws import Apart, denoising_losses, gather
from difflora.corpus.draws import Batch as Pictured
from difflora.corpus.many import ManyLoras
from difflora.corpus.settings import DreamBoothSettings
from difflora.models import LoraAutoencoder, LoraTransformer, make_scheduler
from difflora.models.noise import to_x0
from difflora.training.batches import Batch
from difflora.training.conditions import Shown, show
from difflora.training.dit_settings import DitSettings
from difflora.training.features import ConditionFeatures
from difflora.training.likeness import Asked, LikenessLoss
from difflora.training.loop import OnLog, TrainReport, train
from difflora.training.pictures import EncodedPeople
from difflora.training.through import under_loras


class EffectTask(nn.Module):
    """The loss of a batch: the base's denoising loss on each person's pictures under the person's generated LoRA.

    Args:
        transformer: trained.
        lae: its decoder is trained where its parameters require a gradient.
        latents: (K, Z) of the teachers' LoRAs.
        features: of N people, the first K of them those with a teacher.
        base: the frozen base model.
        loras: the base under LoRAs, entered by the caller.
        pictures: of the same people.
        settings: section ``dit``.
        likeness: the loss of drawn faces; None where there is none.
    """

    def __init__(
        self,
        transformer: LoraTransformer,
        lae: LoraAutoencoder,
        latents: Tensor,
        features: ConditionFeatures,
        base: FrozenBase,
        loras: ManyLoras,
        pictures: EncodedPeople,
        settings: DitSettings,
        likeness: LikenessLoss | None = None,
    ) -> None:
        super().__init__()
        self.transformer, self.lae = transformer, lae
        self._taught = len(latents)
        self._latents = F.pad(latents, (0, 0, 0, len(features.names) - len(latents)))  # (N, Z)
        self._features, self._settings = features, settings
        self._base, self._loras, self._pictures, self._likeness = base, loras, pictures, likeness
        # In a tuple: the base is no part of what is trained, saved and shared between processes.
        self._unet: tuple[Any] = (torch.compile(base.unet) if settings.effect.compile else base.unet,)
        self._scheduler = make_scheduler(settings.noise, settings.model.prediction_type)
        self._scheduler.set_timesteps(settings.effect.rollout_steps)
        effect = settings.effect
        self._drawing = DreamBoothSettings(
            batch_size=effect.images_per_step,
            face_weight=effect.face_weight,
            feature_weight=effect.feature_weight,
            mode_scale=effect.mode_scale,
        )

    def forward(self, batch: Batch) -> Mapping[str, Tensor]:
        """The scalars ``loss``, ``denoising`` and ``latent``, and with a likeness ``unlike`` and ``faces``."""
        chosen = self._settings.effect
        shown = show(batch, self._latents, self._features, self.transformer, self._settings, mix=False)
        noisy, timesteps = self._noisy(batch, shown)  # (b, Z), (b,)
        made = self.transformer(noisy, timesteps, shown.face, shown.image, shown.drop)  # (b, Z)
        x0 = to_x0(self._scheduler, made.float(), noisy, timesteps)  # (b, Z)
        known = self._known(batch)  # (b,)
        latent = ((x0 - shown.latents).square().mean(1) * known).sum() / known.sum().clamp(min=1)
        logs = {}
        with torch.autocast(x0.device.type, enabled=False):  # the base computes in its own type
            self._loras.set(self.lae.decode(x0))
            data = gather(self._base, [self._pictures[place] for place in batch.my_places.tolist()], self._drawing)
            denoising = self._denoising(batch, data)
            loss = denoising + chosen.latent_weight * latent
            if self._likeness is not None:
                count = chosen.likeness.pictures
                shape, device = data.latents.shape[1:], self._base.device
                asked = Asked.drawn(data, shape, len(batch.places), count, batch.cpu_generator, device, batch.mine)
                shows = batch.my_places.repeat_interleave(count)  # (b * n,)
                unlike, found = self._likeness(self._unet[0], asked, shows)
                loss = loss + chosen.likeness.weight * unlike
                logs = {"unlike": unlike.detach(), "faces": found}
        return {"loss": loss, "denoising": denoising.detach(), "latent": latent.detach(), **logs}

    def _known(self, batch: Batch) -> Tensor:
        """Who of the batch has a teacher, (b,) bool."""
        return batch.my_places.to(self._latents.device) < self._taught

    def _denoising(self, batch: Batch, data: Pictured) -> Tensor:
        """The mean loss of the LoRAs that are set on their people's pictures."""
        apart = Apart(len(batch.places), batch.mine)
        return denoising_losses(self._base, self._unet[0], data, self._drawing, batch.cpu_generator, apart=apart).mean()

    @torch.no_grad()
    def _noisy(self, batch: Batch, shown: Shown) -> tuple[Tensor, Tensor]:
        """Where the transformer is trained: (b, Z) noisy latents and their (b,) timesteps.

        Most come from a DDIM run of its own that stops at one of the steps, the same for the batch; ``teacher_share``
        of them are the teacher's latents under noise, at any timestep, so that runs of other lengths stay good.
        """
        size, device = self._latents.shape[1], self._latents.device
        steps = self._scheduler.timesteps.tolist()
        stop = int(torch.randint(len(steps), (1,), generator=batch.cpu_generator))
        run = batch.randn(size)  # (b, Z)
        for step in steps[:stop]:
            timesteps = torch.full((len(run),), step, device=device)  # (b,)
            made = self.transformer(run, timesteps, shown.face, shown.image, shown.drop)  # (b, Z)
            run = self._scheduler.step(made.float(), step, run).prev_sample  # (b, Z)
        anywhere = batch.spread(self._settings.noise.num_train_timesteps)  # (b,)
        taught = self._scheduler.add_noise(shown.latents, batch.randn(size), anywhere)  # (b, Z)
        from_teacher = (batch.rand() < self._settings.effect.teacher_share) & self._known(batch)  # (b,)
        noisy = torch.where(from_teacher[:, None], taught, run)  # (b, Z)
        return noisy, torch.where(from_teacher, anywhere, steps[stop])


def train_effect(
    transformer: LoraTransformer,
    lae: LoraAutoencoder,
    latents: Tensor,
    features: ConditionFeatures,
    base: FrozenBase,
    pictures: EncodedPeople,
    settings: DitSettings,
    *,
    checkpoint: str | Path,
    fingerprint: Mapping[str, Any],
    accelerator: Accelerator,
    likeness: LikenessLoss | None = None,
    on_log: OnLog | None = None,
    progress: bool = True,
) -> TrainReport:
    """Trains the transformer and, where ``effect.train_decoder`` is on, the decoder, in place.

    Args:
        transformer: trained on latents.
        lae: the autoencoder; its encoder stays as it is.
        latents: (K, Z) of the LoRAs of the training people who have one.
        features: of N training people, those K first, on the same device.
        base: the base model that the LoRAs are for.
        pictures: theirs.
        settings: section ``dit``.
        checkpoint: folder of the checkpoint.
        fingerprint: see ``train``.
        accelerator: see ``train``.
        likeness: the loss of drawn faces; None where there is none.
        on_log: see ``train``.
        progress: see ``train``.

    Raises:
        DiffLoRAError: if the training goes wrong.
    """
    chosen = settings.effect
    lae.requires_grad_(False)
    for parameter in lae.decoder_parameters():
        parameter.requires_grad_(chosen.train_decoder)
    with under_loras(base, lae, chosen.gradient_checkpointing) as loras:
        report = train(
            "effect",
            EffectTask(transformer, lae, latents, features, base, loras, pictures, settings, likeness),
            features.names,
            chosen.loop,
            checkpoint=checkpoint,
            fingerprint={**fingerprint, "effect": chosen.model_dump(mode="json", exclude={"loop"})},
            accelerator=accelerator,
            lr_factor=lambda name: chosen.decoder_lr_factor if name.startswith("lae.") else 1.0,
            on_log=on_log,
            progress=progress,
        )
    lae.requires_grad_(True)
    return report

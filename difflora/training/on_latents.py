"""Training of the diffusion transformer on latents (paper, 3.3)."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from difflora.errors import BadParameter
from difflora.models import LoraAutoencoder, LoraTransformer, make_scheduler
from difflora.models.noise import target_of
from difflora.training.batches import Batch
from difflora.training.conditions import show
from difflora.training.dit_settings import DitSettings
from difflora.training.features import ConditionFeatures
from difflora.training.reproducible import seeded
from difflora.training.ridge import Ridge, fit_ridge


class DitTask(nn.Module):
    """The loss of a batch: mean squared error of what the transformer predicts (equation 3)."""

    def __init__(
        self, transformer: LoraTransformer, latents: Tensor, features: ConditionFeatures, settings: DitSettings
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self._latents, self._features, self._settings = latents, features, settings
        self._scheduler = make_scheduler(settings.noise, settings.model.prediction_type)

    def forward(self, batch: Batch) -> Mapping[str, Tensor]:
        """The scalar ``loss``."""
        shown = show(batch, self._latents, self._features, self.transformer, self._settings)
        noise = batch.randn(shown.latents.shape[1])  # (b, Z)
        timesteps = batch.spread(self._settings.noise.num_train_timesteps)  # (b,)
        noisy = self._scheduler.add_noise(shown.latents, noise, timesteps)  # (b, Z)
        made = self.transformer(noisy, timesteps, shown.face, shown.image, shown.drop)  # (b, Z)
        return {"loss": F.mse_loss(made.float(), target_of(self._scheduler, shown.latents, noise, timesteps))}


def begin_transformer(
    lae: LoraAutoencoder,
    latents: Tensor,
    features: ConditionFeatures,
    settings: DitSettings,
    start: LoraTransformer | None = None,
) -> LoraTransformer:
    """A new transformer with the features' statistics and its linear skip fitted, or a copy of one to go on from.

    Args:
        lae: whose latents it makes.
        latents: (N, Z) of N people.
        features: of the same people.
        settings: section ``dit``.
        start: a trained one; it is not changed.

    Raises:
        BadParameter: if that one has other sizes or settings.
    """
    face_dim, image_dim = features.face.shape[1], features.image.shape[1]
    if start is not None:
        sizes = (start.config.latent_size, start.config.face_dim, start.config.image_dim)
        if sizes != (lae.latent_size, face_dim, image_dim) or start.settings != settings.model:
            raise BadParameter("start: its sizes or settings are not those of lae, features and dit.model")
        return copy.deepcopy(start)
    with seeded(settings.loop.seed):
        transformer: LoraTransformer = LoraTransformer(
            latent_size=lae.latent_size,
            face_dim=face_dim,
            image_dim=image_dim,
            settings=settings.model.model_dump(mode="json"),
            face_encoder=features.face_encoder,
            image_encoder=features.image_encoder,
        ).to(latents.device)
    transformer.fit_features(features.face, features.image)
    if transformer.skip is not None:
        with torch.no_grad():
            fitted = _fitted(transformer, latents, features, settings.ridge)
            transformer.skip.weight.copy_(fitted.weight)
            transformer.skip.bias.copy_(fitted.bias)
    return transformer


@torch.no_grad()
def moved_transformer(
    transformer: LoraTransformer, moves: Tensor, features: ConditionFeatures, ridge: float
) -> LoraTransformer:
    """A copy of a trained transformer to whose linear skip, where it has one, people's moves are added.

    Every picture's latent is to move as its person's does. Fitted to the moves alone, the skip does not give up what
    it makes of single pictures because they do not agree on it, which would make it smaller round after round.

    Args:
        transformer: it is not changed.
        moves: (N, Z), what is to be added to the latents of N people.
        features: of the same people.
        ridge: penalty of what is added.
    """
    moved = copy.deepcopy(transformer)
    if moved.skip is not None:
        added = _fitted(moved, moves, features, ridge)
        moved.skip.weight.add_(added.weight)
        moved.skip.bias.add_(added.bias)
    return moved


def _fitted(transformer: LoraTransformer, latents: Tensor, features: ConditionFeatures, ridge: float | None) -> Ridge:
    """A linear map of what the skip sees of each picture to its person's latent."""
    inputs = transformer.skip_inputs(*transformer.standardised(features.face, features.image))  # (M, F)
    return fit_ridge(inputs, latents, features.owners, ridge)

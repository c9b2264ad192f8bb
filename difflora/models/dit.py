"""The diffusion transformer that turns noise into a LoRA's latent, given a face (paper, 3.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import Tensor, nn

from difflora.errors import BadParameter
from difflora.models.layers import AdaLnLayer, modulate, zero
from difflora.models.mif import MixedImageFeatures
from difflora.models.portable import PortableConfig
from difflora.models.settings import DitModelSettings
from difflora.validation import validated

_TIME_CHANNELS = 256
_INIT_STD = 0.02
_LEAST_DEVIATION = 1e-4


class LoraTransformer(ModelMixin, PortableConfig):
    """DiT over tokens of a latent, conditioned through AdaLN on the timestep and mixed image features.

    The features' mean and deviation are buffers, stored with the weights; a new model has 0 and 1. A condition that is
    dropped is replaced by a learned vector, for classifier-free guidance.

    Args:
        latent_size: Z, numbers of a latent.
        face_dim: Df, length of the face's features.
        image_dim: Di, length of the picture's features.
        settings: ``DitModelSettings`` as plain values.
        face_encoder: digest of the face encoder that it was trained with, where known.
        image_encoder: digest of the image encoder, where known.

    Raises:
        BadParameter: for a setting or size that is not allowed; it is named.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        latent_size: int,
        face_dim: int,
        image_dim: int,
        settings: Mapping[str, Any],
        face_encoder: str | None = None,
        image_encoder: str | None = None,
    ) -> None:
        super().__init__()
        self.settings = chosen = validated(DitModelSettings, settings, "dit.model")
        if min(latent_size, face_dim, image_dim) < 1:
            raise BadParameter(f"sizes of latent, face and image are {latent_size}, {face_dim}, {image_dim}: below 1")
        if chosen.num_tokens > latent_size:
            raise BadParameter(f"dit.model.num_tokens is {chosen.num_tokens} for latents of {latent_size}: give fewer")
        width = chosen.width
        self.token_size = -(-latent_size // chosen.num_tokens)
        self.inputs = nn.Linear(self.token_size, width)
        self.positions = nn.Parameter(torch.empty(chosen.num_tokens, width))
        self.time_channels = Timesteps(_TIME_CHANNELS, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time = TimestepEmbedding(_TIME_CHANNELS, width)
        self.fusion = MixedImageFeatures(
            face_dim, image_dim, width, use_face=chosen.use_face, use_image=chosen.use_image
        )
        self.null = nn.Parameter(torch.empty(width))
        hidden = int(chosen.mlp_ratio * width)
        self.layers = nn.ModuleList(AdaLnLayer(width, chosen.heads, hidden) for _ in range(chosen.layers))
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.outputs = nn.Linear(width, self.token_size)
        seen = face_dim * chosen.use_face + image_dim * chosen.use_image
        self.skip = nn.Linear(seen, latent_size) if chosen.linear_skip else None
        for name, size in (("face", face_dim), ("image", image_dim)):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_deviation", torch.ones(size))
        self._initialise()

    def _initialise(self) -> None:
        """As DiT does: Xavier, and zero where a path is to start closed (AdaLN-zero, output, skip)."""
        closed: list[nn.Module] = [self.modulation, self.outputs]
        if self.skip is not None:
            closed.append(self.skip)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, AdaLnLayer):
                closed.append(module.modulation)
        for parameter in (self.positions, self.null, self.time.linear_1.weight, self.time.linear_2.weight):
            nn.init.normal_(parameter, std=_INIT_STD)
        for module in closed:
            zero(module)

    @torch.no_grad()
    def fit_features(self, face: Tensor, image: Tensor) -> None:
        """Takes the mean and deviation of features from the pictures of the people to train on.

        Args:
            face: (N, Df).
            image: (N, Di).
        """
        for name, features in (("face", face), ("image", image)):
            deviation = features.double().std(0, unbiased=False)
            least = _LEAST_DEVIATION * deviation.square().mean().sqrt()
            getattr(self, f"{name}_mean").copy_(features.double().mean(0))
            getattr(self, f"{name}_deviation").copy_(deviation.where(deviation > least, 1))

    def standardised(self, face: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features at mean 0 and deviation 1: (B, Df), (B, Di)."""
        return (face - self.face_mean) / self.face_deviation, (image - self.image_mean) / self.image_deviation

    def skip_inputs(self, face: Tensor, image: Tensor) -> Tensor:
        """What the linear skip sees of standardised features: those in use, side by side (B, F)."""
        used = ((face, self.settings.use_face), (image, self.settings.use_image))
        return torch.cat([features for features, chosen in used if chosen], dim=-1)

    def forward(
        self, latents: Tensor, timesteps: Tensor, face: Tensor, image: Tensor, drop: Tensor | None = None
    ) -> Tensor:
        """Predicts x0 (or what ``settings.prediction_type`` says) from noisy latents.

        Args:
            latents: (B, Z) noisy latents.
            timesteps: (B,) int64, from 0.
            face: (B, Df) unit vectors.
            image: (B, Di) unit vectors.
            drop: (B,) bool, whose condition is withheld; None for nobody's.

        Returns:
            (B, Z).
        """
        size = latents.shape[1]
        face, image = self.standardised(face, image)  # (B, Df), (B, Di)
        condition = self.fusion(face, image)  # (B, W)
        if drop is not None:
            condition = torch.where(drop[:, None], self.null, condition)  # (B, W)
        channels = self.time_channels(timesteps).to(latents.dtype)  # (B, 256)
        condition = condition + self.time(channels)  # (B, W)
        padded = F.pad(latents, (0, self.settings.num_tokens * self.token_size - size))  # (B, T * C)
        tokens = self.inputs(padded.unflatten(1, (self.settings.num_tokens, -1))) + self.positions  # (B, T, W)
        for layer in self.layers:
            tokens = layer(tokens, condition)  # (B, T, W)
        shift, scale = self.modulation(condition).unsqueeze(1).chunk(2, dim=-1)  # (B, 1, W) each
        tokens = self.outputs(modulate(self.norm(tokens), shift, scale))  # (B, T, C)
        sample: Tensor = tokens.flatten(1)[:, :size]  # (B, Z)
        if self.skip is not None:
            straight = self.skip(self.skip_inputs(face, image))  # (B, Z)
            sample = sample + (straight if drop is None else straight.masked_fill(drop[:, None], 0))
        return sample

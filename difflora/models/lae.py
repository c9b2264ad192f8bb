"""The LoRA autoencoder: flat LoRAs to latents hundreds of times smaller, and back (paper, 3.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from difflora.errors import BadParameter
from difflora.lora import BaseModelId, LoraLayout, Normalisation, NormalisationSettings
from difflora.models.convolutions import ConvolutionalEncoder
from difflora.models.decoder import AttentionDecoder
from difflora.models.layers import zero
from difflora.models.linear_path import LinearPath
from difflora.models.portable import PortableConfig
from difflora.models.settings import LaeModelSettings
from difflora.validation import validated

_LEAST_DEVIATION = 1e-4


@dataclass(frozen=True)
class LaeOutput:
    """What training compares.

    Attributes:
        rows: (B, D) normalised rows.
        reconstruction: (B, D) what the decoder makes of them.
        latents: (B, Z) before they are rescaled.
    """

    rows: Tensor
    reconstruction: Tensor
    latents: Tensor


class LoraAutoencoder(ModelMixin, PortableConfig):
    """Encoder, decoder, and the statistics that bring weights and latents to unit scale.

    Statistics are buffers, so they are stored with the weights. A new model has those of the identity: mean 0,
    spread and deviation 1.

    Args:
        layout: ``LoraLayout.to_json()`` of the LoRAs.
        settings: ``LaeModelSettings`` as plain values.
        normalisation: ``NormalisationSettings`` as plain values.
        alpha: the LoRAs count alpha / rank times.
        base: ``BaseModelId`` of the base model as plain values, where known.
        trigger_prompt: what a prompt must contain for these LoRAs to show their person.

    Attributes:
        layout: what the numbers of a flat LoRA are.
        settings: how the model is built.

    Raises:
        BadParameter: for a setting that is not allowed; it is named.
        BadFile: if the layout is none.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        layout: Mapping[str, Any],
        settings: Mapping[str, Any],
        normalisation: Mapping[str, Any],
        alpha: float,
        base: Mapping[str, Any] | None = None,
        trigger_prompt: str = "",
    ) -> None:
        super().__init__()
        self.layout = LoraLayout.from_json(layout, "lae.layout")
        self.settings = validated(LaeModelSettings, settings, "lae.model")
        self._normalisation = validated(NormalisationSettings, normalisation, "lae.normalisation")
        self.base = None if base is None else validated(BaseModelId, base, "lae.base")
        chosen = self.settings
        places, channels = -(-self.layout.size // chosen.stride), chosen.latent_channels
        self.places, self.latent_size = places, places * channels
        if chosen.networks:
            self.encoder = ConvolutionalEncoder(chosen.strides, chosen.channels, channels, chosen.heads)
            self.decoder = AttentionDecoder(
                places,
                channels,
                chosen.stride,
                width=chosen.width,
                heads=chosen.heads,
                layers=chosen.layers,
                mlp_width=chosen.mlp_width,
            )
        if chosen.linear_path:
            self.linear = LinearPath(self.layout.size, self.latent_size)
            if chosen.networks:  # a residual that starts at nothing
                zero(self.encoder.out)
                zero(self.decoder.mlp[-1])
        self.register_buffer("mean", torch.zeros(self.layout.size))
        spreads = {"none": 0, "module": len(self.layout.sizes), "element": self.layout.size}
        self.register_buffer("spread", torch.ones(spreads[self._normalisation.mode]))
        self.register_buffer("latent_mean", torch.zeros(self.latent_size))
        self.register_buffer("latent_deviation", torch.ones(self.latent_size))

    @classmethod
    def build(
        cls,
        layout: LoraLayout,
        settings: LaeModelSettings,
        normalisation: NormalisationSettings,
        *,
        alpha: float | None = None,
        base: BaseModelId | None = None,
        trigger_prompt: str = "",
    ) -> LoraAutoencoder:
        """A new model; ``alpha`` is the rank where it is None."""
        made: LoraAutoencoder = cls(
            layout=layout.to_json(),
            settings=settings.model_dump(mode="json"),
            normalisation=normalisation.model_dump(mode="json"),
            alpha=float(alpha or layout.rank),
            base=None if base is None else base.model_dump(mode="json"),
            trigger_prompt=trigger_prompt,
        )
        return made

    @property
    def compression_ratio(self) -> float:
        """Numbers of a flat LoRA over numbers of its latent."""
        return self.layout.size / self.latent_size

    @property
    def normalisation(self) -> Normalisation:
        """What brings rows to unit scale."""
        chosen = self._normalisation
        mean = self.mean if chosen.subtract_mean else None
        return Normalisation(chosen, self.layout, mean, None if chosen.mode == "none" else self.spread)

    @torch.no_grad()
    def fit_normalisation(self, rows: Iterable[Tensor]) -> None:
        """Takes mean and spread from the LoRAs to train on.

        Args:
            rows: batches (N, D); gone through twice where the mean is not subtracted, so no generator then.

        Raises:
            BadParameter: if there is no row, or a number is not finite.
        """
        chosen = self._normalisation
        fitted = Normalisation.fit(rows, self.layout, chosen)
        if fitted.spread is not None:
            self.spread.copy_(fitted.spread)
        if fitted.mean is None:  # kept in any mode: strength is about it
            fitted = Normalisation.fit(rows, self.layout, NormalisationSettings(mode="none", subtract_mean=True))
        if fitted.mean is not None:
            self.mean.copy_(fitted.mean)

    @torch.no_grad()
    def fit_latents(self, rows: Iterable[Tensor]) -> None:
        """Takes the mean and deviation of latents from the LoRAs to train on, after the autoencoder is trained.

        Args:
            rows: batches (N, D), on the model's device.

        Raises:
            BadParameter: if there is no row.
        """
        parts = [self._encode(self.normalisation.apply(batch)).double() for batch in rows]  # (N, Z) each
        if not parts:
            raise BadParameter("latents: no rows to take statistics from; give at least one LoRA")
        latents = torch.cat(parts)  # (N, Z)
        squares = latents.var(0, unbiased=False)  # (Z,)
        if self.settings.latent_scaling == "global":
            squares = squares.mean().expand_as(squares)
        deviation = squares.sqrt()
        # A coordinate that never moves is left alone, not blown up.
        deviation = deviation.where(deviation > _LEAST_DEVIATION * squares.mean().sqrt(), 1)
        self.latent_mean.copy_(latents.mean(0))
        self.latent_deviation.copy_(deviation)

    def encode(self, rows: Tensor) -> Tensor:
        """Flat LoRAs (B, D) of any floating type -> latents (B, Z) float32 at unit variance."""
        latents = self._encode(self.normalisation.apply(rows))  # (B, Z)
        scaled: Tensor = (latents - self.latent_mean) / self.latent_deviation  # (B, Z)
        return scaled

    def decode(self, latents: Tensor, strength: float = 1.0) -> Tensor:
        """Latents at unit variance to flat LoRAs.

        Args:
            latents: (B, Z) float32.
            strength: S of ``mean + S (V - mean)``, V the decoded LoRA and mean the training people's; it undoes the
                shrinking of a regression, at a price in what prompts control.

        Returns:
            (B, D) float32.
        """
        x = self._decode(latents * self.latent_deviation + self.latent_mean)  # (B, D)
        rows = self.normalisation.invert(x)  # (B, D)
        return rows if strength == 1.0 else self.mean + strength * (rows - self.mean)

    def forward(self, rows: Tensor, input_noise: Tensor | None = None, latent_noise: Tensor | None = None) -> LaeOutput:
        """Encodes and decodes, under noise while training.

        Args:
            rows: (B, D) flat LoRAs.
            input_noise: (B, D) what the encoder's input is off by, at the scale of normalised weights.
            latent_noise: (B, Z) what the latents are off by, in parts of each one's root mean square.
        """
        x = self.normalisation.apply(rows)  # (B, D)
        latents = self._encode(x if input_noise is None else x + input_noise)  # (B, Z)
        seen = latents
        if latent_noise is not None:
            # Relative, or latents would grow until no noise reaches them; to each one's own, whoever shares the batch.
            seen = latents + latent_noise * latents.detach().square().mean(1, keepdim=True).sqrt()
        return LaeOutput(x, self._decode(seen), latents)

    def decoder_parameters(self) -> Iterator[nn.Parameter]:
        """What ``decode`` uses, for a training that leaves the encoder alone."""
        if self.settings.networks:
            yield from self.decoder.parameters()
        if self.settings.linear_path:
            yield from (self.linear.decoder, self.linear.bias)

    def _encode(self, x: Tensor) -> Tensor:
        """(B, D) normalised -> (B, Z) as the networks make them."""
        chosen = self.settings
        latents = self.linear.encode(x) if chosen.linear_path else x.new_zeros(len(x), self.latent_size)  # (B, Z)
        if chosen.networks:
            padded = F.pad(x, (0, self.places * chosen.stride - x.shape[-1]))  # (B, L * stride)
            latents = latents + self.encoder(padded).flatten(1)  # (B, Z)
        return latents

    def _decode(self, latents: Tensor) -> Tensor:
        """The inverse of ``_encode``."""
        chosen, size = self.settings, self.layout.size
        x = self.linear.decode(latents) if chosen.linear_path else latents.new_zeros(len(latents), size)  # (B, D)
        if chosen.networks:
            places = latents.unflatten(1, (self.places, chosen.latent_channels))  # (B, L, C)
            x = x + self.decoder(places)[:, :size]  # (B, D)
        return x

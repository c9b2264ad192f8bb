"""Pictures of a class, for prior preservation: drawn once by the base model, kept as latents, shared by all people.

A set of one prompt, size and base model is a file, DIGEST.safetensors: latents (N, C, h, w) float32.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from tqdm import tqdm

from difflora.corpus.base import FrozenBase
from difflora.corpus.header import settings_digest
from difflora.corpus.latents import Encoded, embed_captions
from difflora.corpus.settings import DreamBoothSettings, PriorPreservation
from difflora.corpus.shards import row_sha256
from difflora.drawing import draw
from difflora.errors import BadFile
from difflora.files import save_safetensors
from difflora.prompt_cache import PromptCache
from difflora.prompts import for_person
from difflora.seeds import noise_seed

logger = logging.getLogger(__name__)

_BATCH, _PIXELS = 16, 2**22
"""The most pictures and pixels at a time."""


class ClassPictures:
    """What the base model draws by itself of man, woman and whoever else there is.

    The latents are the UNet's own last ones: going through the VAE and back would only blur them.

    Args:
        folder: where they are kept; None to draw them for this object alone.
        base: the frozen base model, under no LoRAs while pictures are drawn.
        settings: with ``prior_preservation``.
    """

    def __init__(self, folder: Path | None, base: FrozenBase, settings: DreamBoothSettings) -> None:
        self._folder, self._base, self._settings = folder, base, settings
        self._known: dict[tuple[str, tuple[int, int]], Encoded] = {}
        self._embed = PromptCache(base.pipeline)

    def of(self, class_word: str, size: tuple[int, int], *, progress: bool = False) -> Encoded | None:
        """A class's pictures, the same object each time; None where prior preservation is off.

        Args:
            class_word: man, woman.
            size: height and width in pixels.
            progress: whether to show a bar while they are drawn.
        """
        prior = self._settings.prior_preservation
        if prior is None:
            return None
        prompt = for_person(prior.prompt, class_word)
        if (prompt, size) not in self._known:
            latents = self._latents(prompt, size, prior, progress).to(self._base.device)
            embeds, pooled = embed_captions(self._base, [prompt] * len(latents))
            faceless = torch.zeros_like(latents[:, 0])  # nobody looked for faces: all places count alike
            self._known[prompt, size] = Encoded(prompt, latents, embeds, pooled, size, faceless)
        return self._known[prompt, size]

    def _latents(self, prompt: str, size: tuple[int, int], prior: PriorPreservation, progress: bool) -> Tensor:
        """From the disk, or drawn and put there: (N, C, h, w) float32 on the CPU."""
        how = {
            "base": self._base.name.model_dump(),
            "weights": self._base.weights,
            "precision": self._settings.precision,
            "seed": self._settings.seed,
            "prompt": prompt,
            "size": list(size),
            **prior.model_dump(mode="json", exclude={"weight", "prompt"}),
        }
        path = None if self._folder is None else self._folder / f"{settings_digest(how)[:32]}.safetensors"
        if path is not None and path.exists():
            try:
                return _read(path)
            except BadFile as error:
                logger.warning("%s; they are drawn again", error)
        latents = self._draw(prompt, size, prior, progress)
        if path is not None:
            save_safetensors(path, {"latents": latents}, {"made": json.dumps({**how, "sha256": _sha256(latents)})})
        return latents

    def _draw(self, prompt: str, size: tuple[int, int], prior: PriorPreservation, progress: bool) -> Tensor:
        pipeline: Any = self._base.pipeline
        pipeline.set_progress_bar_config(disable=True)
        seeds = [noise_seed(self._settings.seed, "class", prompt, str(place)) for place in range(prior.pictures)]
        at_once = max(1, min(_BATCH, _PIXELS // (size[0] * size[1])))
        parts = []
        with tqdm(total=len(seeds), desc=prompt, unit="picture", disable=not progress) as bar:
            for start in range(0, len(seeds), at_once):
                part = seeds[start : start + at_once]
                made = draw(
                    pipeline,
                    self._embed,
                    [prompt] * len(part),
                    part,
                    steps=prior.steps,
                    guidance_scale=prior.guidance_scale,
                    size=size,
                    output="latent",
                )
                parts.append(made.cpu())  # (B, C, h, w)
                bar.update(len(part))
        return torch.cat(parts)


def _read(path: Path) -> Tensor:
    try:
        with safe_open(path, framework="pt") as file:
            latents: Tensor = file.get_tensor("latents")
            if _sha256(latents) != json.loads(file.metadata()["made"])["sha256"]:
                raise BadFile(f"{path}: was changed (its sha256 differs)")
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise BadFile(f"{path}: holds no pictures of a class ({error})") from error
    return latents


def _sha256(latents: Tensor) -> str:
    return row_sha256(latents.contiguous().numpy().tobytes())

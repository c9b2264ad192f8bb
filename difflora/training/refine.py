"""Latents moved by likeness alone: what the transformer should make of people, found a person at a time.

A teacher's LoRA is what some steps of DreamBooth left, and most of it nothing foretells. So the transformer's own
latents are moved instead, along the gradient of the likeness of the faces that their LoRAs draw, and the transformer
learns the moves. A person's own gradient comes from a picture or two and is mostly noise; that of hundreds
of people, seen through their features, is not. So a few long steps of everyone a round, and many rounds, lead further
than many steps of a person. Each person's gradient gets the same length, since its own says little (it varies by
orders of magnitude with the noise that a picture starts from).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from difflora.corpus.base import FrozenBase
from difflora.corpus.header import begin, sweep
from difflora.corpus.many import ManyLoras
from difflora.encoders.face_gradient import FaceGradient
from difflora.errors import DiffLoRAError
from difflora.files import load_safetensors, save_safetensors
from difflora.models import LoraAutoencoder
from difflora.training.captions import EncodedCaptions
from difflora.training.features import ConditionFeatures
from difflora.training.likeness import Asked, LikenessLoss
from difflora.training.refine_settings import RefineSettings
from difflora.training.through import under_loras

_SEEDS_APART = 1_000_003
_MOMENTUM = 0.5


@dataclass(frozen=True)
class Refined:
    """Latents after their moves.

    Attributes:
        latents: (N, Z) float32, on the device of those before.
        history: a mapping a move: ``step`` from 1, and over all people the means of ``loss`` (1 - cosine of a drawn
            face to the person's, before the move) and ``faces`` (share of drawn pictures with one).
    """

    latents: Tensor
    history: list[dict[str, float]]


def refine_latents(
    start: Tensor,
    lae: LoraAutoencoder,
    features: ConditionFeatures,
    base: FrozenBase,
    faces: FaceGradient,
    captions: EncodedCaptions,
    settings: RefineSettings,
    *,
    place: int,
    checkpoint: str | Path,
    fingerprint: Mapping[str, Any],
    accelerator: Accelerator,
    progress: bool = True,
) -> Refined:
    """Moves N people's latents, some at once; who is done is kept, and not moved again after a kill.

    Args:
        start: (N, Z) float32, what the transformer makes of the people.
        lae: decodes them; it is not changed.
        features: of the same people, by the recogniser in ``faces``.
        base: the base model that the LoRAs are for.
        faces: the recogniser.
        captions: of the same people; they are what is drawn.
        settings: how.
        place: which round it is, the first being 0.
        checkpoint: folder of those who are done; made if missing.
        fingerprint: plain values that decide the result beside the settings; a checkpoint of others is refused.
        accelerator: its processes share people out.
        progress: whether to show a bar.

    Raises:
        BadParameter: if the checkpoint is of other settings; the key is named.
        BadFile: if it is damaged.
        DiffLoRAError: if latents are not finite after their moves; the people are named.
    """
    folder = Path(checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    if accelerator.is_main_process:
        sweep(folder)
        begin(
            folder / "refine.json",
            "refine",
            {"settings": settings.model_dump(mode="json"), "round": place, **fingerprint},
        )
    accelerator.wait_for_everyone()
    everyone = torch.arange(len(start)).split(settings.people_at_once)
    files = [folder / f"people-{number:05d}.safetensors" for number in range(len(everyone))]
    mine = range(accelerator.process_index, len(everyone), accelerator.num_processes)
    shown = progress and accelerator.is_main_process
    with under_loras(base, lae, settings.gradient_checkpointing) as loras:
        mover = _Mover(lae, features, base, LikenessLoss(base, faces, features, settings), loras, captions, settings)
        for number in tqdm(mine, desc=f"round {place + 1} of {settings.rounds}", unit="batch", disable=not shown):
            if not files[number].exists():
                seed = (settings.seed + place) * _SEEDS_APART + number
                moved = mover.move(start, everyone[number], seed, settings.rates(place))
                save_safetensors(files[number], moved)
    accelerator.wait_for_everyone()
    done = [load_safetensors(file) for file in files]
    latents = torch.cat([each["latents"] for each in done]).to(start)
    weight = torch.tensor([len(places) / len(start) for places in everyone])[:, None]  # (blocks, 1)
    means = {key: (torch.stack([each[key] for each in done]) * weight).sum(0).tolist() for key in ("loss", "faces")}
    rows = zip(means["loss"], means["faces"], strict=True)
    return Refined(
        latents,
        [
            {"step": step, "loss": float(f"{loss:.6g}"), "faces": float(f"{found:.6g}")}
            for step, (loss, found) in enumerate(rows, start=1)
        ],
    )


class _Mover:
    """Moves a few people's latents."""

    def __init__(
        self,
        lae: LoraAutoencoder,
        features: ConditionFeatures,
        base: FrozenBase,
        likeness: LikenessLoss,
        loras: ManyLoras,
        captions: EncodedCaptions,
        settings: RefineSettings,
    ) -> None:
        self._lae, self._names, self._base, self._likeness = lae, features.names, base, likeness
        self._loras, self._captions, self._settings = loras, captions, settings

    def move(self, start: Tensor, places: Tensor, seed: int, rates: Sequence[float]) -> dict[str, Tensor]:
        """``latents`` (p, Z) after the moves, and of each move ``loss`` and ``faces`` (moves,)."""
        chosen, device = self._settings, self._base.device
        prompts, shape = self._captions.gather(places.tolist())
        generator = torch.Generator().manual_seed(seed)
        shown = places.repeat_interleave(chosen.pictures)  # (p * n,)
        latents = start[places.to(start.device)].clone().requires_grad_()  # (p, Z)
        optimiser = torch.optim.SGD([latents], lr=chosen.lr, momentum=_MOMENTUM, dampening=_MOMENTUM)
        losses = []
        for rate in rates:
            optimiser.param_groups[0]["lr"] = rate
            self._loras.set(self._lae.decode(latents))
            asked = Asked.drawn(prompts, shape, len(places), chosen.pictures, generator, device)
            unlike, found = self._likeness(self._base.unet, asked, shown)
            # Where none of the pictures shows a face, nothing says where to go.
            gradient = torch.autograd.grad(unlike, latents)[0] if unlike.requires_grad else torch.zeros_like(latents)
            size = gradient.square().mean(1, keepdim=True).sqrt()  # (p, 1)
            latents.grad = gradient / size.clamp(min=torch.finfo(gradient.dtype).tiny)
            optimiser.step()
            losses.append(torch.stack([unlike.detach(), found]))
        self._check(latents, places)
        unlike, found = torch.stack(losses).float().cpu().unbind(1)  # (moves,) each
        return {"latents": latents.detach().cpu(), "loss": unlike.contiguous(), "faces": found.contiguous()}

    def _check(self, latents: Tensor, places: Tensor) -> None:
        bad = (~latents.isfinite().all(1)).nonzero().flatten().tolist()
        if bad:
            names = ", ".join(self._names[int(places[place])] for place in bad)
            raise DiffLoRAError(
                f"dit.refine: latents of {names} are not finite after {self._settings.moves} moves; give a lower lr "
                f"than {self._settings.lr}"
            )

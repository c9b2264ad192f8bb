"""LoRA-DreamBooth (paper, 3.5) of many people at once: one step trains them all, each as if alone.

Every person starts from the same A and sees the same noise, timesteps and places in the list of pictures, step by step
(one shared start and seed make a corpus learnable: weights2weights). Losses, gradient clipping and AdamW are each
person's own, so that the company a LoRA is trained in changes it by rounding alone.
"""

# ruff: noqa: N806 - lora_A and lora_B are the field's own names.

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from tqdm import tqdm

from difflora.corpus.base import DTYPES, FrozenBase
from difflora.corpus.latents import Encoded
from difflora.corpus.many import ManyLoras
from difflora.corpus.settings import DreamBoothSettings
from difflora.errors import BadParameter
from difflora.lora import LoraLayout


@dataclass(frozen=True)
class Trained:
    """LoRAs of P people.

    Attributes:
        flat: (P, D) float32 on the CPU, in the layout's order.
        losses: (steps, P) float32 on the CPU.
        failed: place of a person -> what went wrong; that row of ``flat`` is of no use.
    """

    flat: Tensor
    losses: Tensor
    failed: dict[int, str]

    @property
    def final_loss(self) -> Tensor:
        """Mean over the last quarter of the steps, (P,)."""
        return self.losses[-max(1, len(self.losses) // 4) :].mean(0)


def initial_flat(layout: LoraLayout, seed: int) -> Tensor:
    """The shared start, (D,) float32: A as peft draws it (uniform, within 1 / sqrt(n)), B zero.

    Args:
        layout: what the numbers are.
        seed: the same seed gives the same start.
    """
    generator = torch.Generator().manual_seed(seed)
    flat = torch.zeros(layout.size)
    for module in layout.modules:
        lora_A, _ = layout.views(flat)[module.name]
        drawn = torch.rand(lora_A.shape, generator=generator)  # (r, n)
        lora_A.copy_((2 * drawn - 1) / math.sqrt(module.columns))
    return flat


@dataclass(frozen=True)
class _People:
    """The pictures of P people in one row of tensors each."""

    latents: Tensor  # (sum of M, C, h, w) float32
    prompt_embeds: Tensor  # (sum of M, L, W)
    pooled_embeds: Tensor | None  # (sum of M, W2)
    counts: Tensor  # (P,) pictures of each person
    starts: Tensor  # (P,) place of each person's first
    time_ids: Tensor | None  # (P * b, 6)

    def rows(self, places: Tensor) -> Tensor:
        """Where places in [0, 1) fall in each person's list: (b,) to (P * b,) int64, person after person."""
        chosen = (places * self.counts[:, None]).long().clamp(max=self.counts[:, None] - 1)  # (P, b)
        return (self.starts[:, None] + chosen).flatten()


def _gather(base: FrozenBase, people: Sequence[Encoded], settings: DreamBoothSettings) -> _People:
    shapes = {person.latents.shape[1:] for person in people}
    if len(shapes) != 1:
        raise BadParameter(
            f"pictures of different sizes ({sorted(map(tuple, shapes))}): train people of one size together"
        )
    most = settings.images or max(map(len, people))
    counts = torch.tensor([min(most, len(person)) for person in people])
    device, pooled, time_ids = base.device, None, None
    dtype = next(base.unet.parameters()).dtype
    if base.is_xl:
        # Micro-conditioning of whole pictures: original size, crop corner, target size.
        sizes = torch.tensor([[*person.size, 0, 0, *person.size] for person in people], device=device, dtype=dtype)
        time_ids = sizes.repeat_interleave(settings.batch_size, dim=0)  # (P * b, 6)
        pooled = torch.cat([p.pooled_embeds[:most] for p in people if p.pooled_embeds is not None])
    return _People(
        torch.cat([person.latents[:most] for person in people]),
        torch.cat([person.prompt_embeds[:most] for person in people]),
        pooled,
        counts.to(device),
        (counts.cumsum(0) - counts).to(device),
        time_ids,
    )


def _spread(count: int, steps: int, generator: torch.Generator) -> Tensor:
    """One random timestep in each of ``count`` equal parts of the schedule, (count,) int64."""
    places = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return (places * steps).long().clamp(max=steps - 1)


def _losses(base: FrozenBase, data: _People, settings: DreamBoothSettings, generator: torch.Generator) -> Tensor:
    """Each person's mean squared error on one batch, (P,) float32; the draws are the same for all people."""
    people, scheduler, device = len(data.counts), base.scheduler, base.device
    places = torch.rand(settings.batch_size, generator=generator)  # (b,)
    timesteps = _spread(settings.batch_size, scheduler.config.num_train_timesteps, generator)  # (b,)
    noise = torch.randn(settings.batch_size, *data.latents.shape[1:], generator=generator)  # (b, C, h, w)
    rows = data.rows(places.to(device))  # (P * b,)
    latents = data.latents[rows]  # (P * b, C, h, w)
    timesteps = timesteps.to(device).repeat(people)  # (P * b,)
    noise = noise.to(device).repeat(people, 1, 1, 1)  # (P * b, C, h, w)
    noisy = scheduler.add_noise(latents, noise, timesteps)  # (P * b, C, h, w)
    kind = scheduler.config.prediction_type
    if kind == "v_prediction":
        target = scheduler.get_velocity(latents, noise, timesteps)  # (P * b, C, h, w)
    else:
        target = noise if kind == "epsilon" else latents
    conditions = None
    if data.pooled_embeds is not None:
        conditions = {"text_embeds": data.pooled_embeds[rows], "time_ids": data.time_ids}
    prompt = data.prompt_embeds[rows]  # (P * b, L, W)
    noisy = noisy.to(prompt.dtype).contiguous(memory_format=torch.channels_last)
    output = base.unet(noisy, timesteps, encoder_hidden_states=prompt, added_cond_kwargs=conditions).sample
    return F.mse_loss(output.float(), target, reduction="none").reshape(people, -1).mean(1)  # (P,)


def train_people(
    base: FrozenBase,
    layout: LoraLayout,
    people: Sequence[Encoded],
    settings: DreamBoothSettings,
    *,
    progress: bool = False,
) -> Trained:
    """Trains a LoRA for each of P people in one pass.

    Args:
        base: the frozen base model.
        layout: of the LoRAs, for this base and ``settings.rank``.
        people: P people of pictures of one size, each with any number of them.
        settings: how to train.
        progress: whether to show a bar over the steps.

    Returns:
        The LoRAs. A person whose loss or weights become non-finite is named in ``failed`` and harms no other.

    Raises:
        BadParameter: if there is nobody, the pictures differ in size, or the base is in another precision.
    """
    if not people:
        raise BadParameter("nobody to train: give at least one person")
    dtype = next(base.unet.parameters()).dtype
    if dtype != DTYPES[settings.precision]:
        raise BadParameter(
            f"precision is {settings.precision}, but the base model is in {dtype}: load it in the former"
        )
    data = _gather(base, people, settings)
    flat = initial_flat(layout, settings.seed).to(base.device).repeat(len(people), 1).requires_grad_()  # (P, D)
    optimizer = torch.optim.AdamW(
        [flat],
        lr=settings.lr,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        fused=base.device.type in ("cpu", "cuda"),
    )
    generator = torch.Generator().manual_seed(settings.seed)
    losses = torch.empty(settings.steps, len(people), device=base.device)
    with ManyLoras(base.unet, layout, settings.scale) as loras, _fast_attention(base):
        for step in tqdm(range(settings.steps), disable=not progress, unit="step", leave=False):
            optimizer.param_groups[0]["lr"] = settings.lr_at(step)
            loras.set(flat)
            loss = _losses(base, data, settings, generator)  # (P,)
            loss.sum().backward()
            _clip(flat, settings.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            losses[step] = loss.detach()
    return _result(flat, losses, people)


def _clip(flat: Tensor, most: float) -> None:
    """Shortens each person's own gradient (P, D) to the length ``most``, as ``clip_grad_norm_`` does for one."""
    assert flat.grad is not None
    length = torch.linalg.vector_norm(flat.grad, dim=1, keepdim=True)  # (P, 1)
    flat.grad.mul_((most / (length + 1e-6)).clamp(max=1.0))


@contextmanager
def _fast_attention(base: FrozenBase) -> Iterator[None]:
    """Attention by plain products for bfloat16 on the CPU, where torch's fused backward is several times slower."""
    unet: Any = base.unet
    if base.device.type != "cpu" or next(unet.parameters()).dtype != torch.bfloat16:
        yield
        return
    before = unet.attn_processors
    unet.set_attn_processor(AttnProcessor())
    try:
        yield
    finally:
        unet.set_attn_processor(before)


def _result(flat: Tensor, losses: Tensor, people: Sequence[Encoded]) -> Trained:
    flat, losses = flat.detach().float().cpu(), losses.cpu()
    failed = {}
    for place, person in enumerate(people):
        bad = (~losses[:, place].isfinite()).nonzero()
        if len(bad):
            failed[place] = f"{person.identity}: its loss became {losses[bad[0, 0], place]} at step {int(bad[0, 0])}"
        elif not flat[place].isfinite().all():
            failed[place] = f"{person.identity}: its weights are not finite after the last step"
    return Trained(flat, losses, failed)

"""A base model that draws prompts under one person's LoRA after another, from pristine weights each time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from difflora.corpus.base import FrozenBase
from difflora.corpus.many import ManyLoras
from difflora.drawing import draw
from difflora.errors import BadParameter
from difflora.lora import LoraLayout, LoraMerger, LoraWeights
from difflora.prompt_cache import PromptCache
from difflora.samplers import PictureSampler, make_scheduler


class PictureSettings(BaseModel):
    """How pictures are drawn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(30, ge=1, le=1000, description="denoising steps")
    guidance_scale: float = Field(5.0, ge=0, description="of classifier-free guidance; 1 or less for none")
    sampler: PictureSampler = Field(
        "own", description="the base model's own; ddim; dpm++ (DPM-Solver++), which needs fewer steps; euler; lcm"
    )
    batch_size: int = Field(16, ge=1, description="pictures at a time, of several people and prompts")


class Painter:
    """Draws prompts with a frozen base model, with or without a LoRA merged; a context manager.

    with Painter(base, layout, settings) as painter:
        pictures = painter.paint(prompts, seeds, lora)

    Prompt embeddings are computed once a prompt. Between calls the weights are the base's own, bit for bit.

    Args:
        base: the frozen base model.
        layout: of the LoRAs; None where none will come.
        settings: how pictures are drawn.
    """

    def __init__(self, base: FrozenBase, layout: LoraLayout | None, settings: PictureSettings) -> None:
        self._base, self._layout, self._settings = base, layout, settings
        self._merger: LoraMerger | None = None  # keeps copies of weights: made when the first LoRA is merged
        pipeline = base.pipeline
        pipeline.set_progress_bar_config(disable=True)
        self._own_scheduler = pipeline.scheduler
        self._embed = PromptCache(pipeline)
        pipeline.scheduler = make_scheduler(settings.sampler, pipeline.scheduler)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._base.pipeline.scheduler = self._own_scheduler
        if self._merger is not None:
            self._merger.restore()

    @torch.no_grad()
    def paint(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        lora: LoraWeights | Tensor | None = None,
        scale: float = 1.0,
    ) -> Tensor:
        """One picture a prompt; each starts from the noise of its own seed, whatever the batch.

        Args:
            prompts: N sentences.
            seeds: N seeds.
            lora: weights, or a flat vector (D,); None for the base model alone.
            scale: how strongly it is applied; for a flat vector times alpha / rank.

        Returns:
            (N, 3, H, W) float32 in [0, 1], on the CPU.

        Raises:
            BadParameter: if the numbers of prompts and seeds differ, or the LoRA does not fit the base.
        """
        if len(prompts) != len(seeds) or not prompts:
            raise BadParameter(f"{len(prompts)} prompts and {len(seeds)} seeds: give one seed a prompt, at least one")
        if lora is not None:
            self._ready_merger().merge(lora, scale)
        try:
            size = self._settings.batch_size
            parts = [
                self._batch(prompts[start : start + size], seeds[start : start + size])
                for start in range(0, len(prompts), size)
            ]
        finally:
            if self._merger is not None:
                self._merger.restore()
        return torch.cat(parts)

    @torch.no_grad()
    def paint_people(
        self, prompts: Sequence[Sequence[str]], seeds: Sequence[Sequence[int]], rows: Tensor, scale: float = 1.0
    ) -> Tensor:
        """Pictures of several people at once, each under the person's own LoRA: ``paint`` to rounding.

        Args:
            prompts: K sentences of each of P people.
            seeds: K seeds of each.
            rows: (P, D) flat LoRAs.
            scale: how strongly they are applied, times alpha / rank.

        Returns:
            (P, K, 3, H, W) float32 in [0, 1], on the CPU.

        Raises:
            BadParameter: if the numbers differ, or the LoRAs do not fit the base.
        """
        each = {len(one) for one in (*prompts, *seeds)}
        if len(each) != 1 or 0 in each or not len(prompts) == len(seeds) == len(rows):
            raise BadParameter(
                f"prompts of {len(prompts)} people, seeds of {len(seeds)}, LoRAs of {len(rows)}: give as many of each"
            )
        if self._layout is None:
            raise BadParameter("this painter was made without a LoRA layout: give one to apply LoRAs")
        self._layout.check(rows)
        count, size = each.pop(), self._settings.batch_size
        at_once = max(1, size // count)
        flat = rows.to(self._base.device, torch.float32)
        parts = []
        with ManyLoras(self._base.unet, self._layout, scale) as loras:
            for start in range(0, len(rows), at_once):
                here = slice(start, start + at_once)
                part = flat[here]
                # Under guidance the pipeline asks for everyone's unconditional half first, then for the other.
                loras.set(part.repeat(2, 1) if self._settings.guidance_scale > 1 else part)
                words = [one for person in prompts[here] for one in person]
                noise = [one for own in seeds[here] for one in own]
                # More than a batch at a time is one person's alone, and may be cut anywhere.
                step = len(words) if len(part) > 1 else size
                made = torch.cat(
                    [
                        self._batch(words[first : first + step], noise[first : first + step])
                        for first in range(0, len(words), step)
                    ]
                )
                parts.append(made.unflatten(0, (len(part), count)))
        return torch.cat(parts)

    def people_at_once(self, each: int, least: int = 1) -> int:
        """How many people fill batches: a multiple of those that one batch holds.

        Args:
            each: pictures of a person.
            least: people, at least.
        """
        held = max(1, self._settings.batch_size // each)
        return -(-least // held) * held

    def merge_seconds(self, row: Tensor, scale: float = 1.0) -> float:
        """Seconds that one LoRA takes to be merged, the base's copy of its weights being there already.

        Args:
            row: (D,) flat LoRA.
            scale: how strongly it is applied, times alpha / rank.

        Raises:
            BadParameter: if the LoRA does not fit the base.
        """
        merger = self._ready_merger()
        try:
            for _ in range(2):  # the first one warms up
                started = time.perf_counter()
                merger.merge(row, scale)
                if self._base.device.type == "cuda":
                    torch.cuda.synchronize(self._base.device)
                seconds = time.perf_counter() - started
        finally:
            merger.restore()
        return seconds

    def _ready_merger(self) -> LoraMerger:
        if self._layout is None:
            raise BadParameter("this painter was made without a LoRA layout: give one to merge LoRAs")
        self._merger = self._merger or LoraMerger(self._base.unet, self._layout)
        return self._merger

    def _batch(self, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        steps, guidance_scale = self._settings.steps, self._settings.guidance_scale
        pipeline = self._base.pipeline
        made = draw(pipeline, self._embed, prompts, seeds, steps=steps, guidance_scale=guidance_scale)
        return made.cpu()  # (B, 3, H, W)

"""Pictures of a person by PhotoMaker: the base model under its LoRA, with the person stacked into each prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from diffusers import StableDiffusionXLPipeline
from PIL import Image
from torch import Tensor

from difflora.drawing import in_its_own_type
from difflora.errors import BadParameter
from difflora.lora import LoraMerger, LoraWeights
from difflora.photomaker.file import PhotoMakerFile
from difflora.photomaker.id_encoder import check_width
from difflora.photomaker.settings import DrawingSettings
from difflora.photomaker.trigger import class_word_place, read_prompt
from difflora.prompt_cache import PromptCache
from difflora.samplers import make_scheduler


class PhotoMaker:
    """Draws people with a frozen SDXL; a context manager, since the LoRA is fused into the UNet inside.

    with PhotoMaker(pipeline, PhotoMakerFile.open("photomaker-v1.safetensors"), settings) as maker:
        person = maker.look([photo, another])
        pictures = maker.draw(person, ["a photo of a man img, smiling"], seeds=[1])

    Prompt embeddings are computed once a prompt. Outside, weights and scheduler are the base's own, bit for bit.

    Args:
        pipeline: the base model, loaded.
        file: PhotoMaker's weights.
        settings: how pictures are drawn.
        lcm_lora: a latent consistency LoRA to fuse as well, for few steps; any format that ``LoraWeights`` reads.

    Raises:
        BadParameter: if the base is no SDXL, or PhotoMaker was made for another one.
        BadFile: if the LoRA does not fit the UNet.
    """

    def __init__(
        self,
        pipeline: Any,
        file: PhotoMakerFile,
        settings: DrawingSettings,
        *,
        lcm_lora: str | Path | None = None,
    ) -> None:
        if not isinstance(pipeline, StableDiffusionXLPipeline):
            raise BadParameter(f"PhotoMaker draws with SDXL, and this base model is a {type(pipeline).__name__}")
        self._encoder = file.encoder().to(pipeline.unet.device)
        check_width(self._encoder, pipeline.unet, file.where)
        self._pipeline, self._settings = pipeline, settings
        self._loras = [file.lora_for(pipeline.unet)]
        if lcm_lora is not None:
            self._loras.append(LoraWeights.load(lcm_lora))
        self._embed = PromptCache(pipeline)
        self._places: dict[tuple[str, int], int] = {}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        pipeline = self._pipeline
        with ExitStack() as opened:
            # One over the other: each restores what it found, the last one first.
            for lora in self._loras:
                merger = opened.enter_context(LoraMerger(pipeline.unet, lora.layout))
                merger.merge(lora)
            own = pipeline.scheduler
            opened.callback(setattr, pipeline, "scheduler", own)
            pipeline.scheduler = make_scheduler(self._settings.sampler, own)
            pipeline.set_progress_bar_config(disable=True)
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    @torch.no_grad()
    def look(self, pictures: Sequence[Image.Image]) -> Tensor:
        """A person's reference pictures, any number of them, as vectors (R, W) float32.

        Raises:
            BadParameter: if there is none.
        """
        if not pictures:
            raise BadParameter("PhotoMaker needs at least one reference picture of the person")
        pixels = self._encoder.preprocess([picture.convert("RGB") for picture in pictures])  # (R, 3, S, S)
        seen: Tensor = self._encoder.embed(pixels.to(self._encoder.device))
        return seen

    @torch.no_grad()
    def draw(self, person: Tensor, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        """One picture a prompt; each starts from the noise of its own seed, whatever the batch.

        Args:
            person: (R, W), of :meth:`look`.
            prompts: N sentences with the trigger word behind the class word.
            seeds: N seeds.

        Returns:
            (N, 3, H, W) float32 in [0, 1], on the CPU.

        Raises:
            BadParameter: if the numbers of prompts and seeds differ, or a prompt's class word is missing or ambiguous.
        """
        if len(prompts) != len(seeds) or not prompts:
            raise BadParameter(f"{len(prompts)} prompts and {len(seeds)} seeds: give one seed a prompt, at least one")
        size = self._settings.batch_size
        parts = [
            self._batch(person, prompts[start : start + size], seeds[start : start + size])
            for start in range(0, len(prompts), size)
        ]
        return torch.cat(parts)

    def embed(self, person: Tensor, prompts: Sequence[str]) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Embeddings of the text alone and of the text with the person.

        Args:
            person: (R, W).
            prompts: B sentences with the trigger word.

        Returns:
            Twice: prompt embeddings (B, L, W) and pooled embeddings (B, P).
        """
        count = len(person)
        marked = [read_prompt(prompt) for prompt in prompts]
        tokenizers = (self._pipeline.tokenizer, self._pipeline.tokenizer_2)
        for prompt in marked:
            key = (prompt.repeated(count), count)
            if key not in self._places:
                self._places[key] = class_word_place(prompt, tokenizers, count)
        places = torch.tensor([self._places[prompt.repeated(count), count] for prompt in marked], device=person.device)
        plain, plain_pooled = self._embed([prompt.repeated(1) for prompt in marked])
        said, said_pooled = self._embed([prompt.repeated(count) for prompt in marked])
        assert plain_pooled is not None and said_pooled is not None  # noqa: PT018 - SDXL has them
        merged = self._encoder.put(said, person.expand(len(marked), -1, -1), places)  # (B, L, W)
        return (plain, plain_pooled), (merged, said_pooled)

    def _batch(self, person: Tensor, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        settings, pipeline = self._settings, self._pipeline
        text, with_person = self.embed(person, prompts)
        start = settings.merge_from
        embeds, pooled = with_person if start == 0 else text
        arguments: dict[str, Any] = {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}
        if settings.guidance_scale > 1:
            negative = self._embed([settings.negative_prompt] * len(prompts))
            arguments |= {"negative_prompt_embeds": negative[0], "negative_pooled_prompt_embeds": negative[1]}
        with in_its_own_type(pipeline.unet):
            latents = pipeline(
                **arguments,
                height=settings.size,
                width=settings.size,
                num_inference_steps=settings.steps,
                guidance_scale=settings.guidance_scale,
                generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                callback_on_step_end=_merge_after(start, *with_person),
                callback_on_step_end_tensor_inputs=["prompt_embeds", "add_text_embeds"],
                output_type="latent",
            ).images
        return self._decode(latents)

    def _decode(self, latents: Tensor) -> Tensor:
        # One at a time: at 1024 pixels a batch would take more memory than the UNet.
        vae = self._pipeline.vae
        pictures = [vae.decode(one[None].to(vae.dtype) / vae.config.scaling_factor).sample for one in latents]
        return (torch.cat(pictures).float() / 2 + 0.5).clamp(0, 1).cpu()  # (B, 3, H, W)


def _merge_after(start: int, embeds: Tensor, pooled: Tensor) -> Callable[..., dict[str, Tensor]]:
    """What the pipeline calls after each step: after ``start`` of them the person comes in (3.3, delayed conditioning).

    The unconditional half that guidance puts before stays.
    """

    def after_step(_: Any, step: int, __: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        if step + 1 != start:
            return {}
        count = len(embeds)
        return {
            "prompt_embeds": torch.cat([tensors["prompt_embeds"][:-count], embeds]),
            "add_text_embeds": torch.cat([tensors["add_text_embeds"][:-count], pooled]),
        }

    return after_step

"""Textual Inversion (arXiv 2208.01618), a rival of Table 1: a person as new words, with every weight as it was.

As diffusers' scripts do it, for both text encoders of SDXL; of many people at once, each with words of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from tqdm import tqdm

from difflora.corpus.base import FrozenBase
from difflora.corpus.draws import squared_errors
from difflora.corpus.latents import encode_images
from difflora.corpus.people import Person
from difflora.errors import BadParameter, DiffLoRAError
from difflora.timesteps import spread_timesteps

_TEMPLATES = ("a photo of {}", "a close-up photo of {}", "a portrait of {}", "a good photo of {}", "a picture of {}")


class TextualInversionSettings(BaseModel):
    """How the words are learnt: as in diffusers' scripts, at a higher rate for fewer steps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(500, ge=1)
    batch_size: int = Field(4, ge=1, description="pictures a step of each person")
    lr: float = Field(5e-3, gt=0, description="AdamW's rate, constant")
    weight_decay: float = Field(1e-2, ge=0)
    words: int = Field(1, ge=1, le=32, description="new words a person")
    people_at_once: int = Field(8, ge=1)
    seed: int = Field(0, ge=0, lt=2**63)


class _WithNewWords(nn.Module):
    """A token embedding that knows more words.

    Args:
        known: the encoder's own, frozen.
        new: (K, W) the new words' vectors; their ids follow the known ones.
        first: the first new id.
    """

    def __init__(self, known: nn.Embedding, new: Tensor, first: int) -> None:
        super().__init__()
        self.known, self.first = known, first
        self.new = nn.Parameter(new)

    @property
    def weight(self) -> Tensor:
        """What tells type and device."""
        return self.known.weight

    def forward(self, ids: Tensor) -> Tensor:
        """(B, L) int64 to (B, L, W)."""
        place = (ids - self.first).clamp(min=0)
        own: Tensor = self.known(ids.clamp(max=self.first - 1))
        return torch.where((ids >= self.first)[..., None], self.new[place], own)


class TextualInversion:
    """New words for people, while the context is open; afterwards the base model is as it was.

    with TextualInversion(base, people, settings) as words:
        words.train()
        pictures = painter.paint([words.prompt(0, "a photo of a man, smiling", "a man")], [seed])

    Args:
        base: the frozen base model.
        people: P people, with pictures of one size.
        settings: how.

    Raises:
        BadParameter: if there is nobody, somebody has no pictures, or pictures differ in size.
    """

    def __init__(self, base: FrozenBase, people: Sequence[Person], settings: TextualInversionSettings) -> None:
        if not people or any(len(person.images) == 0 for person in people):
            raise BadParameter("textual inversion: give people with at least one picture each")
        if len({person.images.shape[1:] for person in people}) != 1:
            raise BadParameter("textual inversion: pictures of different sizes; give those of one size together")
        self._base, self._people, self._settings = base, people, settings
        self._embeddings: list[_WithNewWords] = []
        self._open = ExitStack()

    def __enter__(self) -> Self:
        pipeline = self._base.pipeline
        with ExitStack() as opened:
            for suffix in ("", "_2") if self._base.is_xl else ("",):
                tokenizer = getattr(pipeline, f"tokenizer{suffix}")
                encoder = getattr(pipeline, f"text_encoder{suffix}")
                self._embeddings.append(self._teach(tokenizer, encoder, opened))
            self._open = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()
        self._embeddings.clear()

    def prompt(self, place: int, prompt: str, person: str) -> str:
        """A prompt with a person's new words in place of the general ones.

        Args:
            place: of the person.
            prompt: a sentence.
            person: the words in it that stand for the person, such as "a man"; where it lacks them, the new words
                come first.
        """
        words = " ".join(self._tokens(place))
        return prompt.replace(person, words, 1) if person in prompt else f"{words}, {prompt}"

    def train(self, *, progress: bool = False) -> Tensor:
        """Learns the words of all people, ``people_at_once`` at a time.

        Returns:
            (steps, P) float32: the losses.

        Raises:
            DiffLoRAError: if a loss is not finite; the person is named.
        """
        losses, at_once = [], self._settings.people_at_once
        starts = range(0, len(self._people), at_once)
        total = len(starts) * self._settings.steps
        with tqdm(total=total, desc="textual inversion", unit="step", disable=not progress) as bar:
            for start in starts:
                losses.append(self._train(range(start, min(start + at_once, len(self._people))), bar))
        return torch.cat(losses, dim=1)

    def _train(self, places: range, bar: Any) -> Tensor:
        base, settings, scheduler = self._base, self._settings, self._base.scheduler
        latents = [encode_images(base, self._people[place].images) for place in places]
        optimizer = torch.optim.AdamW(
            [embedding.new for embedding in self._embeddings], lr=settings.lr, weight_decay=0.0
        )
        generator = torch.Generator().manual_seed(settings.seed)
        size, steps = settings.batch_size, int(scheduler.config.num_train_timesteps)
        losses = torch.empty(settings.steps, len(places))
        for step in range(settings.steps):
            chosen = torch.rand(size, generator=generator)  # (b,)
            timesteps = spread_timesteps(size, steps, generator)  # (b,)
            noise = torch.randn(size, *latents[0].shape[1:], generator=generator).to(base.device)
            template = _TEMPLATES[int(torch.randint(len(_TEMPLATES), (1,), generator=generator))]
            clean = torch.cat([own[(chosen * len(own)).long()] for own in latents])  # (P * b, C, h, w)
            prompts = [template.format(" ".join(self._tokens(place))) for place in places]
            error = self._errors(clean, noise, timesteps, prompts)  # (P,)
            losses[step] = error.detach().cpu()
            error.sum().backward()
            self._decay(places)
            optimizer.step()
            optimizer.zero_grad()
            bar.update()
        if not losses.isfinite().all():
            place = int((~losses.isfinite()).any(0).nonzero()[0])
            name = self._people[places[place]].identity
            raise DiffLoRAError(f"textual inversion: {name}: the loss is not finite; give a lower lr")
        return losses

    def _errors(self, clean: Tensor, noise: Tensor, timesteps: Tensor, prompts: list[str]) -> Tensor:
        """Each person's mean squared error, (P,)."""
        base, people = self._base, len(prompts)
        output = base.pipeline.encode_prompt(
            prompts, device=base.device, num_images_per_prompt=len(timesteps), do_classifier_free_guidance=False
        )
        dtype = next(base.unet.parameters()).dtype
        pooled = time_ids = None
        if base.is_xl:
            height, width = self._people[0].images.shape[-2:]
            sizes = torch.tensor([[height, width, 0, 0, height, width]], device=base.device, dtype=torch.float32)
            pooled, time_ids = output[2].to(dtype), sizes.expand(len(clean), 6)
        timesteps = timesteps.to(base.device).repeat(people)  # (P * b,)
        noise = noise.repeat(people, 1, 1, 1)  # (P * b, C, h, w)
        prompt = output[0].to(dtype)  # (P * b, L, W)
        errors = squared_errors(base, base.unet, clean, timesteps, noise, prompt, pooled, time_ids)
        return errors.reshape(people, -1).mean(1)

    @torch.no_grad()
    def _decay(self, places: range) -> None:
        """Weight decay of the words that are learnt now; AdamW's own would shrink everyone's."""
        count = self._settings.words
        here = slice(places.start * count, places.stop * count)
        for embedding in self._embeddings:
            embedding.new[here] *= 1 - self._settings.lr * self._settings.weight_decay

    def _tokens(self, place: int) -> list[str]:
        return [f"<person-{place}-{number}>" for number in range(self._settings.words)]

    def _teach(self, tokenizer: Any, encoder: nn.Module, opened: ExitStack) -> _WithNewWords:
        """Gives an encoder the new words, which start as the class word's; ``opened`` takes them away again."""
        part = next(module for module in encoder.modules() if isinstance(_own(module, "token_embedding"), nn.Embedding))
        known: nn.Embedding = part.token_embedding  # type: ignore[assignment]
        tokens = [token for place in range(len(self._people)) for token in self._tokens(place)]
        tokenizer.add_tokens([token for token in tokens if token not in tokenizer.get_added_vocab()])
        ids = tokenizer.convert_tokens_to_ids(tokens)
        if ids != list(range(ids[0], ids[0] + len(ids))) or ids[0] < known.num_embeddings:
            raise DiffLoRAError("textual inversion: the tokenizer has words that its text encoder does not know")
        with torch.no_grad():
            starts = []
            for person in self._people:
                word = tokenizer(person.class_word, add_special_tokens=False, return_tensors="pt").input_ids[0]
                starts += [known(word.to(known.weight.device)).mean(0)] * self._settings.words
        taught = _WithNewWords(known, torch.stack(starts).clone(), ids[0])
        part.token_embedding = taught
        opened.callback(setattr, part, "token_embedding", known)
        # An encoder with the old `eos_token_id` of 2 takes the largest id for the end of the text: a new word.
        for module in encoder.modules():
            if _own(module, "eos_token_id") == 2:
                opened.callback(setattr, module, "eos_token_id", 2)
                module.eos_token_id = tokenizer.eos_token_id
        return taught


def _own(module: nn.Module, name: str) -> Any:
    return getattr(module, name, None)

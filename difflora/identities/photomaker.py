"""PhotoMaker as a source of people (3.5, Fig. 5): candidates of a person drawn from reference pictures and prompts.

identities:
  source: difflora.identities.photomaker:PhotoMakerPeople
  options:
    base: models/sdxl
    photomaker: models/photomaker-v1.safetensors
    references: {source: "module:Class", options: {...}}
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from difflora.corpus.base import FrozenBase
from difflora.errors import BadParameter
from difflora.files import sha256_file
from difflora.identities.photographs.source import Photograph, PhotographSource, Portrait, photographs_behind
from difflora.identities.prompt_list import OWN, own_prompts, read_prompts
from difflora.identities.source import Candidates, load_source
from difflora.photomaker.drawing import PhotoMaker
from difflora.photomaker.file import PhotoMakerFile, file_digest
from difflora.photomaker.settings import DrawingSettings
from difflora.photomaker.trigger import TRIGGER
from difflora.prompts import for_person
from difflora.seeds import noise_seed
from difflora.validation import validated

_WHERE = "identities.options"


class ReferenceSettings(BaseModel):
    """Where reference pictures come from: any other source of people."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(description="module:Class of an image source; its people are the people")
    options: dict[str, Any] = {}
    pictures: int = Field(1, ge=1, description="reference pictures of each person")
    seed: int = Field(0, ge=0, lt=2**63, description="which pictures, where the source draws them")


class PhotoMakerOptions(BaseModel):
    """What ``identities.options`` holds for this source."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: Path = Field(description="folder of an SDXL pipeline")
    photomaker: Path = Field(description="PhotoMaker v1 as safetensors; `difflora weights convert` makes it")
    references: ReferenceSettings
    prompts: dict[str, Path] = Field(
        {}, description="class word -> a file of prompts; ours for woman and man where it is not named"
    )
    drawing: DrawingSettings = DrawingSettings()
    lcm_lora: Path | None = Field(None, description="a latent consistency LoRA for few steps, with the lcm sampler")
    device: str = Field("cpu", min_length=1, description="cpu, cuda, ...")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="of the UNet")

    @model_validator(mode="after")
    def _fits(self) -> PhotoMakerOptions:
        if self.lcm_lora is not None and self.drawing.sampler != "lcm":
            raise ValueError(f"lcm_lora is given with the {self.drawing.sampler} sampler: set drawing.sampler to lcm")
        return self


@dataclass(frozen=True)
class MadeCandidates:
    """Pictures of one person.

    Attributes:
        images: (M, 3, H, W) uint8, RGB.
        captions: M prompts with the class word in the person's place.
        class_word: man, woman.
    """

    images: Tensor
    captions: list[str]
    class_word: str


class PhotoMakerPeople:
    """People whose pictures PhotoMaker makes from reference pictures of each.

    The base model is loaded when the first picture is asked for, and is this source's own from then on.

    Args:
        **options: as ``PhotoMakerOptions`` has them.

    Raises:
        BadParameter: for an option that is unknown or out of its range; it is named.
        BadFile: if a file of prompts is bad.
    """

    def __init__(self, **options: Any) -> None:
        self._options = validated(PhotoMakerOptions, options, _WHERE)
        self._references = load_source(self._options.references.source, self._options.references.options)
        own = {word: [one.text for one in own_prompts(word)] for word in OWN}
        given = {word: [one.text for one in read_prompts(path)] for word, path in self._options.prompts.items()}
        self._prompts = own | given

    @property
    def settings(self) -> Mapping[str, Any]:
        """Everything that decides which pictures come out, files by their hashes."""
        options = self._options
        return {
            "kind": "photomaker",
            "base": self._base.weights,
            "precision": options.precision,
            "photomaker": file_digest(options.photomaker),
            "lcm_lora": sha256_file(options.lcm_lora) if options.lcm_lora else "",
            "references": {
                **options.references.model_dump(mode="json", include={"pictures", "seed"}),
                "source": dict(self._references.settings),
            },
            "prompts": {word: _digest(prompts) for word, prompts in sorted(self._prompts.items())},
            "drawing": options.drawing.model_dump(mode="json", exclude={"batch_size"}),
        }

    def ids(self, count: int) -> list[str]:
        """The first ``count`` people of the source of references."""
        return self._references.ids(count)

    def consent(self, identity: str) -> Mapping[str, Any]:
        """The record of the references: what is made of a person's pictures is the person's too."""
        return self._references.consent(identity)

    def over_photographs(self) -> PhotographSource | None:
        """The same people by their photographs, which are looked over before any is shown; None without any."""
        behind = photographs_behind(self._references)
        return None if behind is None else _OverPhotographs(self, behind)

    def candidates(self, identity: str, count: int, seed: int) -> MadeCandidates:
        """Draws a person ``count`` times, each prompt once before one comes again.

        The noise of a picture is a function of seed, person and prompt, whatever else is drawn.

        Raises:
            BadParameter: if there is no such person, or no prompts for the person's class word.
        """
        wanted = self._options.references
        return self.draw(identity, self._references.candidates(identity, wanted.pictures, wanted.seed), count, seed)

    def draw(self, identity: str, shown: Candidates, count: int, seed: int) -> MadeCandidates:
        """Draws a person from reference pictures at hand; see ``candidates``."""
        word = shown.class_word
        if word not in self._prompts:
            raise BadParameter(
                f"{identity}: is called {word!r}, and there are prompts for {', '.join(self._prompts)}; give a file "
                f"for it in {_WHERE}.prompts"
            )
        chosen = _choose(self._prompts[word], count, seed)
        prompts = [for_person(prompt, f"{word} {TRIGGER}") for prompt, _ in chosen]
        seeds = [noise_seed(seed, identity, prompt, str(again)) for prompt, again in chosen]
        person = self._maker.look([Image.fromarray(one.permute(1, 2, 0).numpy()) for one in shown.images])
        size = self._options.drawing.batch_size
        parts = [  # in batches, since 100 pictures of SDXL take 1.3 GB as floats
            self._maker.draw(person, prompts[start : start + size], seeds[start : start + size]).mul(255).round().byte()
            for start in range(0, count, size)
        ]
        return MadeCandidates(torch.cat(parts), [for_person(prompt, word) for prompt, _ in chosen], word)

    @property
    def references(self) -> ReferenceSettings:
        """Which reference pictures are taken."""
        return self._options.references

    @cached_property
    def _base(self) -> FrozenBase:
        options = self._options
        return FrozenBase.open(options.base, device=options.device, precision=options.precision)

    @cached_property
    def _maker(self) -> PhotoMaker:
        options = self._options
        file = PhotoMakerFile.open(options.photomaker)
        return PhotoMaker(self._base.pipeline, file, options.drawing, lcm_lora=options.lcm_lora).__enter__()


class _OverPhotographs:
    """PhotoMaker's people as a source that begins with photographs: the references are made of those that were seen."""

    def __init__(self, people: PhotoMakerPeople, references: PhotographSource) -> None:
        self._people, self._references = people, references

    @property
    def settings(self) -> Mapping[str, Any]:
        return self._people.settings

    def ids(self, count: int) -> list[str]:
        return self._people.ids(count)

    def consent(self, identity: str) -> Mapping[str, Any]:
        return self._people.consent(identity)

    def candidates(self, identity: str, count: int, seed: int) -> MadeCandidates:
        return self._people.candidates(identity, count, seed)

    def photographs(self, identity: str) -> Sequence[Photograph]:
        return self._references.photographs(identity)

    def make(self, identity: str, portraits: Sequence[Portrait], count: int, seed: int) -> MadeCandidates:
        wanted = self._people.references
        shown = self._references.make(identity, portraits, wanted.pictures, wanted.seed)
        return self._people.draw(identity, shown, count, seed)


def _choose(prompts: list[str], count: int, seed: int) -> list[tuple[str, int]]:
    """``count`` prompts in a random order, each with how often it came before."""
    generator = torch.Generator().manual_seed(seed)
    chosen: list[tuple[str, int]] = []
    while len(chosen) < count:
        again = len(chosen) // len(prompts)
        chosen += [(prompts[place], again) for place in torch.randperm(len(prompts), generator=generator).tolist()]
    return chosen[:count]


def _digest(prompts: list[str]) -> str:
    return hashlib.sha256("\n".join(prompts).encode()).hexdigest()

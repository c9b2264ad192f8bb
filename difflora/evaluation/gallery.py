"""Pictures that the evaluation keeps: ``METHOD/PERSON/NUMBER.png``, ``references/PERSON.jpg`` and ``index.json``.

The report's grids and the user study are made of them. Every method's picture of a scene has the same person, prompt
and noise; each method is at the strength that was chosen for it.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

from PIL import Image
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from difflora.errors import BadFile
from difflora.files import write_json
from difflora.folders import read_json, whole_folder
from difflora.validation import validated

if TYPE_CHECKING:
    from torch import Tensor

    from difflora.evaluation.ladder import Ladder
    from difflora.evaluation.settings import StoredPictures

INDEX = "index.json"


def _inside(name: str) -> str:
    parts = PurePosixPath(name).parts
    if not parts or parts[0] == "/" or ".." in parts or "\\" in name or "\0" in name:
        raise ValueError(f"{name!r} is no path inside the folder")
    return name


Inside = Annotated[str, AfterValidator(_inside)]
"""A path relative to a folder, which it does not leave."""


class GalleryPerson(BaseModel):
    """Someone who was drawn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    class_word: str = Field(description="man, woman")
    reference: Inside = Field(description="the picture that the methods saw")
    chosen: bool = Field(False, description="kept for what came out (a success or a failure), not for its place")


class Scene(BaseModel):
    """One person under one prompt, drawn from the same noise by every method."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    person: str
    prompt: str
    seed: int
    pictures: dict[str, Inside] = Field(min_length=1, description="method -> file")


class GalleryIndex(BaseModel):
    """``index.json``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    strength: dict[str, float] = {}
    people: dict[str, GalleryPerson]
    scenes: tuple[Scene, ...]


@dataclass(frozen=True)
class Gallery:
    """A folder of kept pictures.

    Attributes:
        folder: that ``index.json`` lies in.
        index: what it says.
    """

    folder: Path
    index: GalleryIndex

    @classmethod
    def open(cls, folder: Path) -> Gallery:
        """Reads the index; pictures are read when they are wanted.

        Raises:
            BadFile: if it is missing, damaged, or names a person whom it does not know.
            BadParameter: for a key or value that is not allowed; it is named.
        """
        if not folder.is_dir():
            raise BadFile(f"{folder}: no such folder; run `difflora stage evaluate`, which keeps its pictures there")
        place = folder / INDEX
        index = validated(GalleryIndex, read_json(place), str(place))
        for scene in index.scenes:
            if scene.person not in index.people:
                raise BadFile(f"{place}: a scene is of {scene.person!r}, who is not among its people; remake it")
        return cls(folder, index)

    def scenes_of(self, person: str, *, one_a_prompt: bool = False) -> list[Scene]:
        """A person's scenes, in order of the prompts.

        Args:
            person: the id.
            one_a_prompt: whether of several pictures of a prompt the first alone counts.
        """
        own = [scene for scene in self.index.scenes if scene.person == person]
        if not one_a_prompt:
            return own
        return [scene for place, scene in enumerate(own) if scene.prompt not in {one.prompt for one in own[:place]}]

    def path(self, name: str) -> Path:
        """Where a picture lies.

        Raises:
            BadFile: if it is not there.
        """
        place = self.folder / name
        if not place.is_file():
            raise BadFile(f"{place}: no such file, though {self.folder / INDEX} names it; run the evaluation again")
        return place


def shown_of(prompts: Sequence[str], settings: StoredPictures) -> int:
    """How many of a person's pictures are kept: all of the first prompts.

    Args:
        prompts: one a picture; several pictures of a prompt follow each other.
        settings: how many prompts.
    """
    first = set(list(dict.fromkeys(prompts))[: settings.prompts])
    return sum(prompt in first for prompt in prompts)


def reduced(pictures: Tensor, prompts: Sequence[str], settings: StoredPictures) -> Tensor:
    """What is kept of a method's pictures when they have been measured: those of the first prompts, not too large.

    Args:
        pictures: (P, K, 3, H, W) uint8.
        prompts: K of a person.
        settings: how many prompts, how large.

    Returns:
        (P, K', 3, H', W') uint8.
    """
    import torch

    some = pictures[:, : shown_of(prompts, settings)]  # (P, K', 3, H, W)
    if max(some.shape[-2:]) <= settings.side:
        return some.clone()
    small = torch.stack([_smaller(one, settings.side) for one in some.flatten(0, 1)])
    return small.view(*some.shape[:3], *small.shape[2:])


def keep_pictures(folder: Path, ladder: Ladder, settings: StoredPictures, chosen: Collection[str] = ()) -> None:
    """Writes the pictures of the first people, and of some who were chosen; an older folder is replaced as a whole.

    Args:
        folder: to write.
        ladder: what was drawn and is ``reduced``; ``real`` pictures were not drawn from any prompt and are left out.
        settings: how many people and prompts.
        chosen: ids of people to keep beside the first ones.
    """
    people, scenes = {}, []
    with whole_folder(folder) as new:
        for place, subject in enumerate(ladder.subjects):
            if place >= settings.people and subject.identity not in chosen:
                continue
            reference = f"references/{subject.identity}.jpg"
            _write(new / reference, subject.reference)
            people[subject.identity] = GalleryPerson(
                class_word=subject.class_word, reference=reference, chosen=place >= settings.people
            )
            for number in range(shown_of(subject.prompts, settings)):
                pictures = {}
                for method, measured in ladder.best.items():
                    if method == "real":
                        continue
                    pictures[method] = f"{method}/{subject.identity}/{number:03d}.png"
                    _write(new / pictures[method], _png(measured.pictures[place][number]))
                prompt, seed = subject.prompts[number], subject.seeds[number]
                scenes.append(Scene(person=subject.identity, prompt=prompt, seed=seed, pictures=pictures))
        index = GalleryIndex(strength=ladder.strengths, people=people, scenes=tuple(scenes))
        write_json(new / INDEX, index.model_dump())


def _write(path: Path, data: bytes) -> None:
    """Without a wait for the disk: the folder appears only once it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _smaller(picture: Tensor, side: int) -> Tensor:
    """A picture (3, H, W) uint8 of at most ``side`` pixels a side."""
    import numpy as np
    import torch

    image = _image(picture)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _image(picture: Tensor) -> Image.Image:
    return Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())  # (H, W, 3)


def _png(picture: Tensor) -> bytes:
    buffer = io.BytesIO()
    _image(picture).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()

"""People into a folder: candidates, filter, references apart, crop and flip, one person after the other (Fig. 5)."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from tqdm import tqdm

from difflora.corpus.people import PeopleFolder, PeopleWriter, Person
from difflora.corpus.splits import SplitSettings
from difflora.encoders.faces import InsightFaceEncoder
from difflora.errors import BadImage
from difflora.identities.augment import AugmentSettings, augment
from difflora.identities.filter import look, most_similar, pick
from difflora.identities.source import ImageSource

logger = logging.getLogger(__name__)


class IdentitySettings(BaseModel):
    """How a person's pictures are made and chosen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    candidates: int = Field(100, ge=1, description="pictures made of each person")
    keep: int = Field(85, ge=1, description="the most similar of them that are kept")
    references: int = Field(
        4, ge=0, description="of the kept ones, taken out of the LoRA's training to condition on and compare with"
    )
    seed: int = Field(0, ge=0, lt=2**63)
    augment: AugmentSettings = AugmentSettings()
    splits: SplitSettings = SplitSettings()

    @model_validator(mode="after")
    def _fits(self) -> IdentitySettings:
        if self.keep > self.candidates:
            raise ValueError(f"keep is {self.keep} of {self.candidates} candidates: keep fewer, or make more")
        if self.references >= self.keep:
            raise ValueError(f"references is {self.references} of {self.keep} kept pictures: leave some to learn from")
        return self


def person_seed(identity: str, seed: int) -> int:
    """A person's own seed, so that nobody's pictures depend on who else there is."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{identity}".encode()).digest()[:7], "big")


def make_person(
    source: ImageSource, encoder: InsightFaceEncoder, identity: str, settings: IdentitySettings
) -> tuple[Person, float]:
    """Makes, filters and augments one person's pictures.

    Args:
        source: makes the candidates.
        encoder: the face pack that filters; the same one as conditions and scores later, which flatters (the
            independent encoder of the evaluation does not).
        identity: the person's id.
        settings: how many, and how.

    Returns:
        The person, and the mean cosine of the kept pictures to their centre.

    Raises:
        BadImage: if too few candidates show a face.
    """
    seed = person_seed(identity, settings.seed)
    made = source.candidates(identity, settings.candidates, seed)
    return choose_pictures(encoder, identity, made.images, made.captions, made.class_word, settings, seed)


def choose_pictures(
    encoder: InsightFaceEncoder,
    identity: str,
    candidates: Tensor,
    all_captions: Sequence[str],
    class_word: str,
    settings: IdentitySettings,
    seed: int,
    *,
    fewer_will_do: bool = False,
) -> tuple[Person, float]:
    """Filters and augments one person's pictures, however they came to be.

    Args:
        encoder: the face pack.
        identity: the person's id.
        candidates: (M, 3, H, W) uint8, RGB.
        all_captions: M prompts.
        class_word: man, woman.
        settings: how many, and how.
        seed: draws which are shown and which are learnt from.
        fewer_will_do: whether all pictures with a face are kept where there are fewer than ``settings.keep``.

    Returns:
        The person, and the mean cosine of the kept pictures to their centre.

    Raises:
        BadImage: if too few show a face.
    """
    seen = look(encoder, candidates)
    keep = settings.keep
    if fewer_will_do:
        keep = max(settings.references + 1, min(keep, int(seen.found.sum())))
    kept, cosines = most_similar(seen.embeddings, seen.found, keep, identity)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(kept), generator=generator)
    shown = kept[order[: settings.references].sort().values]
    learnt = kept[order[settings.references :].sort().values]
    captions = pick(all_captions, learnt)
    images, captions = augment(candidates[learnt], captions, seen.boxes[learnt], settings.augment, generator)
    face = {
        "face": seen.embeddings[learnt].repeat(settings.augment.copies, 1),
        "references.face": seen.embeddings[shown],
    }
    person = Person(identity, class_word, images, captions, candidates[shown], pick(all_captions, shown), face)
    return person, float(cosines.mean())


def build_people(
    folder: str | Path,
    source: ImageSource,
    encoder: InsightFaceEncoder,
    settings: IdentitySettings,
    count: int,
    *,
    pack: str = "",
    skip_unusable: bool = False,
    progress: bool = True,
) -> PeopleFolder:
    """Makes ``count`` people, going on from those who are there.

    Args:
        folder: made if missing.
        source: where pictures come from.
        encoder: the face pack.
        settings: how they are made.
        count: how many people, in the source's order.
        pack: what the face pack is called; people chosen by another one never join them.
        skip_unusable: whether a person with too few faces is listed and passed over, instead of an error.
        progress: whether to show a bar with the time left.

    Returns:
        The folder, ready to read.

    Raises:
        BadImage: if a person is unusable and ``skip_unusable`` is off; the person is named.
        BadParameter: if the folder was begun with other settings, or the source has fewer people.
        BadFile: if the folder is damaged.
    """
    ids = source.ids(count)
    whole = {**settings.model_dump(mode="json", exclude={"splits"}), "source": dict(source.settings), "pack": pack}
    with PeopleWriter(folder, whole, settings.splits) as writer:
        missing = [identity for identity in ids if identity not in writer.done]
        for identity in tqdm(missing, desc="people", unit="person", disable=not progress):
            try:
                person, similarity = make_person(source, encoder, identity, settings)
            except BadImage as error:
                if not skip_unusable:
                    raise
                logger.warning("skipped %s", error)
                writer.skip(identity, str(error))
                continue
            writer.add(person, similarity=round(similarity, 4))
        writer.finish()
    return PeopleFolder(folder)

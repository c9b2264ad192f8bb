"""People into a folder: candidates, filter, references apart, crop and flip, one person after the other (Fig. 5)."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor
from tqdm import tqdm

from difflora.corpus.people import SEEN, PeopleFolder, PeopleWriter, Person
from difflora.corpus.splits import SplitSettings
from difflora.encoders.subject import SubjectEncoder
from difflora.errors import BadImage, BadParameter
from difflora.identities.augment import AugmentSettings, augment
from difflora.identities.consent import Consent
from difflora.identities.filter import in_order, look, most_similar, pick
from difflora.identities.known import known_people
from difflora.identities.photographs.source import photographs_behind
from difflora.identities.screen import ScreenedSource, screen
from difflora.identities.screen_settings import ScreenSettings
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
    in_order: bool = Field(
        False,
        description="learn from the first pictures, show the last, and crop and mirror everyone's alike, so that "
        "people whom the source puts into the same scenes get LoRAs that differ by the person; off draws at random",
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
    source: ImageSource, encoder: SubjectEncoder, identity: str, settings: IdentitySettings
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
    return choose_pictures(
        encoder,
        identity,
        made.images,
        made.captions,
        made.class_word,
        settings,
        seed,
        fewer_will_do=isinstance(source, ScreenedSource) and len(made.images) < settings.candidates,
    )


def choose_pictures(
    encoder: SubjectEncoder,
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
        least, there = settings.references + 1, int(seen.found.sum())
        if there < least:
            raise BadImage(
                f"{identity}: {there} pictures show a face, but {least} are needed, {settings.references} to show and "
                "one to learn from; add pictures, ask for fewer references, or take a source that makes pictures from "
                "portraits"
            )
        keep = min(keep, there)
    kept, cosines = most_similar(seen.embeddings, seen.found, keep, identity)
    generator = torch.Generator()
    if settings.in_order:
        generator.manual_seed(settings.seed)
        learnt, shown = in_order(kept, len(kept) - settings.references)
    else:
        generator.manual_seed(seed)
        order = torch.randperm(len(kept), generator=generator)
        shown = kept[order[: settings.references].sort().values]
        learnt = kept[order[settings.references :].sort().values]
    captions = pick(all_captions, learnt)
    images, captions, boxes, landmarks = augment(
        candidates[learnt], captions, seen.boxes[learnt], seen.landmarks[learnt], settings.augment, generator
    )
    face = {
        "face": seen.embeddings[learnt].repeat(settings.augment.copies, 1),
        "references.face": seen.embeddings[shown],
    }
    person = Person(
        identity,
        class_word,
        images,
        captions,
        candidates[shown],
        pick(all_captions, shown),
        boxes,
        face,
        landmarks,
    )
    return person, float(cosines.mean())


def build_people(
    folder: str | Path,
    source: ImageSource,
    encoder: SubjectEncoder,
    settings: IdentitySettings,
    count: int,
    *,
    pack: str = "",
    screening: ScreenSettings | None = None,
    skip_unusable: bool = False,
    forgotten: Callable[[str], bool] = lambda identity: False,
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
        screening: what is asked of photographs, where the source begins with some, and what becomes of repeats;
            None for the defaults.
        skip_unusable: whether an unusable photograph, or a person with too few faces, is listed and passed over,
            instead of an error.
        forgotten: tells ids that are never to come back.
        progress: whether to show a bar with the time left.

    Returns:
        The folder, ready to read.

    Raises:
        BadImage: if a person is unusable and ``skip_unusable`` is off, or people are repeated and that is refused; the
            person or the files are named.
        BadParameter: if the folder was begun with other settings, the source has fewer people, or it gives somebody
            without a consent record.
        BadFile: if the folder is damaged.
    """
    ids = source.ids(count)
    whole = {**settings.model_dump(mode="json", exclude={"splits"}), "source": dict(source.settings), "pack": pack}
    photographs = photographs_behind(source)
    with PeopleWriter(folder, whole, settings.splits) as writer:
        missing = [identity for identity in ids if identity not in writer.done and not forgotten(identity)]
        records = {identity: _consent(source, identity) for identity in missing}
        facts, passed_over = dict[str, dict[str, Any]](), dict[str, dict[str, str]]()
        seen = Path(folder) / SEEN
        if photographs is not None and missing:
            known = known_people(Path(folder), encoder.dimension)
            source = screen(
                photographs,
                missing,
                encoder,
                screening or ScreenSettings(),
                known,
                seen,
                call=ids,
                skip_unusable=skip_unusable,
                progress=progress,
            )
            facts, passed_over = source.plan.facts, source.plan.passed_over
        for identity in tqdm(missing, desc="people", unit="person", disable=not progress):
            if identity in passed_over:
                writer.skip(identity, passed_over[identity]["skipped"], **_but(passed_over[identity], "skipped"))
                continue
            try:
                person, similarity = make_person(source, encoder, identity, settings)
            except BadImage as error:
                if not skip_unusable:
                    raise
                logger.warning("skipped %s", error)
                writer.skip(identity, str(error))
                continue
            more = dict(facts.get(identity, {}))
            if "merged" in more:
                more["merged"] = {other: records[other] for other in more["merged"]}
            writer.add(person, similarity=round(similarity, 4), consent=records[identity], **more)
        writer.finish()
        shutil.rmtree(seen, ignore_errors=True)
    return PeopleFolder(folder)


def _consent(source: ImageSource, identity: str) -> dict[str, str]:
    """A person's record.

    Raises:
        BadParameter: if the source gives none that is whole.
    """
    try:
        return Consent.model_validate(dict(source.consent(identity))).facts
    except ValidationError as error:
        first = error.errors()[0]
        raise BadParameter(
            f"source: gives no good consent record of {identity}: {'.'.join(map(str, first['loc']))}: {first['msg']}; "
            "without source, licence and date no picture is used"
        ) from error


def _but(facts: dict[str, str], key: str) -> dict[str, str]:
    return {name: value for name, value in facts.items() if name != key}

"""The corpus's long loop: people in batches, a LoRA for each, rows on the disk before the next batch."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from difflora.corpus.base import FrozenBase
from difflora.corpus.class_pictures import ClassPictures
from difflora.corpus.dreambooth import Compile, Trainer
from difflora.corpus.framing import framed_size
from difflora.corpus.latents import Encoded, encode_first
from difflora.corpus.parts import Parts, TrainedBatch
from difflora.corpus.people import PeopleFolder
from difflora.corpus.settings import DreamBoothSettings
from difflora.corpus.writer import CorpusWriter, NewRow
from difflora.errors import BadParameter
from difflora.lora import LoraLayout

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BuildReport:
    """What a call did.

    Attributes:
        trained: rows added.
        there: rows that were there before.
        failed: people whose training failed now -> why.
        seconds: wall time of encoding, training and writing.
        train_seconds: of encoding and training the rows that were added, wherever that was done.
    """

    trained: int
    there: int
    failed: dict[str, str]
    seconds: float
    train_seconds: float = 0.0

    @property
    def per_minute(self) -> float:
        """LoRAs a minute."""
        return 60 * self.trained / self.seconds if self.seconds else 0.0


def corpus_settings(base: FrozenBase, people: PeopleFolder, settings: DreamBoothSettings) -> dict[str, Any]:
    """Everything beside the layout that decides what a row is; a corpus is never continued with anything else.

    How many people are trained at once, and what else changes a row by rounding alone, is left out.
    """
    return {
        "base": base.name.model_dump(),
        "weights": base.weights,
        "dreambooth": settings.deciding,
        "people": people.settings,
    }


def build_corpus(
    folder: str | Path,
    people: PeopleFolder,
    base: FrozenBase,
    settings: DreamBoothSettings,
    *,
    people_at_once: int = 16,
    count: int | None = None,
    train_people: int | None = None,
    dtype: Literal["fp16", "fp32"] = "fp16",
    rows_per_shard: int = 64,
    compile: Compile = False,
    parts: str | Path | None = None,
    class_pictures: str | Path | None = None,
    progress: bool = True,
) -> BuildReport:
    """Trains a LoRA of each person who has none yet, and adds it to the corpus.

    Batches are cut from the whole list of people, so that a person is always trained in the same company: a build
    that was killed and called again leaves the bytes of one that ran through.

    Args:
        folder: the corpus; made if missing, continued otherwise.
        people: whom to train.
        base: the frozen base model, in ``settings.precision``.
        settings: how to train.
        people_at_once: people in a batch.
        count: the first so many people; None for all.
        train_people: of them the first so many of the split train, everyone of the others, and everyone who came in
            through the drop folder; None for all.
        dtype: of the rows on disk.
        rows_per_shard: rows of a file.
        compile: whether the UNet is compiled; worth its minute from some hundred people on.
        parts: a folder of batches that ``train_batches`` trained elsewhere; they are taken as they are.
        class_pictures: a folder that keeps what prior preservation draws; None to draw it in each call.
        progress: whether to show a bar with the time left.

    Returns:
        What was done.

    Raises:
        BadParameter: if a number is out of range, there is nobody, or the corpus was begun with other settings.
        BadFile: if people or corpus are damaged.
    """
    batches = batches_of(people, people_at_once, count, train_people)
    layout = LoraLayout.from_unet(base.unet, settings.targets, settings.rank)
    started, failed, spent = time.monotonic(), dict[str, str](), 0.0
    whole = corpus_settings(base, people, settings)
    with ExitStack() as opened:
        writer = opened.enter_context(CorpusWriter(folder, layout, whole, dtype=dtype, rows_per_shard=rows_per_shard))
        there, size = len(writer), len(batches[0])
        left = [[identity for identity in batch if identity not in writer.done] for batch in batches]
        encoder = _Encoder(people, base, settings, class_pictures)
        touched = [batch for batch, missing in zip(batches, left, strict=True) if missing]
        encoder.draw_classes([identity for batch in touched for identity in batch], progress)
        ready = None if parts is None else Parts(Path(parts), {**whole, "layout": layout.to_json()})
        trainer = opened.enter_context(Trainer(base, layout, settings, compile=compile))
        with tqdm(total=sum(map(len, left)), desc="corpus", unit="LoRA", disable=not progress) as bar:
            for batch, missing in zip(batches, left, strict=True):
                if missing:
                    made = ready.load(batch) if ready else None
                    made = made or _train_batch(trainer, batch, encoder, size if compile else 0)
                    before = len(writer)
                    failed |= _add(writer, made)
                    spent += (len(writer) - before) * made.seconds_each
                    bar.update(len(missing))
        writer.finish()
        return BuildReport(len(writer) - there, there, failed, time.monotonic() - started, spent)


def batches_of(
    people: PeopleFolder, people_at_once: int, count: int | None = None, train_people: int | None = None
) -> list[list[str]]:
    """Who is trained with whom, the same on every machine; see ``build_corpus``.

    Raises:
        BadParameter: if a number is out of range, or there is nobody.
    """
    for name, number in (("people_at_once", people_at_once), ("count", count), ("train_people", train_people)):
        if number is not None and number < 1:
            raise BadParameter(f"{name} is {number}: give at least 1")
    ids = people.ids[:count]
    if train_people is not None:
        collected = [one for one in ids if people.line(one)["split"] == "train" and not people.came_in(one)]
        left_out = set(collected[train_people:])
        ids = [identity for identity in ids if identity not in left_out]
    if not ids:
        raise BadParameter(f"{people.folder}: has nobody; make people first")
    size = min(people_at_once, len(ids))
    return [ids[start : start + size] for start in range(0, len(ids), size)]


def train_batches(
    parts: str | Path,
    batches: Sequence[Sequence[str]],
    people: PeopleFolder,
    base: FrozenBase,
    settings: DreamBoothSettings,
    *,
    class_pictures: str | Path | None = None,
    progress: bool = True,
) -> int:
    """Trains some of the batches into files of their own, for a build to take; those that are there are left.

    Args:
        parts: the folder.
        batches: of ``batches_of``.
        people: whom to train.
        base: the frozen base model, in ``settings.precision``.
        settings: how to train.
        class_pictures: see ``build_corpus``.
        progress: whether to show a bar with the time left.

    Returns:
        How many batches were trained now.

    Raises:
        BadFile: if people are damaged.
    """
    layout = LoraLayout.from_unet(base.unet, settings.targets, settings.rank)
    folder = Parts(Path(parts), {**corpus_settings(base, people, settings), "layout": layout.to_json()})
    missing = [batch for batch in batches if folder.load(batch) is None]
    encoder = _Encoder(people, base, settings, class_pictures)
    encoder.draw_classes([identity for batch in missing for identity in batch], progress)
    with Trainer(base, layout, settings) as trainer:
        for batch in tqdm(missing, desc="corpus", unit="batch", disable=not progress):
            folder.save(batch, _train_batch(trainer, batch, encoder, 0))
    return len(missing)


class _Encoder:
    """People of a folder as their LoRAs learn from them.

    Args:
        people: the folder.
        base: the frozen base model.
        settings: how many pictures, and how they are framed.
        class_pictures: folder of the classes' pictures.
    """

    def __init__(
        self, people: PeopleFolder, base: FrozenBase, settings: DreamBoothSettings, class_pictures: str | Path | None
    ) -> None:
        self.people, self.settings = people, settings
        self._base = base
        self._classes = ClassPictures(None if class_pictures is None else Path(class_pictures), base, settings)

    def draw_classes(self, identities: Sequence[str], progress: bool) -> None:
        """Draws what prior preservation wants for these people, while the base is still free of LoRAs."""
        if self.settings.prior_preservation is not None:
            for identity in identities:
                size = framed_size(self.people.size(identity), self.settings)
                self._classes.of(str(self.people.line(identity)["class_word"]), size, progress=progress)

    def __call__(self, identity: str) -> Encoded:
        """A person's pictures and, with prior preservation, those of the class."""
        person = self.people.person(identity)
        encoded = encode_first(self._base, person, self.settings.images, self.settings)
        return replace(encoded, prior=self._classes.of(person.class_word, encoded.size))


def _train_batch(trainer: Trainer, batch: Sequence[str], encoder: _Encoder, least: int) -> TrainedBatch:
    """Trains a whole batch.

    A batch of fewer than ``least`` is filled up by its first person: compiled code is for one size.
    """
    started, people, settings = time.monotonic(), encoder.people, encoder.settings
    encoded = [encoder(identity) for identity in batch]
    trained = trainer.train(encoded + encoded[:1] * (least - len(encoded)))
    rows, failed = [], {}
    for place, identity in enumerate(batch):
        if place in trained.failed:
            failed[identity] = trained.failed[place]
            continue
        line = people.line(identity)
        loss = float(trained.final_loss[place])
        flat, images = trained.flat[place], len(encoded[place])
        consent = line.get("consent")
        rows.append(NewRow(identity, line["split"], line["class_word"], flat, settings.seed, images, loss, consent))
    return TrainedBatch(rows, failed, time.monotonic() - started)


def _add(writer: CorpusWriter, made: TrainedBatch) -> dict[str, str]:
    """Adds whoever of a batch is missing; gives those who failed."""
    failed = {identity: reason for identity, reason in made.failed.items() if identity not in writer.done}
    for identity in writer.append([row for row in made.rows if row.identity not in writer.done]):
        failed[identity] = f"{identity}: its weights do not fit the corpus's type; give a lower lr, or fp32 rows"
    for identity, reason in failed.items():
        logger.warning("no LoRA of %s", reason)
        writer.fail(identity, reason)
    return failed

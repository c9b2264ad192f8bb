"""The corpus's long loop: people in batches, a LoRA for each, rows on the disk before the next batch."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from difflora.corpus.base import FrozenBase
from difflora.corpus.dreambooth import Trainer
from difflora.corpus.latents import encode_person
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
    """

    trained: int
    there: int
    failed: dict[str, str]
    seconds: float

    @property
    def per_minute(self) -> float:
        """LoRAs a minute."""
        return 60 * self.trained / self.seconds if self.seconds else 0.0


def corpus_settings(base: FrozenBase, people: PeopleFolder, settings: DreamBoothSettings) -> dict[str, Any]:
    """Everything beside the layout that decides what a row is; a corpus is never continued with anything else.

    How many people are trained at once is left out: it changes a row by rounding alone.
    """
    return {
        "base": base.name.model_dump(),
        "weights": base.weights,
        "dreambooth": settings.model_dump(mode="json"),
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
    compile: bool = False,
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
        train_people: of them the first so many of the split train, and everyone of the others; None for all.
        dtype: of the rows on disk.
        rows_per_shard: rows of a file.
        compile: whether the UNet is compiled; worth its minute from some hundred people on.
        progress: whether to show a bar with the time left.

    Returns:
        What was done.

    Raises:
        BadParameter: if a number is out of range, there is nobody, or the corpus was begun with other settings.
        BadFile: if people or corpus are damaged.
    """
    for name, number in (("people_at_once", people_at_once), ("count", count), ("train_people", train_people)):
        if number is not None and number < 1:
            raise BadParameter(f"{name} is {number}: give at least 1")
    ids = people.ids[:count]
    if train_people is not None:
        trained = set([identity for identity in ids if people.line(identity)["split"] == "train"][:train_people])
        ids = [identity for identity in ids if people.line(identity)["split"] != "train" or identity in trained]
    if not ids:
        raise BadParameter(f"{people.folder}: has nobody; make people first")
    layout = LoraLayout.from_unet(base.unet, settings.targets, settings.rank)
    started, failed = time.monotonic(), dict[str, str]()
    whole = corpus_settings(base, people, settings)
    with (
        CorpusWriter(folder, layout, whole, dtype=dtype, rows_per_shard=rows_per_shard) as writer,
        Trainer(base, layout, settings, compile=compile) as trainer,
    ):
        there = len(writer)
        size = min(people_at_once, len(ids))
        batches = [ids[start : start + size] for start in range(0, len(ids), size)]
        left = sum(identity not in writer.done for identity in ids)
        with tqdm(total=left, desc="corpus", unit="LoRA", disable=not progress) as bar:
            for batch in batches:
                missing = [identity for identity in batch if identity not in writer.done]
                if missing:
                    failed |= _train_batch(writer, trainer, batch, people, base, settings, size if compile else 0)
                    bar.update(len(missing))
        writer.finish()
        return BuildReport(len(writer) - there, there, failed, time.monotonic() - started)


def _train_batch(
    writer: CorpusWriter,
    trainer: Trainer,
    batch: Sequence[str],
    people: PeopleFolder,
    base: FrozenBase,
    settings: DreamBoothSettings,
    least: int,
) -> dict[str, str]:
    """Trains a whole batch and adds whoever of it is missing; gives those who failed.

    A batch of fewer than ``least`` is filled up by its first person: compiled code is for one size.
    """
    encoded = []
    for identity in batch:
        person = people.person(identity)
        most = settings.images
        encoded.append(encode_person(base, identity, person.images[:most], person.captions[:most]))
    trained = trainer.train(encoded + encoded[:1] * (least - len(encoded)))
    rows, failed = [], {}
    for place, identity in enumerate(batch):
        if identity in writer.done:
            continue
        if place in trained.failed:
            failed[identity] = trained.failed[place]
            continue
        line = people.line(identity)
        loss = float(trained.final_loss[place])
        flat, images = trained.flat[place], len(encoded[place])
        rows.append(NewRow(identity, line["split"], line["class_word"], flat, settings.seed, images, loss))
    for identity in writer.append(rows):
        failed[identity] = f"{identity}: its weights do not fit the corpus's type; give a lower lr, or fp32 rows"
    for identity, reason in failed.items():
        logger.warning("no LoRA of %s", reason)
        writer.fail(identity, reason)
    return failed

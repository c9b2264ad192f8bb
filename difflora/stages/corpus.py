"""Step ``corpus``: a DreamBooth LoRA of everyone (paper, 3.5)."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from typing import Any

from difflora.corpus.allocator import keep_freed_memory
from difflora.corpus.build import BuildReport, batches_of, build_corpus, train_batches
from difflora.corpus.forgotten import Roster
from difflora.corpus.lines import read_lines
from difflora.corpus.reader import FAILURES, INDEX, Corpus
from difflora.corpus.stats import corpus_stats
from difflora.errors import BadParameter
from difflora.files import write_json
from difflora.folders import read_json
from difflora.stages.forget import finish_forgetting
from difflora.stages.tracking import SILENT, Tracker
from difflora.stages.workspace import Workspace

logger = logging.getLogger(__name__)


def run(workspace: Workspace, tracker: Tracker = SILENT) -> None:
    """Trains the LoRAs that are missing; those that are there stay byte for byte.

    Writes ``data/corpus`` and ``reports/corpus.json``, which keeps the seconds of the LoRAs that were there.
    """
    chosen = workspace.params.corpus
    keep_freed_memory()
    finish_forgetting(workspace)
    report = build_corpus(
        workspace.corpus,
        workspace.open_people(),
        workspace.open_base(),
        chosen.dreambooth,
        people_at_once=chosen.people_at_once,
        train_people=chosen.train_people,
        dtype=chosen.dtype,
        rows_per_shard=chosen.rows_per_shard,
        compile=chosen.compile,
        parts=workspace.parts if workspace.parts.is_dir() else None,
        class_pictures=workspace.class_pictures,
    )
    shutil.rmtree(workspace.parts, ignore_errors=True)
    logger.info("%d LoRAs trained, %.1f a minute", report.trained, report.per_minute)
    figures = corpus_stats(Corpus.open(workspace.corpus)) | _train_seconds(workspace, report)
    write_json(workspace.report("corpus.json"), figures)
    tracker.metrics({**figures, "trained": report.trained, "per_minute": report.per_minute})
    tracker.artifact(workspace.report("corpus.json"))


def _train_seconds(workspace: Workspace, report: BuildReport) -> dict[str, Any]:
    """``train_seconds``: how many LoRAs were timed, in this call and those before, and the seconds of each.

    Times differ between machines and calls, so they are kept beside the corpus and not in it: the same people and
    settings give the same bytes there.
    """
    place = workspace.report("corpus.json")
    before = read_json(place).get("train_seconds") if place.exists() else None
    loras, each = (before["loras"], before["each"]) if isinstance(before, dict) else (0, 0.0)
    if not loras + report.trained:
        return {}
    total = loras * each + report.train_seconds
    return {"train_seconds": {"loras": loras + report.trained, "each": round(total / (loras + report.trained), 4)}}


def missing_batches(workspace: Workspace) -> list[int]:
    """Numbers of the batches that have people without a LoRA.

    Raises:
        BadFile: if people or index are damaged, or there are no people yet.
    """
    done = Roster([line for name in (INDEX, FAILURES) for line in read_lines(workspace.corpus / name)])
    batches = _batches(workspace)
    return [number for number, batch in enumerate(batches) if not all(one in done for one in batch)]


def train_some(workspace: Workspace, numbers: Sequence[int]) -> int:
    """Trains some batches into ``data/parts``, on any machine that sees the workspace; gives how many it trained.

    Raises:
        BadParameter: if there is no such batch.
        BadFile: if people are damaged, or there are none yet.
    """
    chosen, batches = workspace.params.corpus, _batches(workspace)
    if unknown := [number for number in numbers if not 0 <= number < len(batches)]:
        raise BadParameter(f"batches: there is no {unknown[0]}; give numbers from 0 to {len(batches) - 1}")
    keep_freed_memory()
    wanted = [batches[number] for number in numbers]
    return train_batches(
        workspace.parts,
        wanted,
        workspace.open_people(),
        workspace.open_base(),
        chosen.dreambooth,
        class_pictures=workspace.class_pictures,
    )


def _batches(workspace: Workspace) -> list[list[str]]:
    chosen = workspace.params.corpus
    return batches_of(workspace.open_people(), chosen.people_at_once, train_people=chosen.train_people)

"""Step ``corpus``: a DreamBooth LoRA of everyone (paper, 3.5)."""

from __future__ import annotations

import logging

from difflora.corpus.allocator import keep_freed_memory
from difflora.corpus.build import build_corpus
from difflora.corpus.reader import Corpus
from difflora.corpus.stats import corpus_stats
from difflora.files import write_json
from difflora.stages.workspace import Workspace

logger = logging.getLogger(__name__)


def run(workspace: Workspace) -> None:
    """Trains the LoRAs that are missing; those that are there stay byte for byte.

    Writes ``data/corpus`` and ``reports/corpus.json``.
    """
    chosen = workspace.params.corpus
    keep_freed_memory()
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
    )
    logger.info("%d LoRAs trained, %.1f a minute", report.trained, report.per_minute)
    write_json(workspace.report("corpus.json"), corpus_stats(Corpus.open(workspace.corpus)))

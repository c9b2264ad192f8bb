"""Batches trained elsewhere: each a file of its own that a build takes instead of training them again.

Batches are independent and the same on every machine, so they may be trained anywhere and in any order; one build then
joins them, and the corpus comes out as if it had trained them all itself.

    parts/DIGEST.safetensors      rows (P, D) float32 of the batch of that digest: settings, layout and people
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from difflora.corpus.header import settings_digest
from difflora.corpus.shards import row_sha256
from difflora.corpus.writer import NewRow
from difflora.errors import BadFile
from difflora.files import save_safetensors

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedBatch:
    """What came out of a batch.

    Attributes:
        rows: of those whose training went well, (D,) each.
        failed: identity -> why there is none.
        seconds: that encoding and training took, all people together.
    """

    rows: list[NewRow]
    failed: dict[str, str]
    seconds: float = 0.0

    @property
    def seconds_each(self) -> float:
        """A person's share."""
        return self.seconds / max(1, len(self.rows) + len(self.failed))


@dataclass(frozen=True)
class Parts:
    """A folder of batches of one corpus.

    Attributes:
        folder: where they lie.
        settings: everything that decides a row, the layout among it.
    """

    folder: Path
    settings: dict[str, Any]

    def path(self, batch: Sequence[str]) -> Path:
        """The file of a batch of people."""
        digest = settings_digest([self.settings, list(batch)])
        return self.folder / f"{digest[:32]}.safetensors"

    def save(self, batch: Sequence[str], trained: TrainedBatch) -> None:
        """Writes a batch, whole or not at all."""
        rows = torch.stack([row.flat.float() for row in trained.rows]) if trained.rows else torch.zeros(0, 0)
        facts = [{k: v for k, v in asdict(row).items() if k != "flat"} for row in trained.rows]
        words = {"rows": facts, "failed": trained.failed, "sha256": _sha256(rows), "seconds": trained.seconds}
        save_safetensors(self.path(batch), {"rows": rows}, {"batch": json.dumps(words)})

    def load(self, batch: Sequence[str]) -> TrainedBatch | None:
        """Reads a batch; None where it is not there, or not as it was written, so that it is trained again."""
        path = self.path(batch)
        if not path.exists():
            return None
        try:
            return self._read(path)
        except BadFile as error:
            logger.warning("%s; its people are trained again", error)
            return None

    def _read(self, path: Path) -> TrainedBatch:
        try:
            with safe_open(path, framework="pt") as file:
                words = json.loads(file.metadata()["batch"])
                rows = file.get_tensor("rows")  # (P, D)
            if _sha256(rows) != words["sha256"]:
                raise BadFile(f"{path}: was changed (its sha256 differs)")
            found = [NewRow(**facts, flat=row) for facts, row in zip(words["rows"], rows, strict=True)]
            return TrainedBatch(found, dict(words["failed"]), float(words.get("seconds", 0.0)))
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise BadFile(f"{path}: holds no batch ({error})") from error


def people_of_part(path: Path) -> list[str]:
    """Who is in a batch's file, without reading the rows.

    Raises:
        BadFile: if it holds no batch.
    """
    try:
        with safe_open(path, framework="pt") as file:
            words = json.loads(file.metadata()["batch"])
        return [str(row["identity"]) for row in words["rows"]] + list(words["failed"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise BadFile(f"{path}: holds no batch ({error})") from error


def _sha256(rows: torch.Tensor) -> str:
    return row_sha256(rows.contiguous().numpy().tobytes()) if rows.numel() else hashlib.sha256().hexdigest()

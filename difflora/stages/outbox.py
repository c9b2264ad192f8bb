"""What is to be sent to MLflow: kept until it was, in order."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

Event = Sequence[Any]
"""Plain values: ``metric, key, value, milliseconds, step``; ``param, key, value``; ``tag, key, value``;
``artifact, path, folder``; ``end, status``."""

_MOST, _PAUSE = 500, 30.0


class Outbox:
    """Sends events of a run; after a failure it waits half a minute before it tries again.

    Args:
        client: of the store.
        run_id: of the run.

    Attributes:
        run_id: of the run.
        events: not sent yet.
    """

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._client, self.run_id = client, run_id
        self.events: list[list[Any]] = []
        self._not_before = 0.0

    def add(self, *events: Event) -> None:
        """Takes events, and sends what it can."""
        self.events += [list(event) for event in events]
        self.send()

    def send(self, *, at_once: bool = False) -> bool:
        """Sends what waits, the oldest first; gives whether all of it was sent.

        Args:
            at_once: whether to try though a try has just failed.
        """
        if not at_once and time.monotonic() < self._not_before:
            return False
        try:
            while self.events:
                self._send_some()
        except Exception as error:  # whatever the store's fault is, the work must not suffer from it
            if not self._not_before:
                logger.warning("MLflow cannot be told now, which is tried again later: %s", str(error).split("\n")[0])
            self._not_before = time.monotonic() + _PAUSE
            return False
        self._not_before = 0.0
        return True

    def _send_some(self) -> None:
        kind = self.events[0][0]
        if kind == "artifact":
            _, path, folder = self.events[0]
            if Path(path).is_dir():
                self._client.log_artifacts(self.run_id, path, folder or None)
            elif Path(path).exists():
                self._client.log_artifact(self.run_id, path, folder or None)
            del self.events[0]
            return
        if kind == "end":
            self._client.set_terminated(self.run_id, self.events[0][1])
            del self.events[0]
            return
        from mlflow.entities import Metric, Param, RunTag

        count = 0
        while count < min(len(self.events), _MOST if kind == "metric" else 90) and self.events[count][0] == kind:
            count += 1
        batch = [event[1:] for event in self.events[:count]]
        if kind == "metric":
            self._client.log_batch(self.run_id, metrics=[Metric(*values) for values in batch])
        elif kind == "param":
            self._client.log_batch(self.run_id, params=[Param(*values) for values in batch])
        else:
            self._client.log_batch(self.run_id, tags=[RunTag(*values) for values in batch])
        del self.events[:count]

"""``difflora/promote``: the gate alone, for a candidate that is there."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from flows import tasks
from flows.full import GATE
from flows.report import publish


@flow(name="difflora", flow_run_name="promote")
def promote(root: Path = Path(), version: str | None = None, gate: Path = GATE, force: bool = False) -> str:
    """Makes a candidate the champion, if the gate allows it.

    Args:
        root: The workspace: the repository's folder, with dvc.yaml and params.yaml.
        version: Of difflora-candidates; the newest when left out.
        gate: The gate's file, beside params.yaml.
        force: Pass the gate by; hashes are compared all the same.

    Returns:
        What the artifact says.
    """
    place = tasks.workspace(root)
    if (place / "data" / "corpus").is_dir():
        tasks.measure_champion(place)
    decision = tasks.promote(place, version, gate, force)
    return publish(place, "Promotion", [], decision=decision, key="difflora-promote")

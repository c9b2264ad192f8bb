"""``difflora/full``: the whole chain, then the gate."""

from __future__ import annotations

from pathlib import Path

from prefect import flow

from difflora.stages.run import STAGES
from flows import tasks
from flows.report import publish

GATE = Path("mlflow/gate.yaml")


@flow(name="difflora", flow_run_name="full", log_prints=False)
def full(root: Path = Path(), push: bool = False, promote: bool = True, gate: Path = GATE) -> str:
    """Walks the chain with DVC and asks the gate whether its model becomes the champion.

    Args:
        root: The workspace: the repository's folder, with dvc.yaml and params.yaml.
        push: Send what is new to DVC's remote at the end.
        promote: Ask the gate, and promote the candidate if it agrees.
        gate: The gate's file, beside params.yaml.

    Returns:
        What the artifact says.
    """
    place = tasks.workspace(root)
    parent = tasks.begin(place, "full")
    failed = True
    try:
        done = [tasks.repro(stage, place, parent) for stage in STAGES]
        words, decision = [_said(done)], None
        if promote and parent is not None:
            tasks.measure_champion(place)
            decision = tasks.promote(place, None, gate, False)
        elif parent is not None:
            words.append(f"Registered: {tasks.candidate(place) or 'not as a candidate'}; the gate was not asked.")
        if push:
            words.append(f"DVC: {tasks.push(place)}")
        failed = False
    finally:
        tasks.end(place, parent, failed=failed)
    return publish(place, "The whole chain", words, done, decision, key="difflora-full")


def _said(done: list[tasks.StageDone]) -> str:
    ran = [one.stage for one in done if one.status != "unchanged"]
    return f"New: {', '.join(ran)}." if ran else "Nothing changed: no parameter and no input is new."

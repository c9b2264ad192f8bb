"""``difflora/corpus``: people and their LoRAs alone, trained on several processes or machines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task

from flows import tasks
from flows.command import run
from flows.report import publish
from flows.runners import Runner, task_runner


@task(name="part", task_run_name="part-{place}", **tasks.RETRY)
def part(root: Path, place: int, batches: list[int]) -> int:
    """Trains some batches into files of their own; those that are there are left.

    Args:
        root: of the workspace.
        place: number of the part.
        batches: numbers of the batches.

    Returns:
        How many batches there were.
    """
    progress = tasks.Progress(f"part-{place}")
    numbers = ",".join(map(str, batches))
    command = ["difflora", "stage", "corpus", "--batches", numbers]
    run(command, root, on_line=get_run_logger().info, on_progress=progress)
    progress(100.0, "done")
    return len(batches)


@flow(name="difflora-parts", flow_run_name="parts")
def parts(root: Path, batches: list[int], workers: int) -> int:
    """Shares batches out over the workers; gives how many parts failed, whose batches the stage trains itself."""
    shares = [batches[place::workers] for place in range(min(workers, len(batches)))]
    futures = [part.submit(root, place, share) for place, share in enumerate(shares)]
    failed = 0
    for future in futures:
        future.wait()
        if not future.state.is_completed():
            failed += 1
            get_run_logger().warning("%s; its people are trained by the stage itself", future.state.message)
    return failed


@flow(name="difflora", flow_run_name="corpus")
def corpus(
    root: Path = Path(), runner: Runner = "processes", workers: int = 2, address: str | None = None, push: bool = False
) -> str:
    """Makes people and trains the LoRAs that are missing, many at once.

    Args:
        root: The workspace: the repository's folder, with dvc.yaml and params.yaml.
        runner: processes (of this machine) or ray (a cluster whose machines all see the workspace).
        workers: Parts that are trained at a time.
        address: Of the Ray cluster; one is started on this machine when left out.
        push: Send what is new to DVC's remote at the end.

    Returns:
        What the artifact says.
    """
    place = tasks.workspace(root)
    chosen = task_runner(runner, workers, address)
    parent = tasks.begin(place, "corpus")
    failed = True
    try:
        done = [tasks.repro("identities", place, parent)]
        words = [fan_out(place, chosen, workers)]
        done.append(tasks.repro("corpus", place, parent))
        if push:
            words.append(f"DVC: {tasks.push(place)}")
        failed = False
    finally:
        tasks.end(place, parent, failed=failed)
    return publish(place, "The corpus", words, done, key="difflora-corpus")


def fan_out(root: Path, runner: Any, workers: int) -> str:
    """Trains the missing batches elsewhere, where that is worth it; gives what was done in a sentence."""
    missing = missing_batches(root)
    if len(missing) < 2 or workers < 2:
        return f"{len(missing)} batches were missing."
    failed = parts.with_options(task_runner=runner)(root, missing, workers)
    return f"{len(missing)} batches were missing; shared out over {workers} workers, {failed} parts failed."


def missing_batches(root: Path) -> list[int]:
    """Numbers of the batches that have people without a LoRA."""
    from difflora.stages.corpus import missing_batches as missing
    from difflora.stages.params import load_params
    from difflora.stages.workspace import Workspace

    return missing(Workspace(root, load_params(root / "params.yaml")))

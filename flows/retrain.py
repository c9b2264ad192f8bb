"""``difflora/retrain``: new people came in, so the champion learns from them; it goes only where the gate agrees."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from difflora.corpus.forgotten import Roster, hash_of
from difflora.corpus.lines import read_lines
from difflora.files import write_atomic, write_json
from difflora.folders import read_json
from flows import tasks
from flows.corpus import fan_out
from flows.full import GATE
from flows.report import publish
from flows.runners import Runner, task_runner

_LINE = re.compile(r"^continue_from:.*$", re.MULTILINE)


PENDING = Path("data") / "retraining.json"
"""Who a retraining began with, by the hashes of their ids; gone when it ended, so that a killed one is gone on with."""


@task(name="look for people", cache_policy=NO_CACHE)
def look(root: Path) -> tuple[list[str], list[str], dict[str, str]]:
    """Whoever of ``data/incoming`` is new, who of an unfinished retraining is there, and why others are refused."""
    from difflora.identities.consent import new_people

    there = roster(root)
    found, refused = new_people(root / "data" / "incoming", there)
    begun: dict[str, Any] = read_json(root / PENDING) if (root / PENDING).exists() else {}
    return sorted(found), sorted(name for name in there if hash_of(name) in begun.get("people", [])), refused


def roster(root: Path) -> Roster:
    """Everyone in the workspace."""
    return Roster(read_lines(root / "data" / "people" / "people.jsonl"))


@task(name="fetch champion", **tasks.RETRY)
def fetch_champion(root: Path) -> Path | None:
    """The champion's folder in the workspace, checked; None where there is none."""
    from difflora.stages.registry import Registry

    return Registry(root).champion_folder()


def continue_from(root: Path, folder: Path | None) -> None:
    """Writes into params.yaml what LAE and DiT go on from; comments stay.

    Args:
        root: of the workspace.
        folder: of a pipeline below it; None to start anew.
    """
    path = root / "params.yaml"
    line = f"continue_from: {'null' if folder is None else folder.resolve().relative_to(root).as_posix()}"
    text = path.read_text()
    new = _LINE.sub(line, text) if _LINE.search(text) else f"{text.rstrip()}\n\n{line}\n"
    if new != text:
        write_atomic(path, new.encode())


@flow(name="difflora", flow_run_name="retrain")
def retrain(
    root: Path = Path(),
    gate: Path = GATE,
    runner: Runner = "processes",
    workers: int = 1,
    address: str | None = None,
    push: bool = False,
) -> str:
    """Takes in new people, goes on training from the champion, and promotes what comes out if the gate agrees.

    Args:
        root: The workspace: the repository's folder, with dvc.yaml and params.yaml.
        gate: The gate's file, beside params.yaml.
        runner: Where LoRAs of new people are trained: processes (of this machine) or ray.
        workers: Parts of the corpus that are trained at a time.
        address: Of the Ray cluster; one is started on this machine when left out.
        push: Send what is new to DVC's remote at the end.

    Returns:
        What the artifact says.
    """
    place = tasks.workspace(root)
    found, unfinished, refused = look(place)
    words = [f"Refused: {reason}" for reason in refused.values()]
    if not found and not unfinished:
        words.insert(0, f"No new people in `{place / 'data' / 'incoming'}`: nothing to retrain on, the champion stays.")
        return publish(place, "No retraining", words, key="difflora-retrain")
    parent = tasks.begin(place, "retrain")
    failed = True
    try:
        write_json(place / PENDING, {"people": [hash_of(name) for name in (*unfinished, *found)]})
        done = [tasks.repro("identities", place, parent)]
        there = roster(place)
        new = sorted({*unfinished, *(name for name in found if name in there)})
        if not new:
            (place / PENDING).unlink()
            words.insert(0, f"None of {', '.join(found)} could be taken in, the champion stays: see the step's log.")
            failed = False
            return publish(place, "No retraining", words, done, key="difflora-retrain")
        champion = fetch_champion(place)
        continue_from(place, champion)
        words.append(fan_out(place, task_runner(runner, workers, address), workers))
        done += [tasks.repro(stage, place, parent) for stage in ("corpus", "lae", "dit", "evaluate", "register")]
        tasks.measure_champion(place)
        decision = tasks.promote(place, None, gate, False)
        start = f"from the champion `{champion.name}`" if champion else "anew, as there was no champion"
        words.insert(0, f"{len(new)} new people ({', '.join(new)}); LAE and DiT were trained {start}.")
        if push:
            words.append(f"DVC: {tasks.push(place)}")
        (place / PENDING).unlink()
        failed = False
    finally:
        tasks.end(place, parent, failed=failed)
    return publish(place, "Retraining", words, done, decision, key="difflora-retrain")

"""The champion on this workspace's people, so that a candidate is compared with it side by side."""

from __future__ import annotations

import hashlib
from typing import Any

from difflora.evaluation.report import by_person
from difflora.files import sha256_file, write_json
from difflora.folders import read_json
from difflora.manifest import NAME
from difflora.stages.candidate import FIGURES, MANIFEST, PEOPLE, VERSION, protocol
from difflora.stages.evaluate import measure
from difflora.stages.registry import Registry
from difflora.stages.workspace import Workspace


def measure_champion(workspace: Workspace) -> str | None:
    """Measures the champion as the step ``evaluate`` measures a candidate, unless that was done already.

    Writes ``reports/champion.json`` and ``reports/champion_people.json``.

    Args:
        workspace: with people, corpus, features and autoencoder.

    Returns:
        The champion's version; None where there is none.
    """
    registry = Registry(workspace.root)
    champion = registry.champion()
    if champion is None:
        return None
    place, of_people = workspace.report("champion.json"), workspace.report("champion_people.json")
    inputs = hashlib.sha256()
    for path in (workspace.corpus / "index.jsonl", workspace.people / "people.jsonl"):
        inputs.update(sha256_file(path).encode())
    facts: dict[str, Any] = {
        "champion": champion.tags[VERSION],
        "manifest": champion.tags[MANIFEST],
        "protocol": protocol(workspace.params),
        "inputs": inputs.hexdigest(),
    }
    known = read_json(place) if place.exists() else {}
    if {name: known.get(name) for name in facts} == facts and of_people.exists():
        return str(facts["champion"])
    manifest = workspace.model / NAME
    if manifest.exists() and sha256_file(manifest) == champion.tags[MANIFEST]:  # the step evaluate measured it
        people, figures = read_json(workspace.report(PEOPLE)), read_json(workspace.report(FIGURES))
    else:
        folder = registry.champion_folder()
        if folder is None:
            return None
        ladder, figures = measure(workspace, folder)
        people = by_person(ladder)
    write_json(of_people, people)
    write_json(place, {**facts, "figures": figures})
    return str(facts["champion"])

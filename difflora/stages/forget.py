"""A person is taken out of a workspace, and of everything else it is said where they still are."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path
from typing import Any

from difflora.corpus.forget import forget_parts, forget_people, forget_rows
from difflora.corpus.forgotten import hash_of
from difflora.corpus.lines import read_lines
from difflora.corpus.people import LIST, PeopleFolder
from difflora.corpus.reader import FAILURES, INDEX
from difflora.errors import BadFile, BadParameter
from difflora.identities.consent import read_record
from difflora.identities.forgotten import ForgottenList
from difflora.stages.workspace import Workspace
from difflora.training.features import ConditionFeatures


def forget(workspace: Workspace, identity: str) -> list[str]:
    """Takes a person out of images, embeddings, corpus and index, for good.

    The list of who was forgotten comes first, so that whatever stops this, the next call of it or of a step finishes
    it. Nobody else's split, row or file changes.

    Args:
        workspace: of the chain.
        identity: the person's id, or one that was merged into it or found to be the same person.

    Returns:
        All ids of that person, which are forgotten together.

    Raises:
        BadParameter: if there is no trace of such a person.
        BadFile: if people or corpus are damaged.
        DiffLoRAError: if a build is at work.
    """
    names = ids_of(workspace, identity)
    forgotten = ForgottenList(workspace.incoming)
    if identity not in forgotten and not _trace(workspace, names):
        raise BadParameter(f"{identity!r} is nobody here; see `difflora people list`")
    forgotten.add(names)
    finish_forgetting(workspace)
    return names


def finish_forgetting(workspace: Workspace) -> None:
    """Takes out everyone on the list who is still there: after a kill, or when older data were brought back.

    Raises:
        BadFile: if people or corpus are damaged.
        DiffLoRAError: if a build is at work.
    """
    hashes = set(ForgottenList(workspace.incoming).days)
    if not hashes:
        return
    ablations = workspace.root / "data" / "ablations"  # rows of a corpus or pipeline of their own
    for corpus in (workspace.corpus, *sorted(ablations.glob("corpus-*/corpus"))):
        forget_rows(corpus, hashes)
    for parts in (workspace.parts, *sorted(ablations.glob("corpus-*/parts"))):
        forget_parts(parts, hashes)
    for features in (workspace.features, *sorted(ablations.glob("dit-*/features.safetensors"))):
        _forget_features(features, hashes)
    forget_people(workspace.people, hashes)


def ids_of(workspace: Workspace, identity: str) -> list[str]:
    """Every id known of the same person: merged ones, and those found to be the same; the asked one first."""
    found, lines = [identity], _people_lines(workspace)
    links = [(name, str(line["same_as"])) for name, line in lines.items() if "same_as" in line]
    links += [(name, other) for name, line in lines.items() for other in line.get("merged", {})]
    for name in found:  # grows while it is walked
        found += [other for pair in links if name in pair for other in pair if other not in found]
    return found


def _people_lines(workspace: Workspace) -> dict[str, dict[str, Any]]:
    if not (workspace.people / LIST).exists():
        return {}
    people = PeopleFolder(workspace.people)
    return {identity: people.line(identity) for identity in people.ids} | people.skipped


def _trace(workspace: Workspace, names: list[str]) -> bool:
    """Whether anything of somebody is there."""
    known = set(_people_lines(workspace))
    for name in (INDEX, FAILURES):
        known |= {str(line.get("identity")) for line in read_lines(workspace.corpus / name)}
    for folder in workspace.incoming.glob("*/"):
        try:
            known.add(read_record(folder).identity)
        except BadFile:
            known.add(folder.name)
    return not known.isdisjoint(names)


def _forget_features(path: Path, hashes: Set[str]) -> None:
    for left in path.parent.glob(f".{path.name}.*"):
        left.unlink()
    if not path.exists():
        return
    try:
        features = ConditionFeatures.load(path)
    except BadFile:  # nobody can tell who is in it, and the step `dit` makes it again
        path.unlink()
        return
    kept = [name for name in features.names if hash_of(name) not in hashes]
    if not kept:
        path.unlink()
    elif len(kept) < len(features.names):
        features.of(kept).save(path)

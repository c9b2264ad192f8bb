"""Step ``identities``: people and their pictures (Fig. 5)."""

from __future__ import annotations

from difflora.files import write_json
from difflora.identities.build import build_people
from difflora.identities.source import load_source
from difflora.stages.workspace import Workspace


def run(workspace: Workspace) -> None:
    """Makes the people of section ``identities``, going on from those who are there.

    Writes ``data/people`` and ``reports/identities.json``.
    """
    chosen = workspace.params.identities
    people = build_people(
        workspace.people,
        load_source(chosen.source, chosen.options),
        workspace.open_faces(),
        chosen.pictures,
        chosen.count,
        pack=workspace.params.models.faces.pack,
        skip_unusable=chosen.skip_unusable,
    )
    similarity = [float(people.line(identity)["similarity"]) for identity in people.ids]
    figures = {
        "people": len(people),
        **{split: len(people.split(split)) for split in ("train", "validation", "test")},
        "pictures": sum(int(people.line(identity)["images"]) for identity in people.ids),
        "similarity_mean": round(sum(similarity) / len(similarity), 4),
        "similarity_least": min(similarity),
    }
    write_json(workspace.report("identities.json"), figures)

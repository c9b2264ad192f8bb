"""Step ``identities``: people and their pictures (Fig. 5)."""

from __future__ import annotations

import logging

from difflora.files import write_json
from difflora.identities.build import build_people
from difflora.identities.forgotten import ForgottenList
from difflora.identities.incoming import take_in
from difflora.identities.source import load_source
from difflora.stages.forget import finish_forgetting
from difflora.stages.tracking import SILENT, Tracker
from difflora.stages.workspace import Workspace

logger = logging.getLogger(__name__)


def run(workspace: Workspace, tracker: Tracker = SILENT) -> None:
    """Makes the people of section ``identities`` and takes in those of ``data/incoming``, going on from who is there.

    Writes ``data/people`` and ``reports/identities.json``.
    """
    chosen = workspace.params.identities
    finish_forgetting(workspace)
    faces = workspace.open_faces()
    people = build_people(
        workspace.people,
        load_source(chosen.source, chosen.options),
        faces,
        chosen.pictures,
        chosen.count,
        pack=faces.name,
        screening=chosen.screen,
        skip_unusable=chosen.skip_unusable,
        forgotten=ForgottenList(workspace.incoming).__contains__,
    )
    incoming = take_in(workspace.incoming, people, faces, chosen.pictures, chosen.screen)
    people = workspace.open_people()
    similarity = [float(people.line(identity)["similarity"]) for identity in people.ids]
    figures = {
        "people": len(people),
        **{split: len(people.split(split)) for split in ("train", "validation", "test")},
        "pictures": sum(int(people.line(identity)["images"]) for identity in people.ids),
        "similarity_mean": round(sum(similarity) / len(similarity), 4),
        "similarity_least": min(similarity),
        "incoming": sum(map(people.came_in, people.ids)),
    }
    for reason in incoming.refused.values():
        logger.warning("not taken in: %s", reason)
    write_json(workspace.report("identities.json"), figures)
    tracker.metrics(figures)

"""The faces of those who are there, so that nobody comes in a second time under another id."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from difflora.corpus.people import FILES, PeopleFolder
from difflora.errors import BadFile
from difflora.identities.filter import centre
from difflora.identities.screen import Known

_FACES = ("face", "references.face")


def known_people(folder: Path, dimension: int) -> Known:
    """Everyone of a folder of people with embeddings of their faces.

    Args:
        folder: of people; without a list nobody is there.
        dimension: D of the face pack; people of another one are left out.

    Raises:
        BadFile: if a person's file is missing or damaged.
    """
    ids, centres = list[str](), list[torch.Tensor]()
    for identity in PeopleFolder(folder).ids:
        path = folder / FILES / f"{identity}.safetensors"
        try:
            with safe_open(path, framework="pt") as file:
                names = set(file.keys())
                faces = torch.cat(
                    [file.get_tensor(name).float() for name in _FACES if name in names] or [torch.empty(0)]
                )
        except (SafetensorError, OSError) as error:
            raise BadFile(f"{path}: holds no person ({error}); restore it") from error
        if len(faces) and faces.shape[1:] == (dimension,):
            ids.append(identity)
            centres.append(centre(faces))
    return Known(ids, torch.stack(centres) if centres else torch.empty(0, dimension))

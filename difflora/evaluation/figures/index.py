"""``reports/figures``: the pictures, and ``index.json``, a list of what each shows, for whoever puts them on a page.

Each entry is ``{"file": "ladder.png", "title": ..., "caption": ..., "alt": ...}``, in the order to be shown in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from difflora.errors import BadFile
from difflora.evaluation.figures.canvas import Drawing, png
from difflora.files import write_atomic, write_json

INDEX = "index.json"
_KEYS = ("file", "title", "caption", "alt")

Entry = dict[str, str]


def read_index(folder: Path) -> list[Entry]:
    """The entries of a folder of figures; none where nothing was drawn yet.

    Raises:
        BadFile: if the index is damaged, or a picture is missing.
    """
    path = folder / INDEX
    if not path.exists():
        return []
    try:
        entries = [{key: str(entry[key]) for key in _KEYS} for entry in json.loads(path.read_text())]
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise BadFile(f"{path}: holds no list of figures ({error!r}); run `difflora figures draw` again") from error
    for entry in entries:
        if Path(entry["file"]).name != entry["file"] or not (folder / entry["file"]).is_file():
            raise BadFile(f"{path}: lists {entry['file']!r}, which is not beside it; run `difflora figures draw` again")
    return entries


def write_figures(
    folder: Path, drawings: Mapping[str, Drawing], order: Sequence[str], *, keep: bool = False
) -> list[Path]:
    """Renders all figures, then writes them and at last the index.

    Args:
        folder: where to.
        drawings: name -> figure; ``NAME.png`` is its file.
        order: all names that there may be, in the order of the index.
        keep: whether figures of other names stay as they are; else their pictures go.

    Returns:
        The pictures that were written.

    Raises:
        BadFile: if others are to be kept and their index is damaged.
    """
    kept = {Path(entry["file"]).stem: entry for entry in read_index(folder)} if keep else {}
    rendered = {name: png(drawing.figure) for name, drawing in drawings.items()}
    entries = kept | {
        name: {"file": f"{name}.png", "title": one.title, "caption": one.caption, "alt": one.alt}
        for name, one in drawings.items()
    }
    for name, data in rendered.items():
        write_atomic(folder / f"{name}.png", data)
    write_json(folder / INDEX, [entries[name] for name in order if name in entries])
    for name in order:
        if name not in entries:
            (folder / f"{name}.png").unlink(missing_ok=True)
    return [folder / f"{name}.png" for name in order if name in rendered]

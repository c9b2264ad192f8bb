"""``reports/figures``: writes the pictures, and the list of what each shows for whoever puts them on a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from difflora.errors import BadFile
from difflora.evaluation.figures.canvas import Drawing, png
from difflora.evaluation.figures.listing import INDEX, ListedFigure, read_index
from difflora.files import write_atomic, write_json


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
        BadFile: if others are to be kept, and their index is damaged or lists a picture that is not there.
    """
    kept = {Path(entry.file).stem: entry for entry in read_index(folder)} if keep else {}
    for entry in kept.values():
        if not (folder / entry.file).is_file():
            raise BadFile(
                f"{folder / INDEX}: lists {entry.file!r}, which is not beside it; run `difflora figures draw` again"
            )
    rendered = {name: png(drawing.figure) for name, drawing in drawings.items()}
    entries = kept | {
        name: ListedFigure(file=f"{name}.png", title=one.title, caption=one.caption, alt=one.alt)
        for name, one in drawings.items()
    }
    for name, data in rendered.items():
        write_atomic(folder / f"{name}.png", data)
    write_json(folder / INDEX, [entries[name].model_dump() for name in order if name in entries])
    for name in order:
        if name not in entries:
            (folder / f"{name}.png").unlink(missing_ok=True)
    return [folder / f"{name}.png" for name in order if name in rendered]

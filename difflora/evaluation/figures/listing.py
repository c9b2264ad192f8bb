"""``reports/figures/index.json``: what each picture beside it shows, in the order to be shown in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, TypeAdapter, ValidationError

from difflora.errors import BadFile

INDEX = "index.json"


def _plain(name: str) -> str:
    if Path(name).name != name:
        raise ValueError(f"{name!r} is no name of a file beside it")
    return name


class ListedFigure(BaseModel):
    """A picture of the folder.

    Attributes:
        file: its name.
        title: short.
        caption: what was measured; may be empty.
        alt: what is to be seen, for those who do not see it; may be empty.
    """

    file: Annotated[str, AfterValidator(_plain)]
    title: str
    caption: str = ""
    alt: str = ""


_LIST = TypeAdapter(list[ListedFigure])


def read_index(folder: Path) -> list[ListedFigure]:
    """What a folder of figures lists, whether or not the pictures are there; nothing where nothing was drawn yet.

    Raises:
        BadFile: if the index is damaged.
    """
    place = folder / INDEX
    if not place.exists():
        return []
    try:
        return _LIST.validate_json(place.read_bytes())
    except (ValidationError, OSError) as error:
        said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise BadFile(f"{place}: holds no list of figures ({said}); run `difflora figures draw` again") from error

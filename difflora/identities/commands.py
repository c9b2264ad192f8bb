"""``difflora identities``: make people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from difflora.errors import BadParameter

identities = typer.Typer(help="People: pictures of each, filtered by likeness, cropped and mirrored.")


@identities.callback()
def about() -> None:
    """Keeps `build` a command of its own while it is the only one."""


@identities.command()
def build(
    out: Annotated[Path, typer.Argument(metavar="PEOPLE", help="Folder to make, or to go on with.")],
    source: Annotated[
        str, typer.Option(metavar="MODULE:CLASS", help="Where pictures come from.")
    ] = "difflora.world.identities:RenderedPeople",
    option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="An option of the source; several times.")
    ] = None,
    count: Annotated[int, typer.Option(help="How many people.")] = 64,
    candidates: Annotated[int, typer.Option(help="Pictures made of each person.")] = 100,
    keep: Annotated[int, typer.Option(help="The most similar of them that are kept.")] = 85,
    references: Annotated[int, typer.Option(help="Of the kept ones, not learnt from.")] = 4,
    seed: Annotated[int, typer.Option(help="The same seed gives the same pictures.")] = 0,
    faces: Annotated[Path, typer.Option(help="Folder that holds models/PACK of InsightFace.")] = Path(
        "assets/embedded/insightface"
    ),
    pack: Annotated[str, typer.Option(help="The face pack's name.")] = "world",
    det_size: Annotated[int, typer.Option(help="Side at which faces are sought: 128 for world, 640 for others.")] = 128,
    skip_unusable: Annotated[
        bool, typer.Option("--skip-unusable", help="Pass over a person with too few faces, and unusable photographs.")
    ] = False,
    least_face: Annotated[int, typer.Option(help="Shorter side of a face in a photograph, in pixels.")] = 64,
    same_person: Annotated[float, typer.Option(help="Cosine from which two people of photographs are one.")] = 0.65,
    repeated: Annotated[
        str, typer.Option(help="People and photographs that are there twice: refuse, merge, drop or keep.")
    ] = "refuse",
) -> None:
    """Make people, going on from those who are there.

    Writes PEOPLE/people/<id>.safetensors (pictures, captions, face embeddings) and PEOPLE/people.jsonl: a line a person
    with split and sha256. More people never change the split of anyone.

    Photographs are looked over first, and people who are there twice are found.

    Example: difflora identities build data/people --count 64

    difflora identities build data/people --source difflora.identities.photographs:PeopleFolders
    --option folder=photographs --option 'consent={"source": "a study", "licence": "form 3", "date": "2026-01-02"}'
    """
    from pydantic import ValidationError

    from difflora.encoders.faces import InsightFaceEncoder
    from difflora.identities.build import IdentitySettings, build_people
    from difflora.identities.screen_settings import ScreenSettings
    from difflora.identities.source import load_source
    from difflora.validation import validated

    if count < 1:
        raise BadParameter(f"count is {count}: give at least 1")
    try:
        settings = IdentitySettings(candidates=candidates, keep=keep, references=references, seed=seed)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadParameter(
            f"{'.'.join(map(str, first['loc']))} {first['msg'].removeprefix('Value error, ')}"
        ) from error
    made = build_people(
        out,
        load_source(source, _options(option or [])),
        InsightFaceEncoder(faces, pack, det_size=(det_size, det_size)),
        settings,
        count,
        pack=pack,
        screening=validated(
            ScreenSettings, {"least_face": least_face, "same_person": same_person, "repeated": repeated}, "screen"
        ),
        skip_unusable=skip_unusable,
    )
    splits = ", ".join(f"{len(made.split(name))} {name}" for name in ("train", "validation", "test"))
    typer.echo(f"{out}: {len(made)} people ({splits})")


def _options(words: list[str]) -> dict[str, Any]:
    """KEY=VALUE words; a value that is JSON is taken as such, else as text."""
    options: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise BadParameter(f"--option {word!r}: give KEY=VALUE")
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = value
    return options

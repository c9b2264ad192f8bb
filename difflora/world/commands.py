"""``difflora world``: render people, train the world's models, measure them, draw with them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from difflora.errors import BadParameter
from difflora.world import GUIDANCE, STEPS
from difflora.world.registry import GROUPS, MODELS

world = typer.Typer(
    help="The embedded world: rendered people, and small models of them in the real models' formats.",
)

ASSETS = Path("assets/embedded")
WORK = Path("data/world")

Assets = Annotated[Path, typer.Option(help="Folder of the world's finished models.")]
Work = Annotated[Path, typer.Option(help="Folder of pictures and checkpoints; about 1.5 GB when all is there.")]
Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME]...",
        help=f"{', '.join(model.name for model in MODELS)}; or {', '.join(GROUPS)} for several. All when left out.",
    ),
]


@world.command()
def render(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make.")],
    people: Annotated[int, typer.Option(help="How many persons.")] = 16,
    images: Annotated[int, typer.Option(help="Pictures of each.")] = 6,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a folder that this command made.")] = False,
) -> None:
    """Render people with the truth about them.

    Writes OUT/<person>/<n>.png (64x64) and OUT/captions.jsonl: a line a picture with its file, caption, person, face
    box, five landmarks and all attributes.

    Example: difflora world render outputs/people --people 20 --images 6 --seed 7
    """
    from difflora.world.render_folder import render_folder

    count = render_folder(out, people=people, images=images, seed=seed, overwrite=overwrite)
    typer.echo(f"{count} pictures of {people} people in {out}")


@world.command()
def train(
    names: Names = None,
    assets: Assets = ASSETS,
    work: Work = WORK,
    time_limit: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Stop each training after so long; call again to go on.")
    ] = None,
    verify: Annotated[bool, typer.Option(help="Measure the bars at the end.")] = True,
) -> None:
    """Train the world's models from seeds, going on from checkpoints.

    Trains in order of dependencies, measures the bars on fresh people, and writes MANIFEST.json and the model card
    into the assets folder.

    Example: difflora world train faces --time-limit 1200
    """
    from difflora.world.training import train_models

    manifest = train_models(names or [], assets, work, limit_s=time_limit, verify=verify)
    typer.echo(f"{assets}: {', '.join(manifest.models)} ({manifest.megabytes:.1f} MB)")


@world.command()
def verify(
    names: Names = None,
    seed: Annotated[int, typer.Option(help="Seed of the people, scenes and prompts to measure on.")] = 1234,
    count: Annotated[
        int | None, typer.Option(help="How many to measure on: quicker and less exact than the full size.")
    ] = None,
    assets: Assets = ASSETS,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the rows as JSON too.")] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Write the figures into the manifest and model card.")
    ] = False,
) -> None:
    """Measure the world's bars again; exit code 1 if one fails.

    Prints a row a bar: goal, figure, passed. The seed is yours to choose; trainings used 1 and 2.

    Example: difflora world verify faces clip --seed 99 --json outputs/bars.json
    """
    from difflora.files import write_json
    from difflora.world.report import print_rows
    from difflora.world.training import record_rows
    from difflora.world.verify import rows_as_json, run_verifications

    if json is not None and json.is_dir():
        raise BadParameter(f"{json} is a folder: give the name of a file for --json")
    rows = run_verifications(names or [], assets, seed, count)
    print_rows(rows)
    if json is not None:
        write_json(json, rows_as_json(rows, seed, count))
    if record:
        record_rows(rows, assets, seed)
    if not all(row.bar.passed for row in rows):
        raise typer.Exit(1)


@world.command()
def sheet(
    out: Annotated[Path, typer.Argument(metavar="OUT.png", help="Picture to write.")],
    prompt: Annotated[
        list[str] | None, typer.Option(help="A row's prompt; give it several times for several rows.")
    ] = None,
    renders: Annotated[bool, typer.Option("--renders", help="Renders instead of the base model's pictures.")] = False,
    people: Annotated[int, typer.Option(help="Rows of renders.")] = 6,
    columns: Annotated[int, typer.Option(help="Pictures a row.")] = 6,
    seed: Annotated[int, typer.Option(help="The same seed gives the same pictures.")] = 0,
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = STEPS,
    guidance_scale: Annotated[float, typer.Option(help="Classifier-free guidance.")] = GUIDANCE,
    assets: Assets = ASSETS,
) -> None:
    """Draw a sheet of people, a row a prompt, with the embedded base model.

    Without --prompt it draws six prompts of its own. With --renders a row is a rendered person in several scenes.

    Example: difflora world sheet outputs/me.png --prompt "a photo of a man laughing, with glasses, in a city"
    """
    from difflora.world.sheet import PROMPTS, base_sheet, render_sheet

    if renders:
        render_sheet(people, columns, seed, out)
    else:
        base_sheet(assets, prompt or PROMPTS, seed, out, columns=columns, steps=steps, guidance_scale=guidance_scale)
    typer.echo(f"{out}")


@world.command()
def manifest(assets: Assets = ASSETS) -> None:
    """Check every stored file against the manifest, and rewrite the model card from it.

    A missing, changed or unlisted file is an error that names it.

    Example: difflora world manifest
    """
    from difflora.world.card import write_card
    from difflora.world.manifest import check_manifest

    checked = check_manifest(assets)
    write_card(assets, checked)
    files = sum(len(model.files) for model in checked.models.values())
    typer.echo(f"{assets}: {files} files of {len(checked.models)} models are as listed ({checked.megabytes:.1f} MB)")

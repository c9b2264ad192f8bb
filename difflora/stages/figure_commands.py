"""``difflora figures``: the evaluation as a table, and the paper's figures as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from difflora.stages import commands


class _ShowByDefault(TyperGroup):
    """Without a command's name, ``show`` is meant."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if not args or args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["show", *args]
        return super().parse_args(ctx, args)


figures = typer.Typer(
    cls=_ShowByDefault,
    help=(
        "What the evaluation found: as a table (show, also without its name), or drawn.\n\n"
        "Example: difflora figures draw"
    ),
)
figures.command("show")(commands.figures)


@figures.command()
def draw(
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="This figure alone, the others staying as they are; several times. ladder, methods (Fig. 6), "
            "train_people, autoencoders (Fig. 2), quartiles (Fig. 4), denoising (Fig. 8a), weights (Fig. 8b), curves.",
        ),
    ] = None,
    params: Annotated[
        Path, typer.Option("--params", metavar="FILE", help="Parameters; how much is drawn: evaluate.figures.")
    ] = Path("params.yaml"),
) -> None:
    """Draw the paper's figures into reports/figures, with captions in its index.json.

    A figure whose files are not there is passed over, and it is said what to run first. `difflora report` then puts
    them on a page with the evaluation. Where runs are tracked they get a run.

    Example: difflora figures draw --only quartiles --only weights
    """
    from difflora.stages.figures import draw as draw_figures
    from difflora.stages.params import load_params
    from difflora.stages.tracking import track
    from difflora.stages.workspace import Workspace

    workspace = Workspace(params.parent, load_params(params))
    with track(workspace.root, "figures", workspace.params.evaluate.figures.model_dump()) as tracker:
        drawn = draw_figures(workspace, tracker, only=only or ())
    for path in drawn.files:
        typer.echo(path)
    for name, reason in drawn.skipped.items():
        typer.echo(f"no {name}: {reason}")

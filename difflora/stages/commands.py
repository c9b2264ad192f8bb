"""``difflora stage``: one step of the chain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def stage(
    name: Annotated[str, typer.Argument(help="identities, corpus, lae, dit, evaluate or register.")],
    params: Annotated[Path, typer.Option(metavar="FILE", help="Parameters; outputs lie beside them.")] = Path(
        "params.yaml"
    ),
) -> None:
    """Run one step of the chain, going on from where an earlier call stopped.

    `dvc repro` runs those steps whose inputs changed, in order.

    Example: difflora stage corpus
    """
    from difflora.stages.run import run_stage

    run_stage(name, params)

"""The ``difflora`` command. Heavy imports stay inside the commands, so that ``--help`` answers at once."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from difflora.errors import DiffLoRAError
from difflora.world.commands import world

app = typer.Typer(
    help=(
        "One photograph of a person in, LoRA weights for a text-to-image model out.\n\n"
        "What works today is the embedded world: rendered people, and small models of them in the real models' "
        "formats.\n\n"
        "Start with: difflora world sheet outputs/people.png"
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(world, name="world")


@app.callback()
def options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is being done, to stderr.")] = False,
) -> None:
    """Sets up logging for every command."""
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(name)s: %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)


def main() -> None:
    """Runs the command line; an error of ours becomes one line on stderr and exit code 2."""
    try:
        app()
    except DiffLoRAError as error:
        sys.stderr.write(f"difflora: {' '.join(str(error).split())}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()

"""The ``difflora`` command. Heavy imports stay inside the commands, so that ``--help`` answers at once."""

from __future__ import annotations

import errno
import logging
import os
import sys
from typing import Annotated, NoReturn

import typer

from difflora.corpus.commands import corpus
from difflora.errors import Busy, DiffLoRAError
from difflora.identities.commands import identities
from difflora.inference.commands import compare, generate, personalize
from difflora.lora_commands import lora
from difflora.plan.commands import plan
from difflora.stages.ablations.commands import ablate
from difflora.stages.commands import doctor, report, stage
from difflora.stages.evaluate_commands import evaluate
from difflora.stages.figure_commands import figures
from difflora.stages.people_commands import people
from difflora.stages.preset_commands import preset
from difflora.stages.registry_commands import registry
from difflora.stages.weights_commands import weights
from difflora.study.commands import study
from difflora.world.commands import world

app = typer.Typer(
    help=(
        "One photograph of a person in, LoRA weights for a text-to-image model out.\n\n"
        "Start with: difflora personalize photo.jpg -o me.safetensors"
    ),
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (personalize, generate, compare, stage, evaluate, report, ablate, doctor, plan):
    app.command()(command)
app.add_typer(identities, name="identities")
app.add_typer(people, name="people")
app.add_typer(corpus, name="corpus")
app.add_typer(lora, name="lora")
app.add_typer(figures, name="figures")
app.add_typer(registry, name="registry")
app.add_typer(study, name="study")
app.add_typer(preset, name="preset")
app.add_typer(weights, name="weights")
app.add_typer(world, name="world")

_UsageError: type[Exception] = typer.BadParameter.__bases__[0]  # typer does not hand on its name


@app.callback()
def options(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log what is being done, to stderr.")] = False,
) -> None:
    """Sets up logging for every command."""
    if not verbose:
        # Else transformers says at every start that it reads pictures by PIL, which is how it should be.
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(name)s: %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; what a user got wrong becomes one line on stderr and exit code 2.

    What passes by itself (a lock, a server that is away) has exit code 75.

    Args:
        arguments: the words after the command's name; those of the process when left out.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        code = app(arguments or ["--help"], prog_name="difflora", standalone_mode=False)
    except Busy as error:
        _fail(str(error), error.exit_code)
    except DiffLoRAError as error:
        _fail(str(error))
    except _UsageError as error:
        said = getattr(error, "format_message", error.__str__)()
        where = getattr(getattr(error, "ctx", None), "command_path", "difflora")
        _fail(f"{said.rstrip('.')}; see `{where} --help`")
    except typer.Abort:
        _fail("stopped")
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}no space is left on the device; free some and run again, nothing half-written was left")
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int = 2) -> NoReturn:
    sys.stderr.write(f"difflora: {' '.join(message.split())}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()

"""Steps by name."""

from __future__ import annotations

import importlib
from contextlib import nullcontext
from pathlib import Path

from difflora import processes
from difflora.errors import BadParameter
from difflora.stages.tracking import SILENT, track

STAGES = ("identities", "corpus", "lae", "dit", "evaluate", "register")
"""The chain, in order."""
SHARED = ("lae", "dit")
"""The steps that several processes of a launcher can share."""


def run_stage(name: str, params: str | Path = "params.yaml") -> None:
    """Runs one step; all parameters are validated first.

    Args:
        name: the step's.
        params: the parameter file; outputs lie beside it.

    Raises:
        BadParameter: if there is no such step, a parameter is not allowed, or a launcher started several processes for
            a step that cannot be shared.
        Busy: if the tracking server is away; no work was begun.
    """
    if name not in STAGES:
        raise BadParameter(f"no step is named {name!r}; there are: {', '.join(STAGES)}")
    if processes.count() > 1 and name not in SHARED:
        raise BadParameter(
            f"step {name} runs in one process, but a launcher started {processes.count()}; they are for "
            f"{' and '.join(SHARED)} alone"
        )
    from difflora.stages.params import load_params, section_of
    from difflora.stages.workspace import Workspace

    path = Path(params)
    workspace = Workspace(path.parent, load_params(path))
    processes.wait_for_all(workspace.params.models.device)  # each has its device before a model is opened on it
    section = section_of(workspace.params, name)
    with track(workspace.root, name, section) if processes.is_main() else nullcontext(SILENT) as tracker:
        importlib.import_module(f"difflora.stages.{name}").run(workspace, tracker)

"""Steps by name."""

from __future__ import annotations

import importlib
from pathlib import Path

from difflora.errors import BadParameter
from difflora.stages.tracking import track

STAGES = ("identities", "corpus", "lae", "dit", "evaluate", "register")
"""The chain, in order."""


def run_stage(name: str, params: str | Path = "params.yaml") -> None:
    """Runs one step; all parameters are validated first.

    Args:
        name: the step's.
        params: the parameter file; outputs lie beside it.

    Raises:
        BadParameter: if there is no such step, or a parameter is not allowed.
        Busy: if the tracking server is away; no work was begun.
    """
    if name not in STAGES:
        raise BadParameter(f"no step is named {name!r}; there are: {', '.join(STAGES)}")
    from difflora.stages.params import load_params, section_of
    from difflora.stages.workspace import Workspace

    path = Path(params)
    workspace = Workspace(path.parent, load_params(path))
    with track(workspace.root, name, section_of(workspace.params, name)) as tracker:
        importlib.import_module(f"difflora.stages.{name}").run(workspace, tracker)

"""Where somebody who was forgotten still is: what no step may delete, with the commands that do."""

from __future__ import annotations

import configparser
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from difflora.corpus.splits import split_of
from difflora.errors import DiffLoRAError
from difflora.identities.consent import RECORD
from difflora.identities.photographs.source import photographs_behind
from difflora.identities.source import load_source
from difflora.stages.store import tracking_uri, without_password
from difflora.stages.tracking import run_id_of
from difflora.stages.workspace import Workspace

_SHOWN = 5
_PAGES = ("evaluation.html", "evaluation.md", "report.html", "report.md")
_REPORTS = ("evaluation_people.json", "people.png", "pictures", *_PAGES, "figures")


@dataclass(frozen=True)
class Leftover:
    """A place that holds somebody, or what was made of them.

    Attributes:
        what: the place, and what is in it.
        commands: that clean it up, in order.
    """

    what: str
    commands: tuple[str, ...]


def leftovers(workspace: Workspace, names: Sequence[str]) -> list[Leftover]:
    """Looks for what else may hold a person; nothing is changed.

    Args:
        workspace: that the person was taken out of.
        names: all ids of the person.
    """
    return [
        *_incoming(workspace, names),
        *_source(workspace, names),
        *_trained(workspace, names),
        *_reports(workspace),
        *_dvc(workspace.root),
        *_runs(workspace.root),
    ]


def _incoming(workspace: Workspace, names: Sequence[str]) -> list[Leftover]:
    found = []
    for folder in sorted(one for one in workspace.incoming.glob("*") if one.is_dir()):
        try:
            identity = json.loads((folder / RECORD).read_text())["identity"]
        except (OSError, ValueError, KeyError, TypeError):
            identity = folder.name
        if identity in names:
            found.append(Leftover(f"{folder}: the pictures that came in", (f"rm -r {shlex.quote(str(folder))}",)))
    return found


def _source(workspace: Workspace, names: Sequence[str]) -> list[Leftover]:
    """The photographs of the collection, where the source has any."""
    chosen = workspace.params.identities
    try:
        source = photographs_behind(load_source(chosen.source, chosen.options))
    except DiffLoRAError as error:
        return [Leftover(f"the source of people, which cannot be opened ({error}); look there yourself", ())]
    if source is None:
        return []
    paths = list[Path]()
    for name in names:
        try:
            paths += [one.path for one in source.photographs(name)]
        except DiffLoRAError:  # not of this source
            continue
    if not paths:
        return []
    words = ", ".join(str(path) for path in paths[:_SHOWN]) + (" and more" if len(paths) > _SHOWN else "")
    return [Leftover(f"the source's photographs: {words}", tuple(f"rm {shlex.quote(str(path))}" for path in paths))]


def _trained(workspace: Workspace, names: Sequence[str]) -> list[Leftover]:
    """Models whose training may have seen the person."""
    splits = {split_of(name, workspace.params.identities.pictures.splits) for name in names}
    models = [workspace.lae, workspace.dit, workspace.model, workspace.root / "models" / "champions"]
    there = [str(path) for path in models if path.is_dir()]
    found = []
    checkpoints = workspace.root / "data" / "checkpoints"
    if checkpoints.is_dir():
        remove = (f"rm -r {shlex.quote(str(checkpoints))}",)
        found.append(Leftover(f"{checkpoints}: trainings that were stopped, which nothing goes on from now", remove))
    if there and splits != {"test"}:
        what = f"{', '.join(there)}: trained while the person was in ({', '.join(sorted(splits))})"
        commands = ["dvc repro"]
        if workspace.params.continue_from is not None:
            what += f"; continue_from names {workspace.params.continue_from}, whose weights would be gone on from"
            commands = ["sed -i 's/^continue_from:.*/continue_from: null/' params.yaml", "dvc repro"]
        found.append(Leftover(what, tuple(commands)))
    ablations = workspace.root / "data" / "ablations"
    if ablations.is_dir():
        what = f"{ablations}: models and pictures of the ablations"
        found.append(Leftover(what, (f"rm -r {shlex.quote(str(ablations))}", "difflora ablate")))
    return found


def _reports(workspace: Workspace) -> list[Leftover]:
    """Figures and pictures of people by name."""
    files = [workspace.report(name) for name in _REPORTS]
    there = [str(path) for path in files if path.exists()]
    there += [str(path) for path in sorted((workspace.root / "reports").glob("champion*"))]
    if not there:
        return []
    what = (
        f"{', '.join(there)}: figures and pictures of people by name, perhaps of this one; a user study built of "
        "them is a copy"
    )
    commands = ["dvc repro evaluate", "difflora registry measure"]
    if workspace.report("figures").exists():
        commands.insert(1, "difflora figures draw")
    return [Leftover(what, tuple(commands))]


def _dvc(root: Path) -> list[Leftover]:
    found = []
    if (root / ".dvc").is_dir():
        what = "DVC's cache: every version of the data so far; once `dvc repro` is through, keep the workspace's alone"
        found.append(Leftover(what, ("git add dvc.lock data/incoming/forgotten.json", "dvc gc --workspace")))
    for name in _remotes(root):
        clean = f"dvc gc --workspace --cloud --remote {shlex.quote(name)}"
        found.append(Leftover(f"DVC's remote {name}: whatever was pushed", (clean,)))
    return found


def _remotes(root: Path) -> list[str]:
    """Names of DVC's remotes, as its files of settings have them."""
    names = dict[str, None]()
    for file in ("config", "config.local"):
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            parser.read(root / ".dvc" / file)
        except configparser.Error:
            continue
        names |= {
            one.strip("'").removeprefix("remote ").strip('"'): None for one in parser.sections() if "remote " in one
        }
    return list(names)


def _runs(root: Path) -> list[Leftover]:
    """MLflow's runs and models."""
    uri = tracking_uri(root)
    if uri is None or (uri.startswith("sqlite:///") and not Path(uri.removeprefix("sqlite:///")).exists()):
        return []
    shown = without_password(uri)
    runs = [run for path in sorted((root / "reports" / "runs").glob("*.json")) if (run := run_id_of(root, path.stem))]
    what = (
        f"MLflow at {shown}: runs with figures and pictures of people, and registered models that learnt from the "
        "person; the newest runs are below, `difflora registry list` has others"
    )
    commands = tuple(f"mlflow runs delete --run-id {run}" for run in runs)
    return [Leftover(what, (*commands, f"mlflow gc --backend-store-uri {shlex.quote(shown)}"))]

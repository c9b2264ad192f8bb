"""``difflora doctor``: what is here, what is missing, what to mind."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from difflora.errors import DiffLoRAError
from difflora.stages.needs import needs_of
from difflora.stages.params import load_params
from difflora.stages.presets import preset_names, preset_path
from difflora.stages.store import check_server, tracking_uri, without_password
from difflora.weights.catalogue import INSIGHTFACE, card_licence, is_insightface

Verdict = Literal["ok", "note", "missing"]

_PACKAGES = ("difflora", "torch", "diffusers", "transformers", "peft", "accelerate", "onnxruntime", "insightface")
_EXTRAS = {"pipeline": ("prefect", "mlflow", "dvc"), "gpu": ("triton",), "ray": ("ray", "prefect-ray")}
_LEAST_GIB = 5


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        topic: versions, devices, presets, weights, servers or licences.
        verdict: ``missing`` where the chain of this workspace cannot run without it.
        text: what was found, and what to do.
    """

    topic: str
    verdict: Verdict
    text: str


def examine(root: Path) -> list[Finding]:
    """Looks at everything; nothing is changed.

    Args:
        root: of the workspace.
    """
    return [*_versions(), *_devices(root), *_presets(root), *_servers(root), *_chain(root)]


def _versions() -> list[Finding]:
    found = [f"{name} {_version(name)}" for name in _PACKAGES]
    lines = [Finding("versions", "ok", ", ".join(found))]
    for extra, names in _EXTRAS.items():
        missing = [name for name in names if _version(name) is None]
        if missing:
            text = f"extra {extra}: {', '.join(missing)} not installed; pip install 'difflora[{extra}]'"
            lines.append(Finding("versions", "note", text))
        else:
            lines.append(Finding("versions", "ok", ", ".join(f"{name} {_version(name)}" for name in names)))
    return lines


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices(root: Path) -> list[Finding]:
    import torch

    free = shutil.disk_usage(root).free / 2**30
    names = [torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count())]
    text = f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()}; GPUs: {', '.join(names) or 'none'}"
    disk = Finding("devices", "ok" if free > _LEAST_GIB else "note", f"{free:.0f} GiB free in {root.resolve()}")
    return [Finding("devices", "ok", text), disk]


def _presets(root: Path) -> list[Finding]:
    found = []
    for name in preset_names():
        path = preset_path(name)
        try:
            missing = [str(need.path) for need in needs_of(load_params(path)) if not need.there(root)]
            text = f"{path.name}: {'bring ' + ', '.join(missing) if missing else 'ready'}"
            found.append(Finding("presets", "note" if missing else "ok", text))
        except DiffLoRAError as error:
            found.append(Finding("presets", "missing", str(error)))
    return found


def _servers(root: Path) -> list[Finding]:
    found = []
    uri = tracking_uri(root)
    if uri is None:
        found.append(Finding("servers", "note", "MLflow: nothing is tracked"))
    else:
        try:
            check_server(uri)
            found.append(Finding("servers", "ok", f"MLflow: {without_password(uri)}"))
        except DiffLoRAError as error:
            found.append(Finding("servers", "note", f"MLflow: {error}"))
    api = os.environ.get("PREFECT_API_URL")
    if not api:
        found.append(Finding("servers", "note", "Prefect: PREFECT_API_URL is not set; `make up` starts a server"))
        return found
    try:
        with urllib.request.urlopen(f"{api.rstrip('/')}/health", timeout=5):
            found.append(Finding("servers", "ok", f"Prefect: {without_password(api)}"))
    except (OSError, ValueError) as error:
        text = f"Prefect: {without_password(api)} does not answer ({error}); `make up` starts a server"
        found.append(Finding("servers", "note", text))
    return found


def _chain(root: Path) -> list[Finding]:
    """Weights and licences of this workspace's own parameters."""
    try:
        params = load_params(root / "params.yaml")
    except DiffLoRAError as error:
        return [Finding("weights", "missing", str(error))]
    found = []
    for need in needs_of(params):
        there = need.there(root)
        text = f"{need.path}" if there else f"{need.path}: not there; {need.advice()}"
        found.append(Finding("weights", "ok" if there else "missing", text))
    faces, places = params.models.faces, {"base model": params.models.base.folder}
    if faces.pack is not None:
        places["face pack"] = faces.folder
        if is_insightface(faces.pack):
            found.append(Finding("licences", "note", f"face pack {faces.pack}: {INSIGHTFACE}"))
    for name, place in places.items():
        found.append(
            Finding("licences", "note", f"{name}: {card_licence(root / place) or 'look it up where it is from'}")
        )
    if params.register_.include_encoders:
        text = "register.include_encoders is on: the shipped folder passes the encoders on, under their licences"
        found.append(Finding("licences", "note", text))
    return found

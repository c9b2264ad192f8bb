"""A model folder as a registered candidate: models-from-code, with hashes of all that a promotion rests on."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from difflora.errors import BadFile
from difflora.files import sha256_file
from difflora.folders import read_json
from difflora.manifest import NAME, check_manifest

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature

    from difflora.stages.params import Params

VERSION, MANIFEST, PROTOCOL = "difflora.version", "difflora.manifest_sha256", "difflora.protocol"
FILES = "difflora.files_sha256"
FIGURES, PEOPLE = "evaluation.json", "evaluation_people.json"
CODE = Path(__file__).parents[2] / "mlflow" / "personalize.py"
_ADDED = ("registered_model_meta",)
_OPTIONS = ("num_inference_steps", "guidance_scale", "strength", "scale")


def protocol(params: Params) -> str:
    """Tells on what, with which prompts and seeds an evaluation is made; only equal ones are compared.

    Paths are left out, they differ between machines.
    """
    shown = {"sheet_people", "store_pictures"}
    chosen = params.evaluate.model_dump(mode="json", exclude={"independent", "agreement_options", *shown})
    facts = {"evaluate": chosen, "base": params.models.base.name, "faces": params.models.faces.pack}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def tags_of(params: Params, model: Path) -> dict[str, str]:
    """What a registered version says of itself, so that changed bytes are found."""
    return {
        VERSION: str(read_json(model / "model_index.json")["version"]),
        MANIFEST: sha256_file(model / NAME),
        PROTOCOL: protocol(params),
    }


def log_model(client: Any, run_id: str, model: Path, reports: Path) -> tuple[str, str]:
    """Saves a folder as a pyfunc model into a run; gives the model's URI and the hash of all its files.

    Args:
        client: of the store.
        run_id: of the run.
        model: the pipeline's folder.
        reports: the folder of its figures.

    Raises:
        BadFile: if the model's code is not there.
    """
    if not CODE.is_file():
        raise BadFile(f"{CODE}: no such file; register from a clone of the repository, installed by `pip install -e .`")
    from mlflow import pyfunc

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "model"
        pyfunc.save_model(
            folder,
            python_model=str(CODE),
            artifacts={
                "pipeline": str(model.resolve()),
                "figures": str((reports / FIGURES).resolve()),
                "people": str((reports / PEOPLE).resolve()),
            },
            signature=signature(read_json(model / "model_index.json")),
            pip_requirements=["difflora"],
            model_config={"manifest_sha256": sha256_file(model / NAME)},
        )
        client.log_artifacts(run_id, str(folder), "model")
        return f"{client.get_run(run_id).info.artifact_uri}/model", _files_digest(folder)


def _files_digest(folder: Path) -> str:
    """Tells a model's files apart, its code among them; what MLflow adds when it fetches them does not count."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in _ADDED)
    lines = [f"{path.relative_to(folder).as_posix()} {sha256_file(path)}" for path in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def signature(index: Mapping[str, Any]) -> ModelSignature:
    """Picture and options in, file and metadata out; defaults are the model's own.

    Args:
        index: its ``model_index.json``.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    kinds = {"num_inference_steps": "long"}
    return ModelSignature(
        inputs=Schema([ColSpec("string", "image")]),
        outputs=Schema([ColSpec("string", "lora"), ColSpec("string", "metadata")]),
        params=ParamSchema(
            [
                ParamSpec("seed", "long", 0),
                *(ParamSpec(n, kinds.get(n, "double"), _default(n, index)) for n in _OPTIONS),
            ]
        ),
    )


def _default(name: str, index: Mapping[str, Any]) -> int | float:
    return int(index[name]) if name == "num_inference_steps" else float(index[name])


def fetch(version: ModelVersion, place: Path) -> Path:
    """Downloads a version's files and compares all hashes with what was registered.

    Args:
        version: of the registry.
        place: an empty folder.

    Returns:
        The folder with ``pipeline``, ``evaluation.json`` and ``evaluation_people.json`` in it.

    Raises:
        BadFile: if a file is missing or was changed; it is named.
    """
    from mlflow.artifacts import download_artifacts

    name = f"{version.name} version {version.version}"
    try:
        root = Path(download_artifacts(f"models:/{version.name}/{version.version}", dst_path=str(place)))
    except Exception as error:
        raise BadFile(f"{name}: its files cannot be fetched ({str(error).splitlines()[0]}); restore them") from error
    folder = root / "artifacts"
    stored = next((path.parent for path in folder.glob(f"*/{NAME}")), None)
    if stored is None:
        raise BadFile(f"{name}: holds no {NAME}; restore its files, or register the model again")
    try:
        check_manifest(stored)
    except BadFile as error:
        raise BadFile(f"{name}: {error}") from error
    if sha256_file(stored / NAME) != version.tags.get(MANIFEST):
        raise BadFile(f"{name}: {NAME} is not what was registered (its sha256 differs); restore it")
    if _files_digest(root) != version.tags.get(FILES):
        raise BadFile(
            f"{name}: its code or figures are not what was registered (their sha256 differs); restore the files "
            "beside the pipeline's folder, or register the model again"
        )
    if stored.name != "pipeline":
        stored = stored.rename(folder / "pipeline")
    return folder

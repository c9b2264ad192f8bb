"""Step ``register``: the model's folder as it is shipped, with its manifest and model card."""

from __future__ import annotations

from typing import Any

from difflora.evaluation.page import EVALUATE
from difflora.files import write_atomic
from difflora.folders import read_json, whole_folder
from difflora.manifest import check_manifest, write_manifest
from difflora.models import DiffLoRAPipeline
from difflora.stages.card import model_card
from difflora.stages.tracking import SILENT, Tracker
from difflora.stages.version import model_version
from difflora.stages.workspace import Workspace


def run(workspace: Workspace, tracker: Tracker = SILENT) -> None:
    """Writes ``models/difflora``: the pipeline with its encoders and the strength that the evaluation chose.

    Where runs are tracked it is registered as a candidate, once.
    """
    params = workspace.params
    figures: dict[str, Any] = read_json(workspace.report("evaluation.json"), EVALUATE)
    pipeline = DiffLoRAPipeline.from_pretrained(
        workspace.there(workspace.dit, "dit"),
        face_encoder=workspace.open_faces(),
        image_encoder=workspace.open_images(),
    )
    pipeline.register_to_config(
        num_inference_steps=params.register_.num_inference_steps,
        guidance_scale=params.register_.guidance_scale,
        strength=float(figures["strength"]["generated"]),
        version=model_version(pipeline, params.register_.name),
    )
    with whole_folder(workspace.model) as folder:
        pipeline.save_pretrained(folder, encoders=params.register_.include_encoders)
        write_atomic(folder / "README.md", model_card(params, pipeline, figures).encode())
        write_manifest(folder)
    check_manifest(workspace.model)
    tracker.artifact(workspace.model / "README.md")
    if params.register_.registry is None or tracker.run_id is None:
        return
    from difflora.stages.registry import Registry

    Registry(workspace.root).register(
        params, tracker.run_id, workspace.model, workspace.root / "reports", params.register_.registry
    )

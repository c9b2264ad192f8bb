"""Step ``evaluate``: the ladder on people that no model has seen (paper, 4)."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

from difflora.evaluation.agreement import load_agreement
from difflora.evaluation.ladder import Ladder, climb
from difflora.evaluation.likeness import Likeness
from difflora.evaluation.metrics import PictureMetrics
from difflora.evaluation.report import by_person, summarise
from difflora.evaluation.rows import Rivals
from difflora.evaluation.sheet import people_sheet
from difflora.files import write_atomic, write_json
from difflora.models import DiffLoRAPipeline, LoraAutoencoder, make_scheduler
from difflora.models.portable import load_model
from difflora.stages.tracking import SILENT, Tracker
from difflora.stages.workspace import Workspace
from difflora.training import ConditionFeatures
from difflora.training.rows import LoraRows

_LEFT = ("evaluation.json", "evaluation_people.json", "people.png")


def run(workspace: Workspace, tracker: Tracker = SILENT) -> None:
    """Draws and scores every rung; `difflora figures` shows what came out.

    Writes ``reports/evaluation.json``, ``reports/evaluation_people.json`` and ``reports/people.png``.
    """
    ladder, figures = measure(workspace)
    write_json(workspace.report("evaluation.json"), figures)
    write_json(workspace.report("evaluation_people.json"), by_person(ladder))
    if count := workspace.params.evaluate.sheet_people:
        write_atomic(workspace.report("people.png"), people_sheet(ladder, count))
    tracker.metrics({name: figures[name] for name in ("methods", "fraction", "paired", "strength") if figures[name]})
    tracker.artifact(*(workspace.report(name) for name in _LEFT))


def measure(workspace: Workspace, model: Path | None = None) -> tuple[Ladder, dict[str, Any]]:
    """Measures any hypernetwork on the workspace's people, prompts and seeds; gives the ladder and its figures.

    Args:
        workspace: with people, corpus, features and autoencoder.
        model: a pipeline's folder; None for the output of ``dit``.

    Raises:
        BadFile: if something was not made yet, or is damaged.
        BadParameter: if the parts do not fit together.
    """
    params, corpus, people = workspace.params, workspace.open_corpus(), workspace.open_people()
    chosen, faces = params.evaluate, workspace.open_faces()
    pipeline = DiffLoRAPipeline.from_pretrained(
        model or workspace.there(workspace.dit, "dit"),
        face_encoder=faces,
        image_encoder=workspace.open_images(),
        device=params.models.device,
    )
    pipeline.set_progress_bar_config(disable=True)
    if chosen.sampler != "ddim":
        pipeline.scheduler = make_scheduler(params.dit.noise, params.dit.model.prediction_type, chosen.sampler)
    rows = LoraRows(corpus, "train", canonical_form=params.lae.canonical_form)
    ladder = climb(
        workspace.open_base(),
        people,
        corpus,
        Rivals.of(rows, ConditionFeatures.load(workspace.features), chosen.regression, chosen.seed),
        load_model(LoraAutoencoder, workspace.there(workspace.lae, "lae"), params.models.device),
        pipeline,
        Likeness(faces, chosen.independent),
        load_agreement(chosen.agreement, chosen.agreement_options) if chosen.agreement else None,
        chosen,
        metrics=PictureMetrics(chosen.metrics, people, params.models.device),
    )
    figures = summarise(ladder, chosen)
    figures["setting"] = {
        "base": params.models.base.name,
        "corpus": corpus.digest,
        "train_people": len(corpus.indices("train")),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
    }
    return ladder, figures

"""Step ``evaluate``: the ladder on people that no model has seen (paper, 4)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from difflora.encoders.subject import WHOLE_PICTURES, SubjectEncoder
from difflora.errors import DiffLoRAError
from difflora.evaluation.agreement import load_agreement
from difflora.evaluation.gallery import keep_pictures
from difflora.evaluation.ladder import Ladder, climb
from difflora.evaluation.likeness import Likeness
from difflora.evaluation.metrics import PictureMetrics
from difflora.evaluation.page import write_page
from difflora.evaluation.ranking import rank
from difflora.evaluation.report import by_person, summarise
from difflora.evaluation.rivals import Rivals
from difflora.evaluation.sheet import people_sheet
from difflora.files import write_atomic, write_json
from difflora.folders import read_json
from difflora.machine import processor
from difflora.models import DiffLoRAPipeline, LoraAutoencoder, make_scheduler
from difflora.models.portable import load_model
from difflora.stages.lineage import commit_of, input_hashes
from difflora.stages.params import Params, load_params
from difflora.stages.tracking import SILENT, Tracker
from difflora.stages.version import model_version
from difflora.stages.workspace import Workspace
from difflora.training import ConditionFeatures
from difflora.training.rows import LoraRows

_LOGGED = ("methods", "fraction", "paired", "losses", "strength")
_LEFT = ("evaluation.json", "evaluation_people.json", "people.png", "evaluation.html", "evaluation.md")


def run(workspace: Workspace, tracker: Tracker = SILENT) -> None:
    """Draws and scores every rung; `difflora figures` shows what came out.

    Writes ``reports/evaluation.json``, ``reports/evaluation_people.json``, ``reports/people.png``, the pictures of some
    people in ``reports/pictures``, and all of it as a page: ``reports/evaluation.html`` and ``reports/evaluation.md``.
    """
    ladder, figures = measure(workspace)
    write_results(workspace, ladder, figures, workspace.report("evaluation.json").parent)
    tracker.metrics({name: figures[name] for name in _LOGGED if figures[name]})
    tracker.artifact(*(workspace.report(name) for name in _LEFT))


def write_results(workspace: Workspace, ladder: Ladder, figures: dict[str, Any], folder: Path) -> None:
    """Writes what was measured, with where it came from, into a folder.

    Args:
        workspace: of the chain.
        ladder: of ``measure``.
        figures: of ``measure``; their ``setting`` gets the lineage.
        folder: made if missing.
    """
    kept = workspace.params.evaluate.store_pictures
    figures["setting"] |= lineage(workspace)
    people = by_person(ladder)
    write_json(folder / "evaluation.json", figures)
    write_json(folder / "evaluation_people.json", people)
    ranking = rank(people)
    extremes = [*ranking.successes(kept.extremes), *ranking.failures(kept.extremes)]
    keep_pictures(folder / "pictures", ladder, kept, [one.person for one in extremes])
    if count := workspace.params.evaluate.sheet_people:
        write_atomic(folder / "people.png", people_sheet(ladder, count))
    write_page(folder, kept.extremes)


def open_pipeline(workspace: Workspace, faces: SubjectEncoder, model: Path | None = None) -> DiffLoRAPipeline:
    """A hypernetwork with the workspace's encoders and sampler, without a bar of its own.

    Args:
        workspace: of the chain.
        faces: the face pack.
        model: a pipeline's folder; None for the output of ``dit``.

    Raises:
        BadFile: if it was not made yet, or is damaged.
        BadParameter: if its parts do not fit together.
    """
    params = workspace.params
    pipeline = DiffLoRAPipeline.from_pretrained(
        model or workspace.there(workspace.dit, "dit"),
        face_encoder=faces,
        image_encoder=workspace.open_images(),
        device=params.models.device,
    )
    pipeline.set_progress_bar_config(disable=True)
    if (sampler := params.evaluate.sampler) != "ddim":
        pipeline.scheduler = make_scheduler(params.dit.noise, params.dit.model.prediction_type, sampler)
    return pipeline


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
    pipeline = open_pipeline(workspace, faces, model)
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
        train_seconds=_train_seconds(workspace),
    )
    figures = summarise(ladder, chosen)
    figures["setting"] = {
        "model": pipeline.config.version or model_version(pipeline, params.register_.name),
        "base": params.models.base.name,
        "pictures": params.identities.source,
        "subjects": "faces" if faces.OF_FACES else WHOLE_PICTURES,
        "corpus": corpus.digest,
        "train_people": len(corpus.indices("train")),
        "machine": f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
    }
    return ladder, figures


def _train_seconds(workspace: Workspace) -> float | None:
    """Of a LoRA, as the step ``corpus`` measured it; None where it did not."""
    place = workspace.report("corpus.json")
    found = read_json(place).get("train_seconds") if place.exists() else None
    return float(found["each"]) if isinstance(found, dict) else None


def lineage(workspace: Workspace) -> dict[str, Any]:
    """Which parameters, which code and which data: the preset's name, the commit, the md5 that DVC keeps of each input.

    What is not known, outside a repository or without DVC, is null.
    """
    presets = sorted((workspace.root / "presets").glob("*.yaml"))
    same = next((path.stem for path in presets if _holds(path, workspace.params)), None)
    git = commit_of(workspace.root)
    changed = ", with changes that are not committed" if git.get("git.dirty") == "true" else ""
    return {
        "preset": same or "none: own parameters",
        "commit": f"{git['mlflow.source.git.commit']}{changed}" if git else None,
        "data": input_hashes(workspace.root, "evaluate") or None,
    }


def _holds(preset: Path, params: Params) -> bool:
    """Whether a preset has these parameters; a broken one has none, and is no reason to lose what was measured."""
    try:
        return load_params(preset) == params
    except DiffLoRAError:
        return False

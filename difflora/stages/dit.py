"""Step ``dit``: the diffusion transformer, and both models through the base (paper, 3.3, 3.4)."""

from __future__ import annotations

from collections import Counter

from difflora import processes
from difflora.encoders.face_gradient import FaceGradient
from difflora.encoders.faces import InsightFaceEncoder
from difflora.encoders.subject import SubjectEncoder
from difflora.files import write_json
from difflora.models import DiffLoRAPipeline, LoraAutoencoder, make_scheduler
from difflora.models.portable import load_model
from difflora.stages.curves import write_curve
from difflora.stages.tracking import SILENT, Tracker
from difflora.stages.workspace import Workspace
from difflora.training import ConditionFeatures, encode_people, train_dit


def run(workspace: Workspace, tracker: Tracker = SILENT) -> None:
    """Computes the conditions and trains the transformer, with ``dit.effect`` and ``dit.refine`` through the base too.

    Writes ``models/dit``, ``data/features.safetensors``, ``reports/dit.json`` and the losses: ``reports/dit_loss.csv``,
    ``reports/effect_loss.csv`` and ``reports/refine_loss.csv``.
    """
    params, corpus, people = workspace.params, workspace.open_corpus(), workspace.open_people()
    lae = load_model(LoraAutoencoder, workspace.there(workspace.lae, "lae"), params.models.device)
    start, faces, images = workspace.start(), workspace.open_faces(), workspace.open_images()
    through = params.dit.through_base
    names = [entry.identity for entry in corpus.entries if entry.split != "test"]
    if through:  # it learns from pictures, and needs nobody's LoRA
        names += workspace.also_learnt_from(people, corpus)
    words = [entry.class_word for entry in corpus.entries if entry.split == "train"]
    if processes.is_main():
        encode_people(people, names, faces, images, pictures=params.dit.pictures).save(workspace.features)
    processes.wait_for_all(params.models.device)
    features = ConditionFeatures.load(workspace.features)
    inputs = [workspace.corpus / "index.jsonl", workspace.people / "people.jsonl", workspace.features]
    inputs += sorted(workspace.lae.glob("*.safetensors"))
    section = {**params.dit.model_dump(mode="json"), "continue_from": str(params.continue_from)}
    with workspace.checkpoint("dit", section, inputs) as folder:
        trained = train_dit(
            corpus,
            lae,
            features,
            params.dit,
            checkpoint=folder,
            canonical_form=params.lae.canonical_form,
            base=workspace.open_base() if through else None,
            people=people if through else None,
            faces=_gradient(faces) if params.dit.needs_faces else None,
            start=None if start is None else start.transformer,
            accelerator=processes.make_accelerator(params.models.device),
            on_log=tracker.curve("dit"),
            on_effect_log=tracker.curve("effect"),
            on_refine_log=tracker.curve("refine"),
        )
        if processes.is_main():
            pipeline = DiffLoRAPipeline(
                trained.lae,
                trained.transformer,
                make_scheduler(params.dit.noise, params.dit.model.prediction_type),
                faces,
                images,
                num_inference_steps=params.register_.num_inference_steps,
                guidance_scale=params.register_.guidance_scale,
                class_words=", ".join(word for word, _ in Counter(words).most_common()),
            )
            pipeline.save_pretrained(workspace.dit, encoders=False)
            write_curve(workspace.report("dit_loss.csv"), trained.report.history)
            write_curve(
                workspace.report("effect_loss.csv"), trained.effect_report.history if trained.effect_report else []
            )
            write_curve(workspace.report("refine_loss.csv"), trained.refined)
            write_json(workspace.report("dit.json"), {**trained.metrics, "loss": trained.report.history[-1]["loss"]})
        processes.wait_for_all(params.models.device)
    tracker.metrics(trained.metrics)
    tracker.artifact(
        *(workspace.report(name) for name in ("dit.json", "dit_loss.csv", "effect_loss.csv", "refine_loss.csv"))
    )


def _gradient(faces: SubjectEncoder) -> FaceGradient | None:
    """The recogniser that drawn faces are compared by; None for a CLIP that sees whole pictures."""
    return FaceGradient(faces) if isinstance(faces, InsightFaceEncoder) else None

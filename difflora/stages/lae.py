"""Step ``lae``: the LoRA autoencoder (paper, 3.2)."""

from __future__ import annotations

from difflora import processes
from difflora.files import write_json
from difflora.models.portable import save_model
from difflora.stages.curves import write_curve, write_modules
from difflora.stages.tracking import SILENT, Tracker
from difflora.stages.workspace import Workspace
from difflora.training import train_lae


def run(workspace: Workspace, tracker: Tracker = SILENT) -> None:
    """Trains the autoencoder on the training people's LoRAs.

    Writes ``models/lae``, ``reports/lae.json``, its losses, ``reports/lae_loss.csv``, and how much of each module's
    weights it explains, of people held out where there are some, ``reports/lae_modules.csv``.
    """
    params, corpus = workspace.params, workspace.open_corpus()
    start = workspace.start()
    section = {**params.lae.model_dump(mode="json"), "continue_from": str(params.continue_from)}
    with workspace.checkpoint("lae", section, [workspace.corpus / "index.jsonl"]) as folder:
        trained = train_lae(
            corpus,
            params.lae,
            checkpoint=folder,
            base=workspace.open_base().name,
            alpha=params.corpus.dreambooth.alpha,
            trigger_prompt=params.models.base.trigger_prompt,
            start=None if start is None else start.lae,
            accelerator=processes.make_accelerator(params.models.device),
            on_log=tracker.curve("lae"),
        )
        if processes.is_main():
            save_model(trained.model, workspace.lae)
            write_curve(workspace.report("lae_loss.csv"), trained.report.history)
            write_modules(workspace.report("lae_modules.csv"), trained.modules, "explained")
            write_json(workspace.report("lae.json"), {**trained.metrics, "loss": trained.report.history[-1]["loss"]})
        processes.wait_for_all(params.models.device)
    tracker.metrics(trained.metrics)
    tracker.artifact(*(workspace.report(name) for name in ("lae.json", "lae_loss.csv", "lae_modules.csv")))

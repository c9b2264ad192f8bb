"""The model card of a shipped hypernetwork."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from difflora.evaluation.intervals import in_words
from difflora.evaluation.markdown import escape, table_lines
from difflora.evaluation.tables import (
    Table,
    about_subjects,
    grid_table,
    metric_notes,
    metrics_in,
    seconds_table,
    with_missing,
    with_strengths,
)
from difflora.models import DiffLoRAPipeline
from difflora.stages.params import Params

_LIKENESS = ("face_sim", "face_sim_independent", "agreement", "faces_found")


def model_card(params: Params, pipeline: DiffLoRAPipeline, figures: Mapping[str, Any]) -> str:
    """Markdown: what the model is, how to use it, what was measured and what that does not show.

    Args:
        params: of the chain that made it.
        pipeline: the model.
        figures: of ``reports/evaluation.json``.
    """
    layout, base = pipeline.lae.layout, params.models.base
    fraction = figures["fraction"]["face_sim"]
    return "\n".join(
        [
            f"# {pipeline.config.version}",
            "",
            f"From one photograph of a person to a LoRA for `{base.name}`: {len(layout.modules)} modules, rank "
            f"{layout.rank}, {layout.size:,} numbers. Trained on {figures['setting']['train_people']} people's "
            f"DreamBooth LoRAs; pictures from `{params.identities.source}`.",
            "",
            "```python",
            "from difflora.models import DiffLoRAPipeline",
            "",
            'lora = DiffLoRAPipeline.from_pretrained("models/difflora")("photo.jpg").lora',
            'lora.save("me.safetensors")   # pipe.load_lora_weights("me.safetensors") in diffusers',
            "```",
            "",
            f"Defaults: {pipeline.config.num_inference_steps} steps, guidance {pipeline.config.guidance_scale:g}, "
            f"strength {pipeline.config.strength:g}. Trigger prompt: "
            + (f"`{base.trigger_prompt}`." if base.trigger_prompt else "none is needed."),
            "",
            f"## Measured on {figures['people']} people whom no model has seen",
            "",
            f"One reference JPEG each, {figures['prompts']} prompts, scored against other pictures of the person; mean "
            "and 95% bootstrap interval over people, each method at the strength chosen for it on other people.",
            "",
            *_measured(figures),
            f"(generated - base) / (teacher - base) by the pack that also conditions: {_cell(fraction)}.",
            "",
            *(
                line
                for key, one in (figures.get("losses") or {}).items()
                if one["says"]
                for line in (f"By `{key}`: {one['says']}", "")
            ),
            "## What this does not show",
            "",
            "Likeness is a recogniser's opinion; the pack that conditions and filters also scores, so the independent "
            f"column counts more where there is one. All of it is about pictures from `{params.identities.source}` and "
            f"the base model `{base.name}`, and says nothing of others. Encoders have licences of their own.",
            "",
        ]
    )


def _measured(figures: Mapping[str, Any]) -> list[str]:
    """A table of likeness, one of what else pictures were measured by, and one of seconds, each with its words."""
    rows = with_missing(figures)
    shown = metrics_in(rows)
    likeness = [key for key in shown if key in _LIKENESS]
    rest = [key for key in shown if key not in _LIKENESS]
    first = grid_table("Likeness and prompts", rows, likeness, metric_notes(likeness, figures))
    tables = [with_strengths(first, list(rows), figures["strength"])]
    if rest:
        notes = metric_notes(rest, figures)
        if (reference := figures.get("fid_reference")) is not None:
            about = f"FID and KID: by {figures['fid_features']} against {reference['pictures']} {reference['name']}."
            notes = (*notes, about)
        tables.append(grid_table("Pictures", rows, rest, notes))
    seconds = seconds_table(figures)
    if seconds.rows:
        tables.append(replace(seconds, title="Seconds of one person, and of one picture for images"))
    return [line for table in tables for line in _lines(about_subjects(table, figures))]


def _lines(table: Table) -> list[str]:
    notes = [f"- {escape(note)}" for note in table.notes]
    return [f"### {table.title}", "", table_lines(table), "", *notes, *([""] if notes else [])]


def _cell(figure: Mapping[str, float] | None) -> str:
    if figure is None:
        return "not known, the teacher gains nothing"
    return in_words(figure)

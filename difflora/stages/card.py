"""The model card of a shipped hypernetwork."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from difflora.evaluation.intervals import in_words
from difflora.models import DiffLoRAPipeline
from difflora.stages.params import Params

_COLUMNS = ("face_sim", "face_sim_independent", "agreement", "faces_found")


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
            "| method | strength | " + " | ".join(name.replace("_", " ") for name in _COLUMNS) + " |",
            "|" + "---|" * (2 + len(_COLUMNS)),
            *(_row(name, figures) for name in figures["methods"]),
            "",
            f"(generated - base) / (teacher - base) by the pack that also conditions: {_cell(fraction)}.",
            "",
            "## What this does not show",
            "",
            "Likeness is a recogniser's opinion; the pack that conditions and filters also scores, so the independent "
            f"column counts more where there is one. All of it is about pictures from `{params.identities.source}` and "
            f"the base model `{base.name}`, and says nothing of others. Encoders have licences of their own.",
            "",
        ]
    )


def _row(name: str, figures: Mapping[str, Any]) -> str:
    row, strength = figures["methods"][name], figures["strength"].get(name)
    cells = [_cell(row[key]) if key in row else "" for key in _COLUMNS]
    return f"| {name} | {f'{strength:g}' if strength else ''} | " + " | ".join(cells) + " |"


def _cell(figure: Mapping[str, float] | None) -> str:
    if figure is None:
        return "not known, the teacher gains nothing"
    return in_words(figure)

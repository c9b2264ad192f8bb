"""The model card of the embedded world, written from its manifest."""

from __future__ import annotations

from pathlib import Path

from difflora.files import write_atomic
from difflora.world.manifest import Manifest, ModelRecord
from difflora.world.registry import MODELS, WorldModel
from difflora.world.verify import goal_in_words

_HEAD = """\
---
license: apache-2.0
library_name: diffusers
tags: [text-to-image, face-recognition, synthetic]
---

# The embedded world

Small models of a rendered world, in the formats of the real ones, so that DiffLoRA runs and is measured on two CPU
cores. They are trained by `difflora world train` on pictures that `difflora.world.render` draws: 64x64 RGB, people
with 36 traits under scenes that a prompt controls. There is no photograph and no real person in the data, and the
weights are Apache-2.0 like the code.

![People drawn by the base model, a row a prompt](../../docs/images/people.png)

![Renders that the models were trained on, a row a person](../../docs/images/renders.png)
"""

_LIMITS = """\
## Limits

- They know this world alone: a photograph of a real person means nothing to them, and a prompt outside the captions'
  vocabulary is ignored. A result in this world is a result about this world.
- The detector learnt from an earlier look of the renderer (smaller faces, busier places, thinner lines); its figures
  above were measured on pictures as they are drawn now.
- The base's first 4,000 steps were made without attention on its first level, before eyes, nose and mouth counted more
  and middle timesteps were drawn oftener; its settings are those of the other 4,400. Trained anew by its command it
  would differ by that.
- The recogniser both conditions and scores; read likeness beside the independent recogniser's figure.
- Skin tone, face shape and hair are drawn independently and evenly, which no population is. Gender is one of two words
  because the captions need a class word.
- 64x64 pixels and 16x16 latents: fine detail (a mole, the iris) is near the limit of what a picture can hold.
"""


def write_card(assets: Path, manifest: Manifest) -> None:
    """Writes ``README.md`` into the assets folder, atomically."""
    write_atomic(assets / "README.md", card_text(manifest).encode())


def card_text(manifest: Manifest) -> str:
    """The card as Markdown."""
    known = [(model, manifest.models[model.name]) for model in MODELS if model.name in manifest.models]
    parts = [_HEAD, _models_table(known, manifest), _bars_table(known), _origin(known), _LIMITS]
    return "\n".join(parts)


def _models_table(known: list[tuple[WorldModel, ModelRecord]], manifest: Manifest) -> str:
    lines = ["## What each folder is", "", "| model | files | MB | |", "|---|---|---|---|"]
    for model, record in known:
        size = sum(file.bytes for file in record.files) / 1e6
        places = ", ".join(f"`{pattern}`" for pattern in model.files)
        lines.append(f"| {model.name} | {places} | {size:.1f} | {model.about} |")
    lines += ["", f"All files together: {manifest.megabytes:.1f} MB. `MANIFEST.json` has the sha256 of each;"]
    lines += ["`difflora world manifest` checks them.", ""]
    return "\n".join(lines)


def _bars_table(known: list[tuple[WorldModel, ModelRecord]]) -> str:
    lines = ["## What was measured", ""]
    seeds = sorted({record.bars_seed for _, record in known if record.bars_seed is not None})
    if seeds:
        lines.append(
            f"On people, scenes and prompts of seed {', '.join(map(str, seeds))}, which no training saw. "
            "`difflora world verify --seed S` measures all of it again on others."
        )
    lines += ["", "| model | figure | goal | measured | |", "|---|---|---|---|---|"]
    for model, record in known:
        if not record.bars:
            lines.append(f"| {model.name} | not measured yet | - | - | |")
        for bar in record.bars:
            measured = "-" if bar.figure is None else f"{bar.figure:.4g}"
            verdict = "reported" if bar.goal is None else "passed" if bar.passed else "**failed**"
            lines.append(
                f"| {model.name} | {bar.name} | {goal_in_words(bar.goal, bar.at_least)} | {measured} | {verdict} |"
            )
    return "\n".join([*lines, ""])


def _origin(known: list[tuple[WorldModel, ModelRecord]]) -> str:
    lines = ["## How they came to be", ""]
    lines += ["| model | command | steps | minutes | machine | date |", "|---|---|---|---|---|---|"]
    for model, record in known:
        machine = record.machine.accelerator or f"{record.machine.cpu}, {record.machine.cores} cores"
        lines.append(
            f"| {model.name} | `{record.command}` | {record.steps:,} | {record.seconds / 60:.0f} | {machine}, "
            f"torch {record.machine.torch} | {record.date[:10]} |"
        )
    lines += [
        "",
        "Settings are in `MANIFEST.json`. Every training is seeded and resumable, and its data are drawn anew",
        "",
    ]
    lines[-2] += " from seeds where they are missing."
    return "\n".join(lines)

"""Fig. 6: references by methods by prompts, from the pictures that the evaluation keeps.

They lie in ``reports/pictures``; its ``index.json`` says, and other keys are passed over:

    {"strength": {"generated": 1.25, ...},
     "people": {ID: {"reference": FILE, ...}, ...},
     "scenes": [{"person": ID, "prompt": ..., "pictures": {METHOD: FILE, ...}, ...}, ...]}
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from difflora.encoders.pictures import read_picture
from difflora.errors import BadFile
from difflora.evaluation.figures.canvas import Drawing
from difflora.evaluation.figures.picture_table import picture_table
from difflora.folders import read_json
from difflora.grid import as_tensor

TITLES = {
    "base": "base model",
    "other": "another's\nLoRA",
    "retrieval": "nearest\nLoRA",
    "ridge": "ridge\nregression",
    "mlp": "MLP\nregression",
    "reconstruction": "recon-\nstruction",
    "generated": "DiffLoRA",
    "teacher": "own\nDreamBooth",
    "textual_inversion": "Textual\nInversion",
    "instantid": "InstantID",
    "photomaker": "PhotoMaker",
}
"""Of the methods' columns; others stand by their own name."""


@dataclass(frozen=True)
class MethodGrid:
    """Pictures of the first people under the first prompts.

    Attributes:
        methods: M of them, in the evaluation's order.
        strengths: of those methods that have one.
        references: (P, 3, H, W) float32 in [0, 1], brought to the size of the others.
        prompts: of each person, K sentences.
        pictures: of each person, (K, M, 3, H, W).
    """

    methods: list[str]
    strengths: dict[str, float]
    references: Tensor
    prompts: list[list[str]]
    pictures: list[Tensor]


def read_grid(folder: Path, people: int, prompts: int) -> MethodGrid:
    """Reads the first people's pictures.

    Args:
        folder: what the evaluation kept.
        people: how many at most.
        prompts: of each, how many at most.

    Raises:
        BadFile: if the index is missing or damaged, or lists no picture.
        BadImage: if a picture is missing or damaged.
    """
    place = folder / "index.json"
    index = read_json(place)
    try:
        scenes: dict[str, list[tuple[str, dict[str, str]]]] = {}
        for scene in index["scenes"]:
            scenes.setdefault(str(scene["person"]), []).append((str(scene["prompt"]), dict(scene["pictures"])))
        chosen = {identity: scenes[identity][:prompts] for identity in list(scenes)[:people]}
        methods = list(next(iter(chosen.values()))[0][1])
        files = [[[own[method] for method in methods] for _, own in shown] for shown in chosen.values()]
        references = [str(index["people"][identity]["reference"]) for identity in chosen]
        strengths = {str(name): float(value) for name, value in index["strength"].items()}
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
        raise BadFile(f"{place}: lists no pictures of methods ({error!r}); run `difflora stage evaluate`") from error
    pictures = [
        torch.stack([torch.stack([_load(folder / file) for file in row]) for row in rows]) for rows in files
    ]  # (K, M, 3, H, W) each
    height, width = pictures[0].shape[-2:]
    shown = torch.cat([as_tensor(read_picture(folder / file), (height, width)) for file in references])
    said = [[prompt for prompt, _ in own] for own in chosen.values()]
    return MethodGrid(methods, strengths, shown, said, pictures)


def draw_grid(grid: MethodGrid) -> Drawing:
    """A row a person and prompt, a column a method; the reference stands in the person's first row."""
    rows: list[list[Tensor | None]] = []
    labels = []
    for reference, prompts, pictures in zip(grid.references, grid.prompts, grid.pictures, strict=True):
        for place, prompt in enumerate(prompts):
            rows.append([reference if place == 0 else None, *pictures[place]])
            labels.append(prompt)
    columns = ["reference", *(TITLES.get(method, method.replace("_", " ")) for method in grid.methods)]
    strengths = ", ".join(f"{name} {value:g}" for name, value in grid.strengths.items() if name in grid.methods)
    count = len(grid.prompts)
    return Drawing(
        picture_table(rows, labels, columns),
        "Fig. 6: reference, methods and prompts",
        f"The first {count} held-out people that the evaluation kept and its first prompts, none chosen; all methods "
        "draw a row from the same noise. The reconstruction, the person's own DreamBooth LoRA and Textual Inversion, "
        "where they are shown, come from more pictures of the person than the reference. Strengths: "
        f"{strengths or 'none'}.",
        f"A grid of pictures: {count} people, {len(rows)} rows of prompts, columns for the reference and for "
        f"{', '.join(name.replace('_', ' ') for name in grid.methods)}.",
    )


def _load(path: Path) -> Tensor:
    return torch.from_numpy(np.array(read_picture(path))).permute(2, 0, 1).float() / 255  # (3, H, W)

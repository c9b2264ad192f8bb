"""Fig. 6: references by methods by prompts, from the pictures that the evaluation keeps."""

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
from difflora.evaluation.gallery import Gallery
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
    """Pictures of the first people, none chosen, under the first prompts.

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
        folder: a ``Gallery``.
        people: how many at most.
        prompts: of each, how many at most.

    Raises:
        BadFile: if the index or a picture is missing, the index is damaged, or nobody was kept.
        BadParameter: for a key or value of the index that is not allowed.
        BadImage: if a picture is damaged.
    """
    gallery = Gallery.open(folder)
    first = [identity for identity, person in gallery.index.people.items() if not person.chosen]
    chosen = [identity for identity in first if gallery.scenes_of(identity)][:people]
    if not chosen:
        raise BadFile(f"{folder}: keeps pictures of nobody; set evaluate.store_pictures.people and evaluate again")
    scenes = [gallery.scenes_of(identity, one_a_prompt=True)[:prompts] for identity in chosen]
    everywhere = set.intersection(*(set(scene.pictures) for own in scenes for scene in own))
    methods = [method for method in scenes[0][0].pictures if method in everywhere]
    files = [[[gallery.path(scene.pictures[method]) for method in methods] for scene in own] for own in scenes]
    pictures = [
        torch.stack([torch.stack([_load(file) for file in row]) for row in rows]) for rows in files
    ]  # (K, M, 3, H, W) each
    height, width = pictures[0].shape[-2:]
    references = [gallery.path(gallery.index.people[identity].reference) for identity in chosen]
    shown = torch.cat([as_tensor(read_picture(file), (height, width)) for file in references])
    said = [[scene.prompt for scene in own] for own in scenes]
    return MethodGrid(methods, gallery.index.strength, shown, said, pictures)


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

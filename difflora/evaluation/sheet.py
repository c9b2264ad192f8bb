"""A grid of unseen people: the reference, then the base model, the hypernetwork's LoRA and the person's own."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from difflora.encoders.pictures import read_picture
from difflora.evaluation.ladder import Ladder
from difflora.evaluation.subjects import one_a_prompt
from difflora.grid import as_tensor, grid

_METHODS = (
    ("base", "the base model"),
    ("generated", "generated from the reference alone"),
    ("teacher", "its own DreamBooth LoRA"),
)


def people_sheet(ladder: Ladder, people: int) -> bytes:
    """A row a method and person, the first people in order and none chosen: PNG bytes.

    Each prompt whose pictures were kept is shown by its first one. The first picture of a row is the reference in the
    first row, and another real picture below it.

    Args:
        ladder: what was drawn.
        people: how many.
    """
    rows, labels = [], []
    methods = [(name, words) for name, words in _METHODS if name in ladder.best]
    for place, subject in enumerate(ladder.subjects[:people]):
        shape = ladder.best["base"].pictures.shape
        columns = one_a_prompt(subject.prompts[: shape[1]])
        reference = as_tensor(read_picture(subject.reference), (shape[-2], shape[-1]))  # (1, 3, H, W)
        others = F.interpolate(subject.pictures.float() / 255, shape[-2:], mode="bilinear", antialias=True)
        for line, (name, words) in enumerate(methods):
            first = reference if line == 0 else others[min(line - 1, len(others) - 1)][None]
            rows.append(torch.cat([first, ladder.best[name].pictures[place][columns].float() / 255]))
            strength = ladder.strengths.get(name)
            scores = ladder.best[name].scores
            labels.append(
                f"{subject.identity}: {'reference' if line == 0 else 'real'}, then {words}"
                + (f", S = {strength:g}" if strength else "")
                + f" (likeness {scores['face_sim'][place]:.2f})"
            )
    return grid(rows, labels)

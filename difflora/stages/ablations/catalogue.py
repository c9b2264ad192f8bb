"""What is ablated: names, words, and the parameters that change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from difflora.errors import BadParameter
from difflora.stages.params import Params
from difflora.validation import validated

FULL = "full"
"""The row that all others are compared with: nothing changed."""


@dataclass(frozen=True)
class Ablation:
    """One row.

    Attributes:
        name: what the command takes.
        says: in words.
        changes: dotted key of ``params.yaml`` -> value.
        against: the row that it differs from by one thing.
        loops: dotted key of a loop -> what it is where the chain's own has fewer steps.
    """

    name: str
    says: str
    changes: Mapping[str, Any]
    against: str = FULL
    loops: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def told(self) -> dict[str, Any]:
        """All that changes, as plain values."""
        return dict(self.changes) | {f"{key}, if shorter": dict(loop) for key, loop in self.loops.items()}


_COMPARED = {"evaluate.compared": 2}
_RANDOM_START = {"corpus.dreambooth.start": None, "corpus.dreambooth.freeze_a": False}
_OWN_STARTS = {**_RANDOM_START, "corpus.dreambooth.shared_start": False}
_WEIGHTS_ALONE = {"dit.effect.enabled": False, "dit.refine.rounds": 0}
_EFFECT_ALONE = {"dit.effect.enabled": True, "dit.refine.rounds": 0}
_PAPER = {**_WEIGHTS_ALONE, "lae.model.linear_path": False, "dit.model.linear_skip": False, "dit.mixup": 0.0}

# Without linear parts to begin at both models learn from nothing, and a chain that has them may stop long before.
_FROM_NOTHING: Mapping[str, Mapping[str, Any]] = {
    "lae.loop": {"steps": 1500, "lr": 1e-3},
    "dit.loop": {"steps": 3000, "lr": 2e-4, "warmup_steps": 100, "ema_decay": 0.995},
}

CATALOGUE: tuple[Ablation, ...] = (
    Ablation(FULL, "nothing changed", {}),
    Ablation("no_face", "no face feature (Table 3)", {"dit.model.use_face": False}),
    Ablation("no_image", "no image feature (Table 3)", {"dit.model.use_image": False}),
    Ablation("no_wp", "no weight-preserved loss (Table 3)", {"lae.wp_weight": 0.0}),
    Ablation("weights_only", "no training through the base model", _WEIGHTS_ALONE),
    Ablation("effect_alone", "through the base by its denoising loss, in the place of moved latents", _EFFECT_ALONE),
    Ablation("no_linear_path", "no PCA in the autoencoder", {"lae.model.linear_path": False}),
    Ablation("no_linear_skip", "no ridge regression in the transformer", {"dit.model.linear_skip": False}),
    Ablation("no_mixup", "people are not mixed in training", {"dit.mixup": 0.0}),
    Ablation(
        "paper_mode",
        "the paper's own mode: convolutions, attention, diffusion, and no more",
        _PAPER,
        loops=_FROM_NOTHING,
    ),
    Ablation(
        "paper_mode_no_wp",
        "the paper's mode without the WP loss",
        {**_PAPER, "lae.wp_weight": 0.0},
        "paper_mode",
        _FROM_NOTHING,
    ),
    Ablation("canonical_form", "LoRAs in canonical form", {"lae.canonical_form": True}),
    Ablation("random_start", "LoRAs from a random A, which is trained too", _RANDOM_START),
    Ablation("no_shared_start", "each LoRA from a random A of its own", _OWN_STARTS, "random_start"),
    Ablation(
        "no_shared_start_canonical",
        "starts of their own, then canonical form",
        {**_OWN_STARTS, "lae.canonical_form": True},
        "no_shared_start",
    ),
    *(
        Ablation(f"guidance_{scale:g}", f"guidance {scale:g} in sampling LoRAs", {"evaluate.guidance_scale": scale})
        for scale in (1.5, 2.0, 3.0)
    ),
    *(
        Ablation(f"steps_{steps}", f"{steps} sampling steps", {"evaluate.num_inference_steps": steps})
        for steps in (1, 10, 20, 50, 100)
    ),
    *(
        Ablation(
            f"dpm_{steps}",
            f"DPM-Solver++, {steps} steps",
            {"evaluate.sampler": "dpm++", "evaluate.num_inference_steps": steps},
            f"steps_{steps}",
        )
        for steps in (10, 20)
    ),
    *(
        Ablation(f"people_{count}", f"LoRAs of {count} training people", {"corpus.train_people": count})
        for count in (16, 32, 64, 128, 256)
    ),
    Ablation("references_1", "one reference, compared with two pictures", _COMPARED),
    *(
        Ablation(
            f"references_{count}",
            f"{count} references, averaged",
            {**_COMPARED, "evaluate.references": count},
            "references_1",
        )
        for count in (2, 4)
    ),
)
"""Every row, in the table's order."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "table3": ("no_face", "no_image", "no_wp"),
    "method": (
        "weights_only",
        "effect_alone",
        "no_linear_path",
        "no_linear_skip",
        "no_mixup",
        "paper_mode",
        "paper_mode_no_wp",
    ),
    "corpus": ("canonical_form", "random_start", "no_shared_start", "no_shared_start_canonical"),
    "sampling": tuple(row.name for row in CATALOGUE if row.name.startswith(("guidance_", "steps_", "dpm_"))),
    "people": tuple(row.name for row in CATALOGUE if row.name.startswith("people_")),
    "references": tuple(row.name for row in CATALOGUE if row.name.startswith("references_")),
}
"""Names that stand for several rows."""


def rows_called(names: list[str]) -> list[Ablation]:
    """The rows of names and groups with those that they are compared with, each once, in the catalogue's order.

    Args:
        names: of rows and groups; none for all.

    Raises:
        BadParameter: if there is no such row or group.
    """
    by_name = {row.name: row for row in CATALOGUE}
    wanted: set[str] = set()
    for name in names or list(by_name):
        if name not in by_name and name not in GROUPS:
            raise BadParameter(f"no ablation is called {name!r}; there are: {', '.join([*GROUPS, *by_name])}")
        wanted.update(GROUPS.get(name, (name,)))
    for name in list(wanted):
        while name != FULL:
            name = by_name[name].against
            wanted.add(name)
    return [row for row in CATALOGUE if row.name in wanted | {FULL}]


_ALL_ROWS: Mapping[str, Any] = {
    "evaluate.methods": ["generated"],
    "evaluate.sheet_people": 0,
    "evaluate.store_pictures": {"people": 0, "extremes": 0},
}
"""What is the same in every row: only the method itself is drawn, and no picture is kept."""


def changed(params: Params, ablation: Ablation) -> Params:
    """The parameters of a row: only the method itself is drawn, everything else is the same in all rows.

    Raises:
        BadParameter: if the changes do not fit the rest; the row is named.
    """
    values = params.model_dump(mode="json", by_alias=True)
    for key, value in {**_ALL_ROWS, **ablation.changes}.items():
        *path, last = key.split(".")
        section = _section(values, path)
        if last not in section:
            raise BadParameter(f"{ablation.name}: params.yaml has no {key}")
        section[last] = value
    for key, loop in ablation.loops.items():
        section = _section(values, key.split("."))
        if section["steps"] < loop["steps"]:
            section.update(loop)
    return validated(Params, values, f"ablation {ablation.name}")


def _section(values: dict[str, Any], path: list[str]) -> dict[str, Any]:
    for part in path:
        values = values[part]
    return values

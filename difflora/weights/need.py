"""One thing that a chain reads and no step makes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from difflora.errors import BadFile
from difflora.weights.catalogue import (
    DINO,
    HUB,
    IMAGE_REWARD,
    INSIGHTFACE,
    PHOTOMAKER,
    Licence,
    card_licence,
    is_insightface,
)

Kind = Literal["pipeline", "single file", "face pack", "CLIP", "DINO", "face recogniser", "PhotoMaker", "ImageReward"]

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_WEIGHTS = {"pipeline": "*/*"}


@dataclass(frozen=True)
class Need:
    """Weights by where parameters say that they lie.

    Attributes:
        key: the parameter's.
        kind: what it is to be.
        path: folder or file, as the parameter gives it.
        hub: its name on the hub, where known.
        revision: commit there, 40 hexadecimal digits.
        config: for a single file, the folder of its configurations; for a pipeline, whether it may lack weights.
        weights: whether the folder must hold weights; a pipeline beside a single file needs none.
    """

    key: str
    kind: Kind
    path: Path
    hub: str | None = None
    revision: str | None = None
    config: Path | None = None
    weights: bool = True

    def there(self, root: Path) -> bool:
        """Whether anything lies there."""
        return (root / self.path).exists()

    def licence(self, root: Path) -> Licence | str:
        """Its terms, or what to do where they are not known."""
        if self.hub is not None and self.hub in HUB:
            return HUB[self.hub]
        if self.kind in ("face pack", "face recogniser") and is_insightface(str(self.path)):
            return INSIGHTFACE
        if self.kind == "PhotoMaker":
            return PHOTOMAKER
        if self.kind == "ImageReward":
            return IMAGE_REWARD
        if self.kind == "DINO" and self.path.name.startswith("dino-vit"):
            return DINO
        place = root / self.path
        return card_licence(place if place.is_dir() else place.parent) or "unknown: look it up where it is from"

    def advice(self) -> str:
        """How to bring it."""
        if self.hub:
            pinned = "" if self.revision else " (its revision is not pinned: give the commit's 40 digits)"
            return f"`difflora weights fetch` takes it from {self.hub}{pinned}"
        match self.kind:
            case "face pack":
                return (
                    "unpack InsightFace's release there by hand "
                    "(https://github.com/deepinsight/insightface/tree/master/model_zoo)"
                )
            case "PhotoMaker":
                return "make it of photomaker-v1.bin with `difflora weights convert`"
            case "DINO":
                return "copy facebook/dino-vits16 there, in transformers' format; or set evaluate.metrics.dino to null"
            case "ImageReward":
                return (
                    "convert ImageReward.pt as difflora/encoders/image_reward.py says, beside BERT's vocab.txt; or set "
                    "evaluate.metrics.reward to null"
                )
            case _:
                return "copy it there, or change the parameter"

    def pickles(self, root: Path) -> list[Path]:
        """Pickled weights in the place of safetensors."""
        place = root / self.path
        if place.is_dir():
            return sorted(path for path in place.glob(_WEIGHTS.get(self.kind, "*")) if path.suffix in _PICKLES)
        return [place] if place.suffix in _PICKLES else []


def refuse_pickle(path: Path) -> BadFile:
    """The error for a pickled file."""
    return BadFile(
        f"{path}: is a pickle, which is never opened: get the .safetensors of the same weights, or, for PhotoMaker, "
        "make it once with `difflora weights convert`"
    )

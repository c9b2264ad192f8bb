"""The world's models by name: where each lives, what trains it and what measures it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

from difflora.errors import BadParameter, DiffLoRAError
from difflora.world.bars import Bar

Train = Callable[[Any, Path, Path], dict[str, Any]]
Verify = Callable[[Path, int, int | None], list[Bar]]


@dataclass(frozen=True)
class WorldModel:
    """One trainable model of the embedded world.

    Attributes:
        name: its name on the command line.
        title: a few words for tables and the model card.
        about: what it is and how it was trained, for the model card.
        module: the module that holds ``train_<name>`` and ``verify_<name>``; imported when one is asked for.
        bars: the module that holds ``verify_<name>`` where it is another one.
        files: patterns of its files, relative to the assets folder; a file belongs to the first model that matches.
        verified_with: the models that its bars are measured with, besides itself.
        rewrites: the models whose files its training writes too.
    """

    name: str
    title: str
    about: str
    module: str
    files: tuple[str, ...]
    bars: str = ""
    verified_with: tuple[str, ...] = ()
    rewrites: tuple[str, ...] = ()

    @property
    def train(self) -> Train:
        """``train_<name>(settings, assets, work)``; it gives steps, seconds and settings."""
        return cast(Train, self._function("train", self.module))

    @property
    def verify(self) -> Verify:
        """``verify_<name>(assets, seed, count)``; it gives the model's bars."""
        return cast(Verify, self._function("verify", self.bars or self.module))

    def _function(self, kind: str, module: str) -> object:
        function: object = getattr(importlib.import_module(module), f"{kind}_{self.name}", None)
        if function is None:
            raise DiffLoRAError(f"{module} has no {kind}_{self.name}: this model cannot be made here")
        return function


MODELS: tuple[WorldModel, ...] = (
    WorldModel(
        "detector",
        "the face detector",
        "A detector in SCRFD's output format as ONNX, found and run by InsightFace's `FaceAnalysis`.",
        "difflora.world.faces.detector",
        ("insightface/models/world/det*",),
    ),
    WorldModel(
        "recogniser",
        "the face recogniser",
        "A recogniser in ArcFace's format as ONNX, 512 numbers a face, on InsightFace's own five-point alignment.",
        "difflora.world.faces.recogniser",
        ("insightface/*",),
        verified_with=("detector",),
    ),
    WorldModel(
        "vae",
        "the base model's VAE",
        "An `AutoencoderKL`, 64x64 pixels to 16x16 latents, trained on renders of generic people.",
        "difflora.world.vae",
        ("base/vae/*",),
        verified_with=("detector", "recogniser", "judge"),
    ),
    WorldModel(
        "text",
        "the base model's text encoders",
        "Two CLIP text encoders, trained on captions alone to say which concepts they name, and frozen from then on.",
        "difflora.world.text",
        ("base/text_encoder/*", "base/text_encoder_2/*"),
    ),
    WorldModel(
        "base",
        "the base text-to-image model",
        "A `StableDiffusionXLPipeline`: the text encoders, the VAE and a UNet with SDXL's `text_time` conditioning, "
        "trained on generic people (each picture another identity) with captions whose identity traits are dropped at "
        "random, by v-prediction with zero terminal SNR.",
        "difflora.world.base",
        ("base/*",),
        bars="difflora.world.base_bars",
        verified_with=("vae", "text", "detector", "recogniser", "classifiers", "dino"),
        rewrites=("vae", "text"),
    ),
    WorldModel(
        "judge",
        "the independent recogniser",
        "A second recogniser of another architecture and seed. Nothing conditions on it or filters by it, so that "
        "likeness can be scored by an encoder that had no part in making it.",
        "difflora.world.judge",
        ("evaluation/recogniser/*",),
    ),
    WorldModel(
        "clip",
        "CLIP",
        "A `CLIPModel` with processor and tokenizer, trained contrastively on renders and their captions.",
        "difflora.world.clip",
        ("clip/*",),
    ),
    WorldModel(
        "dino",
        "the self-supervised ViT",
        "A vision transformer in `transformers` format, trained without labels, for the DINO metric.",
        "difflora.world.dino",
        ("evaluation/dino/*",),
    ),
    WorldModel(
        "classifiers",
        "the attribute classifiers",
        "Classifiers of expression, accessory, clothing colour and background, to ask whether a picture follows its "
        "prompt.",
        "difflora.world.classifiers",
        ("evaluation/classifiers/*",),
    ),
    WorldModel(
        "reward",
        "the reward model",
        "A small network on CLIP's features of picture and caption, trained on this world's own preferences: a render "
        "before a spoilt one, and before one that its caption does not describe. It stands where ImageReward does.",
        "difflora.world.reward",
        ("evaluation/reward/*",),
        verified_with=("clip",),
    ),
    WorldModel(
        "start",
        "the start of LoRAs",
        "A LoRA file whose A all of the corpus's LoRAs share, learnt over rendered people in episodes so that B alone, "
        "trained from zero, gets far in few steps.",
        "difflora.world.start",
        ("start/*",),
        verified_with=("base", "detector", "recogniser"),
    ),
    WorldModel(
        "photomaker",
        "PhotoMaker",
        "A PhotoMaker in the public version 1's keys: an id encoder on CLIP's vision tower, its fusion and a LoRA of "
        "the UNet, trained through the frozen base on people with several renders each.",
        "difflora.world.photomaker.training",
        ("photomaker/*",),
        bars="difflora.world.photomaker.bars",
        verified_with=("base", "detector", "recogniser", "judge"),
    ),
    WorldModel(
        "style_judge",
        "the style judge",
        "An encoder of whole pictures that tells styles apart, in ArcFace's ONNX format. Nothing conditions on it, so "
        "that generated styles can be scored by an encoder that had no part in making them.",
        "difflora.world.style_models.judge",
        ("style/judge.onnx",),
    ),
    WorldModel(
        "style_base",
        "the style base",
        "A `StableDiffusionPipeline` of SD 1.5's form on the base's VAE and first text encoder (its folder links to "
        "them), whose UNet was trained on people in 28 kinds of style.",
        "difflora.world.style_models.base",
        ("style/base/*",),
        bars="difflora.world.style_models.bars",
        verified_with=("vae", "text", "detector", "recogniser", "style_judge"),
    ),
)
"""All models, in the order in which they are trained."""

GROUPS = {
    "faces": ("detector", "recogniser"),
    "evaluation": ("judge", "dino", "classifiers", "reward"),
    "style": ("style_judge", "style_base"),
}
"""Names for several models at once."""


def names() -> list[str]:
    """Every name that the command line takes."""
    return [model.name for model in MODELS] + list(GROUPS)


def resolve(chosen: Iterable[str]) -> list[WorldModel]:
    """The models of these names and groups, in training order; all of them for no name.

    Raises:
        BadParameter: for a name that is none of them.
    """
    wanted: set[str] = set()
    for name in chosen:
        if name not in names():
            raise BadParameter(f"no model is named {name!r}; there are: {', '.join(names())}")
        wanted.update(GROUPS.get(name, (name,)))
    return [model for model in MODELS if model.name in wanted or not wanted]


def owner_of(path: str) -> str | None:
    """The name of the model that a file (relative to the assets folder, with /) belongs to, if any."""
    for model in MODELS:
        if any(fnmatchcase(path, pattern) for pattern in model.files):
            return model.name
    return None

"""Attribute classifiers: does a picture show the expression, accessory, clothes and place its prompt asked for?

One small convolutional trunk, and for each attribute a head that looks at the trunk's map through a few attention maps
of its own, so that a mouth four pixels wide is not averaged away. Evaluation alone uses it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from difflora.errors import BadFile
from difflora.folders import check_model_folder, whole_folder
from difflora.world.augment import jitter_colour, jitter_place, soften
from difflora.world.bars import Bar
from difflora.world.loop import train
from difflora.world.pool import Pool, fresh_pool, generic_pool
from difflora.world.scenes import Scenes

logger = logging.getLogger(__name__)

ATTRIBUTES = ("expression", "accessory", "clothing_colour", "background")
"""What is classified; the classes are those of ``Scenes``."""

FOLDER = "evaluation/classifiers"
_WEIGHTS = "diffusion_pytorch_model.safetensors"
_GOAL = 0.97
_COUNT = 2000


class ClassifierSettings(BaseModel):
    """How the classifiers are built and trained: about eight minutes on two cores."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: tuple[int, int, int] = (24, 48, 96)
    maps: int = Field(4, ge=1, description="attention maps of each head")
    steps: int = Field(3500, ge=1)
    batch_size: int = Field(64, ge=2)
    lr: float = Field(3e-3, gt=0)
    muon_lr: float | None = Field(0.02, gt=0)
    seed: int = 31


class _Block(nn.Module):
    """Two 3x3 convolutions with a shortcut; ``stride`` 2 halves the sides."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.AvgPool2d(stride), nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm1(self.conv1(x)))  # (N, outputs, H / stride, W / stride)
        return F.relu(self.shortcut(x) + self.norm2(self.conv2(h)))


class _Head(nn.Module):
    """Class scores from a feature map, read through ``maps`` softmax attention maps."""

    def __init__(self, channels: int, maps: int, classes: int) -> None:
        super().__init__()
        self.attention = nn.Conv2d(channels, maps, 1)
        self.classify = nn.Linear(maps * channels, classes)

    def forward(self, features: Tensor) -> Tensor:
        weights = self.attention(features).flatten(2).softmax(dim=-1)  # (N, maps, H W)
        seen = weights @ features.flatten(2).transpose(1, 2)  # (N, maps, channels)
        scores: Tensor = self.classify(seen.flatten(1))  # (N, classes)
        return scores


class AttributeClassifier(ModelMixin, ConfigMixin):
    """Classifies the attributes of 64x64 pictures.

    Args:
        attributes: class names by attribute.
        channels: width of the trunk at 32, 16 and 8 pixels a side.
        maps: attention maps of each head.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self, attributes: Mapping[str, Sequence[str]], channels: Sequence[int] = (24, 48, 96), maps: int = 4
    ) -> None:
        super().__init__()
        first, second, third = channels
        self.stem = nn.Sequential(nn.Conv2d(3, first, 5, 2, 2, bias=False), nn.BatchNorm2d(first), nn.ReLU())
        self.blocks = nn.Sequential(_Block(first, first, 1), _Block(first, second, 2), _Block(second, third, 2))
        self.heads = nn.ModuleDict({name: _Head(third, maps, len(words)) for name, words in attributes.items()})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Class scores by attribute, (N, classes) each, of images (N, 3, 64, 64) float32 in [0, 1]."""
        x = self.stem(images * 2 - 1)  # (N, C1, 32, 32)
        features = self.blocks(x)  # (N, C3, 8, 8)
        return {name: head(features) for name, head in self.heads.items()}

    @torch.no_grad()
    def predict(self, images: Tensor, batch_size: int = 256) -> dict[str, Tensor]:
        """The likeliest class of each attribute.

        Args:
            images: (N, 3, 64, 64) float in [0, 1].
            batch_size: pictures at a time.

        Returns:
            (N,) int64 class indices by attribute, in the order of ``Scenes.CATEGORICAL``.

        Raises:
            ValueError: if the pictures have another shape.
        """
        if images.dim() != 4 or images.shape[1:] != (3, 64, 64):
            raise ValueError(f"images are {tuple(images.shape)}, not (N, 3, 64, 64): resize them")
        device = next(self.parameters()).device
        was_training = self.training
        self.eval()
        found: dict[str, list[Tensor]] = {name: [torch.empty(0, dtype=torch.int64)] for name in self.heads}
        for chunk in torch.split(images, batch_size):
            for name, scores in self.forward(chunk.float().to(device)).items():
                found[name].append(scores.argmax(dim=1).cpu())
        self.train(was_training)
        return {name: torch.cat(parts) for name, parts in found.items()}


def build_classifiers(settings: ClassifierSettings) -> AttributeClassifier:
    """Untrained classifiers of ``ATTRIBUTES``, initialised from the settings' seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        attributes = {name: list(Scenes.CATEGORICAL[name]) for name in ATTRIBUTES}
        model: AttributeClassifier = AttributeClassifier(attributes, list(settings.channels), settings.maps)
    return model


def load_classifiers(folder: Path) -> AttributeClassifier:
    """Loads the classifiers, ready to ``predict``.

    Raises:
        BadFile: if the folder is not whole or holds something else.
    """
    config = check_model_folder(folder, _WEIGHTS)
    if config.get("_class_name") != AttributeClassifier.__name__:
        raise BadFile(f"{folder}/config.json: describes {config.get('_class_name')!r}, not AttributeClassifier")
    model: AttributeClassifier = AttributeClassifier.from_pretrained(folder, local_files_only=True)
    model.eval()
    return model


def train_classifiers(
    settings: ClassifierSettings | None, assets: Path, work: Path, pool: Pool | None = None
) -> dict[str, Any]:
    """Trains on the pool's pictures, made softer, noisier and moved a little, and exports to ``assets``.

    Args:
        settings: None for the defaults.
        assets: the assets' folder; the model goes to ``evaluation/classifiers`` in it.
        work: folder of pools and checkpoints.
        pool: pictures to learn from; None for the generic pool.
    """
    settings = settings or ClassifierSettings()
    pool = pool or generic_pool(folder=work)
    model = build_classifiers(settings).to(memory_format=torch.channels_last).train()
    labels = {name: pool.scenes.index(name) for name in ATTRIBUTES}

    def step(_: int, generator: torch.Generator) -> Tensor:
        rows = torch.randint(0, len(pool), (settings.batch_size,), generator=generator)
        images = soften(jitter_place(pool.batch(rows), generator), generator)
        images = jitter_colour(images, generator).contiguous(memory_format=torch.channels_last)
        losses = [F.cross_entropy(scores, labels[name][rows]) for name, scores in model(images).items()]
        return torch.stack(losses).sum()

    report = train(
        "classifiers",
        {"model": model},
        step,
        steps=settings.steps,
        lr=settings.lr,
        muon_lr=settings.muon_lr,
        seed=settings.seed,
        checkpoint=work / "checkpoints" / "classifiers",
        weight_decay=0.02,
    )
    with whole_folder(assets / FOLDER) as folder:
        model.to(memory_format=torch.contiguous_format).eval().half().save_pretrained(folder)
    return {"steps": report.steps, "seconds": report.seconds, "settings": settings.model_dump(mode="json")}


def verify_classifiers(assets: Path, seed: int, count: int | None = None) -> list[Bar]:
    """The fraction of fresh renders whose attribute is read right, one row an attribute."""
    model = load_classifiers(assets / FOLDER)
    pool = fresh_pool(count or _COUNT, 1, seed)
    found = model.predict(pool.batch(torch.arange(len(pool))))
    return [
        Bar(
            f"{name.replace('_', ' ')} classifier right on renders",
            _GOAL,
            float((found[name] == pool.scenes.index(name)).float().mean()),
        )
        for name in ATTRIBUTES
    ]

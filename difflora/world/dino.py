"""A self-supervised ViT in ``transformers``' format, for the DINO metric: no label, caption or identity trains it.

DINO (Caron et al. 2021): a student learns to give, on small and large crops of a picture, the prototype scores that a
slow average of itself gives on large crops of it; centring and sharpening keep the scores from collapsing. Each picture
of the pool shows another person, so that "the same picture" never says "the same person in another scene". Half of the
pictures are heads cut out, or the features would tell backgrounds and clothes alone, which suffice to tell two pictures
apart. The average's backbone is exported as a ``ViTModel``, as DINO's own are; its class token is the feature.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from transformers import ViTConfig, ViTModel
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from difflora.encoders.images import DinoEncoder
from difflora.folders import whole_folder
from difflora.world.augment import jitter_colour, random_crops, soften
from difflora.world.bars import Bar
from difflora.world.loop import train
from difflora.world.pool import Pool, fresh_pool, generic_pool
from difflora.world.render import SIZE

logger = logging.getLogger(__name__)

FOLDER = "evaluation/dino"
_AUC_GOAL = 0.55
_PEOPLE, _IMAGES_EACH = 400, 4
_NEIGHBOURS = 10
_HEAD = 1.5
_STUDENT_TEMPERATURE, _TEACHER_TEMPERATURE, _CENTRE_MOMENTUM = 0.1, 0.05, 0.9


class DinoSettings(BaseModel):
    """How the ViT is built and trained: about seven minutes on two cores."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    patch_size: int = Field(8, ge=1, description="pixels")
    hidden_size: int = Field(128, ge=8)
    layers: int = Field(4, ge=1)
    prototypes: int = Field(512, ge=2, description="scores that student and teacher are compared on")
    large_side: int = Field(48, ge=8, description="pixels of a large crop; a multiple of the patch")
    small_side: int = Field(24, ge=8, description="pixels of a small crop; a multiple of the patch")
    small_crops: int = Field(3, ge=0, description="small crops a picture, besides two large ones")
    teacher_momentum: float = Field(0.99, ge=0, lt=1, description="at the start; it rises to 1")
    heads: float = Field(0.5, ge=0, le=1, description="part of the pictures that are heads cut out")
    steps: int = Field(2000, ge=1)
    batch_size: int = Field(64, ge=2)
    lr: float = Field(1e-3, gt=0)
    muon_lr: float | None = Field(0.01, gt=0)
    seed: int = 51


class DinoNet(nn.Module):
    """A ViT and DINO's projection head: crops to prototype scores."""

    def __init__(self, settings: DinoSettings) -> None:
        super().__init__()
        width = settings.hidden_size
        config = ViTConfig(
            image_size=SIZE,
            patch_size=settings.patch_size,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=settings.layers,
            num_attention_heads=max(1, width // 32),
        )
        self.backbone = ViTModel(config, add_pooling_layer=False)
        self.project = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, 64))
        self.prototypes = nn.Parameter(torch.randn(settings.prototypes, 64))

    def forward(self, crops: Tensor) -> Tensor:
        """Cosines with the prototypes, (N, prototypes), of crops (N, 3, S, S) float32 in [-1, 1]."""
        output = self.backbone(crops, interpolate_pos_encoding=True)
        projected = F.normalize(self.project(output.last_hidden_state[:, 0]), dim=-1)  # (N, 64)
        return projected @ F.normalize(self.prototypes, dim=-1).T


class Average(nn.Module):
    """A slow average of a module's weights and DINO's centre, all of it buffers, so that checkpoints carry it."""

    centre: Tensor

    def __init__(self, student: DinoNet) -> None:
        super().__init__()
        self._names = [name for name, _ in student.named_parameters()]
        for name, value in student.named_parameters():
            self.register_buffer(name.replace(".", "/"), value.detach().clone())
        self.register_buffer("centre", torch.zeros(len(student.prototypes)))

    def weights(self) -> dict[str, Tensor]:
        """The averaged weights by the student's names."""
        return {name: self.get_buffer(name.replace(".", "/")) for name in self._names}

    @torch.no_grad()
    def follow(self, student: DinoNet, momentum: float) -> None:
        """Moves the weights towards the student's: w <- momentum w + (1 - momentum) student."""
        for name, value in student.named_parameters():
            self.get_buffer(name.replace(".", "/")).lerp_(value, 1 - momentum)

    @torch.no_grad()
    def targets(self, student: DinoNet, crops: Tensor) -> Tensor:
        """Centred and sharpened scores (N, prototypes) that sum to one, then the centre moves on."""
        scores: Tensor = torch.func.functional_call(student, self.weights(), (crops,))
        targets = ((scores - self.centre) / _TEACHER_TEMPERATURE).softmax(dim=-1)
        self.centre.lerp_(scores.mean(dim=0), 1 - _CENTRE_MOMENTUM)
        return targets


def build_dino(settings: DinoSettings) -> DinoNet:
    """An untrained student, initialised from the settings' seed.

    Raises:
        ValueError: if a crop is no whole number of patches.
    """
    for side in (settings.large_side, settings.small_side):
        if side % settings.patch_size:
            raise ValueError(f"a crop of {side} pixels holds no whole number of {settings.patch_size}-pixel patches")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return DinoNet(settings)


def dino_loss(targets: Tensor, large: Tensor, small: Tensor | None) -> Tensor:
    """Cross entropy of each crop's scores under the teacher's targets of the other large crops.

    Args:
        targets: (2, N, K) the teacher's probabilities on two large crops.
        large: (2, N, K) the student's cosines on the same crops; a crop is not compared with itself.
        small: (C, N, K) the student's cosines on small crops, each compared with both targets; or None.
    """
    losses = [-(targets.flip(0) * (large / _STUDENT_TEMPERATURE).log_softmax(dim=-1)).sum(dim=-1)]  # (2, N)
    if small is not None:
        both = targets.mean(dim=0)
        losses.append(-(both * (small / _STUDENT_TEMPERATURE).log_softmax(dim=-1)).sum(dim=-1))  # (C, N)
    return torch.cat(losses).mean()


def cut_heads(images: Tensor, boxes: Tensor) -> Tensor:
    """The square about each face, 1.5 times its box's longer side, enlarged to the picture's size.

    Args:
        images: (N, 3, S, S) float32.
        boxes: (N, 4) in pixels.

    Returns:
        (N, 3, S, S) float32; borders are mirrored in.
    """
    side = images.shape[-1]
    centre = (boxes[:, :2] + boxes[:, 2:]) / side - 1  # (N, 2), in [-1, 1]
    extent = _HEAD * (boxes[:, 2:] - boxes[:, :2]).amax(dim=1) / side  # (N,)
    theta = torch.zeros(len(images), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = extent, extent, centre
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)  # (N, S, S, 2)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def _crops(images: Tensor, side: int, area: tuple[float, float], generator: torch.Generator) -> Tensor:
    """One changed crop of each picture, (N, 3, side, side) in [-1, 1]; a fifth of them without colour."""
    crops = soften(random_crops(images, side, area, generator), generator, least=side, odds=0.3)
    crops = jitter_colour(crops, generator, amount=0.25, noise=0.02)
    grey = (torch.rand(len(crops), generator=generator) < 0.2).view(-1, 1, 1, 1)
    return torch.where(grey, crops.mean(dim=1, keepdim=True), crops) * 2 - 1


def train_dino(settings: DinoSettings | None, assets: Path, work: Path, pool: Pool | None = None) -> dict[str, Any]:
    """Trains on the pool's pictures alone and exports the teacher's backbone to ``assets``.

    Args:
        settings: None for the defaults.
        assets: the assets' folder; the model goes to ``evaluation/dino`` in it.
        work: folder of pools and checkpoints.
        pool: pictures to learn from; None for the generic pool.
    """
    settings = settings or DinoSettings()
    pool = pool or generic_pool(folder=work)
    student = build_dino(settings).train()
    teacher = Average(student)

    def step(i: int, generator: torch.Generator) -> Tensor:
        rest = 0.5 * (1 + math.cos(math.pi * i / settings.steps))
        teacher.follow(student, 1 - (1 - settings.teacher_momentum) * rest)
        rows = torch.randint(0, len(pool), (settings.batch_size,), generator=generator)
        images = pool.batch(rows)
        cut = torch.rand(len(rows), generator=generator) < settings.heads
        images[cut] = cut_heads(images[cut], pool.boxes[rows[cut]])
        large = torch.cat([_crops(images, settings.large_side, (0.4, 1.0), generator) for _ in range(2)])
        scores = student(large).unflatten(0, (2, -1))  # (2, B, K)
        targets = teacher.targets(student, large).view(scores.shape)  # (2, B, K)
        if not settings.small_crops:
            return dino_loss(targets, scores, None)
        parts = [_crops(images, settings.small_side, (0.1, 0.4), generator) for _ in range(settings.small_crops)]
        small = student(torch.cat(parts)).unflatten(0, (settings.small_crops, -1))  # (C, B, K)
        return dino_loss(targets, scores, small)

    report = train(
        "dino",
        {"student": student, "teacher": teacher},
        step,
        steps=settings.steps,
        lr=settings.lr,
        muon_lr=settings.muon_lr,
        seed=settings.seed,
        weight_decay=0.04,
        grad_clip=3.0,
        checkpoint=work / "checkpoints" / "dino",
    )
    student.load_state_dict(teacher.weights())
    with whole_folder(assets / FOLDER) as folder:
        student.backbone.half().save_pretrained(folder)
        size, half = {"height": SIZE, "width": SIZE}, [0.5, 0.5, 0.5]
        ViTImageProcessorPil(size=size, image_mean=half, image_std=half).save_pretrained(folder)
    return {"steps": report.steps, "seconds": report.seconds, "settings": settings.model_dump(mode="json")}


def pair_auc(features: Tensor, identity: Tensor) -> tuple[float, float]:
    """Compares pairs of pictures of one person with pairs of different persons.

    Args:
        features: (N, D) unit features.
        identity: (N,) int64.

    Returns:
        The probability that a same-person pair has the higher cosine (0.5 is chance), and the difference of the means.
    """
    first, second = torch.triu_indices(len(features), len(features), offset=1)
    cosines = (features @ features.T)[first, second]
    same = identity[first] == identity[second]
    ours, others = cosines[same], cosines[~same].sort().values
    below = (torch.searchsorted(others, ours) + torch.searchsorted(others, ours, right=True)).double() / 2
    return float(below.mean() / len(others)), float(ours.mean() - others.mean())


def neighbour_accuracy(known: Tensor, labels: Tensor, asked: Tensor, truth: Tensor) -> float:
    """How often the majority of the nearest ten known features has the asked one's label.

    Args:
        known: (N, D) unit features with (N,) int64 labels.
        labels: their classes.
        asked: (M, D) unit features.
        truth: (M,) int64, the classes of the asked.
    """
    nearest = (asked @ known.T).topk(min(_NEIGHBOURS, len(known)), dim=1).indices  # (M, 10)
    votes = F.one_hot(labels[nearest], int(labels.max()) + 1).sum(dim=1)  # (M, classes)
    return float((votes.argmax(dim=1) == truth).float().mean())


def verify_dino(assets: Path, seed: int, count: int | None = None) -> list[Bar]:
    """What the features say of persons they never saw.

    The goal: pictures of one person in two scenes are closer than those of two persons clearly more often than by
    chance (0.5; the spread at full size is below 0.01). The rest are figures without a goal.
    """
    encoder = DinoEncoder(assets / FOLDER)
    pool = fresh_pool(max(4, (count or _PEOPLE * _IMAGES_EACH) // _IMAGES_EACH), _IMAGES_EACH, seed)
    features = encoder(list(pool.images.permute(0, 2, 3, 1).numpy()))
    auc, gap = pair_auc(features, pool.identity)
    half = len(pool) // 2  # the two halves show different persons
    rows = [
        Bar("DINO: a person's two pictures closer than two persons'", _AUC_GOAL, auc),
        Bar("DINO: mean cosine, same person less different persons", math.nan, gap),
    ]
    for name in ("gender", "hair_style"):
        labels = pool.people.index(name)
        figure = neighbour_accuracy(features[:half], labels[:half], features[half:], labels[half:])
        chance = float((labels[half:] == labels[:half].mode().values).float().mean())
        title = f"DINO: nearest neighbours' {name.replace('_', ' ')} right, times that of the commonest"
        rows.append(Bar(title, math.nan, figure / max(chance, 1 / half)))
    return rows

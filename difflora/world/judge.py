"""The judge: a second recogniser that only evaluation uses, unlike the pack's in architecture, loss and seed.

It is a ConvNeXt-like network (patches, depthwise 7x7 kernels, LayerNorm, no BatchNorm) under a supervised contrastive
loss over pictures of a few people at a time; it keeps no vector of any training person. Its file has ArcFace's format.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from difflora.errors import BadParameter
from difflora.world.bars import Bar
from difflora.world.faces.augment import training_crops
from difflora.world.faces.layers import channels_last, folded
from difflora.world.faces.metrics import verification
from difflora.world.faces.recogniser import DIMENSION, embed_aligned, export_recogniser
from difflora.world.loop import train
from difflora.world.pool import Pool, fresh_pool, people_pool, rows_by_person

FILE = "recogniser.onnx"
_PEOPLE, _IMAGES_EACH = 200, 10


class JudgeSettings(BaseModel):
    """How the judge is built and trained: about 12 minutes on one core."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    widths: tuple[int, int] = Field((64, 128), description="channels at 14 and 7 pixels")
    depths: tuple[int, int] = Field((1, 3), description="blocks at 14 and 7 pixels")
    expansion: int = Field(3, ge=1)
    steps: int = Field(700, ge=1)
    people: int = Field(48, ge=2, description="persons a batch")
    images_each: int = Field(3, ge=2, description="pictures of each person in a batch")
    lr: float = Field(1.5e-3, gt=0)
    muon_lr: float | None = Field(0.02, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    temperature: float = Field(0.07, gt=0)
    landmark_noise: float = Field(0.05, ge=0)
    strength: float = Field(1.0, ge=0)
    seed: int = 31


class _ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        normal: Tensor = super().forward(x.permute(0, 2, 3, 1))  # (N, H, W, C)
        return normal.permute(0, 3, 1, 2)


class _Block(nn.Module):
    """Depthwise 7x7, LayerNorm, and a two-layer network at each place, about a straight path (arXiv:2201.03545)."""

    def __init__(self, width: int, expansion: int) -> None:
        super().__init__()
        self.spread = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.network = nn.Sequential(
            nn.Linear(width, width * expansion), nn.GELU(approximate="tanh"), nn.Linear(width * expansion, width)
        )
        self.scale = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.spread(x).permute(0, 2, 3, 1)  # (N, H, W, C)
        y = self.network(self.norm(y)) * self.scale
        return x + y.permute(0, 3, 1, 2)


class Judge(nn.Module):
    """Aligned crop to embedding.

    Args:
        settings: widths, depths and expansion.
    """

    def __init__(self, settings: JudgeSettings) -> None:
        super().__init__()
        a, b = settings.widths
        self.stem = nn.Sequential(nn.Conv2d(3, a, 12, stride=8, padding=2), _ChannelNorm(a))  # (N, a, 14, 14)
        self.wide = nn.Sequential(*(_Block(a, settings.expansion) for _ in range(settings.depths[0])))
        self.down = nn.Sequential(_ChannelNorm(a), nn.Conv2d(a, b, 2, stride=2))  # (N, b, 7, 7)
        self.deep = nn.Sequential(*(_Block(b, settings.expansion) for _ in range(settings.depths[1])))
        self.narrow = nn.Sequential(_ChannelNorm(b), nn.Conv2d(b, 32, 1))  # (N, 32, 7, 7)
        self.head = nn.Linear(32 * 49, DIMENSION)

    def forward(self, crops: Tensor) -> Tensor:
        """(N, 3, 112, 112) RGB in [-1, 1] to (N, 512), of any length."""
        x = self.wide(self.stem(crops))  # (N, a, 14, 14)
        x = self.narrow(self.deep(self.down(x)))  # (N, 32, 7, 7)
        output: Tensor = self.head(x.flatten(1))
        return output


def build_judge(settings: JudgeSettings) -> Judge:
    """An untrained judge, seeded."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return Judge(settings)


def contrastive_loss(embeddings: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss, a scalar (arXiv:2004.11362, L_out).

    Args:
        embeddings: (N, D) float32, of any length.
        labels: (N,) int64; each must occur twice or more.
        temperature: divisor of the cosines.

    Raises:
        ValueError: if a label occurs once.
    """
    unit = F.normalize(embeddings)
    itself = torch.eye(len(labels), dtype=torch.bool)
    logits = (unit @ unit.T / temperature).masked_fill(itself, -1e4)  # (N, N)
    alike = (labels[:, None] == labels[None, :]) & ~itself
    partners = alike.sum(dim=1)
    if not bool((partners > 0).all()):
        raise ValueError("each label must occur at least twice in a batch")
    log_odds = logits - logits.logsumexp(dim=1, keepdim=True)
    return -((log_odds * alike).sum(dim=1) / partners).mean()


def _step(model: Judge, pool: Pool, settings: JudgeSettings) -> Callable[[int, torch.Generator], Tensor]:
    rows_of = rows_by_person(pool.identity)
    if rows_of.shape[0] < settings.people or rows_of.shape[1] < settings.images_each:
        raise BadParameter(
            f"people={settings.people}, images_each={settings.images_each}: the pool has {rows_of.shape[0]} "
            f"people with {rows_of.shape[1]} pictures each"
        )

    def step(i: int, generator: torch.Generator) -> Tensor:
        people = torch.randperm(len(rows_of), generator=generator)[: settings.people]
        chosen = torch.rand(len(people), rows_of.shape[1], generator=generator).argsort(dim=1)
        rows = rows_of[people].gather(1, chosen[:, : settings.images_each]).flatten()
        crops = training_crops(
            pool, rows, generator, landmark_noise=settings.landmark_noise, strength=settings.strength
        )
        return contrastive_loss(model(crops), pool.identity[rows], settings.temperature)

    return step


def judge_file(assets: Path) -> Path:
    """Where the judge's file lies: ``assets/evaluation/recogniser/recogniser.onnx``."""
    return assets / "evaluation" / "recogniser" / FILE


def train_judge(
    settings: JudgeSettings | None, assets: Path, work: Path, *, pool: Pool | None = None
) -> dict[str, Any]:
    """Trains the judge on the people pool and writes its ONNX file.

    Args:
        settings: None for the default ones.
        assets: folder of the embedded world's assets.
        work: folder of pools and checkpoints; a training that was broken off goes on from there.
        pool: other pictures to train on than the shared pool of 3,000 people.

    Returns:
        Steps, seconds, settings, and the file's largest difference from torch.

    Raises:
        BadParameter: if the pool has fewer people or pictures than a batch needs.
    """
    settings = settings or JudgeSettings()
    pool = pool if pool is not None else people_pool(folder=work)
    model = channels_last(build_judge(settings).train())
    report = train(
        "judge",
        {"model": model},
        _step(model, pool, settings),
        steps=settings.steps,
        lr=settings.lr,
        muon_lr=settings.muon_lr,
        checkpoint=work / "checkpoints" / "judge",
        seed=settings.seed,
        ema_decay=0.99,
        weight_decay=settings.weight_decay,
        grad_clip=1.0,
    )
    worst = export_recogniser(folded(model), judge_file(assets))
    return {"steps": report.steps, "seconds": report.seconds, "settings": settings.model_dump(), "onnx_error": worst}


def verify_judge(assets: Path, seed: int, count: int | None = None) -> list[Bar]:
    """Measures the judge on people that it never saw, aligned by their true landmarks.

    Args:
        assets: folder of the embedded world's assets.
        seed: seed of the people and scenes; not that of a training pool.
        count: pictures, ten a person; None for 2,000.

    Raises:
        BadFile: if the judge's file is missing or broken.
    """
    people = _PEOPLE if count is None else max(2, count // _IMAGES_EACH)
    path = judge_file(assets)
    pool = fresh_pool(people, _IMAGES_EACH, seed)
    figures = verification(embed_aligned(path, pool), pool.identity)
    nan = float("nan")
    return [
        Bar("judge: TAR@FAR 1%, true landmarks", 0.95, figures.tar),
        Bar("judge: mean cosine, same person", nan, figures.same),
        Bar("judge: mean cosine, different people", nan, figures.different, at_least=False),
    ]

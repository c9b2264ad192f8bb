"""The style judge: an encoder of whole pictures that tells styles apart, whoever and whatever they show.

Nothing conditions on it or filters by it. A small convolutional network whose features are pooled by mean and deviation
over the picture, as what is drawn lies anywhere and how it is drawn everywhere; trained by a supervised contrastive
loss over pictures of a few styles at a time, each of other people in other scenes. Its file has ArcFace's format.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from difflora.encoders.align import CROP
from difflora.encoders.recogniser import FaceRecogniser
from difflora.encoders.whole import resized
from difflora.world.augment import soften
from difflora.world.bars import Bar
from difflora.world.cached import cached
from difflora.world.faces.export import export_onnx
from difflora.world.faces.layers import ConvNorm, channels_last, folded
from difflora.world.faces.metrics import verification
from difflora.world.judge import contrastive_loss
from difflora.world.loop import train
from difflora.world.render import SIZE
from difflora.world.styled import draw_styled
from difflora.world.styles import KINDS, Styles, sample_styles

FILE = "style/judge.onnx"
_POOL_SEED = 7
_STYLES, _EACH = 1400, 6
_KNOWN, _KNOWN_EACH, _NEAREST = 16, 2, 5
"""Styles of a kind and pictures of each that stand for the kind where kinds are named, and how many of them vote."""


class StyleJudgeSettings(BaseModel):
    """How the style judge is built and trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: tuple[int, int, int] = Field((32, 64, 96), description="at 32, 16 and 8 pixels a side")
    dimension: int = Field(128, ge=8)
    steps: int = Field(900, ge=1)
    styles: int = Field(32, ge=2, description="styles a batch")
    images_each: int = Field(3, ge=2, description="pictures of each style in a batch")
    lr: float = Field(2e-3, gt=0)
    muon_lr: float | None = Field(0.02, gt=0)
    temperature: float = Field(0.1, gt=0)
    seed: int = 17


class StyleJudge(nn.Module):
    """Picture to embedding.

    Args:
        settings: widths and dimension.
    """

    def __init__(self, settings: StyleJudgeSettings) -> None:
        super().__init__()
        first, second, third = settings.channels
        self.fine = nn.Sequential(ConvNorm(3, first, 2, 5), ConvNorm(first, first))  # (N, C1, 32, 32)
        self.middle = nn.Sequential(ConvNorm(first, second, 2), ConvNorm(second, second))  # (N, C2, 16, 16)
        self.coarse = nn.Sequential(ConvNorm(second, third, 2), ConvNorm(third, third))  # (N, C3, 8, 8)
        self.head = nn.Linear(2 * (first + second + third), settings.dimension)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, 64, 64) RGB in [-1, 1], or of another size, to (N, D), of any length."""
        if images.shape[-1] != SIZE:
            images = F.interpolate(images, (SIZE, SIZE), mode="bilinear", align_corners=False)
        fine = self.fine(images)
        middle = self.middle(fine)
        levels = (fine, middle, self.coarse(middle))
        pooled = [part for level in levels for part in _mean_and_deviation(level)]
        output: Tensor = self.head(torch.cat(pooled, dim=1))
        return output


def _mean_and_deviation(features: Tensor) -> tuple[Tensor, Tensor]:
    """(N, C, H, W) to twice (N, C)."""
    mean = features.mean(dim=(2, 3))
    spread = (features - mean[:, :, None, None]).square().mean(dim=(2, 3))
    return mean, (spread + 1e-4).sqrt()


def build_style_judge(settings: StyleJudgeSettings) -> StyleJudge:
    """An untrained judge, seeded."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return StyleJudge(settings)


def draw_styles(styles: Styles, each: int, generator: torch.Generator) -> Tensor:
    """Pictures of other people in other scenes, ``each`` of every style, one style after the other.

    Returns:
        (N * each, 3, 64, 64) uint8.
    """
    made = []
    for start in range(0, len(styles), 16):
        part = styles[start : start + 16]
        made.append(draw_styled(part[torch.arange(len(part)).repeat_interleave(each)], generator)[0])
    return torch.cat(made)


def _pool(work: Path) -> Tensor:
    """(S, K, 3, 64, 64) uint8, drawn once for what the kinds draw."""
    generator = torch.Generator().manual_seed(_POOL_SEED)
    styles = sample_styles(_STYLES, generator)
    sample = draw_styles(styles[: len(KINDS)], 1, torch.Generator().manual_seed(0)).numpy().tobytes()
    made = cached(
        work, f"style-pool-{_STYLES}x{_EACH}", sample, lambda: {"images": draw_styles(styles, _EACH, generator)}
    )
    pool: Tensor = made["images"].unflatten(0, (-1, _EACH))
    return pool


def _step(model: StyleJudge, pool: Tensor, settings: StyleJudgeSettings) -> Callable[[int, torch.Generator], Tensor]:
    def step(_: int, generator: torch.Generator) -> Tensor:
        chosen = torch.randperm(len(pool), generator=generator)[: settings.styles]
        which = torch.rand(len(chosen), pool.shape[1], generator=generator).argsort(1)[:, : settings.images_each]
        images = pool[chosen[:, None], which].flatten(0, 1).float() / 255
        images = soften(images, generator)
        mirrored = torch.rand(len(images), generator=generator) < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
        labels = torch.arange(len(chosen)).repeat_interleave(settings.images_each)
        pixels = (images * 2 - 1).contiguous(memory_format=torch.channels_last)
        loss: Tensor = contrastive_loss(model(pixels), labels, settings.temperature)
        return loss

    return step


def train_style_judge(
    settings: StyleJudgeSettings | None, assets: Path, work: Path, *, pool: Tensor | None = None
) -> dict[str, Any]:
    """Trains the judge and writes its ONNX file.

    Args:
        settings: None for the defaults.
        assets: the folder of the world's models.
        work: where pictures and the checkpoint lie.
        pool: (S, K, 3, 64, 64) uint8, K pictures of each of S styles; None for those that all trainings share.

    Returns:
        Steps, seconds, settings, and the file's largest difference from torch.
    """
    settings = settings or StyleJudgeSettings()
    pool = pool if pool is not None else _pool(work)
    model = channels_last(build_style_judge(settings).train())
    report = train(
        "style-judge",
        {"model": model},
        _step(model, pool, settings),
        steps=settings.steps,
        lr=settings.lr,
        muon_lr=settings.muon_lr,
        checkpoint=work / "checkpoints" / "style-judge",
        seed=settings.seed,
        ema_decay=0.99,
        weight_decay=0.02,
        grad_clip=1.0,
    )
    example = torch.rand(2, 3, CROP, CROP, generator=torch.Generator().manual_seed(0)) * 2 - 1
    worst = export_onnx(
        folded(model), example, assets / FILE, inputs="data", outputs=["embedding"], dynamic={0: "batch"}
    )
    return {
        "steps": report.steps,
        "seconds": report.seconds,
        "settings": settings.model_dump(mode="json"),
        "onnx_error": worst,
    }


class StyleNames:
    """Names the kind of style of pictures: the one that most of the nearest renders are of.

    Renders and not their means stand for a kind, since a kind in blue and one in red lie far apart.

    Args:
        assets: the folder of the world's models.
        seed: of the renders.

    Raises:
        BadFile: if the judge is missing or broken.
    """

    def __init__(self, assets: Path, seed: int) -> None:
        self._judge = FaceRecogniser.open(assets / FILE)
        generator = torch.Generator().manual_seed(seed)
        styles = sample_styles(len(KINDS) * _KNOWN, generator)
        self._known = self.embed(draw_styles(styles, _KNOWN_EACH, generator))  # (M, D)
        self._kinds = styles.index("kind").repeat_interleave(_KNOWN_EACH)  # (M,)

    def embed(self, images: Tensor) -> Tensor:
        """(N, 3, 64, 64), uint8 or float in [0, 1], to (N, D) unit vectors."""
        if images.dtype != torch.uint8:
            images = images.clamp(0, 1).mul(255).round().byte()
        pixels = [np.ascontiguousarray(image.permute(1, 2, 0).numpy()) for image in images]
        return torch.from_numpy(self._judge.embed([resized(one, self._judge.crop_size) for one in pixels]))

    def name(self, images: Tensor) -> Tensor:
        """(N,) int64 places of kinds."""
        cosines, nearest = (self.embed(images) @ self._known.T).topk(_NEAREST, dim=1)  # (N, k)
        votes = torch.zeros(len(images), len(KINDS)).scatter_add_(1, self._kinds[nearest], cosines)
        return votes.argmax(1)


def verify_style_judge(assets: Path, seed: int, count: int | None = None) -> list[Bar]:
    """Measures the judge on styles that it never saw.

    Args:
        assets: folder of the embedded world's assets.
        seed: of styles, people and scenes.
        count: pictures, six a style; None for 1,008.

    Raises:
        BadFile: if the judge is missing or broken.
    """
    styles_count = max(len(KINDS), (count or 1008) // _EACH)
    generator = torch.Generator().manual_seed(seed)
    styles = sample_styles(styles_count, generator)
    images = draw_styles(styles, _EACH, generator)
    names = StyleNames(assets, seed + 1)
    figures = verification(names.embed(images), torch.arange(styles_count).repeat_interleave(_EACH))
    right = names.name(images) == styles.index("kind").repeat_interleave(_EACH)
    return [
        Bar("style judge: kind named right on renders", 0.9, float(right.float().mean())),
        Bar("style judge: TAR@FAR 1%, styles", math.nan, figures.tar),
        Bar("style judge: mean cosine, same style", math.nan, figures.same),
        Bar("style judge: mean cosine, different styles", math.nan, figures.different, at_least=False),
    ]

"""The pack's recogniser: a small residual network in ArcFace's format, trained with a cosine margin."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from difflora.encoders.align import CROP, align
from difflora.errors import BadFile
from difflora.world.bars import Bar
from difflora.world.faces.augment import training_crops
from difflora.world.faces.export import export_onnx, load_weights, open_session
from difflora.world.faces.layers import ConvNorm, LinearNorm, channels_last, folded
from difflora.world.faces.metrics import verification
from difflora.world.faces.pack import PACK_FILES, embed_images, pack_folder
from difflora.world.loop import train
from difflora.world.pool import Pool, fresh_pool, people_pool

logger = logging.getLogger(__name__)

FILE = "recogniser.onnx"
DIMENSION = 512
_PEOPLE, _IMAGES_EACH = 200, 10


class RecogniserSettings(BaseModel):
    """How the recogniser is built and trained: TAR@FAR 1% above 0.99 expected."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: tuple[int, int, int] = Field((24, 48, 128), description="at 28, 14 and 7 pixels")
    steps: int = Field(1000, ge=1)
    batch_size: int = Field(128, ge=2)
    lr: float = Field(2e-3, gt=0)
    muon_lr: float | None = Field(0.02, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    scale: float = Field(32.0, gt=0, description="CosFace's s")
    margin: float = Field(0.35, ge=0, lt=1, description="CosFace's m, reached after margin_warmup of the steps")
    margin_warmup: float = Field(0.4, ge=0, le=1)
    landmark_noise: float = Field(0.07, ge=0, description="in eye-mouth distances, as the detector errs")
    strength: float = Field(2.0, ge=0, description="of blur, noise and the like")
    bend: float = Field(1.0, ge=0, description="pixels that lines are bent by, as a generated face's are")
    bf16: bool = Field(
        False, description="mixed precision; 1.8 times as fast on a CPU with AVX512-BF16, slower without"
    )
    seed: int = 21


class _Residual(nn.Module):
    """Two convolutions about a straight path."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(ConvNorm(channels, channels), ConvNorm(channels, channels, activate=False))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x))


class Recogniser(nn.Module):
    """Aligned crop to embedding; the crop is halved first, since it was enlarged from some 30 pixels.

    Args:
        channels: channels at 28, 14 and 7 pixels.
    """

    def __init__(self, channels: tuple[int, int, int]) -> None:
        super().__init__()
        a, b, c = channels
        self.body = nn.Sequential(
            nn.AvgPool2d(2),  # (N, 3, 56, 56)
            ConvNorm(3, a, stride=2),  # (N, a, 28, 28)
            ConvNorm(a, a),
            ConvNorm(a, b, stride=2),  # (N, b, 14, 14)
            _Residual(b),
            ConvNorm(b, c, stride=2),  # (N, c, 7, 7)
            _Residual(c),
            ConvNorm(c, c, stride=2),  # (N, c, 4, 4)
        )
        self.head = LinearNorm(c * 16, DIMENSION)

    def forward(self, crops: Tensor) -> Tensor:
        """(N, 3, 112, 112) RGB in [-1, 1] to (N, 512), of any length."""
        output: Tensor = self.head(self.body(crops).flatten(1))
        return output


def build_recogniser(settings: RecogniserSettings) -> Recogniser:
    """An untrained recogniser, seeded."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return Recogniser(settings.channels)


class CosineMargin(nn.Module):
    """CosFace: softmax over cosines to one vector a person, less a margin for the right one (arXiv:1801.09414).

    Args:
        people: number of persons.
        scale: the factor s before the softmax.
        generator: the randomness of the first vectors.
    """

    def __init__(self, people: int, scale: float, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(people, DIMENSION, generator=generator) * DIMENSION**-0.5)
        self.scale = scale

    def forward(self, embeddings: Tensor, labels: Tensor, margin: float) -> Tensor:
        """(N, 512) and (N,) int64 to the mean loss, a scalar."""
        cosines = F.normalize(embeddings) @ F.normalize(self.weight).T  # (N, people)
        cosines = cosines - margin * F.one_hot(labels, len(self.weight))
        return F.cross_entropy(self.scale * cosines, labels)


def _step(
    model: Recogniser, head: CosineMargin, pool: Pool, settings: RecogniserSettings
) -> Callable[[int, torch.Generator], Tensor]:
    ramp = max(1.0, settings.margin_warmup * settings.steps)

    def step(i: int, generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(pool), (settings.batch_size,), generator=generator)
        crops = training_crops(
            pool,
            rows,
            generator,
            landmark_noise=settings.landmark_noise,
            strength=settings.strength,
            bend=settings.bend,
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16):
            embeddings = model(crops)
        loss: Tensor = head(embeddings.float(), pool.identity[rows], settings.margin * min(1.0, i / ramp))
        return loss

    return step


def train_recogniser(
    settings: RecogniserSettings | None, assets: Path, work: Path, *, pool: Pool | None = None
) -> dict[str, Any]:
    """Trains the recogniser on the people pool and writes ``recogniser.onnx`` into the pack.

    Args:
        settings: None for the default ones.
        assets: folder of the embedded world's assets.
        work: folder of pools and checkpoints; a training that was broken off goes on from there.
        pool: other pictures to train on than the shared pool of 3,000 people.

    Returns:
        Steps, seconds, settings, and the file's largest difference from torch.
    """
    settings = settings or RecogniserSettings()
    pool = pool if pool is not None else people_pool(folder=work)
    model = channels_last(build_recogniser(settings).train())
    people = int(pool.identity.max()) + 1
    head = CosineMargin(people, settings.scale, torch.Generator().manual_seed(settings.seed))
    report = train(
        "recogniser",
        {"model": model, "head": head},
        _step(model, head, pool, settings),
        steps=settings.steps,
        lr=settings.lr,
        muon_lr=settings.muon_lr,
        checkpoint=work / "checkpoints" / "recogniser",
        seed=settings.seed,
        weight_decay=settings.weight_decay,
        grad_clip=5.0,
    )
    worst = export_recogniser(folded(model), pack_folder(assets) / FILE)
    return {"steps": report.steps, "seconds": report.seconds, "settings": settings.model_dump(), "onnx_error": worst}


def export_recogniser(model: nn.Module, path: Path) -> float:
    """Writes a network (N, 3, 112, 112) to (N, 512) in ArcFace's ONNX format; see :func:`export.export_onnx`."""
    generator = torch.Generator().manual_seed(0)
    example = torch.rand(2, 3, CROP, CROP, generator=generator) * 2 - 1
    return export_onnx(model, example, path, inputs="data", outputs=["embedding"], dynamic={0: "batch"})


def load_recogniser(path: Path) -> nn.Module:
    """The stored recogniser as a torch module, frozen, for losses: (N, 3, 112, 112) in [-1, 1] to (N, 512).

    Args:
        path: a file that :func:`export_recogniser` wrote from a :class:`Recogniser`.

    Raises:
        BadFile: if the file is missing, or holds another network.
    """
    stored = load_weights(path)
    firsts = [stored.get(f"body.{layer}.conv.weight") for layer in (1, 3, 5)]
    if any(first is None for first in firsts):
        raise BadFile(f"{path}: not a recogniser of this world; remake it with `difflora world train recogniser`")
    a, b, c = (len(first) for first in firsts if first is not None)
    model = folded(Recogniser((a, b, c)))
    try:
        model.load_state_dict({name: stored[name] for name in model.state_dict()})
    except (KeyError, RuntimeError) as error:
        raise BadFile(f"{path}: not a whole recogniser ({error}); remake it") from error
    return model


def embed_aligned(path: Path, pool: Pool, batch: int = 64) -> Tensor:
    """Unit embeddings of a pool's faces, aligned by their true landmarks, through onnxruntime.

    Args:
        path: a recogniser in ArcFace's ONNX format.
        pool: N pictures.
        batch: pictures at a time.

    Returns:
        (N, 512) float32.

    Raises:
        BadFile: if the file is missing or no ONNX model.
    """
    session = open_session(path)
    name = session.get_inputs()[0].name
    found = []
    for start in range(0, len(pool), batch):
        rows = torch.arange(start, min(start + batch, len(pool)))
        crops = align(pool.batch(rows), pool.landmarks[rows]) * 2 - 1
        found.append(torch.from_numpy(session.run(None, {name: crops.numpy()})[0]))
    return F.normalize(torch.cat(found))


def verify_recogniser(assets: Path, seed: int, count: int | None = None) -> list[Bar]:
    """Measures the recogniser on people that it never saw, through InsightFace's detection, alignment and embedding.

    A face that the detector misses counts as unlike every other. While the pack has no detector, only the row with
    true landmarks is given.

    Args:
        assets: folder of the embedded world's assets.
        seed: seed of the people and scenes; not that of a training pool.
        count: pictures, ten a person; None for 2,000.

    Raises:
        BadFile: if the pack is missing or broken.
    """
    people = _PEOPLE if count is None else max(2, count // _IMAGES_EACH)
    pool = fresh_pool(people, _IMAGES_EACH, seed)
    true = verification(embed_aligned(pack_folder(assets) / FILE, pool), pool.identity)
    bars = [Bar("recogniser: TAR@FAR 1%, true landmarks", float("nan"), true.tar)]
    if not (pack_folder(assets) / PACK_FILES[0]).exists():
        return bars
    whole = verification(embed_images(assets, pool.images), pool.identity)
    return [
        Bar("recogniser: TAR@FAR 1% through FaceAnalysis", 0.98, whole.tar),
        *bars,
        Bar("recogniser: mean cosine, same person", float("nan"), whole.same),
        Bar("recogniser: mean cosine, different people", float("nan"), whole.different),
    ]

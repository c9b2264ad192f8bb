"""The pack's detector: a small feature pyramid with SCRFD's nine outputs, found by InsightFace from their number."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from difflora.world.bars import Bar
from difflora.world.faces import DET_SIZE
from difflora.world.faces.canvases import Canvases, draw_canvases, empty_places
from difflora.world.faces.detector_targets import (
    ANCHOR_SIZES,
    STRIDES,
    anchors,
    assign,
    decode_boxes,
    encode_landmarks,
    iou,
)
from difflora.world.faces.export import export_onnx
from difflora.world.faces.layers import ConvNorm, channels_last, folded
from difflora.world.faces.pack import load_pack, pack_folder, to_bgr
from difflora.world.loop import train
from difflora.world.pool import Pool, fresh_pool, generic_pool

logger = logging.getLogger(__name__)

FILE = "detector.onnx"
OUTPUTS = [f"{kind}_{stride}" for kind in ("score", "bbox", "kps") for stride in STRIDES]
_ANCHORS, _VALUES = 2, 15
_COUNT = 1000


class DetectorSettings(BaseModel):
    """How the detector is built and trained: about 10 minutes on two cores; every face found in 99% expected."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    widths: tuple[int, int, int, int, int] = Field((16, 32, 64, 96, 80), description="channels at strides 2 to 32")
    neck: int = Field(48, ge=1, description="channels of the pyramid and its heads")
    steps: int = Field(3000, ge=1)
    batch_size: int = Field(32, ge=1)
    lr: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    strength: float = Field(1.0, ge=0, description="of blur and noise")
    box_weight: float = Field(2.0, ge=0)
    landmark_weight: float = Field(10.0, ge=0)
    backgrounds: int = Field(2000, ge=1, description="faceless pictures drawn for training")
    seed: int = 22


class Detector(nn.Module):
    """Picture to scores, boxes and landmarks at three strides.

    Args:
        widths: channels at strides 2, 4, 8, 16 and 32.
        neck: channels of the pyramid.
    """

    def __init__(self, widths: tuple[int, int, int, int, int], neck: int) -> None:
        super().__init__()
        a, b, c, d, e = widths
        self.stem = nn.Sequential(ConvNorm(3, a, stride=2), ConvNorm(a, b, stride=2))
        self.stages = nn.ModuleList(
            nn.Sequential(ConvNorm(i, o, stride=2), ConvNorm(o, o)) for i, o in ((b, c), (c, d), (d, e))
        )
        self.laterals = nn.ModuleList(ConvNorm(width, neck, kernel=1) for width in (c, d, e))
        self.tower = nn.ModuleList(nn.Sequential(ConvNorm(neck, neck), ConvNorm(neck, neck)) for _ in STRIDES)
        self.output = nn.Conv2d(neck, _ANCHORS * _VALUES, 1)
        nn.init.normal_(self.output.weight, std=0.01)
        first = torch.zeros(_ANCHORS, _VALUES)
        first[:, 0] = -4.0  # faces are rare
        self.output.bias = nn.Parameter(first.flatten())

    def maps(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W), normalised as InsightFace does, to (B, 30, H / stride, W / stride) a stride."""
        x = self.stem(images)  # (B, b, H/4, W/4)
        features = []
        for stage, lateral in zip(self.stages, self.laterals, strict=True):
            x = stage(x)
            features.append(lateral(x))  # (B, neck, H/stride, W/stride)
        for i in (1, 0):
            features[i] = features[i] + F.interpolate(features[i + 1], scale_factor=2.0, mode="nearest")
        return [self.output(tower(f)) for tower, f in zip(self.tower, features, strict=True)]

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """What SCRFD gives: for each stride, rows by picture, row, column and anchor.

        Args:
            images: (B, 3, H, W) float32, RGB, ``(value - 127.5) / 128``; sides are multiples of 32.

        Returns:
            Logits (R, 1), distances of boxes (R, 4) and offsets of landmarks (R, 10), both in strides.
        """
        logits, boxes, landmarks = [], [], []
        for x, stride, pair in zip(self.maps(images), STRIDES, ANCHOR_SIZES, strict=True):
            rows = x.permute(0, 2, 3, 1).reshape(-1, _ANCHORS, _VALUES)  # (B*H*W, 2, 15)
            scale = torch.tensor(pair, dtype=x.dtype).view(1, _ANCHORS, 1) / (2 * stride)
            logits.append(rows[..., :1].reshape(-1, 1))
            boxes.append((rows[..., 1:5].clamp(-3, 3).exp() * scale).reshape(-1, 4))
            landmarks.append((rows[..., 5:] * scale).reshape(-1, 10))
        return logits, boxes, landmarks


class _Scrfd(nn.Module):
    """The detector with SCRFD's flat list of outputs and its scores in [0, 1]."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        logits, boxes, landmarks = self.detector(images)
        return (*(torch.sigmoid(x) for x in logits), *boxes, *landmarks)


def build_detector(settings: DetectorSettings) -> Detector:
    """An untrained detector, seeded."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return Detector(settings.widths, settings.neck)


def detector_loss(model: Detector, batch: Canvases, settings: DetectorSettings) -> Tensor:
    """Quality focal loss on scores, IoU loss on boxes and smooth L1 on landmarks, a scalar.

    The score's target is the IoU that the anchor's box reaches (generalised focal loss, arXiv:2006.04388).
    """
    size, height, width = len(batch.images), *batch.images.shape[-2:]
    places, strides, sizes = anchors(height, width)
    outputs = model((batch.images * 255 - 127.5) / 128)
    logits, boxes, landmarks = (torch.cat([x.reshape(size, -1, x.shape[-1]) for x in part], dim=1) for part in outputs)
    positive = assign(batch.boxes, batch.present, height, width)  # (B, M)
    picture, anchor = positive.nonzero(as_tuple=True)  # (P,), (P,)
    count = max(1, len(picture))
    overlap = iou(decode_boxes(boxes[positive], places[anchor], strides[anchor]), batch.boxes[picture])  # (P,)
    target = torch.zeros(positive.shape).masked_scatter(positive, overlap.detach().clamp(0.3, 1))  # (B, M)
    scores = logits[..., 0]
    focus = (target - scores.detach().sigmoid()).square()
    focal = (F.binary_cross_entropy_with_logits(scores, target, reduction="none") * focus).sum() / count
    wanted = encode_landmarks(batch.landmarks[picture], places[anchor], strides[anchor])  # (P, 10)
    unit = (strides / sizes)[anchor][:, None]
    points = F.smooth_l1_loss(landmarks[positive] * unit, wanted * unit, beta=0.02, reduction="sum") / (10 * count)
    box = (1 - overlap).sum() / count
    return focal + settings.box_weight * box + settings.landmark_weight * points


def _step(
    model: Detector, pool: Pool, empty: Tensor, settings: DetectorSettings
) -> Callable[[int, torch.Generator], Tensor]:
    def step(i: int, generator: torch.Generator) -> Tensor:
        batch = draw_canvases(pool, empty, settings.batch_size, DET_SIZE[0], generator, settings.strength)
        return detector_loss(model, batch, settings)

    return step


def train_detector(
    settings: DetectorSettings | None, assets: Path, work: Path, *, pool: Pool | None = None
) -> dict[str, Any]:
    """Trains the detector on generic people and writes ``detector.onnx`` into the pack.

    Args:
        settings: None for the default ones.
        assets: folder of the embedded world's assets.
        work: folder of pools and checkpoints; a training that was broken off goes on from there.
        pool: other pictures to train on than the shared pool of 60,000 people.

    Returns:
        Steps, seconds, settings, and the file's largest difference from torch.
    """
    settings = settings or DetectorSettings()
    pool = pool if pool is not None else generic_pool(folder=work)
    model = channels_last(build_detector(settings).train())
    report = train(
        "detector",
        {"model": model},
        _step(model, pool, empty_places(settings.backgrounds, settings.seed), settings),
        steps=settings.steps,
        lr=settings.lr,
        checkpoint=work / "checkpoints" / "detector",
        seed=settings.seed,
        weight_decay=settings.weight_decay,
        grad_clip=5.0,
    )
    worst = export_detector(folded(model), pack_folder(assets) / FILE)
    return {"steps": report.steps, "seconds": report.seconds, "settings": settings.model_dump(), "onnx_error": worst}


def export_detector(model: nn.Module, path: Path) -> float:
    """Writes a :class:`Detector` in SCRFD's ONNX format, for any picture; see :func:`export.export_onnx`."""
    example = torch.rand(2, 3, *DET_SIZE[::-1], generator=torch.Generator().manual_seed(0)) * 2 - 1
    dynamic = {0: "batch", 2: "height", 3: "width"}
    return export_onnx(_Scrfd(model).eval(), example, path, inputs="input", outputs=OUTPUTS, dynamic=dynamic)


def verify_detector(assets: Path, seed: int, count: int | None = None) -> list[Bar]:
    """Measures the detector on fresh people and places, through ``FaceAnalysis``.

    Args:
        assets: folder of the embedded world's assets.
        seed: seed of the people and scenes; not that of a training pool.
        count: pictures of people, and as many places without; None for 1,000.

    Raises:
        BadFile: if the pack is missing or broken.
    """
    count = _COUNT if count is None else count
    finder = load_pack(assets).det_model
    pool = fresh_pool(count, 1, seed)
    found, single, errors, overlaps = 0, 0, [], []
    for image, box, points in zip(pool.images, pool.boxes, pool.landmarks, strict=True):
        boxes, landmarks = finder.detect(to_bgr(image))
        if not len(boxes):
            continue
        single += len(boxes) == 1
        overlap = float(iou(torch.from_numpy(boxes[0, :4]), box))
        found += overlap > 0.6
        overlaps.append(overlap)
        errors.append(float((torch.from_numpy(landmarks[0]) - points).norm(dim=-1).mean()))
    quiet = sum(not len(finder.detect(to_bgr(image))[0]) for image in empty_places(count, seed))
    nan = float("nan")
    return [
        Bar("detector: renders whose face is found, IoU above 0.6", 0.98, found / count),
        Bar("detector: backgrounds where no face is found", 0.98, quiet / count),
        Bar("detector: renders with exactly one face found", nan, single / count),
        Bar("detector: mean IoU of found faces", nan, sum(overlaps) / max(1, len(overlaps))),
        Bar("detector: mean landmark error, pixels of 64", nan, sum(errors) / max(1, len(errors)), at_least=False),
    ]

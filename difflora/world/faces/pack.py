"""The face pack as people use it: through ``insightface.app.FaceAnalysis``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from difflora.encoders.faces import InsightFaceEncoder
from difflora.encoders.pack import open_pack, without_warnings
from difflora.errors import BadFile
from difflora.world.faces import DET_SIZE, PACK_NAME

PACK_FILES = ("detector.onnx", "recogniser.onnx")


def pack_folder(assets: str | Path) -> Path:
    """Where the pack's files lie: ``assets/insightface/models/world``."""
    return Path(assets) / "insightface" / "models" / PACK_NAME


def load_pack(assets: str | Path, *, det_thresh: float = 0.5) -> Any:
    """The embedded world's pack as a prepared ``FaceAnalysis``, on the CPU.

    Args:
        assets: folder of the embedded world's assets (``assets/embedded``).
        det_thresh: least score of a face.

    Raises:
        BadFile: if one of its files is missing or truncated.
    """
    for file in PACK_FILES:
        path = pack_folder(assets) / file
        if not path.is_file():
            raise BadFile(f"{path}: no such file; make it with `difflora world train faces`, or restore it")
    return open_pack(Path(assets) / "insightface", PACK_NAME, det_size=DET_SIZE, det_thresh=det_thresh)


def open_encoder(assets: Path) -> InsightFaceEncoder:
    """The embedded world's pack as what pictures are conditioned on and filtered by.

    Raises:
        BadFile: if one of its files is missing or truncated.
    """
    return InsightFaceEncoder(assets / "insightface", PACK_NAME, det_size=DET_SIZE)


def to_bgr(image: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A picture (3, H, W), uint8 or float in [0, 1], RGB, as OpenCV holds it: (H, W, 3) uint8, BGR."""
    if image.dtype != torch.uint8:
        image = image.clamp(0, 1).mul(255).round().byte()
    return np.ascontiguousarray(image.permute(1, 2, 0).flip(-1).numpy())


def embed_images(assets: Path, images: Tensor) -> Tensor:
    """Unit embeddings of the best face in each picture, by ``FaceAnalysis`` alone; zeros where it finds none.

    Args:
        assets: folder of the embedded world's assets.
        images: (N, 3, H, W), uint8 or float in [0, 1], RGB.

    Returns:
        (N, 512) float32.

    Raises:
        BadFile: if the pack is missing or broken.
    """
    app = load_pack(assets)
    output = torch.zeros(len(images), 512)
    for i, image in enumerate(images):
        with without_warnings():
            faces = app.get(to_bgr(image))
        if faces:
            best = max(faces, key=lambda face: float(face.det_score))
            output[i] = torch.from_numpy(best.embedding)
    return F.normalize(output)

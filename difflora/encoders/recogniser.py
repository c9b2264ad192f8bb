"""A face recogniser in ArcFace's format, on aligned faces: a pack's own, or one from a file of its own."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from difflora.errors import BadFile, BadImage

Array = np.ndarray[Any, np.dtype[np.float32]]
Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def check_crops(crops: Sequence[Pixels] | Pixels, side: int) -> None:
    """Looks whether N crops are uint8 (side, side, 3).

    Raises:
        BadImage: if one is not.
    """
    for i, crop in enumerate(crops):
        if crop.shape != (side, side, 3) or crop.dtype != np.uint8:
            raise BadImage(f"crop {i} is {crop.dtype} {crop.shape}; give uint8 ({side}, {side}, 3)")


class FaceRecogniser:
    """Identities of aligned faces, in batches.

    Args:
        model: InsightFace's ``ArcFaceONNX``, prepared.
        batch_size: faces at a time, unless the file fixes their number.

    Attributes:
        file: its ONNX file.
        crop_size: side of an aligned face in pixels.
        dimension: D, the length of an embedding.
        mean: what is taken off each value of a pixel, 0 to 255, before the network.
        spread: what it is divided by then.
    """

    def __init__(self, model: Any, batch_size: int = 64) -> None:
        self._model = model
        fixed = model.input_shape[0]
        self._fixed = isinstance(fixed, int) and fixed > 0
        self.batch_size = fixed if self._fixed else batch_size
        self.file = Path(model.model_file)
        self.crop_size = int(model.input_size[0])
        self.dimension = int(model.output_shape[-1])
        self.mean, self.spread = float(model.input_mean), float(model.input_std)

    @classmethod
    def open(cls, path: str | Path, *, provider: str = "CPU", batch_size: int = 64) -> FaceRecogniser:
        """Opens an ONNX file by InsightFace's own loader.

        Args:
            path: the file.
            provider: onnxruntime's execution provider without its suffix.
            batch_size: faces at a time.

        Raises:
            BadFile: if it is missing, damaged or no recogniser.
        """
        path = Path(path)
        if not path.is_file():
            raise BadFile(f"{path}: no such file; give the ONNX file of a face recogniser")
        from insightface.model_zoo import get_model
        from insightface.model_zoo.arcface_onnx import ArcFaceONNX

        try:
            with contextlib.redirect_stdout(io.StringIO()):
                model = get_model(str(path), providers=[f"{provider}ExecutionProvider"])
        except Exception as error:
            raise BadFile(f"{path}: not a readable ONNX file ({str(error).splitlines()[0]}); restore it") from error
        if not isinstance(model, ArcFaceONNX):
            raise BadFile(f"{path}: is no face recogniser; give one in ArcFace's format")
        model.prepare(ctx_id=-1 if provider == "CPU" else 0)
        return cls(model, batch_size)

    def embed(self, crops: Sequence[Pixels] | Pixels) -> Array:
        """Identities of aligned faces.

        Args:
            crops: N arrays (112, 112, 3) uint8, RGB.

        Returns:
            (N, D) float32, unit vectors.

        Raises:
            BadImage: if a crop has another size.
        """
        check_crops(crops, self.crop_size)
        output = np.zeros((len(crops), self.dimension), np.float32)
        for start in range(0, len(crops), self.batch_size):
            part = [np.ascontiguousarray(crop[..., ::-1]) for crop in crops[start : start + self.batch_size]]
            short = self.batch_size - len(part) if self._fixed else 0
            output[start : start + len(part)] = self._model.get_feat(part + part[-1:] * short)[: len(part)]
        length = np.linalg.norm(output, axis=1, keepdims=True)
        return np.asarray(output / np.maximum(length, 1e-12), np.float32)

"""An Inception from a file, for FID and KID as others report them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from difflora.encoders.images import Picture, as_pictures
from difflora.errors import BadFile

_SIDE = 299


class InceptionFile:
    """An ONNX file from pictures to features, such as an export of pytorch-fid's ``InceptionV3``.

    Its input is (N, 3, H, W) float32, RGB in [0, 1], its first output (N, D) or (N, D, 1, 1). Pictures are brought to
    the sides that the file fixes, or to 299, by antialiased bilinear resizing (Parmar et al., 2022).

    Args:
        path: the file; ONNX is data, nothing in it is unpickled.
        provider: onnxruntime's execution provider without its suffix: ``CPU``, ``CUDA``...
        batch_size: pictures at a time, unless the file fixes their number.

    Raises:
        BadFile: if it is missing, damaged, or takes no pictures.
    """

    def __init__(self, path: str | Path, *, provider: str = "CPU", batch_size: int = 32) -> None:
        import onnxruntime

        self.file = Path(path)
        if not self.file.is_file():
            raise BadFile(f"{self.file}: no such file; give an Inception as ONNX")
        if f"{provider}ExecutionProvider" not in onnxruntime.get_available_providers():
            raise BadFile(f"{self.file}: provider {provider!r} is not in the installed onnxruntime; use CPU")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(self.file), options, providers=[f"{provider}ExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's errors have no common class of their own
            line = (str(error).splitlines() or [""])[0]
            raise BadFile(f"{self.file}: not a readable ONNX file ({line}); restore it") from error
        entry = self._session.get_inputs()[0]
        shape: list[Any] = entry.shape
        if entry.type != "tensor(float)" or len(shape) != 4 or shape[1] != 3:
            raise BadFile(f"{self.file}: takes {entry.type} of shape {shape}, not float pictures (N, 3, H, W)")
        self._input = entry.name
        self._size = tuple(side if isinstance(side, int) and side > 0 else _SIDE for side in shape[2:])
        self._fixed = isinstance(shape[0], int) and shape[0] > 0
        self.batch_size = int(shape[0]) if self._fixed else batch_size

    def __call__(self, images: Sequence[Picture]) -> Tensor:
        """Encodes pictures of any sizes.

        Args:
            images: N PIL images or (H, W, 3) uint8 arrays or tensors.

        Returns:
            (N, D) float32 features, of any length.

        Raises:
            BadImage: if one is no picture.
        """
        pictures = as_pictures(images)
        parts = []
        for start in range(0, len(pictures), self.batch_size):
            pixels = [self._pixels(one) for one in pictures[start : start + self.batch_size]]
            short = self.batch_size - len(pixels) if self._fixed else 0
            output = self._session.run(None, {self._input: np.stack(pixels + pixels[-1:] * short)})[0]
            parts.append(torch.from_numpy(output[: len(pixels)]).flatten(1).float())  # (B, D)
        return torch.cat(parts) if parts else torch.empty(0, 0)

    def _pixels(self, picture: Image.Image) -> np.ndarray[Any, np.dtype[np.float32]]:
        height, width = self._size
        resized = picture.resize((width, height), Image.Resampling.BILINEAR)  # Pillow's is antialiased
        return np.asarray(resized, np.float32).transpose(2, 0, 1) / np.float32(255)  # (3, H, W)

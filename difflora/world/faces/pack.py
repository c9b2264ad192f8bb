"""The face pack as people use it: through ``insightface.app.FaceAnalysis``."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from difflora.errors import BadFile
from difflora.world.faces import DET_SIZE, PACK_NAME

PACK_FILES = ("detector.onnx", "recogniser.onnx")


def pack_folder(assets: str | Path) -> Path:
    """Where the pack's files lie: ``assets/insightface/models/world``."""
    return Path(assets) / "insightface" / "models" / PACK_NAME


def open_pack(
    root: str | Path, name: str, *, det_size: tuple[int, int] = DET_SIZE, det_thresh: float = 0.5, provider: str = "CPU"
) -> Any:
    """Opens a pack of InsightFace from a local folder, detection and recognition alone; nothing is ever downloaded.

    Args:
        root: folder that holds ``models/NAME``.
        name: the pack's name, for example ``world`` or ``buffalo_l``.
        det_size: width and height at which the detector looks.
        det_thresh: least score of a face.
        provider: onnxruntime's execution provider without its suffix, for example ``CPU`` or ``CUDA``.

    Returns:
        A prepared ``insightface.app.FaceAnalysis``.

    Raises:
        BadFile: if the folder is missing or holds no readable detector or recogniser.
    """
    import onnxruntime

    folder = Path(root).expanduser() / "models" / name
    if not folder.is_dir():
        raise BadFile(f"{folder}: no such folder; unpack the face pack {name!r} there (it is not downloaded)")
    if not list(folder.glob("*.onnx")):
        raise BadFile(f"{folder}: holds no .onnx file; unpack the face pack {name!r} there (it is not downloaded)")
    if f"{provider}ExecutionProvider" not in onnxruntime.get_available_providers():
        raise BadFile(f"{folder}: provider {provider!r} is not in the installed onnxruntime; use CPU or install it")
    from insightface.app import FaceAnalysis

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            app = FaceAnalysis(
                name=str(folder.resolve()),
                root=str(Path(root).expanduser()),
                allowed_modules=["detection", "recognition"],
                providers=[f"{provider}ExecutionProvider"],
            )
            if "recognition" not in app.models:
                raise BadFile(f"{folder}: holds no recogniser; restore the face pack {name!r}")
            app.prepare(ctx_id=-1 if provider == "CPU" else 0, det_thresh=det_thresh, det_size=det_size)
    except BadFile:
        raise
    except Exception as error:
        raise BadFile(f"{folder}: not a readable face pack ({_line(error)}); restore or remake its files") from error
    return app


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Silences scikit-image's notice that InsightFace aligns by a call that is to be renamed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


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
    return open_pack(Path(assets) / "insightface", PACK_NAME, det_thresh=det_thresh)


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

"""A face pack of InsightFace, opened from a local folder."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from difflora.errors import BadFile


def open_pack(
    root: str | Path,
    name: str,
    *,
    det_size: tuple[int, int] = (128, 128),
    det_thresh: float = 0.5,
    provider: str = "CPU",
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

"""The encoders inside a pipeline's folder, so that the folder is all that a user needs.

``encoders.json`` says what they are and how the detector looks; files lie under ``face_encoder/models/NAME`` and
``image_encoder``, as the encoders' own libraries expect them.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from difflora.encoders.faces import InsightFaceEncoder
from difflora.encoders.images import CLIPImageEncoder
from difflora.encoders.subject import WHOLE_PICTURES, SubjectEncoder
from difflora.encoders.whole import WholePictureEncoder
from difflora.errors import BadFile
from difflora.files import write_json
from difflora.folders import read_json

_INDEX, _FACE, _IMAGE = "encoders.json", "face_encoder", "image_encoder"


def save_encoders(folder: Path, face: SubjectEncoder | None, image: CLIPImageEncoder | None, *, copy: bool) -> None:
    """Writes which encoders a pipeline uses and, with ``copy``, their files.

    Without them (their licence may forbid to pass them on) whoever loads the pipeline brings the same ones. Files of an
    encoder of whole pictures that is the image encoder too are stored once.
    """
    known: dict[str, Any] = {}
    if isinstance(face, InsightFaceEncoder):
        known["face"] = {
            "name": face.name,
            "det_size": list(face.det_size),
            "det_thresh": face.det_thresh,
            "sha256": face.digest,
            "stored": copy,
        }
        if copy:
            _copy(face.files, folder / _FACE / "models" / face.name)
    elif isinstance(face, WholePictureEncoder):
        same = image is not None and face.images.digest == image.digest
        known["face"] = {"name": face.name, "sha256": face.digest, "stored": copy, "as_image": same}
        if copy and not same:
            _copy(face.files, folder / _FACE)
    if image is not None:
        known["image"] = {"sha256": image.digest, "stored": copy}
        if copy:
            _copy(image.files, folder / _IMAGE)
    write_json(folder / _INDEX, known)


def load_encoders(
    folder: Path,
    device: str | torch.device = "cpu",
    face: SubjectEncoder | None = None,
    image: CLIPImageEncoder | None = None,
) -> tuple[SubjectEncoder | None, CLIPImageEncoder | None]:
    """The encoders of a pipeline's folder.

    Args:
        folder: the pipeline's.
        device: where the models compute.
        face: to use instead of the stored one.
        image: likewise.

    Returns:
        Each, or None where it is neither given nor stored.

    Raises:
        BadFile: if one is damaged, or not the one that was stored.
    """
    path = folder / _INDEX
    known = read_json(path)
    try:
        if image is None and known.get("image", {}).get("stored"):
            image = CLIPImageEncoder(folder / _IMAGE, device=device)
            _check(folder / _IMAGE, image.digest, known["image"]["sha256"])
        entry = known.get("face", {})
        if face is None and entry.get("as_image") and image is not None:
            face = WholePictureEncoder(image)
        elif face is None and entry.get("stored"):
            face = _load_face(folder / _FACE, entry, device)
            _check(folder / _FACE, face.digest, entry["sha256"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadFile(f"{path}: describes no encoders ({error!r}); restore it") from error
    return face, image


def _load_face(folder: Path, entry: dict[str, Any], device: str | torch.device) -> SubjectEncoder:
    if entry["name"] == WHOLE_PICTURES:
        return WholePictureEncoder(CLIPImageEncoder(folder, device=device))
    size, thresh = tuple(entry["det_size"]), float(entry["det_thresh"])
    provider = "CUDA" if torch.device(device).type == "cuda" and _has_cuda() else "CPU"
    return InsightFaceEncoder(folder, entry["name"], det_size=size, det_thresh=thresh, provider=provider)


def _has_cuda() -> bool:
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _check(folder: Path, found: str, stored: str) -> None:
    if found != stored:
        raise BadFile(f"{folder}: is not the encoder that was stored (its sha256 differs); restore the folder")


def _copy(files: tuple[Path, ...], folder: Path) -> None:
    folder.mkdir(parents=True)
    for path in files:
        shutil.copyfile(path, folder / path.name)

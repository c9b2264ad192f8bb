"""Whether a pipeline's parts were made for each other, and the schedulers that it may have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

from difflora.encoders.images import CLIPImageEncoder
from difflora.encoders.subject import SubjectEncoder
from difflora.errors import BadFile, BadParameter
from difflora.folders import read_json
from difflora.models.dit import LoraTransformer
from difflora.models.lae import LoraAutoencoder
from difflora.models.noise import check_scheduler

_SCHEDULERS = {kind.__name__: kind for kind in (DDIMScheduler, DPMSolverMultistepScheduler)}


def check_parts(
    lae: LoraAutoencoder,
    transformer: LoraTransformer,
    scheduler: Any,
    face: SubjectEncoder | None,
    image: CLIPImageEncoder | None,
) -> None:
    """Looks over a pipeline's parts.

    Raises:
        BadParameter: if sizes, kinds of prediction or encoders differ, or the scheduler would clip latents.
    """
    check_scheduler(scheduler)
    config = transformer.config
    if lae.latent_size != config.latent_size:
        raise BadParameter(f"the transformer makes latents of {config.latent_size}, the autoencoder {lae.latent_size}")
    kind, other = transformer.settings.prediction_type, scheduler.config.prediction_type
    if kind != other:
        raise BadParameter(f"scheduler.prediction_type is {other}, the transformer's {kind}: give the same")
    for name, encoder, size in (("face", face, config.face_dim), ("image", image, config.image_dim)):
        known = config[f"{name}_encoder"]
        if encoder is None:
            continue
        if encoder.dimension != size:
            raise BadParameter(f"{name}_encoder gives {encoder.dimension} numbers, the transformer takes {size}")
        if known is not None and encoder.digest != known:
            raise BadParameter(
                f"{name}_encoder is not the one that the transformer was trained with: its files' sha256 is "
                f"{encoder.digest}, not {known}"
            )


def load_scheduler(folder: Path) -> Any:
    """The scheduler in a pipeline's folder.

    Raises:
        BadFile: if it is missing, unreadable or of another kind than DDIM and DPM-Solver++.
    """
    path = folder / "scheduler_config.json"
    config = read_json(path)
    kind = _SCHEDULERS.get(str(config.get("_class_name")))
    if kind is None:
        raise BadFile(f"{path}: is of a {config.get('_class_name')}; known are {', '.join(_SCHEDULERS)}")
    return kind.from_config(config)

"""What a trained hypernetwork is called: its name and a hash of its weights."""

from __future__ import annotations

import hashlib

from difflora.models import DiffLoRAPipeline
from difflora.training.reproducible import weights_digest


def model_version(pipeline: DiffLoRAPipeline, name: str) -> str:
    """The version under which a pipeline is registered; equal weights have equal versions.

    Args:
        pipeline: autoencoder and transformer.
        name: ``register.name``.
    """
    digest = hashlib.sha256((weights_digest(pipeline.lae) + weights_digest(pipeline.transformer)).encode())
    return f"{name}-{digest.hexdigest()[:12]}"

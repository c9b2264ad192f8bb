"""The frozen base model under decoded LoRAs, as what a gradient flows back through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from difflora.corpus.base import FrozenBase, gradient_checkpointing
from difflora.corpus.many import ManyLoras
from difflora.errors import BadParameter
from difflora.models import LoraAutoencoder


def check_base(base: FrozenBase, lae: LoraAutoencoder, device: torch.device) -> None:
    """Looks whether a base model is the one to train through.

    Raises:
        BadParameter: if it is another than the LoRAs', or lies elsewhere than what is trained.
    """
    if lae.base is not None and (difference := base.name.difference(lae.base)):
        raise BadParameter(f"dit: {difference}; give the base model that the corpus was made with")
    if base.device.type != device.type:
        raise BadParameter(f"dit: the base model is on {base.device}, the training on {device}")


@contextmanager
def under_loras(base: FrozenBase, lae: LoraAutoencoder, checkpointing: bool) -> Iterator[ManyLoras]:
    """The base ready for LoRAs of an autoencoder's layout and alpha; as it was, once this is left.

    Args:
        base: the base model that the LoRAs are for.
        lae: gives layout and alpha.
        checkpointing: whether activations are computed again in the backward pass.
    """
    with (
        ManyLoras(base.unet, lae.layout, float(lae.config.alpha) / lae.layout.rank) as loras,
        gradient_checkpointing(base, checkpointing),
        _fast_attention(base),
    ):
        yield loras


@contextmanager
def _fast_attention(base: FrozenBase) -> Iterator[None]:
    """Plain products on a CPU in bfloat16, where torch's fused attention is several times slower backwards."""
    if base.device.type != "cpu" or next(base.unet.parameters()).dtype != torch.bfloat16:
        yield
        return
    with sdpa_kernel(SDPBackend.MATH):
        yield

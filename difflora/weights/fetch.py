"""Weights from the hub: one pinned commit, and only formats that are never unpickled."""

from __future__ import annotations

from pathlib import Path

from difflora.errors import BadFile, BadParameter
from difflora.weights.need import Need

_CONFIGS = (
    "model_index.json",
    "scheduler/*.json",
    "tokenizer*/*.json",
    "tokenizer*/*.txt",
    "unet/config.json",
    "vae/config.json",
    "text_encoder*/config.json",
)
_NETWORKS = (
    "unet/diffusion_pytorch_model.safetensors",
    "unet/diffusion_pytorch_model-*.safetensors",
    "unet/diffusion_pytorch_model.safetensors.index.json",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder*/model.safetensors",
    "text_encoder*/model-*.safetensors",
    "text_encoder*/model.safetensors.index.json",
)
_CLIP = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "model.safetensors",
    "model-*.safetensors",
    "model.safetensors.index.json",
)


def patterns(need: Need) -> tuple[str, ...]:
    """Which files are taken: safetensors in one precision, JSON and text, each by its public name."""
    if need.kind == "pipeline":
        return (*_CONFIGS, *_NETWORKS) if need.weights else _CONFIGS
    return _CLIP


def fetch(need: Need, root: Path) -> None:
    """Takes a need from the hub into its folder; an interrupted call goes on.

    Raises:
        BadParameter: if it has no name or no pinned revision.
        BadFile: if the hub refuses or cannot be reached.
    """
    if need.hub is None or need.kind not in ("pipeline", "CLIP"):
        raise BadParameter(f"{need.key}: is not taken from the hub; {need.advice()}")
    if need.revision is None:
        raise BadParameter(
            f"{need.key}: {need.hub} has no pinned revision; give the commit's 40 hexadecimal digits, since a branch "
            "may change under you"
        )
    import huggingface_hub

    try:
        huggingface_hub.snapshot_download(
            need.hub,
            revision=need.revision,
            local_dir=root / need.path,
            allow_patterns=list(patterns(need)),
        )
    except (OSError, ValueError) as error:  # the hub's own errors are OSError or ValueError
        reason = " ".join(str(error).split())
        raise BadFile(
            f"{need.hub}@{need.revision}: cannot be fetched ({reason}); look at the network, at HF_HUB_OFFLINE, and at "
            f"whether the model asks for a login, or copy the files to {need.path} by hand"
        ) from error

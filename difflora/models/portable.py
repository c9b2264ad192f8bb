"""Models on disk: configurations that name no machine, and folders checked in full when they are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import ConfigMixin
from torch import nn

from difflora.errors import BadFile, BadParameter
from difflora.files import load_safetensors
from difflora.folders import check_model_folder, whole_folder

WEIGHTS = "diffusion_pytorch_model.safetensors"
_Model = TypeVar("_Model", bound=nn.Module)


class PortableConfig(ConfigMixin):
    """diffusers' configuration without the path that it was loaded from: equal models make equal files."""

    def to_json_string(self) -> str:
        """The configuration as JSON with sorted keys."""
        value = json.loads(super().to_json_string())
        value.pop("_name_or_path", None)
        return json.dumps(value, indent=2, sort_keys=True) + "\n"


def save_model(model: Any, folder: str | Path) -> None:
    """``save_pretrained`` into a folder that is then there whole, or stays as it was."""
    with whole_folder(Path(folder)) as made:
        model.save_pretrained(made, safe_serialization=True)


def load_model(kind: type[_Model], folder: str | Path, device: str | torch.device = "cpu") -> _Model:
    """A model from a local folder, in eval mode, with nothing left to chance.

    diffusers' ``from_pretrained`` reads the same folder, but lets missing keys and non-finite numbers pass.

    Args:
        kind: the model's class.
        folder: what ``save_model`` or ``save_pretrained`` wrote.
        device: where to load it.

    Raises:
        BadFile: if a file is missing, cut short or of another model; a key is missing, unknown, misshapen or not
            finite. File and key are named.
    """
    folder = Path(folder)
    config = check_model_folder(folder, WEIGHTS)
    if config.get("_class_name") != kind.__name__:
        raise BadFile(f"{folder}/config.json: is of a {config.get('_class_name')}, not a {kind.__name__}")
    diffusers_class: Any = kind
    try:
        model: _Model = diffusers_class.from_config(config)
    except (BadParameter, TypeError, KeyError, ValueError) as error:
        raise BadFile(f"{folder}/config.json: makes no {kind.__name__} ({error}); restore it") from error
    _fill(model, folder)
    return model.to(device).train(False)


def _fill(model: Any, folder: Path) -> None:
    """Puts stored weights into a model; shards of a large one in turn."""
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()}
    for path in sorted(folder.glob("diffusion_pytorch_model*.safetensors")):
        tensors = load_safetensors(path)
        for name, tensor in tensors.items():
            shape = wanted.pop(name, None)
            if shape is None:
                raise BadFile(f"{path}: {name} is unknown to this {type(model).__name__}; restore the file")
            if tensor.shape != shape:
                raise BadFile(f"{path}: {name} is {tuple(tensor.shape)} where {tuple(shape)} is needed; restore it")
            if not torch.isfinite(tensor).all():
                raise BadFile(f"{path}: {name} holds NaN or Inf; restore the file or train again")
        model.load_state_dict(tensors, strict=False)
    if wanted:
        raise BadFile(f"{folder}: {next(iter(wanted))} is missing ({len(wanted)} such); restore the folder")

"""peft's settings of an adapter: in ``adapter_config.json`` beside it, or in the metadata of diffusers' files.

Without them diffusers takes alpha for the rank, and peft reads nothing. Both skip tensors of modules that the settings
do not name, and say nothing of modules that they name without tensors.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from difflora.errors import BadFile
from difflora.lora.layout import LoraLayout
from difflora.lora.pairs import is_unet_module

CONFIG_NAME = "adapter_config.json"
METADATA_KEY = "lora_adapter_metadata"
_NOT_PLAIN = ("alpha_pattern", "rank_pattern", "use_dora", "use_rslora", "lora_bias", "modules_to_save")


def adapter_settings(layout: LoraLayout, alpha: float) -> dict[str, Any]:
    """What peft needs to know of a LoRA."""
    return {
        "r": layout.rank,
        "lora_alpha": int(alpha) if alpha.is_integer() else alpha,  # peft's own type is int
        "target_modules": [module.name for module in layout.modules],
    }


def adapter_metadata(layout: LoraLayout, alpha: float, prefix: str) -> dict[str, str]:
    """The settings as diffusers keeps them in a file's metadata."""
    settings = {f"{prefix}{key}": value for key, value in adapter_settings(layout, alpha).items()}
    return {METADATA_KEY: json.dumps(settings, sort_keys=True)}


def adapter_config(layout: LoraLayout, alpha: float, base: str | None) -> dict[str, Any]:
    """The content of ``adapter_config.json``: what peft must know, and its other settings left at their defaults."""
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base,
        "inference_mode": True,
        "bias": "none",
        "lora_dropout": 0.0,
        **adapter_settings(layout, alpha),
    }


def read_adapter_metadata(text: str, prefix: str, where: str) -> dict[str, Any]:
    """The settings from a file's metadata.

    Raises:
        BadFile: if they are no JSON object.
    """
    try:
        stored = json.loads(text)
    except ValueError as error:
        raise BadFile(f"{where}: {METADATA_KEY} is not JSON ({error}); restore or remake it") from error
    if not isinstance(stored, dict):
        raise BadFile(f"{where}: {METADATA_KEY} is no JSON object; restore or remake it")
    return {key.removeprefix(prefix): value for key, value in stored.items()}


def check_settings(settings: Mapping[str, Any], modules: Collection[str], rank: int, where: str) -> float:
    """Looks whether settings fit the tensors beside them.

    Args:
        settings: peft's.
        modules: names of the modules that there are tensors of.
        rank: of the tensors.
        where: file or key, for errors.

    Returns:
        Alpha.

    Raises:
        BadFile: naming the setting, if it is none of a plain LoRA of one rank and one alpha, or does not fit.
    """
    if (kind := settings.get("peft_type", "LORA")) != "LORA":
        raise BadFile(f"{where}: peft_type is {kind!r}; only LoRAs are read")
    for key in _NOT_PLAIN:
        if settings.get(key):
            raise BadFile(f"{where}: {key} is {settings[key]!r}; only LoRAs of one rank and one alpha are read")
    if settings.get("bias", "none") != "none":
        raise BadFile(f"{where}: bias is {settings['bias']!r}; only LoRAs without trained biases are read")
    alpha = settings.get("lora_alpha")
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not math.isfinite(alpha) or alpha <= 0:
        raise BadFile(f"{where}: lora_alpha is {alpha!r}; it must be a positive number")
    if settings.get("r") != rank:
        raise BadFile(f"{where}: r is {settings.get('r')!r}, the tensors have rank {rank}")
    _check_targets(settings.get("target_modules"), modules, where)
    return float(alpha)


def _check_targets(targets: Any, modules: Collection[str], where: str) -> None:
    if targets is None:
        return
    if isinstance(targets, str):
        try:
            unnamed = [] if targets == "all-linear" else [name for name in modules if not re.fullmatch(targets, name)]
        except re.error as error:
            raise BadFile(f"{where}: target_modules is {targets!r}, no regular expression ({error})") from error
    elif isinstance(targets, list) and all(isinstance(target, str) for target in targets):
        ends, there = set(targets), set(modules)
        unnamed = [name for name in modules if ends.isdisjoint(_ends(name))]
        for target in targets:
            if is_unet_module(target) and "." in target and target not in there:
                raise BadFile(f"{where}: target_modules names {target}, which the file has no tensors of; restore it")
    else:
        raise BadFile(f"{where}: target_modules is {targets!r}; it must be a list of names")
    if unnamed:
        raise BadFile(
            f"{where}: target_modules does not name {unnamed[0]}, which peft would then leave out; restore it"
        )


def _ends(name: str) -> set[str]:
    """A dotted name and its ends at a dot, each of which peft takes for the module."""
    parts = name.split(".")
    return {".".join(parts[start:]) for start in range(len(parts))}

"""What a LoRA file tells other programs: ModelSpec's keys, and the ``ss_*`` ones that sd-scripts writes.

ModelSpec is https://github.com/Stability-AI/ModelSpec, version 1.0.0. Nothing here depends on the time or on the
file's name: the same LoRA gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from difflora.lora.architecture import Architecture, cross_attention_dim, find_architecture
from difflora.lora.header import Header
from difflora.lora.layout import LoraLayout

TRIGGER = "modelspec.trigger_phrase"
_ORIGINAL_CODE = "https://github.com/Stability-AI/generative-models"


def model_spec(header: Header, layout: LoraLayout, ldm_names: bool = False) -> dict[str, str]:
    """ModelSpec's keys; the architecture is left out where the modules do not tell it.

    Args:
        header: our own record.
        layout: the record's layout.
        ldm_names: whether the file has the original code's names of modules.
    """
    base = header.base.name if header.base else "an unknown base model"
    strength = f"strength {header.scale:g}"
    hint = f'Put "{header.trigger_prompt}" into the prompt, {strength}' if header.trigger_prompt else strength.title()
    spec = {
        "sai_model_spec": "1.0.0",
        "implementation": _ORIGINAL_CODE if ldm_names else "diffusers",
        "title": header.provenance.get("title") or f"DiffLoRA for {base}",
        "description": f"LoRA of rank {header.rank} and alpha {header.alpha:g} for {base}, made by DiffLoRA.",
        "usage_hint": f"{hint}.",
    }
    if header.trigger_prompt:
        spec["trigger_phrase"] = header.trigger_prompt
    if architecture := find_architecture(layout):
        spec["architecture"] = architecture.modelspec
        if architecture.cross_attention_dim == cross_attention_dim(layout):
            spec["resolution"] = architecture.resolution
    return {f"modelspec.{key}": value for key, value in spec.items()}


def sd_scripts_metadata(header: Header, layout: LoraLayout, architecture: Architecture) -> dict[str, str]:
    """The keys of sd-scripts that its readers look for."""
    metadata = {
        "ss_base_model_version": architecture.ss_base_model_version,
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(header.rank),
        "ss_network_alpha": repr(header.alpha),
        "ss_v2": "False",
    }
    if any(module.kernel and module.kernel != (1, 1) for module in layout.modules):
        arguments = {"conv_dim": str(header.rank), "conv_alpha": repr(header.alpha)}
        metadata["ss_network_args"] = json.dumps(arguments)
    if header.base:
        metadata["ss_sd_model_name"] = header.base.name
    if header.trigger_prompt:
        metadata["ss_tag_frequency"] = json.dumps({"difflora": {header.trigger_prompt: 1}})
    return metadata


def trigger_of(metadata: Mapping[str, str]) -> str:
    """The trigger of a file that others wrote, or nothing."""
    return metadata.get(TRIGGER, "")

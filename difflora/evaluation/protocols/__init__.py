"""Whom and what an evaluation draws, under a name: files of people, pictures and prompts that presets refer to."""

from __future__ import annotations

from importlib import resources
from typing import Any

import yaml


def protocol_names() -> list[str]:
    """Those that there are."""
    files = resources.files("difflora.evaluation.protocols").iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def read_protocol(name: str) -> dict[str, Any]:
    """The values of ``evaluate`` that a protocol stands for; its prompts, kept by kind, come as one list.

    Args:
        name: of ``protocol_names``.

    Raises:
        ValueError: if there is no such protocol.
    """
    if name not in protocol_names():
        raise ValueError(f"protocol is {name!r}; there are: {', '.join(protocol_names())}")
    file = resources.files("difflora.evaluation.protocols") / f"{name}.yaml"
    values: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return {**values, "prompts": [prompt for kind in values["prompts"].values() for prompt in kind]}

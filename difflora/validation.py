"""Settings from plain values or a YAML file, with one error that names the key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from difflora.errors import BadFile, BadParameter

_Settings = TypeVar("_Settings", bound=BaseModel)


def validated(kind: type[_Settings], value: Mapping[str, Any] | _Settings, where: str) -> _Settings:
    """Settings from plain values.

    Args:
        kind: the settings' class.
        value: keys and values, or settings that are there already.
        where: file or key for the error.

    Raises:
        BadParameter: for a key or value that is not allowed; it is named.
    """
    if isinstance(value, kind):
        return value
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join([where, *map(str, first["loc"])])
        raise BadParameter(f"{key}: {first['msg'].removeprefix('Value error, ')}") from error


def read_yaml(kind: type[_Settings], path: Path, advice: str) -> _Settings:
    """Settings from a YAML file.

    Args:
        kind: the settings' class.
        path: the file.
        advice: what to do where it is missing.

    Raises:
        BadFile: if it is missing or no YAML mapping.
        BadParameter: for a key or value that is not allowed; file and key are named.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise BadFile(f"{path}: no such file; {advice}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadFile(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise BadFile(f"{path}: holds no YAML mapping")
    return validated(kind, values, str(path))

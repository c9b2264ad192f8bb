"""Settings from plain values, with one error that names the key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from difflora.errors import BadParameter

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

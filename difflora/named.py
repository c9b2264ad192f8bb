"""Classes that settings name as ``module:Class``, so that a preset can choose an implementation."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from difflora.errors import BadParameter


def make_named(name: str, options: Mapping[str, Any] | None, what: str, needs: tuple[str, ...]) -> Any:
    """Makes an instance of a class that settings name.

    Args:
        name: for example ``difflora.world.identities:RenderedPeople``.
        options: keyword arguments of the class.
        what: what it is to be, for errors: the settings' key.
        needs: names of the methods that it must have.

    Raises:
        BadParameter: if there is no such class, it takes other options, or lacks a method.
    """
    module, _, attribute = name.partition(":")
    try:
        kind = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadParameter(f"{what} {name!r}: cannot be found ({error}); give module:Class") from error
    if not inspect.isclass(kind) or not all(callable(getattr(kind, part, None)) for part in needs):
        raise BadParameter(f"{what} {name!r}: is no class with {', '.join(needs)}")
    try:
        inspect.signature(kind).bind(**(options or {}))
    except TypeError as error:
        raise BadParameter(f"{what} {name!r}: {error}; it takes {inspect.signature(kind)}") from error
    return kind(**(options or {}))

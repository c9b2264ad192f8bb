"""Where pictures of people come from: one small interface, found by name, so that a preset can choose it."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

from torch import Tensor

from difflora.errors import BadParameter


class Candidates(Protocol):
    """Pictures that are to show one person, before any filter."""

    @property
    def images(self) -> Tensor:
        """(M, 3, H, W) uint8, RGB."""

    @property
    def captions(self) -> Sequence[str]:
        """M prompts that leave the identity open: scene, expression and clothes, no traits."""

    @property
    def class_word(self) -> str:
        """What prompts call the person: man, woman."""


@runtime_checkable
class ImageSource(Protocol):
    """Makes pictures of people: the world's renderer, PhotoMaker over portraits, a folder of photographs."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Plain values that decide which pictures come out; a folder of people is never continued with others."""

    def ids(self, count: int) -> list[str]:
        """The first ``count`` people; a larger count only adds to the list.

        Raises:
            BadParameter: if there are fewer.
        """

    def candidates(self, identity: str, count: int, seed: int) -> Candidates:
        """Makes ``count`` pictures of a person; a function of its arguments and the settings alone.

        Raises:
            BadParameter: if there is no such person.
        """


def load_source(name: str, options: Mapping[str, Any] | None = None) -> ImageSource:
    """Makes an image source from ``module:Class``, as presets name it.

    Args:
        name: for example ``difflora.world.identities:RenderedPeople``.
        options: keyword arguments of the class.

    Raises:
        BadParameter: if there is no such class, it takes other options, or it is no image source.
    """
    module, _, attribute = name.partition(":")
    try:
        kind = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadParameter(f"source {name!r}: cannot be found ({error}); give module:Class") from error
    if not inspect.isclass(kind) or not all(callable(getattr(kind, part, None)) for part in ("ids", "candidates")):
        raise BadParameter(f"source {name!r}: is no class of image sources; it needs settings, ids and candidates")
    try:
        inspect.signature(kind).bind(**(options or {}))
    except TypeError as error:
        raise BadParameter(f"source {name!r}: {error}; it takes {inspect.signature(kind)}") from error
    return cast(ImageSource, kind(**(options or {})))

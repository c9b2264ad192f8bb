"""Where pictures of people come from: one small interface, found by name, so that a preset can choose it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

from torch import Tensor

from difflora.named import make_named


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

    def consent(self, identity: str) -> Mapping[str, Any]:
        """The person's record: ``source``, ``licence`` and ``date`` (ISO); without one no picture is used.

        Raises:
            BadParameter: if there is no such person.
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
    return cast(ImageSource, make_named(name, options, "source", ("ids", "candidates", "consent")))

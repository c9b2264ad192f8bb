"""People by how much likeness a hypernetwork's LoRA gave them over the base model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_RECOGNISERS = ("face_sim_independent", "face_sim")  # the one that nothing else uses first


@dataclass(frozen=True)
class Gain:
    """One person's likeness without and with the generated LoRA.

    Attributes:
        person: the id.
        base: of the base model's pictures.
        generated: of the pictures under the generated LoRA.
    """

    person: str
    base: float
    generated: float

    @property
    def gain(self) -> float:
        """``generated - base``."""
        return self.generated - self.base


@dataclass(frozen=True)
class Ranking:
    """People from the largest gain to the smallest.

    Attributes:
        recogniser: whose cosine it is: the independent one where there is one; None where nothing can be compared.
        gains: of everyone who has both figures.
    """

    recogniser: str | None
    gains: tuple[Gain, ...]

    def successes(self, count: int) -> Sequence[Gain]:
        """The ``count`` largest gains, the largest first."""
        return self.gains[:count]

    def failures(self, count: int) -> Sequence[Gain]:
        """The ``count`` smallest gains, the smallest first; nobody who is a success too."""
        return self.gains[count:][::-1][:count]


def rank(people: Mapping[str, Any]) -> Ranking:
    """Ranks people by likeness at each method's best strength; equal gains in order of their ids.

    Args:
        people: what ``by_person`` gives: ``reports/evaluation_people.json``.
    """
    methods = people["best"]
    base, generated = (methods.get(name) or {} for name in ("base", "generated"))
    for name in _RECOGNISERS:
        if name in base and name in generated:
            columns = zip(people["people"], base[name], generated[name], strict=True)
            found = [Gain(*column) for column in columns if None not in column]
            return Ranking(name, tuple(sorted(found, key=lambda one: (-one.gain, one.person))))
    return Ranking(None, ())

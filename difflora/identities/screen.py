"""Photographs looked over and repeated people found, before anybody is made of them.

The plan of a whole call is kept beside what was seen, so that a build that was killed goes on by the same one.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from difflora.encoders.subject import SubjectEncoder
from difflora.errors import BadFile, BadImage
from difflora.files import write_json
from difflora.folders import read_json
from difflora.identities.filter import centre
from difflora.identities.look import Looker, Seen
from difflora.identities.photographs.source import PhotographSource, Portrait
from difflora.identities.repeats import groups, similar_pairs
from difflora.identities.screen_settings import ScreenSettings
from difflora.identities.source import Candidates

logger = logging.getLogger(__name__)

PLAN = "plan.json"
_SHOWN = 5


@dataclass(frozen=True)
class Known:
    """Those who are there already.

    Attributes:
        ids: N of them.
        centres: (N, D) float32, unit vectors: the mean face of each.
    """

    ids: Sequence[str]
    centres: Tensor

    def and_one(self, identity: str, centre: Tensor) -> Known:
        """These and one more, whose mean face is (D,)."""
        return Known([*self.ids, identity], torch.cat([self.centres, centre[None]]))


@dataclass
class Plan:
    """What becomes of everyone.

    Attributes:
        portraits: id -> the usable photographs, also those of other ids of the same person.
        passed_over: id -> ``skipped``, the reason, and ``same_as``, where it is another id's person.
        facts: id -> what the person's line keeps: ``left_out`` (file -> why) and ``merged`` (ids).
    """

    portraits: dict[str, list[Portrait]] = field(default_factory=dict)
    passed_over: dict[str, dict[str, str]] = field(default_factory=dict)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)


class ScreenedSource:
    """A source of photographs without what its plan leaves out.

    Args:
        source: of photographs.
        plan: of ``screen``.
    """

    def __init__(self, source: PhotographSource, plan: Plan) -> None:
        self._source, self.plan = source, plan

    @property
    def settings(self) -> Mapping[str, Any]:
        """The source's."""
        return self._source.settings

    def ids(self, count: int) -> list[str]:
        """The source's."""
        return self._source.ids(count)

    def consent(self, identity: str) -> Mapping[str, Any]:
        """The source's."""
        return self._source.consent(identity)

    def candidates(self, identity: str, count: int, seed: int) -> Candidates:
        """Pictures from the portraits of the plan.

        Raises:
            BadImage: if a file cannot be read any more.
        """
        return self._source.make(identity, self.plan.portraits[identity], count, seed)


def screen(
    source: PhotographSource,
    ids: Sequence[str],
    encoder: SubjectEncoder,
    settings: ScreenSettings,
    known: Known,
    folder: Path,
    *,
    call: Sequence[str],
    skip_unusable: bool = False,
    progress: bool = True,
) -> ScreenedSource:
    """Looks over everyone's photographs, and decides who is used.

    Args:
        source: of photographs.
        ids: whom to look at.
        encoder: the face pack.
        settings: what is asked, and what becomes of repeats.
        known: who is there already; whoever is one of them is passed over, as nobody there is ever changed.
        folder: for what was seen, and the plan; both are found again there.
        call: everyone who is wanted, also those who are there by now: a call that was killed is told by them, and goes
            on by the plan that it began with.
        skip_unusable: whether unusable photographs are left out and listed, instead of an error.
        progress: whether to show a bar with the time left.

    Raises:
        BadImage: for an unusable photograph, unless ``skip_unusable``, and for whatever is there twice, where
            ``settings.repeated`` refuses it; files are named.
        BadParameter: if a threshold is so low that nearly everyone is the same.
    """
    told = [list(call), settings.model_dump(), dict(source.settings), encoder.digest, skip_unusable]
    key = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    plan = _load(folder / PLAN, key)
    if plan is None:
        look, seen = Looker(folder, encoder, settings), dict[str, Seen]()
        for identity in tqdm(ids, desc="photographs", unit="person", disable=not progress):
            seen[identity] = look(identity, source.photographs(identity))
            if seen[identity].faults and not skip_unusable:
                raise BadImage(f"{next(iter(seen[identity].faults.values()))} (of {identity})")
        plan = plan_of(seen, settings, known, of_faces=encoder.OF_FACES)
        _save(folder / PLAN, key, plan)
    return ScreenedSource(source, plan)


def plan_of(seen: Mapping[str, Seen], settings: ScreenSettings, known: Known, *, of_faces: bool = True) -> Plan:
    """Decides about people by what their photographs show; see ``screen``.

    Where no faces were looked for, pictures are repeated and nobody is: subjects may be as alike as they are.
    """
    plan = Plan()
    for identity, one in seen.items():
        plan.facts[identity] = {"left_out": dict(one.faults)} if one.faults else {}
        if one.portraits:
            plan.portraits[identity] = list(one.portraits)
        else:
            reason = next(iter(one.faults.values()), f"{identity} has no photographs")
            plan.passed_over[identity] = {"skipped": f"no usable photograph: {reason}"}
    usable = {identity: seen[identity] for identity in plan.portraits}
    if usable:
        _Repeats(usable, settings, known, of_faces).settle(plan)
    return plan


class _Repeats:
    """Pictures and people that are there twice."""

    def __init__(self, seen: Mapping[str, Seen], settings: ScreenSettings, known: Known, of_faces: bool) -> None:
        self._seen, self._settings, self._known = seen, settings, known
        self._ids = list(seen)
        self._files = [portrait.path for one in seen.values() for portrait in one.portraits]
        self._owners = [place for place, one in enumerate(seen.values()) for _ in one.portraits]
        self._faces = torch.cat([one.faces for one in seen.values()])  # (M, D)
        small = torch.cat([one.thumbnails for one in seen.values()])  # (M, 768)
        centres = torch.stack([centre(one.faces) for one in seen.values()])  # (N, D)
        least = settings.same_person
        alike = similar_pairs(small, settings.same_picture)
        pictures = [
            pair for pair in alike if not of_faces or float(self._faces[pair[0]] @ self._faces[pair[1]]) >= least
        ]
        self.within = [pair for pair in pictures if self._owners[pair[0]] == self._owners[pair[1]]]
        self.between = [pair for pair in pictures if self._owners[pair[0]] != self._owners[pair[1]]]
        self.people = similar_pairs(centres, least) if of_faces else []
        self.there = similar_pairs(centres, least, known.centres) if of_faces and len(known.ids) else []

    def settle(self, plan: Plan) -> None:
        """Writes into the plan what becomes of them.

        Raises:
            BadImage: where they are refused.
        """
        said = self._said()
        if said and self._settings.repeated == "refuse":
            more = f" and {len(said) - _SHOWN} more" if len(said) > _SHOWN else ""
            raise BadImage(
                f"{len(said)} repeats: {'; '.join(said[:_SHOWN])}{more}. Take them away, set screen.repeated to merge, "
                "drop or keep, or raise screen.same_person or screen.same_picture"
            )
        for words in said:
            logger.warning("%s", words)
        if self._settings.repeated == "keep":
            return
        known = {person: self._known.ids[other] for person, other, _ in self.there}
        pairs = [(self._owners[one], self._owners[two]) for one, two, _ in self.between]
        pairs += [(one, two) for one, two, _ in self.people]
        for place, other in known.items():
            self._pass_over(plan, place, other, "who is there already and is never changed")
        for members in groups(len(self._ids), pairs):
            met = [known[place] for place in members if place in known]
            first, *rest = members
            for place in [place for place in members if place not in known] if met else rest:
                self._pass_over(plan, place, met[0] if met else self._ids[first], "")
            if self._settings.repeated == "merge" and not met:
                names = [self._ids[place] for place in rest]
                plan.portraits[self._ids[first]] += [one for name in names for one in self._seen[name].portraits]
                plan.facts[self._ids[first]]["merged"] = names
        self._leave_out_pictures(plan)

    def _leave_out_pictures(self, plan: Plan) -> None:
        """Of pictures that are the same the first one stays, among those of one person as they now are."""
        gone = dict[Path, Path]()
        for one, two, _ in sorted(self.within + self.between):
            gone.setdefault(self._files[two], gone.get(self._files[one], self._files[one]))
        for identity, portraits in plan.portraits.items():
            there = {portrait.path for portrait in portraits}
            twice = {path: gone[path] for path in there if path in gone and gone[path] in there}
            if twice:
                plan.portraits[identity] = [one for one in portraits if one.path not in twice]
                left_out = plan.facts[identity].setdefault("left_out", {})
                left_out |= {str(path): f"is the same picture as {twice[path]}" for path in sorted(twice)}

    def _pass_over(self, plan: Plan, place: int, other: str, why: str) -> None:
        identity = self._ids[place]
        plan.portraits.pop(identity, None)
        done = "merged into" if self._settings.repeated == "merge" and not why else "the same person as"
        reason = f"{done} {other}{', ' if why else ''}{why}"
        plan.passed_over.setdefault(identity, {"skipped": reason, "same_as": other})

    def _said(self) -> list[str]:
        """Every repeat in words, with files."""
        ids, files, owners = self._ids, self._files, self._owners
        said = [
            f"{files[one]} and {files[two]} are the same picture ({value:.3f})"
            for one, two, value in self.within + self.between
        ]
        for one, two, value in self.people:
            first, second = self._nearest(one, two)
            said.append(f"{ids[one]} and {ids[two]} are the same person ({value:.3f}): see {first} and {second}")
        for one, other, value in self.there:
            file = files[owners.index(one)]
            said.append(
                f"{ids[one]} is the same person as {self._known.ids[other]}, who is there ({value:.3f}): see {file}"
            )
        return said

    def _nearest(self, one: int, two: int) -> tuple[Path, Path]:
        """The two files of two people that are most alike."""
        first, second = self._seen[self._ids[one]], self._seen[self._ids[two]]
        best = int((first.faces @ second.faces.T).argmax())
        row, column = divmod(best, len(second.faces))
        return first.portraits[row].path, second.portraits[column].path


def _save(path: Path, key: str, plan: Plan) -> None:
    portraits = {
        identity: [[str(one.path), one.caption, one.box] for one in ones] for identity, ones in plan.portraits.items()
    }
    write_json(path, {"key": key, "portraits": portraits, "passed_over": plan.passed_over, "facts": plan.facts})


def _load(path: Path, key: str) -> Plan | None:
    """The plan of a call; None where there is none, or one of another call."""
    if not path.exists():
        return None
    try:
        told = read_json(path)
        if told["key"] != key:
            return None
        portraits = {
            identity: [Portrait(Path(name), caption, box and tuple(box)) for name, caption, box in ones]
            for identity, ones in told["portraits"].items()
        }
        return Plan(portraits, told["passed_over"], told["facts"])
    except (BadFile, KeyError, TypeError, ValueError, AttributeError):
        return None

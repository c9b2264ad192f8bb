"""What pictures are measured with beside likeness and agreement, once a picture set (paper, 4.2)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from difflora.corpus.people import PeopleFolder
from difflora.encoders.clip import CLIPEncoder
from difflora.encoders.images import DinoEncoder, Picture, as_arrays
from difflora.encoders.inception import InceptionFile
from difflora.errors import BadParameter
from difflora.evaluation.measure import Array, Measured
from difflora.evaluation.metric_settings import MetricSettings
from difflora.evaluation.reference_set import TRAINING_PEOPLE, reference_pictures
from difflora.evaluation.reward import RewardModel, load_reward
from difflora.evaluation.set_distances import SetDistances, SetFigure
from difflora.evaluation.subjects import Subject

logger = logging.getLogger(__name__)

Encode = Callable[[Sequence[Picture]], Tensor]
"""N pictures -> (N, D)."""

_NEEDS = {
    "dino": ("dino",),
    "clip": ("clip_i", "clip_t"),
    "reward": ("image_reward",),
    "fid": ("fid", "kid"),
}


class PictureMetrics:
    """Measures a method's pictures; encoders are opened at once, so that a wrong path ends a run before it starts.

    - ``dino``, ``clip_i``: mean cosine of the features of each picture with those of the person's other real pictures.
    - ``clip_t``: cosine of CLIP's features of picture and prompt. The prompt is the one that was drawn, class word and
      any trigger word included; no word is taken out, and no cosine is scaled by 100 or cut at 0.
    - ``image_reward``: what the reward model says of picture and prompt.
    - ``diversity``: mean of 1 - cosine of DINO's features over the pairs of a person's pictures.
    - ``fid``, ``kid``: of all pictures together against the reference set.

    Args:
        settings: which encoders.
        people: everyone's pictures: the training people's are the reference set where no folder is named.
        device: where encoders compute.

    Raises:
        BadFile: if a path is wrong, or a file damaged.
        BadParameter: if the reference set is too small.
    """

    def __init__(self, settings: MetricSettings, people: PeopleFolder, device: str = "cpu") -> None:
        self._settings = settings
        size = settings.batch_size
        self._encoders: dict[str, Encode] = {}
        if settings.dino is not None:
            self._encoders["dino"] = DinoEncoder(settings.dino, device, size)
        self._clip = CLIPEncoder(settings.clip, device, size) if settings.clip is not None else None
        if self._clip is not None:
            self._encoders["clip"] = self._clip
        if settings.inception is not None:
            provider = "CUDA" if device.startswith("cuda") else "CPU"
            self._encoders["inception"] = InceptionFile(settings.inception, provider=provider, batch_size=size)
        self._reward: RewardModel | None = (
            load_reward(settings.reward, settings.reward_options) if settings.reward is not None else None
        )
        self._spent: dict[str, tuple[float, int]] = {}
        self._real: dict[tuple[str, str], Tensor] = {}
        self._distances: SetDistances | None = None
        self._reference_count = 0
        if settings.fid is not None:
            features = self._encode_all(
                settings.fid, reference_pictures(settings.reference, people, settings.reference_pictures)
            )  # (M, D)
            self._reference_count = len(features)
            self._distances = SetDistances(features, None if settings.fid == "inception" else 1.0, settings.draws)
        for names, why in self._missing():
            logger.warning("evaluate: %s not measured, %s", " and ".join(names), why)

    def add(self, subjects: Sequence[Subject], measured: Measured, *, prompted: bool = True) -> Measured:
        """A method's figures with these measures beside those that it has.

        Args:
            subjects: P people.
            measured: what was drawn for them.
            prompted: whether the pictures were asked for by the subjects' prompts; real ones were not.

        Raises:
            BadParameter: if there are other numbers of people or pictures.
        """
        pictures = measured.pictures  # (P, K, 3, H, W)
        people, each = pictures.shape[:2]
        if people != len(subjects):
            raise BadParameter(f"pictures of {people} people were given for {len(subjects)} subjects")
        single = as_arrays(pictures.flatten(0, 1))
        used = [name for name in self._encoders if name != "inception" or self._settings.fid == name]
        features = {name: self._encode(name, single).unflatten(0, (people, each)) for name in used}  # (P, K, D)
        scores: dict[str, Array] = {}
        if "dino" in features:
            scores["dino"] = self._to_real(subjects, "dino", features["dino"])
            if each > 1:
                scores["diversity"] = diversity(features["dino"]).double().numpy()
        if "clip" in features:
            scores["clip_i"] = self._to_real(subjects, "clip", features["clip"])
        if prompted:
            scores |= self._of_prompts(subjects, pictures, features.get("clip"))
        sets: dict[str, SetFigure] = {}
        if self._distances is not None and self._settings.fid is not None and people * each > 1:
            sets = self._distances.measure(features[self._settings.fid])
        return replace(measured, scores=measured.scores | scores, sets=sets)

    def facts(self) -> dict[str, Any]:
        """What was measured with what: encoders, reference set, milliseconds a picture, and what was left out and why.

        ``ms_per_picture`` is the mean over all calls so far, loading left out.
        """
        settings = self._settings
        encoders = {"dino": settings.dino, "clip": settings.clip, "image_reward": settings.reward}
        found: dict[str, Any] = {
            "encoders": {name: str(value) for name, value in encoders.items() if value is not None},
            "ms_per_picture": {name: 1000 * spent / count for name, (spent, count) in self._spent.items() if count},
        }
        if left_out := self._missing():
            found["left_out"] = {name: why for names, why in left_out for name in names}
        facts: dict[str, Any] = {"metrics": found}
        if settings.fid is not None:
            path = settings.inception if settings.fid == "inception" else getattr(settings, settings.fid)
            facts["fid_features"] = f"{settings.fid} ({path})"
            facts["fid_reference"] = {
                "name": TRAINING_PEOPLE if settings.reference is None else str(settings.reference),
                "pictures": self._reference_count,
            }
        return facts

    def _missing(self) -> list[tuple[tuple[str, ...], str]]:
        null = [key for key in _NEEDS if getattr(self._settings, key) is None]
        found = [(_NEEDS[key], f"evaluate.metrics.{key} is null") for key in null]
        return [((*names, "diversity"), why) if names == ("dino",) else (names, why) for names, why in found]

    def _of_prompts(self, subjects: Sequence[Subject], pictures: Tensor, features: Tensor | None) -> dict[str, Array]:
        people, each = pictures.shape[:2]
        prompts = [prompt for subject in subjects for prompt in subject.prompts]
        if len(prompts) != people * each:
            raise BadParameter(f"{len(prompts)} prompts were given for {people * each} pictures")
        scores: dict[str, Array] = {}
        if self._clip is not None and features is not None:
            text = self._clip.embed_text(prompts).unflatten(0, (people, each))  # (P, K, D)
            scores["clip_t"] = (features * text).sum(-1).mean(1).double().numpy()
        if self._reward is not None:
            liked = torch.cat(
                [
                    self._timed("image_reward", len(part), self._reward.reward, part.float() / 255, prompts[start:end])
                    for part, start, end in self._parts(pictures.flatten(0, 1))
                ]
            )  # (P * K,)
            scores["image_reward"] = liked.unflatten(0, (people, each)).mean(1).double().numpy()
        return scores

    def _parts(self, pictures: Tensor) -> Iterator[tuple[Tensor, int, int]]:
        """Batches of pictures (N, 3, H, W), and where each begins and ends."""
        for start in range(0, len(pictures), self._settings.batch_size):
            part = pictures[start : start + self._settings.batch_size]
            yield part, start, start + len(part)

    def _to_real(self, subjects: Sequence[Subject], name: str, features: Tensor) -> Array:
        """Mean cosine of each person's pictures (P, K, D) with the person's real ones, (P,)."""
        found = []
        for subject, own in zip(subjects, features, strict=True):
            key = (name, subject.identity)
            if key not in self._real:  # the same for every method
                self._real[key] = self._encode(name, as_arrays(subject.pictures))  # (M, D)
            found.append((own @ self._real[key].T).mean())
        cosines: Array = torch.stack(found).double().numpy()
        return cosines

    def _encode(self, name: str, pictures: Sequence[Picture]) -> Tensor:
        found: Tensor = self._timed(name, len(pictures), self._encoders[name], pictures)
        return found

    def _encode_all(self, name: str, pictures: Iterable[Picture]) -> Tensor:
        parts, held = [], []
        for picture in pictures:
            held.append(picture)
            if len(held) == self._settings.batch_size:
                parts.append(self._encode(name, held))
                held = []
        return torch.cat([*parts, self._encode(name, held)] if held else parts)

    def _timed(self, name: str, count: int, work: Callable[..., Tensor], *arguments: Any) -> Tensor:
        started = time.perf_counter()
        found = work(*arguments)
        seconds, pictures = self._spent.get(name, (0.0, 0))
        self._spent[name] = seconds + time.perf_counter() - started, pictures + count
        return found


def diversity(features: Tensor) -> Tensor:
    """Mean of 1 - cosine over the pairs of different pictures.

    Args:
        features: (P, K, D) unit vectors of P people's K pictures, K of two or more.

    Returns:
        (P,).
    """
    each = features.shape[1]
    cosines = features @ features.transpose(1, 2)  # (P, K, K)
    pairs = cosines.sum((1, 2)) - cosines.diagonal(dim1=1, dim2=2).sum(1)
    return 1 - pairs / (each * (each - 1))

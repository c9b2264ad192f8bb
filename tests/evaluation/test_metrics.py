"""All measures on rendered people, with the embedded world's encoders."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from difflora.corpus.people import PeopleFolder, PeopleWriter, Person, no_boxes
from difflora.corpus.splits import SplitSettings
from difflora.encoders.clip import CLIPEncoder
from difflora.encoders.images import DinoEncoder, as_arrays
from difflora.errors import BadFile, BadParameter
from difflora.evaluation.measure import Measured
from difflora.evaluation.metric_settings import MetricSettings
from difflora.evaluation.metrics import PictureMetrics, diversity
from difflora.evaluation.subjects import Subject

ASSETS = Path(__file__).parents[2] / "assets" / "embedded"
DINO, CLIP = ASSETS / "evaluation" / "dino", ASSETS / "clip"
PROMPTS = ["a photo of a man, smiling, on a beach", "a photo of a man, looking sad, in a city"]


class Brightness:
    """Likes bright pictures, and long prompts a little."""

    def reward(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        return images.mean((1, 2, 3)) + 0.001 * torch.tensor([float(len(prompt)) for prompt in prompts])


@pytest.fixture(autouse=True)
def rewards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that settings can name."""
    module = ModuleType("likes")
    module.Brightness = Brightness  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "likes", module)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory, renders: Callable[[int, int], Tensor]) -> PeopleFolder:
    """Three training people."""
    folder = tmp_path_factory.mktemp("metrics") / "people"
    with PeopleWriter(folder, {"kind": "rendered"}, SplitSettings(validation=0, test=0)) as writer:
        for number in range(3):
            pictures = renders(10 + number, 4)
            writer.add(
                Person(f"t{number}", "man", pictures[:1].clone(), ["a"], pictures, ["a"] * 4, no_boxes(pictures[:1]))
            )
        writer.finish()
    return PeopleFolder(folder)


@pytest.fixture(scope="module")
def subjects(make_subject: Callable[..., Subject], renders: Callable[[int, int], Tensor]) -> list[Subject]:
    return [
        replace(make_subject(f"p{number}", torch.eye(2)[0]), pictures=renders(number, 5)[2:], prompts=PROMPTS)
        for number in range(2)
    ]


@pytest.fixture(scope="module")
def measured(renders: Callable[[int, int], Tensor]) -> Measured:
    """Two true pictures of each person."""
    pictures = torch.stack([renders(number, 5)[:2] for number in range(2)])
    return Measured({"face_sim": np.array([0.5, 0.6])}, pictures)


@pytest.fixture(scope="module")
def opened(people: PeopleFolder) -> PictureMetrics:
    return PictureMetrics(MetricSettings(dino=DINO, clip=CLIP, fid="dino", draws=20), people)


def test_every_score_is_the_mean_over_a_persons_pictures(
    opened: PictureMetrics, subjects: list[Subject], measured: Measured
) -> None:
    found = opened.add(subjects, measured)
    assert list(found.scores) == ["face_sim", "dino", "diversity", "clip_i", "clip_t"]
    dino, clip = DinoEncoder(DINO), CLIPEncoder(CLIP)
    for place, subject in enumerate(subjects):
        pictures, real = as_arrays(measured.pictures[place]), as_arrays(subject.pictures)
        ours, theirs = dino(pictures), dino(real)
        assert found.scores["dino"][place] == pytest.approx(float((ours @ theirs.T).mean()), abs=1e-5)
        assert found.scores["diversity"][place] == pytest.approx(1 - float(ours[0] @ ours[1]), abs=1e-5)
        ours = clip(pictures)
        assert found.scores["clip_i"][place] == pytest.approx(float((ours @ clip(real).T).mean()), abs=1e-5)
        expected = float((ours * clip.embed_text(PROMPTS)).sum(1).mean())
        assert found.scores["clip_t"][place] == pytest.approx(expected, abs=1e-5)
    assert set(found.sets) == {"fid", "kid"}
    assert found.pictures is measured.pictures


def test_a_persons_own_pictures_are_nearer_than_anothers(
    opened: PictureMetrics, subjects: list[Subject], measured: Measured
) -> None:
    same = replace(measured, pictures=torch.stack([one.pictures[:1] for one in subjects]))
    alone = [replace(one, pictures=one.pictures[:1], identity=f"{one.identity}-alone") for one in subjects]
    own = opened.add(alone, same, prompted=False).scores
    assert own["dino"] == pytest.approx([1, 1], abs=1e-5)
    assert own["clip_i"] == pytest.approx([1, 1], abs=1e-5)
    other = opened.add(alone, replace(same, pictures=same.pictures.flip(0)), prompted=False).scores
    assert (other["dino"] < own["dino"] - 0.01).all()


def test_real_pictures_have_no_prompt_and_one_picture_no_diversity(
    opened: PictureMetrics, subjects: list[Subject], measured: Measured
) -> None:
    found = opened.add(subjects, replace(measured, pictures=measured.pictures[:, :1]), prompted=False)
    assert list(found.scores) == ["face_sim", "dino", "clip_i"]


def test_training_peoples_pictures_have_no_distance_from_themselves(
    people: PeopleFolder, make_subject: Callable[..., Subject], opened: PictureMetrics
) -> None:
    own = torch.stack([people.person(name).references for name in people.ids])  # (3, 4, 3, 64, 64)
    trained = [make_subject(name, torch.eye(2)[0]) for name in people.ids]
    same = opened.add(trained, Measured({}, own), prompted=False).sets["fid"].value
    dark = opened.add(trained, Measured({}, (0.3 * own).byte()), prompted=False).sets["fid"].value
    assert same == pytest.approx(0, abs=1e-4)
    assert dark > 0.05


def test_the_prompt_that_describes_a_picture_scores_higher(opened: PictureMetrics, make_subject: Any) -> None:
    from difflora.world.captions import caption
    from difflora.world.pool import fresh_pool

    pool = fresh_pool(8, 1, 77)
    prompts = caption(pool.people, pool.scenes, torch.Generator().manual_seed(0))
    shown = Measured({}, pool.images[None])
    own = replace(make_subject("own", torch.eye(2)[0]), prompts=prompts)
    mixed = replace(own, prompts=prompts[1:] + prompts[:1])
    right, wrong = (opened.add([one], shown).scores["clip_t"][0] for one in (own, mixed))
    assert right > wrong + 0.05


def test_rewards_are_of_each_picture_and_its_own_prompt(
    people: PeopleFolder, subjects: list[Subject], measured: Measured
) -> None:
    metrics = PictureMetrics(MetricSettings(reward="likes:Brightness", batch_size=3), people)
    found = metrics.add(subjects, measured).scores["image_reward"]
    lengths = np.mean([len(prompt) for prompt in PROMPTS])
    expected = (measured.pictures.float() / 255).mean((1, 2, 3, 4)).numpy() + 0.001 * lengths
    assert found == pytest.approx(expected, abs=1e-5)
    facts = metrics.facts()["metrics"]
    assert facts["encoders"] == {"image_reward": "likes:Brightness"}
    assert facts["ms_per_picture"]["image_reward"] > 0


def test_facts_say_what_was_measured_with_what(
    opened: PictureMetrics, people: PeopleFolder, caplog: pytest.LogCaptureFixture
) -> None:
    facts = opened.facts()
    assert facts["fid_features"] == f"dino ({DINO})"
    assert facts["fid_reference"] == {"name": "real pictures of the training people", "pictures": 12}
    assert facts["metrics"]["left_out"] == {"image_reward": "evaluate.metrics.reward is null"}
    assert set(facts["metrics"]["ms_per_picture"]) <= {"dino", "clip"}
    with caplog.at_level(logging.WARNING):
        nothing = PictureMetrics(MetricSettings(), people)
    assert "evaluate: image_reward not measured, evaluate.metrics.reward is null" in caplog.messages
    assert "evaluate: dino and diversity not measured, evaluate.metrics.dino is null" in caplog.messages
    assert set(nothing.facts()["metrics"]["left_out"]) == {
        *("dino", "diversity", "clip_i", "clip_t", "image_reward", "fid", "kid")
    }


def test_nothing_to_measure_with_leaves_the_figures(
    people: PeopleFolder, subjects: list[Subject], measured: Measured
) -> None:
    found = PictureMetrics(MetricSettings(), people).add(subjects, measured)
    assert list(found.scores) == ["face_sim"]
    assert not found.sets


def test_real_pictures_are_encoded_once_for_all_methods(
    people: PeopleFolder, subjects: list[Subject], measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    encode = DinoEncoder.__call__
    monkeypatch.setattr(DinoEncoder, "__call__", lambda own, images: seen.append(len(images)) or encode(own, images))
    metrics = PictureMetrics(MetricSettings(dino=DINO), people)
    for _ in range(2):
        metrics.add(subjects, measured)
    assert seen == [4, 3, 3, 4], "a set at once, then each person's real pictures, then the other set alone"


def test_other_numbers_are_refused(opened: PictureMetrics, subjects: list[Subject], measured: Measured) -> None:
    with pytest.raises(BadParameter, match="pictures of 2 people were given for 1"):
        opened.add(subjects[:1], measured)
    with pytest.raises(BadParameter, match="2 prompts were given for 4 pictures"):
        opened.add([replace(one, prompts=PROMPTS[:1]) for one in subjects], measured)


@pytest.mark.parametrize("key", ["dino", "clip"])
def test_wrong_paths_end_it_at_once(people: PeopleFolder, tmp_path: Path, key: str) -> None:
    with pytest.raises(BadFile, match="none: no such folder"):
        PictureMetrics(MetricSettings(**{key: tmp_path / "none"}), people)
    with pytest.raises(BadFile, match="model_type"):
        PictureMetrics(MetricSettings(**{key: CLIP if key == "dino" else DINO}), people)


def test_wrong_names_end_it_at_once(people: PeopleFolder, tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match=r"evaluate\.metrics\.reward 'likes:Nobody': cannot be found"):
        PictureMetrics(MetricSettings(reward="likes:Nobody"), people)
    with pytest.raises(BadParameter, match=r"evaluate\.metrics\.reward 'likes:Brightness': .*colour"):
        PictureMetrics(MetricSettings(reward="likes:Brightness", reward_options={"colour": 1}), people)
    with pytest.raises(BadFile, match=r"none\.onnx: no such file"):
        PictureMetrics(MetricSettings(fid="inception", inception=tmp_path / "none.onnx"), people)


def test_diversity_by_hand() -> None:
    features = torch.tensor([[[1.0, 0], [0, 1], [0, 1]], [[1, 0], [1, 0], [1, 0]], [[1, 0], [-1, 0], [0, 1]]])
    expected = torch.tensor([1 - 1 / 3, 0.0, 1 + 1 / 3])
    torch.testing.assert_close(diversity(F.normalize(features, dim=-1)), expected)

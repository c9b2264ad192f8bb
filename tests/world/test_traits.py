from __future__ import annotations

import pytest
import torch

from difflora.world.traits import BEARDS, People, sample_people


def sample(n: int, seed: int) -> People:
    return sample_people(n, torch.Generator().manual_seed(seed))


def test_same_seed_same_people_and_another_seed_others() -> None:
    a, b, c = sample(50, 3), sample(50, 3), sample(50, 4)
    assert torch.equal(a.continuous, b.continuous)
    assert torch.equal(a.categorical, b.categorical)
    assert not torch.equal(a.continuous, c.continuous)


def test_at_least_twenty_traits_within_their_ranges() -> None:
    people = sample(500, 0)
    assert len(People.CONTINUOUS) + len(People.CATEGORICAL) >= 20
    assert people.continuous.min() >= 0
    assert people.continuous.max() <= 1
    for name, words in People.CATEGORICAL.items():
        index = people.index(name)
        assert set(index.tolist()) == set(range(len(words))), f"{name}: every value occurs"


def test_global_random_state_is_left_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    sample(10, 1)
    assert torch.equal(before, torch.get_rng_state())


def test_women_have_no_beard_and_gender_is_a_class_word() -> None:
    people = sample(400, 5)
    woman = torch.tensor([word == "woman" for word in people.gender])
    assert 0.4 < woman.float().mean() < 0.6
    assert (people.index("beard")[woman] == BEARDS.index("none")).all()
    assert (people.index("beard")[~woman] != BEARDS.index("none")).any()


def test_rows_replace_and_concatenate() -> None:
    people = sample(6, 0)
    part = people[torch.tensor([4, 1])]
    assert len(part) == 2
    assert torch.equal(part.continuous[0], people.continuous[4])
    changed = people.replace(eye_colour="blue", skin_tone=0.25)
    assert changed.names("eye_colour") == ["blue"] * 6
    assert torch.equal(changed.value("skin_tone"), torch.full((6,), 0.25))
    assert torch.equal(changed.value("chin"), people.value("chin"))
    assert people.names("eye_colour") != ["blue"] * 6, "the original is untouched"
    assert torch.equal(People.concatenate([people[:2], people[2:]]).continuous, people.continuous)


def test_wrong_shapes_and_values_are_refused() -> None:
    people = sample(2, 0)
    with pytest.raises(ValueError, match="continuous is"):
        People(people.continuous[:, :-1], people.categorical)
    with pytest.raises(ValueError, match="categorical is"):
        People(people.continuous, people.categorical[:1])
    with pytest.raises(ValueError, match="not categorical"):
        people.replace(skin_tone="dark")
    with pytest.raises(ValueError, match="not in tuple"):
        people.replace(eye_colour="violet")

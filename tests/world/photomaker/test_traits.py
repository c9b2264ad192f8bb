"""The heads that read traits, and the targets of the reading."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from difflora.world.photomaker.traits import TraitHead, trait_targets
from difflora.world.traits import People, sample_people


def test_targets_hold_every_trait_but_gender() -> None:
    people = sample_people(4000, torch.Generator().manual_seed(0))
    targets = trait_targets(people)
    values = {name: len(known) for name, known in People.CATEGORICAL.items() if name != "gender"}
    assert targets.shape == (4000, len(People.CONTINUOUS) + sum(values.values()))
    torch.testing.assert_close(targets.std(0), torch.ones(targets.shape[1]))
    woman = torch.tensor([gender == "woman" for gender in people.gender])
    for own in (woman, ~woman):
        assert targets[own].mean(0).abs().max() < 1e-4
    place = People.CONTINUOUS.index("skin_tone")
    assert torch.corrcoef(torch.stack([targets[:, place], people.value("skin_tone")]))[0, 1] > 0.99


def test_a_head_that_reads_everything_has_no_loss() -> None:
    people = sample_people(64, torch.Generator().manual_seed(1))
    numbers = (people.continuous - 0.5) * 12**0.5
    columns = [F.one_hot(people.categorical[:, i], len(v)) for i, v in enumerate(People.CATEGORICAL.values())]
    targets = torch.cat([numbers, *(column.float() for column in columns)], dim=1)
    head = TraitHead(targets.shape[1], 5.0)
    with torch.no_grad():
        head.linear.bias.zero_()
        head.linear.weight.copy_(torch.eye(targets.shape[1]))
        head.linear.weight[head.numbers :] *= 30  # scores of what there is
    assert head.loss(5.0 * targets, people) < 1e-3
    assert head.loss(torch.zeros_like(targets), people) > 1.5, "the variance, and what guessing costs"
    wrong = head.loss(5.0 * targets.roll(1, 0), people)
    assert wrong > head.loss(torch.zeros_like(targets), people)

"""Latents moved by likeness, on a tiny base and a stand-in for the face pack."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from difflora.corpus.base import FrozenBase
from difflora.corpus.people import PeopleFolder
from difflora.errors import BadParameter, DiffLoRAError
from difflora.models import DitModelSettings, LoraAutoencoder
from difflora.processes import make_accelerator
from difflora.training import DitSettings, train_dit
from difflora.training import refine as refine_module
from difflora.training.captions import EncodedCaptions
from difflora.training.dit import sample_people
from difflora.training.likeness import Asked, LikenessLoss
from difflora.training.refine import Refined, refine_latents
from difflora.training.refine_settings import RefineSettings
from difflora.training.reproducible import weights_digest
from difflora.training.through import under_loras
from tests.training.shades import Shades

SETTINGS = RefineSettings(rounds=1, moves=6, lr=1.0, people_at_once=4, pictures=4, steps=3, through=3)
Refine = Callable[..., Refined]


@pytest.fixture
def refine(
    village: Any, lae: LoraAutoencoder, base: FrozenBase, people: PeopleFolder, names: list[str], start: Tensor
) -> Refine:
    """Moves the village's training people."""
    features = village.features.of(names)

    def call(folder: Path, settings: RefineSettings = SETTINGS, start: Tensor = start, place: int = 0) -> Refined:
        return refine_latents(
            start,
            lae,
            features,
            base,
            Shades(features.face.shape[1]),
            EncodedCaptions(base, people, names, None),
            settings,
            place=place,
            checkpoint=folder,
            fingerprint={"lae": weights_digest(lae)},
            accelerator=make_accelerator("cpu"),
            progress=False,
        )

    return call


@pytest.fixture
def unlike(
    village: Any, lae: LoraAutoencoder, base: FrozenBase, people: PeopleFolder, names: list[str]
) -> Callable[[Tensor], float]:
    """The loss of latents on draws that moving did not see."""
    features = village.features.of(names)
    likeness = LikenessLoss(base, Shades(features.face.shape[1]), features, SETTINGS)
    captions = EncodedCaptions(base, people, names, None)

    @torch.no_grad()
    def call(latents: Tensor) -> float:
        asked = Asked.drawn(
            *captions.gather(range(len(names))), len(names), 12, torch.Generator().manual_seed(77), base.device
        )
        with under_loras(base, lae, False) as loras:
            loras.set(lae.decode(latents))
            return float(likeness(base.unet, asked, torch.arange(len(names)).repeat_interleave(12))[0])

    return call


def test_faces_become_more_alike_and_models_stay(
    refine: Refine,
    start: Tensor,
    unlike: Callable[[Tensor], float],
    base: FrozenBase,
    lae: LoraAutoencoder,
    tmp_path: Path,
) -> None:
    before = weights_digest(base.unet), weights_digest(lae)
    made = refine(tmp_path)
    assert made.latents.shape == start.shape
    assert not torch.equal(made.latents, start)
    assert [move["step"] for move in made.history] == [1, 2, 3, 4, 5, 6]
    assert unlike(made.latents) < unlike(start) - 0.03
    assert all(move["faces"] == 1 for move in made.history)
    assert (weights_digest(base.unet), weights_digest(lae)) == before
    assert all(parameter.grad is None for parameter in lae.parameters())
    assert not any(module._forward_hooks for module in base.unet.modules())


def test_each_person_moves_as_far_as_the_others(refine: Refine, start: Tensor, tmp_path: Path) -> None:
    """A step has the rate's length, however long the gradient is."""
    moved = refine(tmp_path, SETTINGS.model_copy(update={"moves": 1})).latents - start
    sizes = moved.square().mean(1).sqrt()
    torch.testing.assert_close(sizes, torch.full_like(sizes, SETTINGS.lr), rtol=1e-3, atol=0)
    assert moved.abs().std() > 0.1 * SETTINGS.lr, "along the gradient, not as far in every number"


def test_steps_become_shorter_over_all_rounds(refine: Refine, start: Tensor, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"rounds": 2, "moves": 1})
    assert settings.rates(0) == [pytest.approx(1.0)]
    assert settings.rates(1) == [pytest.approx(0.55)]
    more = RefineSettings(rounds=5, moves=2, lr=0.5)
    rates = [rate for place in range(5) for rate in more.rates(place)]
    assert rates == sorted(rates, reverse=True)
    assert 0.05 < rates[-1] < 0.07
    moved = refine(tmp_path, settings, place=1).latents - start
    assert moved.square().mean(1).sqrt().tolist() == pytest.approx([0.55] * len(start), rel=1e-3)


def test_latents_stay_where_nobody_is_drawn(
    refine: Refine, start: Tensor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Pictures without a face have no gradient; as with a face pack, the embeddings are no function of them then."""

    def nobody(self: Shades, pictures: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(pictures), self.turn.shape[1]), torch.zeros(len(pictures), dtype=torch.bool)

    monkeypatch.setattr(Shades, "forward", nobody)
    made = refine(tmp_path)
    assert torch.equal(made.latents, start)
    assert [(move["loss"], move["faces"]) for move in made.history] == [(0, 0)] * 6


def test_who_is_drawn_beside_whom_does_not_matter_but_for_the_draws(
    refine: Refine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A person's gradient is the person's own: with the same draws, one at a time gives what many give."""

    def same(cls: Any, prompts: Any, shape: Any, people: int, count: int, generator: Any, device: Any) -> Any:
        one = torch.Generator().manual_seed(3)
        noise = torch.randn(1, count, *shape, generator=one).expand(people, -1, -1, -1, -1)
        rows = prompts.rows(torch.full((people, count), 0.1)).flatten()
        return cls.of(prompts, rows, noise.flatten(0, 1))

    monkeypatch.setattr(refine_module.Asked, "drawn", classmethod(same))
    many = refine(tmp_path / "many", SETTINGS.model_copy(update={"moves": 3}))
    alone = refine(tmp_path / "alone", SETTINGS.model_copy(update={"moves": 3, "people_at_once": 1}))
    torch.testing.assert_close(alone.latents, many.latents, rtol=1e-3, atol=1e-3)
    assert alone.history[-1]["loss"] == pytest.approx(many.history[-1]["loss"], rel=1e-3)


def test_a_killed_run_goes_on_with_those_who_are_left(
    refine: Refine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = refine(tmp_path / "whole")
    move, moved = refine_module._Mover.move, []

    def some(self: Any, start: Tensor, places: Tensor, *others: Any) -> Any:
        if len(moved) == 2:
            raise KeyboardInterrupt
        moved.append(places.tolist())
        return move(self, start, places, *others)

    monkeypatch.setattr(refine_module._Mover, "move", some)
    with pytest.raises(KeyboardInterrupt):
        refine(tmp_path / "cut")
    moved.clear()
    again = refine(tmp_path / "cut")
    assert [places[0] for places in moved] == list(range(8, len(whole.latents), 4)), "the first eight are kept"
    assert torch.equal(again.latents, whole.latents)
    assert again.history == whole.history


def test_a_checkpoint_of_other_settings_is_refused(refine: Refine, tmp_path: Path) -> None:
    refine(tmp_path)
    with pytest.raises(BadParameter, match=r"was begun with settings\.lr = 1\.0, not 0\.2"):
        refine(tmp_path, SETTINGS.model_copy(update={"lr": 0.2}))


def test_latents_that_are_not_finite_name_their_people(
    refine: Refine, start: Tensor, names: list[str], tmp_path: Path
) -> None:
    start[1] = float("nan")
    with pytest.raises(DiffLoRAError, match=f"latents of {names[1]} are not finite .* lower lr than 1.0"):
        refine(tmp_path, start=start)
    assert not list(tmp_path.glob("*.safetensors"))


def test_means_of_people(village: Any, names: list[str]) -> None:
    features = village.features.of(names)
    values = torch.arange(float(len(features.face)))[:, None]  # three pictures each
    assert features.means(values).flatten().tolist() == [3.0 * place + 1 for place in range(len(names))]


def test_rounds_are_learnt_by_a_transformer_of_the_same_kind(
    village: Any,
    lae: LoraAutoencoder,
    base: FrozenBase,
    people: PeopleFolder,
    names: list[str],
    unlike: Callable[[Tensor], float],
    loop: Callable[..., Any],
    tmp_path: Path,
) -> None:
    """Faces under its sampled LoRAs are more alike than before, round after round."""
    faces = Shades(village.features.face.shape[1])

    def trained(rounds: int, folder: str = "") -> Any:
        settings = DitSettings(
            model=DitModelSettings(num_tokens=2, width=16, heads=2, layers=1, mlp_ratio=2.0, linear_skip=True),
            condition_dropout=0.0,
            loop=loop(steps=3, lr=1e-5),
            refine=SETTINGS.model_copy(update={"rounds": rounds}),
        )
        return train_dit(
            village.corpus,
            lae,
            village.features,
            settings,
            checkpoint=tmp_path / (folder or str(rounds)),
            base=base,
            people=people,
            faces=faces,
            on_refine_log=lambda step, values: logged.append((step, values)),
            progress=False,
        )

    logged: list[tuple[int, Any]] = []
    none, two, again = trained(0), trained(2), trained(2, "2")
    assert none.refined == []
    assert [move["step"] for move in two.refined] == list(range(1, 13))
    assert [step for step, _ in logged] == 2 * list(range(1, 13))
    assert [values["loss"] for _, values in logged] == 2 * [move["loss"] for move in two.refined]
    features = village.features.of(names)
    losses = []
    for made in (none, trained(1), two):
        losses.append(unlike(sample_people(made.transformer, features, DitSettings())))
    assert losses[1] < losses[0] - 0.01, losses
    assert losses[2] < losses[1] - 0.005, losses
    assert weights_digest(two.transformer) == weights_digest(again.transformer), "from checkpoints alone"
    assert weights_digest(two.transformer) != weights_digest(none.transformer)
    with pytest.raises(BadParameter, match="give the face pack"):
        train_dit(
            village.corpus,
            lae,
            village.features,
            DitSettings(refine=SETTINGS),
            checkpoint=tmp_path / "bare",
            base=base,
            people=people,
            progress=False,
        )


def test_given_prompts_are_what_is_drawn(
    village: Any,
    lae: LoraAutoencoder,
    base: FrozenBase,
    people: PeopleFolder,
    loop: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    drawn, told = Asked.drawn, []

    def spy(cls: Any, prompts: Any, *others: Any) -> Any:
        told.append(prompts.counts.tolist())
        return drawn(prompts, *others)

    monkeypatch.setattr(refine_module.Asked, "drawn", classmethod(spy))
    wanted = ("a photo of {person}", "{person} on a beach, smiling")
    settings = DitSettings(
        model=DitModelSettings(num_tokens=2, width=16, heads=2, layers=1, mlp_ratio=2.0, linear_skip=True),
        loop=loop(steps=1),
        refine=SETTINGS.model_copy(update={"prompts": wanted, "moves": 1}),
    )
    train_dit(
        village.corpus,
        lae,
        village.features,
        settings,
        checkpoint=tmp_path,
        base=base,
        people=people,
        faces=Shades(village.features.face.shape[1]),
        progress=False,
    )
    assert {count for counts in told for count in counts} == {len(wanted)}

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from peft import LoraConfig
from torch import Tensor

from difflora.corpus.base import FrozenBase
from difflora.corpus.dreambooth import Trainer, initial_flat, train_people
from difflora.corpus.latents import Encoded
from difflora.corpus.settings import DreamBoothSettings
from difflora.errors import BadParameter
from difflora.lora import LoraLayout

SETTINGS = DreamBoothSettings(
    rank=2, alpha=4, steps=6, batch_size=2, lr=3e-3, warmup_steps=2, schedule="cosine", seed=7
)
MakeEncoded = Callable[..., list[Encoded]]


def _layout(base: FrozenBase) -> LoraLayout:
    return LoraLayout.from_unet(base.unet, SETTINGS.targets, SETTINGS.rank)


def _train(base: FrozenBase, people: Sequence[Encoded], settings: DreamBoothSettings = SETTINGS) -> Tensor:
    trained = train_people(base, _layout(base), people, settings)
    assert not trained.failed
    return trained.flat


def _far(one: Tensor, two: Tensor, start: Tensor) -> float:
    """How far apart two LoRAs are, relative to how far the training moved them."""
    return float((one - two).norm() / (two - start).norm())


@pytest.mark.parametrize("kind", ["base", "sd15"])
def test_many_at_once_equals_one_by_one(kind: str, request: pytest.FixtureRequest, make_encoded: MakeEncoded) -> None:
    base: FrozenBase = request.getfixturevalue(kind)
    people = make_encoded(4, xl=base.is_xl)
    together = _train(base, people)
    start = initial_flat(_layout(base), SETTINGS.seed)
    for place, person in enumerate(people):
        alone = _train(base, [person])[0]
        assert (alone - start).abs().max() > SETTINGS.lr
        assert _far(together[place], alone, start) < 1e-3
    assert _far(together[0], together[1], start) > 0.1


def test_company_and_order_do_not_matter(base: FrozenBase, make_encoded: MakeEncoded) -> None:
    people = make_encoded(3)
    start = initial_flat(_layout(base), SETTINGS.seed)
    one, two = _train(base, people), _train(base, people[::-1])
    assert max(_far(a, b, start) for a, b in zip(one, two.flip(0), strict=True)) < 1e-3


def test_the_same_seed_gives_the_same_bytes(base: FrozenBase, make_encoded: MakeEncoded) -> None:
    people = make_encoded(2)
    assert torch.equal(_train(base, people), _train(base, people))
    other = _train(base, people, SETTINGS.model_copy(update={"seed": 8}))
    assert not torch.equal(other, _train(base, people))


def test_it_is_the_training_of_peft_and_diffusers(
    base: FrozenBase, make_pipeline: Callable[[], Any], make_encoded: MakeEncoded
) -> None:
    """The same start and draws through peft's layers, AdamW a tensor and torch's own clipping."""
    person = make_encoded(1)[0]
    layout, start = _layout(base), initial_flat(_layout(base), SETTINGS.seed)
    unet = make_pipeline().unet.requires_grad_(False).eval()
    unet.add_adapter(LoraConfig(r=2, lora_alpha=4, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    weights = dict(unet.named_parameters())
    pairs = {
        name: (weights[f"{name}.lora_A.default.weight"], weights[f"{name}.lora_B.default.weight"])
        for name in layout.slices
    }
    for name, (lora_a, lora_b) in layout.views(start).items():
        pairs[name][0].data.copy_(lora_a)
        pairs[name][1].data.copy_(lora_b)
    trained = [parameter for pair in pairs.values() for parameter in pair]
    assert {id(p) for p in trained} == {id(p) for p in unet.parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(trained, weight_decay=SETTINGS.weight_decay)
    generator = torch.Generator().manual_seed(SETTINGS.seed)
    for step in range(SETTINGS.steps):
        rows = (torch.rand(2, generator=generator) * len(person)).long()
        timesteps = ((torch.arange(2) + torch.rand(2, generator=generator)) / 2 * 1000).long()
        noise = torch.randn(2, 4, 8, 8, generator=generator)
        noisy = base.scheduler.add_noise(person.latents[rows], noise, timesteps)
        assert person.pooled_embeds is not None
        conditions = {
            "text_embeds": person.pooled_embeds[rows],
            "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]]).repeat(2, 1),
        }
        output = unet(noisy, timesteps, person.prompt_embeds[rows], added_cond_kwargs=conditions).sample
        F.mse_loss(output, base.scheduler.get_velocity(person.latents[rows], noise, timesteps)).backward()
        torch.nn.utils.clip_grad_norm_(trained, SETTINGS.max_grad_norm)
        optimizer.param_groups[0]["lr"] = SETTINGS.lr_at(step)
        optimizer.step()
        optimizer.zero_grad()
    reference = layout.flatten({name: (a.detach(), b.detach()) for name, (a, b) in pairs.items()})
    assert _far(_train(base, [person])[0], reference, start) < 1e-3


def test_a_person_whose_loss_breaks_is_named_and_harms_no_one(base: FrozenBase, make_encoded: MakeEncoded) -> None:
    people = make_encoded(3)
    fine = _train(base, people)
    broken = replace(people[1], latents=people[1].latents * float("nan"))
    trained = train_people(base, _layout(base), [people[0], broken, people[2]], SETTINGS)
    assert list(trained.failed) == [1]
    assert "person-1: its loss became nan at step 0" in trained.failed[1]
    assert torch.equal(trained.flat[[0, 2]], fine[[0, 2]])
    assert trained.final_loss[[0, 2]].isfinite().all()


def test_training_lowers_the_loss(base: FrozenBase, make_encoded: MakeEncoded) -> None:
    settings = SETTINGS.model_copy(update={"steps": 30, "lr": 1e-2, "batch_size": 4})
    trained = train_people(base, _layout(base), make_encoded(2), settings)
    assert trained.losses.shape == (30, 2)
    assert (trained.final_loss < 0.9 * trained.losses[0]).all()


def test_bfloat16_comes_near_and_leaves_the_base_as_it_was(
    make_pipeline: Callable[[], Any], base: FrozenBase, make_encoded: MakeEncoded
) -> None:
    half = FrozenBase.of(make_pipeline(), "tiny", "tiny weights", precision="bf16")
    processors = {name: type(p) for name, p in half.pipeline.unet.attn_processors.items()}
    people = [
        replace(p, prompt_embeds=p.prompt_embeds.bfloat16(), pooled_embeds=p.pooled_embeds.bfloat16())
        for p in make_encoded(2)
        if p.pooled_embeds is not None
    ]
    settings = SETTINGS.model_copy(update={"precision": "bf16"})
    flat = _train(half, people, settings)
    assert flat.dtype == torch.float32
    start = initial_flat(_layout(base), SETTINGS.seed)
    assert _far(flat[0], _train(base, make_encoded(1))[0], start) < 0.5
    assert {name: type(p) for name, p in half.pipeline.unet.attn_processors.items()} == processors
    with pytest.raises(BadParameter, match="precision is fp32"):
        train_people(half, _layout(half), people, SETTINGS)


def test_only_the_first_pictures_are_used_if_so_set(base: FrozenBase, make_encoded: MakeEncoded) -> None:
    person = make_encoded(1, images=5)[0]
    settings = SETTINGS.model_copy(update={"images": 3})
    assert person.pooled_embeds is not None
    short = replace(
        person,
        latents=person.latents[:3],
        prompt_embeds=person.prompt_embeds[:3],
        pooled_embeds=person.pooled_embeds[:3],
    )
    assert torch.equal(_train(base, [person], settings), _train(base, [short]))


def test_starts_of_their_own_differ_by_person_and_not_by_company(base: FrozenBase, make_encoded: MakeEncoded) -> None:
    people, apart = make_encoded(3), SETTINGS.model_copy(update={"shared_start": False})
    shared, own = _train(base, people), _train(base, people, apart)
    start = initial_flat(_layout(base), SETTINGS.seed)
    assert _far(own[0], shared[0], start) > 0.7
    assert _far(own[0], own[1], start) > 0.7
    assert _far(_train(base, people[1:2], apart)[0], own[1], start) < 1e-2


def test_compiled_once_for_all_batches_of_a_size(
    make_pipeline: Callable[[], Any], base: FrozenBase, make_encoded: MakeEncoded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced as in earnest, but run by torch's own kernels: a compiler would take a minute."""
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module: real(module, backend="eager", fullgraph=True))
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/g++")
    frozen = FrozenBase.of(make_pipeline(), "tiny", "tiny weights")
    people, settings = make_encoded(4), SETTINGS.model_copy(update={"steps": 3})
    with Trainer(frozen, _layout(frozen), settings, compile=True) as trainer:
        first = trainer.train(people[:2]).flat
        with torch.compiler.set_stance("fail_on_recompile"):
            second = trainer.train(people[2:]).flat
    torch.compiler.reset()
    start = initial_flat(_layout(base), settings.seed)
    assert _far(first, _train(base, people[:2], settings), start) < 1e-3
    assert _far(second, _train(base, people[2:], settings), start) < 1e-3


def test_compiling_needs_a_compiler(base: FrozenBase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(BadParameter, match=r"compile: no C\+\+ compiler"):
        Trainer(base, _layout(base), SETTINGS, compile=True)


def test_nobody_and_mixed_sizes_are_errors(base: FrozenBase, make_encoded: MakeEncoded) -> None:
    with pytest.raises(BadParameter, match="nobody"):
        train_people(base, _layout(base), [], SETTINGS)
    one, two = make_encoded(2)
    with pytest.raises(BadParameter, match="different sizes"):
        train_people(base, _layout(base), [one, replace(two, latents=two.latents[..., :4])], SETTINGS)


def test_the_start_is_pefts_and_shared(base: FrozenBase) -> None:
    layout = _layout(base)
    start = initial_flat(layout, 3)
    for name, (lora_a, lora_b) in layout.views(start).items():
        assert lora_b.abs().max() == 0, name
        assert 0.8 < float(lora_a.abs().max()) * lora_a.shape[-1] ** 0.5 <= 1, name
    assert torch.equal(start, initial_flat(layout, 3))
    assert not torch.equal(start, initial_flat(layout, 4))

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers.training_utils import compute_snr
from peft import LoraConfig
from torch import Tensor

from difflora.corpus.base import FrozenBase
from difflora.corpus.dreambooth import Trainer, train_people
from difflora.corpus.latents import Encoded
from difflora.corpus.settings import DreamBoothSettings, PriorPreservation
from difflora.corpus.start import initial_flat
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


def _random(base: FrozenBase, name: str, count: int, seed: int, *, crop: int = 0) -> Encoded:
    """Latents and prompts of noise, for any small SDXL."""
    config, generator = base.pipeline.unet.config, torch.Generator().manual_seed(seed)
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    told = torch.tensor([[80.0, 72, crop * place, 0, 64, 64] for place in range(count)])
    return Encoded(
        name,
        torch.randn(count, 4, 8, 8, generator=generator),
        torch.randn(count, 7, config.cross_attention_dim, generator=generator),
        torch.randn(count, pooled, generator=generator),
        (64, 64),
        torch.zeros(count, 8, 8),
        told,
    )


def _plain(base: FrozenBase, person: Encoded, settings: DreamBoothSettings, start: Tensor) -> Tensor:
    """The loop of diffusers' script: peft's layers, AdamW over their tensors, torch's own clipping; flat, (D,)."""
    layout, scheduler, prior = _layout(base), base.scheduler, settings.prior_preservation
    unet: Any = copy.deepcopy(base.unet)
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
    optimizer = torch.optim.AdamW(trained, weight_decay=settings.weight_decay)
    generator = torch.Generator().manual_seed(settings.seed)

    def draw(pictures: Encoded) -> tuple[Tensor, ...]:
        rows = (torch.rand(2, generator=generator) * len(pictures)).long()
        timesteps = ((torch.arange(2) + torch.rand(2, generator=generator)) / 2 * 1000).long()
        noise = torch.randn(2, 4, 8, 8, generator=generator)
        assert pictures.pooled_embeds is not None
        told = pictures.told[rows]
        return (
            pictures.latents[rows],
            timesteps,
            noise,
            pictures.prompt_embeds[rows],
            pictures.pooled_embeds[rows],
            told,
        )

    for step in range(settings.steps):
        drawn = draw(person)
        if prior is not None:
            assert person.prior is not None
            drawn = tuple(torch.cat(pair) for pair in zip(drawn, draw(person.prior), strict=True))
        latents, timesteps, noise, prompt, pooled, told = drawn
        noisy = scheduler.add_noise(latents, noise, timesteps)
        conditions = {"text_embeds": pooled, "time_ids": told}
        output = unet(noisy, timesteps, prompt, added_cond_kwargs=conditions).sample
        velocity = scheduler.config.prediction_type == "v_prediction"
        target = scheduler.get_velocity(latents, noise, timesteps) if velocity else noise
        prior_loss = torch.zeros(())
        if prior is not None:
            (output, output_prior), (target, target_prior) = output.chunk(2), target.chunk(2)
            prior_loss = F.mse_loss(output_prior, target_prior)
        if settings.snr_gamma is None:
            loss = F.mse_loss(output, target)
        else:
            snr = compute_snr(scheduler, timesteps[:2])
            base_weight = torch.stack([snr, settings.snr_gamma * torch.ones(2)], dim=1).min(dim=1)[0] / snr
            weight = base_weight + 1 if velocity else base_weight
            loss = (F.mse_loss(output, target, reduction="none").mean((1, 2, 3)) * weight).mean()
        if prior is not None:
            loss = loss + prior.weight * prior_loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, settings.max_grad_norm)
        optimizer.param_groups[0]["lr"] = settings.lr_at(step)
        optimizer.step()
        optimizer.zero_grad()
    return layout.flatten({name: (a.detach(), b.detach()) for name, (a, b) in pairs.items()})


PRIOR = PriorPreservation(pictures=3, weight=0.7)


@pytest.mark.parametrize(
    "options",
    [{}, {"snr_gamma": 0.5}, {"prior_preservation": PRIOR}, {"snr_gamma": 5.0, "prior_preservation": PRIOR}],
    ids=["plain", "min-snr", "prior", "both"],
)
@pytest.mark.parametrize("kind", ["base", "epsilon"])
def test_it_is_the_training_of_peft_and_diffusers(
    kind: str, options: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    """The same start and draws, in velocities (with zero terminal SNR) and in epsilon; each option moves the result."""
    base: FrozenBase = request.getfixturevalue(kind)
    settings = SETTINGS.model_copy(update=options)
    person = replace(_random(base, "anna", 4, 0, crop=3), prior=_random(base, "a photo of a woman", 3, 1))
    start = initial_flat(_layout(base), SETTINGS.seed)
    made = _train(base, [person], settings)[0]
    assert _far(made, _plain(base, person, settings, start), start) < 1e-3
    if options:
        assert _far(made, _train(base, [person])[0], start) > 1e-2


def test_people_of_one_class_share_its_pictures_and_company_does_not_matter(base: FrozenBase) -> None:
    settings = SETTINGS.model_copy(update={"prior_preservation": PRIOR, "snr_gamma": 5.0})
    women, men = _random(base, "a photo of a woman", 3, 1), _random(base, "a photo of a man", 2, 2)
    people = [replace(_random(base, f"p{n}", 3 + n, 10 + n), prior=women if n % 2 else men) for n in range(4)]
    together = _train(base, people, settings)
    start = initial_flat(_layout(base), settings.seed)
    for place, person in enumerate(people):
        assert _far(together[place], _train(base, [person], settings)[0], start) < 1e-3
    other = _train(base, [replace(people[0], prior=women)], settings)[0]
    assert _far(other, together[0], start) > 1e-2
    with pytest.raises(BadParameter, match="p1 has no pictures of the class"):
        _train(base, [people[0], replace(people[1], prior=None)], settings)
    wide = replace(men, latents=men.latents.repeat(1, 1, 1, 2))
    with pytest.raises(BadParameter, match="class differ in size"):
        _train(base, [replace(people[0], prior=wide)], settings)


def test_sizes_and_crops_that_sdxl_is_told_are_each_pictures_own(base: FrozenBase) -> None:
    person = _random(base, "anna", 4, 0, crop=3)
    assert person.time_ids is not None
    start = initial_flat(_layout(base), SETTINGS.seed)
    one = _train(base, [person])[0]
    assert _far(_train(base, [replace(person, time_ids=person.time_ids.flip(0))])[0], one, start) > 1e-3
    whole = replace(person, time_ids=torch.tensor([[64.0, 64, 0, 0, 64, 64]] * 4))
    assert torch.equal(_train(base, [replace(person, time_ids=None)])[0], _train(base, [whole])[0])


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


def test_repeated_blocks_are_compiled_once_a_kind(epsilon: FrozenBase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced as in earnest, but run by torch's own kernels: a compiler would take a minute."""
    real, graphs = torch.compile, []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda call, **options: real(call, backend=backend, **options))
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/g++")
    blocks = [block for block in epsilon.unet.modules() if type(block).__name__ == "BasicTransformerBlock"]
    settings = SETTINGS.model_copy(update={"steps": 1, "gradient_checkpointing": True})
    people = [_random(epsilon, f"p{n}", 3, n) for n in range(2)]
    with Trainer(epsilon, _layout(epsilon), settings, compile="regional") as trainer:
        first = trainer.train(people[:1]).flat
        with torch.compiler.set_stance("fail_on_recompile"):
            second = trainer.train(people[1:]).flat
    torch.compiler.reset()
    assert 0 < len(graphs) <= 3 < len(blocks), "a graph for each number of tokens, not for each block"
    assert not any(block._compiled_call_impl for block in blocks)
    start = initial_flat(_layout(epsilon), settings.seed)
    plain = settings.model_copy(update={"gradient_checkpointing": False})
    assert _far(torch.cat([first, second]), _train(epsilon, people, plain), start) < 1e-3
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(BadParameter, match=r"compile: no C\+\+ compiler"):
        Trainer(epsilon, _layout(epsilon), settings, compile="regional")


def test_gradient_checkpointing_computes_again_and_changes_nothing_else(
    base: FrozenBase, make_encoded: MakeEncoded
) -> None:
    people, settings = make_encoded(2), SETTINGS.model_copy(update={"gradient_checkpointing": True})
    block: Any = next(one for one in base.unet.modules() if type(one).__name__ == "BasicTransformerBlock")
    calls: list[int] = []
    with block.register_forward_pre_hook(lambda *_: calls.append(1)):
        plain, before = _train(base, people), len(calls)
        saving = _train(base, people, settings)
    assert (before, len(calls)) == (SETTINGS.steps, 3 * SETTINGS.steps)
    start = initial_flat(_layout(base), SETTINGS.seed)
    assert _far(saving, plain, start) < 1e-3
    assert not base.pipeline.unet.is_gradient_checkpointing


def test_nobody_and_mixed_sizes_are_errors(base: FrozenBase, make_encoded: MakeEncoded) -> None:
    with pytest.raises(BadParameter, match="nobody"):
        train_people(base, _layout(base), [], SETTINGS)
    one, two = make_encoded(2)
    with pytest.raises(BadParameter, match="different sizes"):
        train_people(base, _layout(base), [one, replace(two, latents=two.latents[..., :4])], SETTINGS)

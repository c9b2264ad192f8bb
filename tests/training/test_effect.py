"""Training through a tiny frozen base model."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from difflora.corpus.base import FrozenBase
from difflora.corpus.draws import denoising_losses, gather
from difflora.corpus.many import ManyLoras
from difflora.corpus.people import PeopleFolder
from difflora.corpus.settings import DreamBoothSettings
from difflora.errors import BadParameter
from difflora.lora import BaseModelId, LoraLayout
from difflora.models import DitModelSettings, LaeModelSettings, sample_latents
from difflora.models.noise import make_scheduler
from difflora.training import DitSettings, EffectSettings, LaeSettings, train_dit, train_lae
from difflora.training import kept as kept_module
from difflora.training.batches import Batches
from difflora.training.conditions import show
from difflora.training.effect import EffectTask
from difflora.training.likeness import LikenessLoss
from difflora.training.likeness_settings import LikenessSettings
from difflora.training.pictures import EncodedPeople
from difflora.training.reproducible import weights_digest
from tests.training.shades import Shades


@pytest.fixture
def settings(loop: Callable[..., Any]) -> DitSettings:
    model = DitModelSettings(num_tokens=2, width=16, heads=2, layers=1, mlp_ratio=2.0, linear_skip=True)
    effect = EffectSettings(
        enabled=True,
        images_per_step=2,
        rollout_steps=3,
        loop=loop(steps=30, batch_size=6, lr=7e-3, log_every=10, save_every=10),
    )
    return DitSettings(model=model, condition_dropout=0.0, ridge=None, loop=loop(steps=5), effect=effect)


def _denoising(base: FrozenBase, people: PeopleFolder, names: tuple[str, ...], flat: torch.Tensor) -> float:
    """The base's loss on each person's pictures under the person's LoRA, on draws that training did not see."""
    encoded = EncodedPeople(base, people, names, None)
    drawing = DreamBoothSettings(batch_size=16)
    data = gather(base, [encoded[place] for place in range(len(names))], drawing)
    with torch.no_grad(), ManyLoras(base.unet, LoraLayout.from_unet(base.unet, ("attention",), 2), 1.0) as loras:
        loras.set(flat)
        losses = denoising_losses(base, base.unet, data, drawing, torch.Generator().manual_seed(777))
    return float(losses.mean())


def _sampled(trained: Any, village: Any, settings: DitSettings, steps: int) -> tuple[tuple[str, ...], torch.Tensor]:
    places = village.corpus.indices("train")
    features = village.features.of([village.corpus.entries[place].identity for place in places])
    latents = sample_latents(
        trained.transformer,
        make_scheduler(settings.noise, "sample"),
        features.face[features.starts],
        features.image[features.starts],
        num_inference_steps=steps,
        generator=torch.Generator().manual_seed(5),
    )
    with torch.no_grad():
        return features.names, trained.lae.decode(latents)


def _train(village: Any, lae: Any, base: Any, people: Any, settings: DitSettings, folder: Path, **more: Any) -> Any:
    return train_dit(
        village.corpus,
        lae,
        village.features,
        settings,
        checkpoint=folder,
        base=base,
        people=people,
        progress=False,
        **more,
    )


def test_sampled_loras_denoise_better_and_the_base_is_left_alone(
    village: Any, lae: Any, base: FrozenBase, people: PeopleFolder, settings: DitSettings, tmp_path: Path
) -> None:
    before, whole = weights_digest(base.unet), weights_digest(lae)
    plain = settings.model_copy(update={"effect": settings.effect.model_copy(update={"enabled": False})})
    without = _train(village, lae, base, people, plain, tmp_path / "without")
    trained = _train(village, lae, base, people, settings, tmp_path / "with")
    for steps in (1, 3, 20):
        losses = [_denoising(base, people, *_sampled(one, village, settings, steps)) for one in (without, trained)]
        assert losses[1] < 0.9 * losses[0], f"{steps} steps: {losses}"
    history = trained.effect_report.history
    assert history[-1]["denoising"] < history[0]["denoising"]
    assert weights_digest(base.unet) == before
    assert not any(module._forward_hooks for module in base.unet.modules())
    assert not any(parameter.requires_grad for parameter in base.unet.parameters())
    assert weights_digest(lae) == whole, "the given autoencoder stays as it is"
    assert torch.equal(trained.lae.linear.encoder, lae.linear.encoder)
    assert not torch.equal(trained.lae.linear.decoder, lae.linear.decoder)


def test_the_decoder_may_be_left_alone(
    village: Any, lae: Any, base: FrozenBase, people: PeopleFolder, settings: DitSettings, tmp_path: Path
) -> None:
    frozen = settings.model_copy(update={"effect": settings.effect.model_copy(update={"train_decoder": False})})
    trained = _train(village, lae, base, people, frozen, tmp_path)
    assert weights_digest(trained.lae) == weights_digest(lae)


def test_a_resumed_training_equals_an_uninterrupted_one(
    village: Any, lae: Any, base: FrozenBase, people: PeopleFolder, settings: DitSettings, tmp_path: Path
) -> None:
    short = settings.effect.loop.model_copy(update={"steps": 9, "log_every": 3, "save_every": 3})
    settings = settings.model_copy(update={"effect": settings.effect.model_copy(update={"loop": short})})

    def stop(step: int, _: Any) -> None:
        if step == 6:
            raise KeyboardInterrupt

    whole = _train(village, lae, base, people, settings, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        _train(village, lae, base, people, settings, tmp_path / "cut", on_effect_log=stop)
    assert not any(module._forward_hooks for module in base.unet.modules())
    resumed = _train(village, lae, base, people, settings, tmp_path / "cut")
    for part in ("transformer", "lae"):
        assert weights_digest(getattr(resumed, part)) == weights_digest(getattr(whole, part)), part
    assert resumed.effect_report.history == whole.effect_report.history


@pytest.fixture
def task(village: Any, lae: Any, base: FrozenBase, people: PeopleFolder, settings: DitSettings, tmp_path: Path) -> Any:
    """Makes the loss of a batch, on a trained transformer."""
    plain = settings.model_copy(update={"effect": settings.effect.model_copy(update={"enabled": False})})
    trained = _train(village, lae, base, people, plain, tmp_path / "plain")
    names = [village.corpus.entries[place].identity for place in village.corpus.indices("train")]
    features = village.features.of(names)
    with torch.no_grad():
        latents = lae.encode(village.corpus.rows(village.corpus.indices("train")))

    def make(loras: ManyLoras, faces: Any = None, **changes: Any) -> tuple[EffectTask, Batches]:
        chosen = settings.model_copy(update={"effect": settings.effect.model_copy(update=changes)})
        pictures = EncodedPeople(base, people, names, 2)
        made = copy.deepcopy((trained.transformer, lae))
        likeness = None if faces is None else LikenessLoss(base, faces, features, chosen.effect.likeness)
        return EffectTask(*made, latents, features, base, loras, pictures, chosen, likeness), Batches(names, 5, 0)

    return make


def test_the_gradient_reaches_transformer_and_decoder(task: Any, village: Any, base: FrozenBase) -> None:
    with ManyLoras(base.unet, village.corpus.layout, 1.0) as loras:
        made, batches = task(loras)
        losses = made(batches[0])
        losses["loss"].backward()
    assert losses["loss"] == losses["denoising"]
    for parameter in (made.lae.linear.decoder, made.lae.linear.bias, made.transformer.skip.weight):
        assert parameter.grad.abs().max() > 0
    for name, parameter in made.transformer.layers.named_parameters():
        assert parameter.grad is not None, name
    assert made.transformer.outputs.weight.grad.abs().max() > 0
    assert made.lae.linear.encoder.grad is None, "the encoder takes no part"


def test_where_the_transformer_is_trained(task: Any, village: Any, base: FrozenBase, settings: DitSettings) -> None:
    with ManyLoras(base.unet, village.corpus.layout, 1.0) as loras:
        made, batches = task(loras, teacher_share=0.0)
        seen = set()
        for step in range(20):
            batch = batches[step]
            shown = show(batch, made._latents, made._features, made.transformer, settings, mix=False)
            noisy, timesteps = made._noisy(batch, shown)
            assert len(set(timesteps.tolist())) == 1
            seen.add(int(timesteps[0]))
            batch = batches[step]  # the same draws again
            shown = show(batch, made._latents, made._features, made.transformer, settings, mix=False)
            expected, steps = batch.randn(made._latents.shape[1]), [999, 666, 332]
            with torch.no_grad():
                for t in steps[: steps.index(int(timesteps[0]))]:
                    x0 = made.transformer(expected, torch.full((5,), t), shown.face, shown.image, shown.drop)
                    expected = made._scheduler.step(x0, t, expected).prev_sample
            torch.testing.assert_close(noisy, expected)
        assert seen == {999, 666, 332}, "at each step of a run of three"
        made, batches = task(loras, teacher_share=1.0)
        batch = batches[0]
        shown = show(batch, made._latents, made._features, made.transformer, settings, mix=False)
        noisy, timesteps = made._noisy(batch, shown)
        assert (timesteps // 200).tolist() == [0, 1, 2, 3, 4], "anywhere"
        level = make_scheduler(settings.noise, "sample").alphas_cumprod[timesteps][:, None]
        noise = (noisy - level.sqrt() * shown.latents) / (1 - level).sqrt()
        assert noise.std() == pytest.approx(1, abs=0.3), "the teacher's latents under noise"


def test_the_loss_on_latents_may_be_added(task: Any, village: Any, base: FrozenBase) -> None:
    with ManyLoras(base.unet, village.corpus.layout, 1.0) as loras:
        made, batches = task(loras, latent_weight=0.5)
        losses = made(batches[0])
    torch.testing.assert_close(losses["loss"].detach(), losses["denoising"] + 0.5 * losses["latent"])
    assert losses["latent"] > 0


def test_likeness_may_be_added(task: Any, village: Any, base: FrozenBase) -> None:
    likeness = LikenessSettings(weight=0.5, pictures=3, steps=3, through=2)
    with ManyLoras(base.unet, village.corpus.layout, 1.0) as loras:
        made, batches = task(loras, Shades(village.features.face.shape[1]), likeness=likeness)
        losses = made(batches[0])
        asked: list[Any] = []
        inner = made._likeness
        made._likeness = lambda *call: asked.append(call) or inner(*call)
        again = made(batches[0])
        losses["loss"].backward()
    torch.testing.assert_close(losses["loss"].detach(), losses["denoising"] + 0.5 * losses["unlike"])
    assert losses["faces"] == 1
    assert again["unlike"] == losses["unlike"], "the draws are the step's own"
    _, drawn, places = asked[0]
    assert places.tolist() == batches[0].places.repeat_interleave(3).tolist()
    assert len(drawn.noise) == len(drawn.prompt_embeds) == 15
    assert not torch.equal(drawn.noise[0], drawn.noise[1])
    assert made.transformer.skip.weight.grad.abs().max() > 0


def test_likeness_needs_the_face_pack(
    village: Any, lae: Any, base: FrozenBase, people: PeopleFolder, settings: DitSettings, tmp_path: Path
) -> None:
    effect = settings.effect.model_copy(update={"likeness": LikenessSettings(weight=1.0)})
    with pytest.raises(BadParameter, match=r"dit\.effect\.likeness or dit\.refine is on: give the face pack"):
        _train(village, lae, base, people, settings.model_copy(update={"effect": effect}), tmp_path)


def test_trained_for_likeness_sampled_loras_are_alike(
    village: Any, lae: Any, base: FrozenBase, people: PeopleFolder, settings: DitSettings, tmp_path: Path
) -> None:
    """The history tells of it, and a training goes on where it stopped."""
    likeness = LikenessSettings(weight=3.0, steps=3, through=3)
    loop = settings.effect.loop.model_copy(update={"steps": 40, "log_every": 10, "save_every": 10})
    effect = settings.effect.model_copy(update={"likeness": likeness, "loop": loop})
    chosen, faces = settings.model_copy(update={"effect": effect}), Shades(village.features.face.shape[1])
    whole = _train(village, lae, base, people, chosen, tmp_path / "whole", faces=faces)
    history = whole.effect_report.history
    assert history[-1]["unlike"] < history[0]["unlike"] - 0.1

    def stop(step: int, _: Any) -> None:
        if step == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _train(village, lae, base, people, chosen, tmp_path / "cut", faces=faces, on_effect_log=stop)
    resumed = _train(village, lae, base, people, chosen, tmp_path / "cut", faces=faces)
    assert weights_digest(resumed.transformer) == weights_digest(whole.transformer)


def test_training_people_without_a_lora_are_learnt_from_too(
    village: Any,
    base: FrozenBase,
    people: PeopleFolder,
    loop: Callable[..., Any],
    settings: DitSettings,
    make_town: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    few = make_town(tmp_path / "few", 8, village.corpus.layout, 0.05)
    model = LaeModelSettings(
        linear_path=True, networks=False, strides=(few.corpus.layout.size // 6,), channels=(8,), latent_channels=1
    )
    lae = train_lae(
        few.corpus,
        LaeSettings(model=model, loop=loop(steps=2, lr=1e-5)),
        checkpoint=tmp_path / "lae",
        base=base.name,
        progress=False,
    ).model
    asked: list[str] = []
    whole = EncodedPeople.__getitem__

    def ask(self: EncodedPeople, place: int) -> Any:
        asked.append(self._names[place])
        return whole(self, place)

    monkeypatch.setattr(EncodedPeople, "__getitem__", ask)
    effect = settings.effect.model_copy(update={"teacher_share": 1.0, "latent_weight": 0.1})
    chosen = settings.model_copy(update={"effect": effect})
    trained = train_dit(
        few.corpus,
        lae,
        village.features,
        chosen,
        checkpoint=tmp_path / "dit",
        base=base,
        people=people,
        progress=False,
    )
    taught = [few.corpus.entries[place].identity for place in few.corpus.indices("train")]
    others = [name for name in people.split("train") if name not in few.corpus.places]
    assert set(asked) == {*taught, *others}
    assert others
    assert all(torch.tensor(log["latent"]).isfinite() for log in trained.effect_report.history)
    assert not any(people.line(name)["split"] != "train" for name in asked), "nobody held out"


def test_who_has_no_teacher_starts_from_a_run_of_the_models_own(
    task: Any, village: Any, base: FrozenBase, settings: DitSettings
) -> None:
    with ManyLoras(base.unet, village.corpus.layout, 1.0) as loras:
        made, batches = task(loras, teacher_share=1.0)
        made._taught = 0
        shown = show(batches[0], made._latents, made._features, made.transformer, settings, mix=False)
        _, timesteps = made._noisy(batches[0], shown)
        assert len(set(timesteps.tolist())) == 1, "one step of a run, not the teacher's anywhere"
        losses = made(batches[0])
    assert losses["latent"] == 0


def test_a_compiled_base_trains_the_same(
    village: Any,
    lae: Any,
    base: FrozenBase,
    people: PeopleFolder,
    settings: DitSettings,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Traced as in earnest, but run by torch's own kernels: a compiler would take a minute."""
    real, traced = torch.compile, []

    def compile(module: Any) -> Any:
        traced.append(module)
        return real(module, backend="eager", fullgraph=True)

    monkeypatch.setattr(torch, "compile", compile)
    made = []
    for flag in (False, True):
        short = settings.effect.loop.model_copy(update={"steps": 3, "log_every": 1, "save_every": 1})
        effect = settings.effect.model_copy(update={"compile": flag, "loop": short})
        chosen = settings.model_copy(update={"effect": effect})
        made.append(_train(village, lae, base, people, chosen, tmp_path / str(flag)).lae.linear.decoder)
    torch.compiler.reset()
    assert traced == [base.unet]
    torch.testing.assert_close(made[0], made[1], atol=1e-6, rtol=1e-4)


def test_gradient_checkpointing_changes_nothing_but_memory(
    village: Any, lae: Any, base: FrozenBase, people: PeopleFolder, settings: DitSettings, tmp_path: Path
) -> None:
    short = settings.effect.loop.model_copy(update={"steps": 3, "log_every": 1, "save_every": 1})
    made = []
    for flag in (False, True):
        effect = settings.effect.model_copy(update={"gradient_checkpointing": flag, "loop": short})
        chosen = settings.model_copy(update={"effect": effect})
        made.append(_train(village, lae, base, people, chosen, tmp_path / str(flag)).lae.linear.decoder)
    torch.testing.assert_close(made[0], made[1], atol=1e-6, rtol=1e-4)
    assert not base.unet.is_gradient_checkpointing


def test_another_base_model_is_refused(
    village: Any, lae: Any, base: FrozenBase, people: PeopleFolder, settings: DitSettings, tmp_path: Path
) -> None:
    other = FrozenBase(base.pipeline, base.scheduler, BaseModelId(name="other"), "other weights")
    with pytest.raises(BadParameter, match="'other' where 'tiny' is needed"):
        _train(village, lae, other, people, settings, tmp_path)


def test_pictures_are_kept_or_made_again(
    base: FrozenBase, people: PeopleFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = EncodedPeople(base, people, people.ids, 1)
    assert kept[3] is kept[3]
    assert len(kept[3]) == 1
    monkeypatch.setattr(kept_module, "_KEPT_BYTES", 0)
    made = EncodedPeople(base, people, people.ids, 1)
    assert made[3] is not made[3]
    assert torch.equal(made[3].latents, kept[3].latents)
    assert made[3].identity == people.ids[3]
    with pytest.raises(BadParameter, match="nobody called 'x'"):
        EncodedPeople(base, people, ["x"], None)

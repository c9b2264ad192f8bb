from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, StableDiffusionXLPipeline

from difflora.corpus.base import FrozenBase
from difflora.errors import BadParameter
from difflora.inference.painter import Painter, PictureSettings
from difflora.lora import LoraWeights
from difflora.seeds import noise_seed

PROMPTS = ["a photo of a man", "a woman on a beach", "a photo of a man"]
SEEDS = [5, 6, 7]
SETTINGS = PictureSettings(steps=3, guidance_scale=2.5, batch_size=2)


def _diffusers(folder: Path, lora: Path | None = None, scale: float = 1.0, **arguments: Any) -> torch.Tensor:
    """The same pictures by diffusers alone, one after the other."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    if lora is not None:
        pipeline.load_lora_weights(lora, adapter_name="person")
        pipeline.set_adapters(["person"], [scale])
    pictures = [
        pipeline(
            prompt,
            num_inference_steps=3,
            generator=torch.Generator().manual_seed(seed),
            output_type="pt",
            **{"guidance_scale": 2.5, **arguments},
        ).images
        for prompt, seed in zip(PROMPTS, SEEDS, strict=True)
    ]
    return torch.cat(pictures)


@pytest.mark.parametrize("guidance_scale", [1.0, 2.5])
def test_the_base_draws_what_diffusers_draws(base: FrozenBase, base_folder: Path, guidance_scale: float) -> None:
    settings = SETTINGS.model_copy(update={"guidance_scale": guidance_scale})
    with Painter(base, None, settings) as painter:
        made = painter.paint(PROMPTS, SEEDS)
    torch.testing.assert_close(made, _diffusers(base_folder, guidance_scale=guidance_scale), atol=2e-4, rtol=0)


def test_a_lora_file_loaded_by_diffusers_gives_the_same_pictures(
    base: FrozenBase, base_folder: Path, lora: LoraWeights, tmp_path: Path
) -> None:
    lora.save(tmp_path / "me.safetensors", torch.float32)
    with Painter(base, lora.layout, SETTINGS) as painter:
        plain = painter.paint(PROMPTS, SEEDS)
        made = painter.paint(PROMPTS, SEEDS, lora, lora.scale)
        flat = painter.paint(PROMPTS, SEEDS, lora.flat, lora.scale * lora.factor)
        again = painter.paint(PROMPTS, SEEDS)
    expected = _diffusers(base_folder, tmp_path / "me.safetensors", lora.scale)
    torch.testing.assert_close(made, expected, atol=5e-4, rtol=0)
    assert torch.equal(made, flat)
    assert torch.equal(plain, again), "the base is pristine between calls"
    assert (made - plain).abs().mean() > 0.01


@pytest.mark.parametrize("sampler", ["own", "dpm++"])
def test_a_unet_in_bfloat16_hands_its_latents_to_a_vae_in_float32(
    base: FrozenBase, base_folder: Path, sampler: Literal["own", "dpm++"]
) -> None:
    settings = SETTINGS.model_copy(update={"sampler": sampler})
    half = FrozenBase.open(base_folder, "tiny", precision="bf16", hash_files=False)
    assert half.pipeline.vae.dtype == torch.float32
    with Painter(half, None, settings) as painter:
        made = painter.paint(PROMPTS, SEEDS)
    assert half.pipeline.vae.dtype == torch.float32
    assert made.dtype == torch.float32
    with Painter(base, None, settings) as painter:
        expected = painter.paint(PROMPTS, SEEDS)
    assert 0 < (made - expected).abs().mean() < 0.05
    assert (made - expected.flip(-1)).abs().mean() > 0.05, "a picture that is told apart from others"


def test_a_picture_does_not_depend_on_its_company(base: FrozenBase) -> None:
    with Painter(base, None, SETTINGS) as painter:
        together, alone = painter.paint(PROMPTS, SEEDS), painter.paint(PROMPTS[1:2], SEEDS[1:2])
    torch.testing.assert_close(together[1:2], alone, atol=2e-4, rtol=0)


@pytest.mark.parametrize("guidance_scale", [1.0, 2.5])
def test_many_people_at_once_are_as_one_by_one(base: FrozenBase, lora: LoraWeights, guidance_scale: float) -> None:
    settings = SETTINGS.model_copy(update={"guidance_scale": guidance_scale, "batch_size": 4})
    rows = torch.stack([lora.flat, -0.5 * lora.flat, 0 * lora.flat])
    prompts = [["a man", "a woman on a beach"], ["a man", "a man in a city"], ["a woman", "a man"]]
    seeds = [[1, 2], [3, 4], [5, 6]]
    with Painter(base, lora.layout, settings) as painter:
        together = painter.paint_people(prompts, seeds, rows, 1.3)
        alone = [painter.paint(*one, 1.3) for one in zip(prompts, seeds, rows, strict=True)]
    assert together.shape[:2] == (3, 2)
    torch.testing.assert_close(together, torch.stack(alone), atol=5e-4, rtol=0)
    assert not any(module._forward_hooks for module in base.unet.modules())


@pytest.mark.parametrize(("people", "each"), [(2, 5), (3, 2), (5, 1)])
def test_no_batch_is_larger_than_was_asked_for(
    base: FrozenBase, lora: LoraWeights, monkeypatch: pytest.MonkeyPatch, people: int, each: int
) -> None:
    sizes, real = [], Painter._batch

    def counted(painter: Painter, prompts: Sequence[str], seeds: Sequence[int]) -> torch.Tensor:
        sizes.append(len(prompts))
        return real(painter, prompts, seeds)

    monkeypatch.setattr(Painter, "_batch", counted)
    settings = SETTINGS.model_copy(update={"batch_size": 4, "steps": 1})
    prompts, seeds = [["a man"] * each] * people, [list(range(each))] * people
    with Painter(base, lora.layout, settings) as painter:
        made = painter.paint_people(prompts, seeds, lora.flat.repeat(people, 1))
        assert painter.people_at_once(each) == max(1, 4 // each)
        assert painter.people_at_once(each, 3) % painter.people_at_once(each) == 0
        assert painter.people_at_once(each, 3) >= 3
    assert made.shape[:2] == (people, each)
    assert (sum(sizes), max(sizes)) == (people * each, 4)
    torch.testing.assert_close(made[0], made[1], atol=2e-4, rtol=0)


@pytest.mark.parametrize(("sampler", "kind"), [("dpm++", DPMSolverMultistepScheduler), ("ddim", DDIMScheduler)])
def test_another_sampler_is_there_inside_and_gone_outside(base: FrozenBase, sampler: str, kind: type) -> None:
    own = base.pipeline.scheduler
    with Painter(base, None, SETTINGS.model_copy(update={"sampler": sampler})) as painter:
        assert isinstance(base.pipeline.scheduler, kind)
        assert painter.paint(PROMPTS[:1], SEEDS[:1]).isfinite().all()
    assert base.pipeline.scheduler is own


def test_a_timed_merge_leaves_the_base_pristine(base: FrozenBase, lora: LoraWeights) -> None:
    before = {name: value.clone() for name, value in base.unet.state_dict().items()}
    with Painter(base, lora.layout, SETTINGS) as painter:
        assert 0 < painter.merge_seconds(lora.flat, lora.factor) < 60
        assert all(torch.equal(value, before[name]) for name, value in base.unet.state_dict().items())
        with pytest.raises(BadParameter):
            painter.merge_seconds(lora.flat[:-1])
    with Painter(base, None, SETTINGS) as painter, pytest.raises(BadParameter, match="without a LoRA layout"):
        painter.merge_seconds(lora.flat)


def test_mistakes_are_named(base: FrozenBase, lora: LoraWeights) -> None:
    with Painter(base, None, SETTINGS) as painter:
        with pytest.raises(BadParameter, match="1 prompts and 2 seeds"):
            painter.paint(["a man"], [1, 2])
        with pytest.raises(BadParameter, match="made without a LoRA layout"):
            painter.paint(["a man"], [1], lora)
        with pytest.raises(BadParameter, match="made without a LoRA layout"):
            painter.paint_people([["a man"]], [[1]], lora.flat[None])
        with pytest.raises(BadParameter, match="prompts of 1 people, seeds of 1, LoRAs of 2"):
            painter.paint_people([["a man"]], [[1]], lora.flat.repeat(2, 1))


def test_noise_is_a_function_of_what_it_is_for() -> None:
    assert noise_seed(0, "anna", "a photo") == noise_seed(0, "anna", "a photo")
    assert len({noise_seed(s, a, b) for s in (0, 1) for a in "ab" for b in "cd"}) == 8
    assert noise_seed(0, "ab", "c") != noise_seed(0, "a", "bc")

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, LCMScheduler
from PIL import Image
from torch import Tensor

from difflora.errors import BadParameter
from difflora.lora import LoraLayout, LoraWeights
from difflora.photomaker.drawing import PhotoMaker
from difflora.photomaker.file import PhotoMakerFile
from difflora.photomaker.settings import DrawingSettings
from tests.checkpoints import sd15_pipeline

PROMPT, PLAIN = "a photo of a man img, smiling", "a photo of a man, smiling"
SETTINGS = DrawingSettings(steps=4, sampler="ddim", size=32, batch_size=2, guidance_scale=2.5)


def _at(start: int | None, **more: Any) -> DrawingSettings:
    return SETTINGS.model_copy(update={"start_merge_step": start, **more})


def _weights(pipeline: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in pipeline.unet.state_dict().items()}


@torch.no_grad()
def _by_hand(
    pipeline: Any, text: tuple[Tensor, Tensor], merged: tuple[Tensor, Tensor], start: int, seed: int
) -> Tensor:
    """The loop of the paper's authors, in plain words, on a UNet that has the LoRA in it already."""
    scheduler = DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    scheduler.set_timesteps(4)
    latents = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(seed))
    sizes = torch.tensor([[32.0, 32, 0, 0, 32, 32]])
    for i, t in enumerate(scheduler.timesteps):
        embeds, pooled = text if i < start else merged
        outputs = [
            pipeline.unet(
                latents, t, encoder_hidden_states=one, added_cond_kwargs={"text_embeds": two, "time_ids": sizes}
            ).sample
            for one, two in ((torch.zeros_like(embeds), torch.zeros_like(pooled)), (embeds, pooled))
        ]
        noise = outputs[0] + 2.5 * (outputs[1] - outputs[0])
        latents = scheduler.step(noise, t, latents).prev_sample
    picture = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
    drawn: Tensor = (picture / 2 + 0.5).clamp(0, 1)
    return drawn


@pytest.mark.parametrize("start", [0, 2, 4])
def test_the_person_comes_in_at_the_step_that_is_asked_for(
    pipeline: Any, file: PhotoMakerFile, photos: list[Image.Image], start: int
) -> None:
    with PhotoMaker(pipeline, file, _at(start)) as maker:
        person = maker.look(photos[:2])
        made = maker.draw(person, [PROMPT], [3])
        text, merged = maker.embed(person, [PROMPT])
        expected = [_by_hand(pipeline, text, merged, each, 3) for each in (0, 2, 4)]
    torch.testing.assert_close(made, expected[start // 2], atol=2e-4, rtol=0)
    apart = min((made - expected[other // 2]).abs().max() for other in (0, 2, 4) if other != start)
    assert apart > 2e-3, "the three differ, so that equality says something"


@pytest.mark.parametrize("start", [0, 2])
def test_a_unet_in_bfloat16_between_parts_in_float32(
    pipeline: Any, file: PhotoMakerFile, photos: list[Image.Image], start: int
) -> None:
    """As the base model is opened for the presets of SDXL."""
    half = copy.copy(pipeline)
    half.unet = copy.deepcopy(pipeline.unet).to(torch.bfloat16)
    made = []
    for each in (pipeline, half):
        with PhotoMaker(each, file, _at(start)) as maker:
            made.append(maker.draw(maker.look(photos[:2]), [PROMPT], [3]))
    assert 0 < (made[0] - made[1]).abs().mean() < 0.02


def test_text_alone_is_what_diffusers_draws_with_the_public_lora(
    pipeline: Any, file: PhotoMakerFile, public: dict[str, dict[str, Tensor]], photos: list[Image.Image]
) -> None:
    with PhotoMaker(pipeline, file, _at(4)) as maker:
        made = maker.draw(maker.look(photos[:1]), [PROMPT], [3])
    other = copy.copy(pipeline)
    plain = _diffusers(other)
    other.load_lora_weights({key: value.float() for key, value in public["lora_weights"].items()}, adapter_name="pm")
    try:
        expected = _diffusers(other)
    finally:
        other.unload_lora_weights()
    torch.testing.assert_close(made, expected, atol=5e-4, rtol=0)
    assert (expected - plain).abs().max() > 0.01, "the LoRA changes pictures"


def _diffusers(pipeline: Any) -> Tensor:
    own = pipeline.scheduler
    pipeline.scheduler = DDIMScheduler.from_config(own.config, clip_sample=False)
    drawn: Tensor = pipeline(
        PLAIN,
        height=32,
        width=32,
        num_inference_steps=4,
        guidance_scale=2.5,
        generator=torch.Generator().manual_seed(3),
        output_type="pt",
    ).images
    pipeline.scheduler = own
    return drawn


def test_pictures_depend_on_who_is_shown_and_not_on_their_company(
    pipeline: Any, file: PhotoMakerFile, photos: list[Image.Image]
) -> None:
    prompts, seeds = [PROMPT, "a woman img in a city", "a photo of a man img"], [1, 2, 3]
    with PhotoMaker(pipeline, file, _at(1)) as maker:
        one, two = maker.look(photos[:1]), maker.look(photos[1:2])
        made = maker.draw(one, prompts, seeds)
        assert made.shape == (3, 3, 32, 32)
        torch.testing.assert_close(maker.draw(one, prompts[2:], seeds[2:]), made[2:], atol=2e-4, rtol=0)
        assert (maker.draw(two, prompts, seeds) - made).abs().amax(dim=(1, 2, 3)).min() > 1e-3
        assert (maker.draw(maker.look(photos), prompts[:1], seeds[:1]) - made[:1]).abs().max() > 1e-3


def test_text_encoders_run_once_a_prompt(
    pipeline: Any, file: PhotoMakerFile, photos: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    encode = pipeline.encode_prompt
    monkeypatch.setattr(
        pipeline, "encode_prompt", lambda prompts, **more: asked.extend(prompts) or encode(prompts, **more)
    )
    with PhotoMaker(pipeline, file, _at(1, guidance_scale=1.0)) as maker:
        for photo in photos:
            maker.embed(maker.look([photo]), [PROMPT, "a woman img"])
        assert sorted(asked) == [PLAIN, "a woman"]
        maker.embed(maker.look(photos[:2]), [PROMPT])
    assert asked[2:] == ["a photo of a man man, smiling"]


def test_outside_all_is_as_it_was(
    pipeline: Any, file: PhotoMakerFile, photos: list[Image.Image], tmp_path: Any
) -> None:
    layout = LoraLayout.from_unet(pipeline.unet, ["attention", "feed_forward", "convolutions"], 2)
    flat = 0.2 * torch.randn(layout.size, generator=torch.Generator().manual_seed(0))
    LoraWeights(layout, flat, None, alpha=2.0).save(tmp_path / "lcm.safetensors", torch.float32, "kohya")
    before, own = _weights(pipeline), pipeline.scheduler
    settings = _at(1, sampler="lcm", guidance_scale=1.0)
    with PhotoMaker(pipeline, file, settings) as maker:
        alone, plain = _weights(pipeline), maker.draw(maker.look(photos[:1]), [PROMPT], [1])
    with PhotoMaker(pipeline, file, settings, lcm_lora=tmp_path / "lcm.safetensors") as maker:
        both = _weights(pipeline)
        assert isinstance(pipeline.scheduler, LCMScheduler)
        drawn = maker.draw(maker.look(photos[:1]), [PROMPT], [1])
    assert drawn.isfinite().all()
    assert (drawn - plain).abs().max() > 1e-3
    after = _weights(pipeline)
    assert pipeline.scheduler is own
    assert all(torch.equal(after[name], value) for name, value in before.items())
    attention = [name for name in before if name.endswith(("to_q.weight", "to_out.0.weight"))]
    assert all(not torch.equal(alone[name], before[name]) for name in attention)
    assert all(not torch.equal(both[name], alone[name]) for name in attention)


def test_mistakes_are_named(pipeline: Any, file: PhotoMakerFile, photos: list[Image.Image]) -> None:
    from tests.tiny import sdxl

    with pytest.raises(BadParameter, match="draws with SDXL, and this base model is a StableDiffusionPipeline"):
        PhotoMaker(sd15_pipeline(), file, SETTINGS)
    with pytest.raises(BadParameter, match=r"made for prompt embeddings of 40 numbers, the base model's have 48"):
        PhotoMaker(sdxl(), file, SETTINGS)
    with PhotoMaker(pipeline, file, SETTINGS) as maker:
        person = maker.look(photos[:1])
        with pytest.raises(BadParameter, match="at least one reference picture"):
            maker.look([])
        with pytest.raises(BadParameter, match="1 prompts and 2 seeds"):
            maker.draw(person, [PROMPT], [1, 2])
        with pytest.raises(BadParameter, match="'img' 0 times"):
            maker.draw(person, [PLAIN], [1])


def test_a_fifth_of_the_steps_sees_the_text_alone_by_default() -> None:
    assert DrawingSettings().merge_from == 10
    assert DrawingSettings(steps=4).merge_from == 0
    assert DrawingSettings(start_merge_step=0).merge_from == 0
    with pytest.raises(ValueError, match="start_merge_step is 51 of 50"):
        DrawingSettings(start_merge_step=51)

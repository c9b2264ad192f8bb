from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from difflora.errors import BadFile
from difflora.files import load_safetensors
from difflora.world.base import (
    BaseSettings,
    build_scheduler,
    build_unet,
    face_weights,
    train_base,
    velocity_loss,
)
from difflora.world.base_bars import verify_base
from difflora.world.base_data import BaseData, make_data
from difflora.world.generate import generate, load_base
from difflora.world.pool import fresh_pool
from difflora.world.text import TextSettings, draw_captions, encode_tokens, load_text_encoders, train_text
from difflora.world.tokenizer import build_tokenizer, token_ids
from difflora.world.vae import VaeSettings, load_vae, train_vae

ASSETS = Path(__file__).parents[2] / "assets" / "embedded"
TINY = BaseSettings(channels=(32, 32), head_dim=16, first_steps=2, steps=3, batch_size=4, prompt_dropout=0.5)
TINY_TEXT = TextSettings(width=(16, 32), layers=2, head_dim=16, steps=2, batch_size=4)


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny VAE, tiny text encoders and a tiny base, trained for two steps and then for three."""
    root = tmp_path_factory.mktemp("base")
    pool = fresh_pool(12, 1, 3)
    vae_settings = VaeSettings(latent_channels=4, channels=(8, 8, 16), steps=2, batch_size=4, identity_weight=0)
    train_vae(vae_settings, root / "assets", root / "work", pool)
    train_text(TINY_TEXT, root / "assets", root / "work", draw_captions(build_tokenizer(), 8, 1))
    data = make_data(load_vae(root / "assets"), build_tokenizer(), pool, captions_each=2)
    before = [model.state_dict() for model in load_text_encoders(root / "assets")]
    report = train_base(TINY, root / "assets", root / "work", data)
    assert report["steps"] == 2 + 3
    for old, model in zip(before, load_text_encoders(root / "assets"), strict=True):
        torch.testing.assert_close(model.state_dict(), old, rtol=0, atol=0)
    return root / "assets"


def test_plain_diffusers_loads_and_draws(assets: Path) -> None:
    pipeline = StableDiffusionXLPipeline.from_pretrained(assets / "base")
    pipeline.set_progress_bar_config(disable=True)
    pictures = pipeline("a photo of a man, smiling", num_inference_steps=2, output_type="np").images
    assert pictures.shape == (1, 64, 64, 3)
    assert pipeline.unet.config.addition_embed_type == "text_time"
    assert pipeline.scheduler.config.prediction_type == "v_prediction"


def test_an_untrained_unet_keeps_its_residual_branches_shut() -> None:
    unet = build_unet(TINY, 4, (16, 32))
    scheduler = build_scheduler()
    loss = velocity_loss(
        unet,
        scheduler,
        torch.zeros(8, 4, 16, 16),
        (torch.randn(8, 5, 48), torch.randn(8, 32)),
        torch.Generator().manual_seed(0),
    )
    loss.backward()
    shut = [p for n, p in unet.named_parameters() if n.endswith(("conv2.weight", "to_out.0.weight", "ff.net.2.weight"))]
    assert len(shut) > 6
    assert all(p.abs().max() == 0 and p.grad is not None and p.grad.abs().max() > 0 for p in shut)


def test_timesteps_of_little_noise_count_less_and_pure_noise_counts() -> None:
    class Nothing(torch.nn.Module):
        def forward(self, noisy: torch.Tensor, *_: object, **__: object) -> SimpleNamespace:
            return SimpleNamespace(sample=torch.zeros_like(noisy))

    scheduler = build_scheduler()
    latents = torch.randn(1000, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    empty = (torch.zeros(1000, 5, 48), torch.zeros(1000, 32))

    def loss(snr_cap: float | None, first: int, last: int) -> float:
        """Of the timesteps in a range alone: a thousand samples are one of each timestep, in order."""
        weight = torch.zeros(1000, 1, 1, 1)
        weight[first:last] = 1000 / (last - first)
        drawn = torch.Generator().manual_seed(2)
        return float(velocity_loss(Nothing(), scheduler, latents, empty, drawn, weight, snr_cap))

    assert loss(None, 0, 50) == pytest.approx(1, abs=0.1)
    assert loss(5.0, 0, 50) < 0.2
    assert loss(5.0, 950, 1000) > 1
    assert loss(5.0, 0, 1000) == pytest.approx(1, abs=0.05)


def test_a_picture_depends_on_its_seed_and_prompt_not_on_its_batch(assets: Path) -> None:
    pipeline = load_base(assets)
    prompts = ["a photo of a man", "a photo of a woman, laughing", "a photo of a man"]
    together = generate(pipeline, prompts, 5, steps=2)
    assert together.shape == (3, 3, 64, 64)
    torch.testing.assert_close(together[1:2], generate(pipeline, prompts[1:2], 6, steps=2), atol=2e-3, rtol=0)
    assert not torch.equal(together[0], together[2])


def test_the_schedule_ends_in_pure_noise() -> None:
    assert build_scheduler().alphas_cumprod[-1].item() == pytest.approx(0, abs=1e-6)


def test_the_second_phase_has_attention_on_the_first_level_and_the_first_ones_weights(
    assets: Path, tmp_path: Path
) -> None:
    unet = load_base(assets).unet
    assert unet.config.down_block_types[0] == "CrossAttnDownBlock2D"
    assert unet.config.up_block_types[-1] == "CrossAttnUpBlock2D"
    first = load_safetensors(assets.parent / "work" / "checkpoints" / "base-first" / "state.safetensors")
    before = first["ema.unet.conv_in.weight"]
    torch.testing.assert_close(unet.conv_in.weight, before, atol=0.01, rtol=0)
    assert build_unet(TINY, 4, (16, 32), first_attention=False).config.down_block_types[0] == "DownBlock2D"


def test_embeddings_are_those_of_the_pipeline(assets: Path) -> None:
    pipeline = load_base(assets)
    prompt = "a photo of a woman, wearing glasses and a red shirt"
    expected, _, pooled, _ = pipeline.encode_prompt(prompt, do_classifier_free_guidance=False)
    ids = token_ids(pipeline.tokenizer, [prompt])
    own, own_pooled = encode_tokens(pipeline.text_encoder, pipeline.text_encoder_2, ids)
    torch.testing.assert_close(own, expected)
    torch.testing.assert_close(own_pooled, pooled)


def test_some_prompts_are_left_empty() -> None:
    data = BaseData(
        torch.zeros(5, 4, 16, 16).half(),
        torch.zeros(5, 4),
        torch.zeros(5, 5, 2),
        torch.ones(5, 2, 6).short(),
        torch.zeros(6).long(),
    )
    latents, boxes, landmarks, ids = data.draw(1000, 0.25, torch.Generator().manual_seed(0))
    assert latents.dtype == torch.float32
    assert boxes.shape == (1000, 4)
    assert landmarks.shape == (1000, 5, 2)
    assert 0.2 < (ids == 0).all(1).float().mean().item() < 0.3


def test_weights_follow_how_much_of_a_cell_the_face_covers() -> None:
    box, nowhere = torch.tensor([[16.0, 8.0, 34.0, 24.0]]), torch.full((1, 5, 2), 1e3)
    weight = face_weights(box, nowhere, 2.0, 6.0)
    assert weight.shape == (1, 1, 16, 16)
    assert weight.mean().item() == pytest.approx(1)
    outside = weight[0, 0, 0, 0]
    assert weight[0, 0, 2, 4] / outside == pytest.approx(3)
    assert weight[0, 0, 2, 8] / outside == pytest.approx(2)  # half of it
    assert (weight[0, 0] > outside).sum() == 4 * 5


def test_features_count_most() -> None:
    box = torch.tensor([[16.0, 8.0, 48.0, 40.0]])
    eye = torch.tensor([[[26.0, 18.0]] * 5])  # the middle of the cell in row 4, column 6
    weight = face_weights(box, eye, 2.0, 6.0)[0, 0]
    outside = weight[0, 0]
    assert weight[4, 6] / outside == pytest.approx(9)
    assert (weight.argmax() // 16, weight.argmax() % 16) == (4, 6)
    assert weight[9, 11] / outside == pytest.approx(3, abs=0.01), "of the face, far from the eye"
    assert weight[4, 7] == pytest.approx(float(weight[5, 6])), "a bell, as wide as high"


def test_a_missing_vae_or_base_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="vae"):
        train_base(TINY, tmp_path, tmp_path)
    with pytest.raises(BadFile, match="base"):
        load_base(tmp_path)


def test_bars_at_reduced_size() -> None:
    assert [bar for bar in verify_base(ASSETS, seed=77, count=32) if not bar.passed] == []

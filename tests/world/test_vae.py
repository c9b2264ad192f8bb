from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderKL
from torch import nn

from difflora.errors import BadFile
from difflora.world.judge import judge_file
from difflora.world.pool import fresh_pool
from difflora.world.vae import (
    VaeSettings,
    build_vae,
    identity_loss,
    importance,
    load_vae,
    pixel_metric,
    psnr,
    reconstruct,
    scale_as_pixels,
    train_vae,
    verify_vae,
)

ASSETS = Path(__file__).parents[2] / "assets" / "embedded"
TINY = VaeSettings(latent_channels=4, channels=(8, 8, 16), steps=3, batch_size=4, identity_weight=0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("vae")
    report = train_vae(TINY, root / "assets", root / "work", fresh_pool(12, 1, 3))
    assert report["steps"] == 3
    assert report["settings"]["latent_channels"] == 4
    return root / "assets"


def test_it_is_an_autoencoder_kl_with_four_pixels_a_latent(trained: Path) -> None:
    vae = load_vae(trained)
    assert isinstance(vae, AutoencoderKL)
    assert vae.dtype == torch.float32
    assert vae.encode(torch.zeros(2, 3, 64, 64)).latent_dist.mean.shape == (2, 4, 16, 16)
    assert reconstruct(vae, torch.rand(2, 3, 64, 64)).shape == (2, 3, 64, 64)


def test_scaled_latents_are_centred_with_unit_variance(trained: Path) -> None:
    vae = load_vae(trained)
    images = fresh_pool(12, 1, 3).batch(torch.arange(12))
    latents = vae.encode(images * 2 - 1).latent_dist.mode() * vae.config.scaling_factor
    assert latents.std().item() == pytest.approx(1, abs=0.05)
    assert latents.mean((0, 2, 3)).abs().max().item() < 0.05


def test_the_metric_is_the_decoders_jacobian_squared() -> None:
    class Linear(nn.Module):
        def decode(self, latents: torch.Tensor) -> SimpleNamespace:
            pixels = torch.einsum("pc,nchw->nphw", self.matrix, latents)
            return SimpleNamespace(sample=pixels.repeat_interleave(4, 2).repeat_interleave(4, 3))

        matrix = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]])

    weight = torch.full((16, 1, 64, 64), 0.5)
    metric = pixel_metric(Linear(), torch.zeros(16, 2, 16, 16), weight, torch.Generator().manual_seed(0))
    exact = 16 * 0.5 * Linear.matrix.T @ Linear.matrix  # a latent shows in sixteen pixels
    torch.testing.assert_close(metric, exact, rtol=0.05, atol=0.2)


def test_scaling_as_pixels_keeps_pictures_and_evens_out_what_a_channel_shows() -> None:
    torch.manual_seed(0)
    vae = build_vae(TINY)
    with torch.no_grad():
        vae.post_quant_conv.weight[:, 0] *= 30
    pool = fresh_pool(12, 1, 3)
    images = pool.batch(torch.arange(12))
    before = reconstruct(vae, images)

    def spread() -> float:
        latents = vae.encode(images * 2 - 1).latent_dist.mode().detach()
        values = torch.linalg.eigvalsh(
            pixel_metric(vae, latents, torch.ones(12, 1, 64, 64), torch.Generator().manual_seed(1))
        )
        return float(values.max() / values.mean())

    uneven = spread()
    scale_as_pixels(vae, pool, TINY)
    torch.testing.assert_close(reconstruct(vae, images), before, rtol=0, atol=2e-4)
    assert spread() < 1.5 < 3 < uneven


def test_errors_count_most_at_the_features_and_least_outside_the_face() -> None:
    landmarks = torch.tensor([[[26.0, 28.0], [38.0, 28.0], [32.0, 34.0], [27.0, 40.0], [37.0, 40.0]]])
    weight = importance(torch.tensor([[20.0, 16.0, 44.0, 48.0]]), landmarks, TINY)
    assert weight.shape == (1, 1, 64, 64)
    assert weight.mean().item() == pytest.approx(1)
    mouth, cheek, outside = weight[0, 0, 39, 32], weight[0, 0, 46, 21], weight[0, 0, 5, 5]
    assert mouth > 2 * cheek > 2 * outside


def test_identity_loss_is_the_cosine_that_lacks_after_alignment() -> None:
    class Corner(nn.Module):
        def forward(self, crops: torch.Tensor) -> torch.Tensor:
            return crops[:, :, 56, 56]  # about the nose

    landmarks = torch.tensor([[[26.0, 28.0], [38.0, 28.0], [32.0, 34.0], [27.0, 40.0], [37.0, 40.0]]])
    red, green = torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)
    red[:, 0], green[:, 1] = 1, 1
    assert identity_loss(Corner(), red, red, landmarks).item() == pytest.approx(0, abs=1e-6)
    assert identity_loss(Corner(), red, green, landmarks).item() == pytest.approx(1, abs=1e-6)


def test_the_identity_loss_needs_the_recogniser(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"recogniser\.onnx: no such file"):
        train_vae(TINY.model_copy(update={"identity_weight": 0.1}), tmp_path, tmp_path / "work", fresh_pool(4, 1, 3))


def test_psnr_of_a_known_error() -> None:
    images = torch.full((2, 3, 8, 8), 0.5)
    assert psnr(images, images + 0.1).tolist() == pytest.approx([20.0, 20.0], abs=1e-3)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="vae"):
        load_vae(tmp_path)


@pytest.mark.skipif(not judge_file(ASSETS).is_file(), reason="the judge, which takes part, is not trained yet")
def test_bars_at_reduced_size() -> None:
    assert [bar for bar in verify_vae(ASSETS, seed=77, count=48) if not bar.passed] == []

"""The small checkpoints are what they say: the loaders of the public models read them to the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionXLPipeline
from safetensors import safe_open

from difflora.corpus.base import FrozenBase
from difflora.lora import LoraLayout, LoraMerger, LoraWeights
from tests.checkpoints import save_single_file, sd15_pipeline, sdxl_pipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds ``sdxl``, ``sdxl.safetensors`` and ``sd15``."""
    folder = tmp_path_factory.mktemp("checkpoints")
    pipeline = sdxl_pipeline()
    pipeline.save_pretrained(folder / "sdxl")
    save_single_file(pipeline, folder / "sdxl.safetensors")
    sd15_pipeline().save_pretrained(folder / "sd15")
    return folder


def single_file(folder: Path) -> Any:
    return StableDiffusionXLPipeline.from_single_file(
        str(folder / "sdxl.safetensors"), config=str(folder / "sdxl"), local_files_only=True, add_watermarker=False
    )


def draw(pipeline: Any) -> torch.Tensor:
    pipeline.set_progress_bar_config(disable=True)
    drawn: torch.Tensor = pipeline(
        "a photo of sks person",
        width=64,
        height=64,
        num_inference_steps=2,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(3),
        output_type="pt",
    ).images
    return drawn


def test_folders_have_the_public_names(folder: Path) -> None:
    for name, more in (("sd15", set()), ("sdxl", {"text_encoder_2", "tokenizer_2"})):
        parts = {path.name for path in (folder / name).iterdir() if path.is_dir()}
        assert parts == {"scheduler", "text_encoder", "tokenizer", "unet", "vae"} | more
        assert (folder / name / "unet" / "diffusion_pytorch_model.safetensors").is_file()
        assert (folder / name / "vae" / "diffusion_pytorch_model.safetensors").is_file()
        assert (folder / name / "text_encoder" / "model.safetensors").is_file()
        assert not list((folder / name).rglob("*.bin"))
        base = FrozenBase.open(folder / name)
        assert base.is_xl == (name == "sdxl")
        assert base.name.name == name


def test_the_single_file_has_the_public_keys_and_weights(folder: Path) -> None:
    with safe_open(folder / "sdxl.safetensors", framework="pt") as file:
        keys = set(file.keys())
    for key in (
        "model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q.weight",
        "model.diffusion_model.output_blocks.2.2.conv.weight",
        "model.diffusion_model.label_emb.0.0.weight",
        "first_stage_model.decoder.up.3.upsample.conv.weight",
        "conditioner.embedders.0.transformer.text_model.embeddings.position_embedding.weight",
        "conditioner.embedders.1.model.transformer.resblocks.1.attn.in_proj_weight",
        "conditioner.embedders.1.model.text_projection",
    ):
        assert key in keys
    one, other = single_file(folder), DiffusionPipeline.from_pretrained(folder / "sdxl", local_files_only=True)
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        expected = getattr(other, part).state_dict()
        found = getattr(one, part).state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], tensor) for key, tensor in expected.items()), part


def test_a_lora_made_on_the_folder_draws_the_same_on_the_single_file(folder: Path, tmp_path: Path) -> None:
    """As ComfyUI's users have it: kohya's file on a checkpoint's."""
    trained = FrozenBase.open(folder / "sdxl")
    layout = LoraLayout.from_unet(trained.unet, ["attention"], 2)
    flat = torch.randn(layout.size, generator=torch.Generator().manual_seed(0)) * 0.2
    LoraWeights(layout, flat, trained.name, alpha=3.0).save(tmp_path / "me.safetensors", torch.float32, "kohya")
    pipeline = single_file(folder)
    base = draw(pipeline)
    with LoraMerger(trained.unet, layout) as merger:
        merger.merge(LoraWeights.load(tmp_path / "me.safetensors", layout, trained.name))
        expected = draw(trained.pipeline)
    assert (expected - base).abs().max() > 0.01
    pipeline.load_lora_weights(tmp_path / "me.safetensors")
    torch.testing.assert_close(draw(pipeline), expected, rtol=0, atol=1e-3)

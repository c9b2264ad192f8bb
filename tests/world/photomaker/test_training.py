"""The world's PhotoMaker: a tiny training through a tiny base, and what it leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from difflora.errors import BadFile, BadParameter
from difflora.photomaker.drawing import PhotoMaker
from difflora.photomaker.file import PhotoMakerFile
from difflora.photomaker.settings import DrawingSettings
from difflora.world.clip import FOLDER, ClipSettings, build_clip, save_clip
from difflora.world.generate import load_base
from difflora.world.photomaker import bars as photomaker_bars
from difflora.world.photomaker.lesson import repeat_token
from difflora.world.photomaker.settings import PhotoMakerSettings
from difflora.world.photomaker.start import build_id_encoder
from difflora.world.photomaker.training import photomaker_file, train_photomaker
from difflora.world.pool import Pool, fresh_pool
from difflora.world.tokenizer import build_tokenizer
from tests.tiny import sdxl

TINY = PhotoMakerSettings(
    rank=2, traits_steps=2, traits_batch_size=8, words_steps=2, steps=2, batch_size=4, prompt_dropout=0.3
)
CLIP = ClipSettings(hidden_size=64, vision_layers=1, text_layers=1, projection_dim=16)
ASSETS = Path(__file__).parents[3] / "assets" / "embedded"


@pytest.fixture(scope="module")
def pool() -> Pool:
    return fresh_pool(5, 4, 3)


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory, pool: Pool) -> Path:
    """A tiny base and CLIP, untrained, and a PhotoMaker trained on them for a few steps."""
    root = tmp_path_factory.mktemp("photomaker")
    sdxl().save_pretrained(root / "assets" / "base")
    tokenizer = build_tokenizer()
    save_clip(build_clip(CLIP, tokenizer), tokenizer, root / "assets" / FOLDER)
    report = train_photomaker(TINY, root / "assets", root / "work", pool)
    assert report["steps"] == 2 + 2 + 2
    assert 0 < report["traits_read"] < 1.001
    assert report["settings"]["rank"] == 2
    return root / "assets"


def test_it_is_a_file_of_the_public_format_and_draws(assets: Path, pool: Pool) -> None:
    file = PhotoMakerFile.open(photomaker_file(assets))
    assert file.heads == 2, "heads of 32 numbers, which shapes do not tell"
    assert "unet.mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_out_lora.up.weight" in file.lora
    assert all(tensor.dtype == torch.float16 for tensor in [*file.lora.values(), *file.id_encoder.values()])
    ups = [tensor for key, tensor in file.lora.items() if key.endswith("up.weight")]
    assert all(tensor.abs().max() > 0 for tensor in ups), "every module learns"
    assert file.id_encoder["fuse_module.mlp1.fc2.weight"].abs().max() > 0
    pipeline = load_base(assets)
    pictures = [Image.fromarray(one.permute(1, 2, 0).numpy()) for one in pool.images[[0, 1, 4]]]
    with PhotoMaker(pipeline, file, DrawingSettings(steps=2, sampler="own", start_merge_step=0)) as maker:
        one, two = maker.look(pictures[:2]), maker.look(pictures[2:])
        made = [maker.draw(person, ["a photo of a man img"], [1]) for person in (one, two)]
    assert made[0].shape == (1, 3, 64, 64)
    assert not torch.equal(made[0], made[1])


def test_training_is_resumed_to_the_same_weights_and_leaves_base_and_clip_alone(
    assets: Path, pool: Pool, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(assets, tmp_path / "assets")
    photomaker_file(tmp_path / "assets").unlink()
    before = {path: path.read_bytes() for path in (tmp_path / "assets").rglob("*") if path.is_file()}
    train_photomaker(TINY, tmp_path / "assets", tmp_path / "work", pool)
    assert photomaker_file(tmp_path / "assets").read_bytes() == photomaker_file(assets).read_bytes()
    train_photomaker(TINY, tmp_path / "assets", tmp_path / "work", pool)  # nothing left to do
    assert photomaker_file(tmp_path / "assets").read_bytes() == photomaker_file(assets).read_bytes()
    assert all(path.read_bytes() == content for path, content in before.items())


@torch.no_grad()
def test_an_untrained_one_leaves_prompts_as_they_are() -> None:
    generator = torch.Generator().manual_seed(0)
    words = torch.randn(2, 48, generator=generator) * 0.7 + 0.1
    words = (words - words.mean(1, keepdim=True)) / words.std(1, keepdim=True) * 0.7 + 0.1
    encoder = build_id_encoder(build_clip(CLIP, build_tokenizer()), (16, 32), words)
    prompts = torch.randn(2, 5, 48, generator=generator)
    prompts[:, 2] = words
    pictures = torch.randn(2, 1, 48, generator=generator)
    made = encoder.put(prompts, pictures, torch.tensor([2, 2]))
    torch.testing.assert_close(made, prompts, atol=0.05, rtol=0)


@torch.no_grad()
def test_a_pictures_vector_is_as_large_as_a_word() -> None:
    """The fusion normalises both together: beside words of 15, a vector of 0.5 would not be seen."""
    words = 15 * torch.randn(2, 48, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    encoder = build_id_encoder(build_clip(CLIP, build_tokenizer()), (16, 32), words)
    pictures = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    assert 0.5 < float(encoder.embed(pictures).std() / words.std()) < 2


def test_a_token_is_said_several_times_over() -> None:
    ids = torch.tensor([[9, 1, 2, 3, 0, 0], [9, 4, 5, 6, 7, 0]])
    places = torch.tensor([1, 3])
    assert torch.equal(repeat_token(ids, places, 1), ids)
    assert repeat_token(ids, places, 3).tolist() == [[9, 1, 1, 1, 2, 3], [9, 4, 5, 6, 6, 6]]


def test_mistakes_are_named(assets: Path, tmp_path: Path, pool: Pool) -> None:
    with pytest.raises(BadFile, match="base"):
        train_photomaker(TINY, tmp_path, tmp_path)
    with pytest.raises(BadParameter, match="2 to 2 pictures a person; equally many are needed, at least 3"):
        train_photomaker(TINY, assets, tmp_path, fresh_pool(3, 2, 1))


@pytest.mark.skipif(not (ASSETS / "insightface").is_dir(), reason="the face pack is not stored here")
def test_bars_compare_with_the_base(assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    shutil.copytree(assets, tmp_path / "assets")
    shutil.copytree(ASSETS / "insightface", tmp_path / "assets" / "insightface")
    shutil.copytree(ASSETS / "evaluation" / "recogniser", tmp_path / "assets" / "evaluation" / "recogniser")
    monkeypatch.setattr(photomaker_bars, "STEPS", 2)

    def renders(pipeline: Any, prompts: list[str], *_: Any) -> torch.Tensor:
        return fresh_pool(len(prompts), 1, 5).images.float() / 255

    monkeypatch.setattr(photomaker_bars, "generate", renders)
    bars = photomaker_bars.verify_photomaker(tmp_path / "assets", 77, 8)
    figures = {bar.name: bar for bar in bars}
    made = figures["PhotoMaker: cosine to the person, independent recogniser; the base's and 0.1"]
    base = figures["the base's, independent recogniser"]
    assert made.goal == pytest.approx(base.figure + 0.1)
    assert made.figure == 0, "an untrained base draws no face"
    assert not made.passed
    assert abs(base.figure) < 0.5, "strangers"
    assert figures["the person's renders, independent recogniser"].figure > 0.6
    assert len(bars) == 8

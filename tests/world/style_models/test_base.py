"""A tiny style base, trained for two steps on the stored VAE and text encoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from difflora.corpus.base import FrozenBase
from difflora.errors import BadFile
from difflora.lora import LoraLayout
from difflora.world.base_data import BaseData
from difflora.world.generate import generate
from difflora.world.style_models.bars import load_style_base
from difflora.world.style_models.base import FOLDER, LINKED, StyleBaseSettings, train_style_base
from difflora.world.style_models.data import in_style, make_style_data
from difflora.world.styles import KINDS
from difflora.world.text import load_text_encoders
from difflora.world.tokenizer import build_tokenizer, token_ids
from difflora.world.vae import load_vae

ASSETS = Path(__file__).parents[3] / "assets" / "embedded"
TINY = StyleBaseSettings(channels=(16, 16), steps=2, batch_size=4)

pytestmark = pytest.mark.skipif(not (ASSETS / "base").is_dir(), reason="the base is not stored here")


@pytest.fixture(scope="module")
def data() -> BaseData:
    return make_style_data(load_vae(ASSETS), build_tokenizer(), 40, 2)


@pytest.fixture(scope="module")
def assets(tmp_path_factory: pytest.TempPathFactory, data: BaseData) -> Path:
    root = tmp_path_factory.mktemp("style")
    (root / "assets").mkdir()
    (root / "assets" / "base").symlink_to(ASSETS / "base", target_is_directory=True)
    report = train_style_base(TINY, root / "assets", root / "work", data)
    assert report["steps"] == 2
    return root / "assets"


def test_some_captions_name_the_kind_of_style(data: BaseData) -> None:
    tokenizer = build_tokenizer()
    said = tokenizer.batch_decode(data.ids.flatten(0, 1).long(), skip_special_tokens=True)
    named = [one for one in said if " style" in one]
    assert 0.2 < len(named) / len(said) < 0.55, "three fifths of three fifths"
    assert all(any(one.replace(" ", "").startswith(kind.replace(" ", "")) for kind in KINDS) for one in named)
    longest = in_style(max(KINDS, key=len), "a photo of a man")
    assert int((token_ids(tokenizer, [longest]) != tokenizer.eos_token_id).sum()) < tokenizer.model_max_length / 2


def test_it_is_a_pipeline_of_sd_15s_form_that_draws(assets: Path) -> None:
    pipeline = load_style_base(assets)
    config = pipeline.unet.config
    assert config.addition_embed_type is None
    assert not config.use_linear_projection
    assert config.down_block_types[-1] == "DownBlock2D"
    assert config.cross_attention_dim == load_text_encoders(ASSETS)[0].config.hidden_size
    drawn = generate(pipeline, ["a photo of a man"], 3, steps=2)
    assert drawn.shape == (1, 3, 64, 64)
    assert torch.equal(drawn, generate(pipeline, ["a photo of a man"], 3, steps=2))


def test_vae_and_words_are_stored_once(assets: Path) -> None:
    for part in LINKED:
        assert (assets / FOLDER / part).is_symlink()
        assert (assets / FOLDER / part).resolve() == (ASSETS / "base" / part).resolve()
    base = FrozenBase.open(assets / FOLDER, "style")
    assert not base.is_xl
    assert LoraLayout.from_unet(base.unet, ["attention"], 2).size > 0


def test_a_missing_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"no base model here; .*train style_base"):
        load_style_base(tmp_path)

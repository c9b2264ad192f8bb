from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoTokenizer, CLIPModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from difflora.encoders.clip import CLIPEncoder
from difflora.encoders.images import CLIPImageEncoder
from difflora.errors import BadFile

FOLDER = Path(__file__).parents[2] / "assets" / "embedded" / "clip"
SENTENCES = ["a photo of a man, smiling", "a portrait of a woman, in a city, wearing a red hoodie"]


def test_sentences_are_those_of_the_whole_model() -> None:
    encoder, model = CLIPEncoder(FOLDER, batch_size=2), CLIPModel.from_pretrained(FOLDER, dtype=torch.float32)
    model.train(False)
    tokens = AutoTokenizer.from_pretrained(FOLDER)(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        pooled = model.text_model(**tokens).pooler_output
        expected = F.normalize(model.text_projection(pooled), dim=-1)
    found = encoder.embed_text(SENTENCES)
    assert found.shape == (2, encoder.dimension)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(encoder.embed_text(SENTENCES[1:])[0], found[1], atol=1e-5, rtol=1e-4)
    again = encoder.embed_text([SENTENCES[1], SENTENCES[0], SENTENCES[1]])
    torch.testing.assert_close(again, found[[1, 0, 1]], atol=1e-5, rtol=1e-4)
    assert encoder.embed_text([]).shape == (0, encoder.dimension)
    assert torch.isfinite(encoder.embed_text(["on a beach " * 100])).all(), "what is too long is cut"


def test_pictures_are_those_of_the_picture_encoder() -> None:
    picture = torch.randint(0, 256, (64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(CLIPEncoder(FOLDER)([picture]), CLIPImageEncoder(FOLDER)([picture]))


def test_half_a_clip_is_refused(tmp_path: Path) -> None:
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=8
    )
    CLIPVisionModelWithProjection(vision).save_pretrained(tmp_path / "vision")
    with pytest.raises(BadFile, match="'clip_vision_model'; give the folder of a whole CLIP"):
        CLIPEncoder(tmp_path / "vision")
    bare = shutil.copytree(FOLDER, tmp_path / "bare", ignore=shutil.ignore_patterns("tokenizer*", "vocab*", "merges*"))
    with pytest.raises(BadFile, match="holds no tokenizer"):
        CLIPEncoder(bare)
    (bare / "tokenizer.json").write_text("{")
    with pytest.raises(BadFile, match="its tokenizer cannot be read"):
        CLIPEncoder(bare)

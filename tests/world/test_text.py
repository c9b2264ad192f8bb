from __future__ import annotations

from pathlib import Path

import pytest
import torch

from difflora.errors import BadFile
from difflora.world.concepts import concepts, named
from difflora.world.text import (
    TextSettings,
    build_text_encoders,
    draw_captions,
    encode_tokens,
    load_text_encoders,
    train_text,
    verify_text,
)
from difflora.world.tokenizer import build_tokenizer, token_ids

TINY = TextSettings(width=(16, 32), layers=2, head_dim=16, steps=40, batch_size=16)


def _said(sentence: str) -> set[str]:
    return {name for name, seen in zip(concepts(), named([sentence])[0].tolist(), strict=True) if seen}


def test_concepts_are_what_a_sentence_names() -> None:
    sentence = (
        "a close-up of a woman with brown eyes and a hair bun, wearing an orange hoodie, with sunglasses, smiling"
    )
    assert _said(sentence) == {
        "gender: woman",
        "framing: close-up",
        "eye_colour: brown",
        "hair_style: bun",
        "clothing_colour: orange",
        "clothes: hoodie",
        "accessory: sunglasses",
        "expression: smiling",
    }
    assert _said("") == set()


def test_captions_are_seeded_and_name_their_concepts() -> None:
    tokenizer = build_tokenizer()
    ids, labels = draw_captions(tokenizer, 20, 3)
    again, _ = draw_captions(tokenizer, 20, 3)
    assert torch.equal(ids, again)
    assert labels.shape == (20, len(concepts()))
    assert (labels.sum(1) >= 1).all()  # man or woman at least


def test_the_pooled_embedding_reads_the_end_of_the_sentence() -> None:
    tokenizer = build_tokenizer()
    first, second = build_text_encoders(TINY, tokenizer)
    prompt, pooled = encode_tokens(first, second, token_ids(tokenizer, ["a man, smiling", "a man, sad"]))
    assert prompt.shape == (2, 64, sum(TINY.width))
    assert not torch.allclose(pooled[0], pooled[1])


def test_a_short_training_reads_more_than_chance(tmp_path: Path) -> None:
    data = draw_captions(build_tokenizer(), 200, 1)
    report = train_text(TINY, tmp_path / "assets", tmp_path / "work", data)
    assert report["steps"] == 40
    figures = {bar.name: bar.figure for bar in verify_text(tmp_path / "assets", seed=5, count=500)}
    assert figures["text: right over all concepts"] > 0.9


def test_a_missing_encoder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="text_encoder"):
        load_text_encoders(tmp_path)

"""The world's tokenizer: CLIP's format, no unknown words, reloaded by transformers."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from difflora.world.captions import caption
from difflora.world.scenes import sample_scenes
from difflora.world.tokenizer import (
    MAX_LENGTH,
    build_tokenizer,
    learn_merges,
    save_tokenizer,
    token_ids,
    train_tokenizer,
)
from difflora.world.traits import sample_people


@cache
def _built() -> CLIPTokenizer:
    return build_tokenizer()


@pytest.fixture
def tokenizer() -> CLIPTokenizer:
    return _built()


def test_learn_merges_takes_the_most_frequent_pair_and_then_the_first() -> None:
    merges = learn_merges(Counter({"aab": 3, "aa": 1, "zq": 1}), 10)
    assert merges == [("a", "a"), ("aa", "b</w>"), ("a", "a</w>"), ("z", "q</w>")]
    assert learn_merges(Counter({"ab": 1, "cd": 1}), 1) == [("a", "b</w>")]


def test_no_words_are_refused() -> None:
    with pytest.raises(ValueError, match="no sentence holds a word"):
        train_tokenizer(["", "  "])


def test_it_is_the_same_each_time(tokenizer: CLIPTokenizer) -> None:
    assert build_tokenizer().backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()


def test_special_tokens_are_the_highest_ids(tokenizer: CLIPTokenizer) -> None:
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (len(tokenizer) - 2, len(tokenizer) - 1)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    assert tokenizer.vocab_size == len(tokenizer) < 1100


def test_captions_round_trip_and_fit(tokenizer: CLIPTokenizer) -> None:
    generator = torch.Generator().manual_seed(77)
    people, scenes = sample_people(500, generator), sample_scenes(500, generator)
    sentences = caption(people, scenes, generator, trait_dropout=0.0)
    ids = tokenizer(sentences)["input_ids"]
    assert max(len(row) for row in ids) <= MAX_LENGTH
    for sentence, row in zip(sentences, ids, strict=True):
        words = sentence.replace(",", " ,").replace("-", " - ").split()
        assert str(tokenizer.decode(row, skip_special_tokens=True)).split() == words
        assert len(row) == len(words) + 2  # every word of a caption is one token


def test_the_subject_token_is_short_and_no_word_of_its_own(tokenizer: CLIPTokenizer) -> None:
    assert 1 <= len(tokenizer("sks")["input_ids"]) - 2 <= 3
    assert "sks</w>" not in tokenizer.get_vocab()


@settings(max_examples=40, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp", "M", "Lu", "Lt", "Lo", "Lm"])))
def test_nothing_is_unknown(text: str) -> None:
    tokenizer = _built()
    assume(not any(special in text for special in tokenizer.all_special_tokens))  # no text: see the test below
    row = tokenizer(text)["input_ids"]
    assert tokenizer.eos_token_id not in row[1:-1]
    wanted = tokenizer.backend_tokenizer.normalizer.normalize_str(text)
    assert str(tokenizer.decode(row, skip_special_tokens=True)).replace(" ", "") == wanted.replace(" ", "")


def test_a_special_token_that_is_written_out_is_that_token_as_in_clip(tokenizer: CLIPTokenizer) -> None:
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    assert tokenizer(tokenizer.bos_token)["input_ids"] == [start, start, end]
    assert tokenizer(tokenizer.eos_token)["input_ids"] == [start, end, end]


def test_long_text_is_cut_and_short_text_padded(tokenizer: CLIPTokenizer) -> None:
    ids = token_ids(tokenizer, ["a man " * 100, "a man"])
    assert ids.shape == (2, MAX_LENGTH)
    assert ids[0, -1] == ids[1, 3] == ids[1, -1] == tokenizer.eos_token_id
    assert ids[0, -2] != tokenizer.eos_token_id


@pytest.mark.parametrize("older", [False, True])
def test_transformers_reloads_the_folder(tokenizer: CLIPTokenizer, tmp_path: Path, older: bool) -> None:
    save_tokenizer(tokenizer, tmp_path)
    if older:  # only vocab.json and merges.txt, as in CLIP's first folders
        (tmp_path / "tokenizer.json").unlink()
    again = CLIPTokenizer.from_pretrained(tmp_path)
    text = ["a photo of sks woman, wearing sunglasses and a purple t-shirt", "naïve Ω!"]
    assert torch.equal(token_ids(again, text), token_ids(tokenizer, text))
    assert again.model_max_length == MAX_LENGTH
    assert again.pad_token_id == tokenizer.pad_token_id


def test_the_text_model_pools_at_the_end_token(tokenizer: CLIPTokenizer) -> None:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=MAX_LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    model = CLIPTextModel(config)
    model.train(False)
    ids = token_ids(tokenizer, ["a man", "a woman with a bob, smiling"])
    with torch.no_grad():
        out = model(ids)
    ends = (ids == tokenizer.eos_token_id).int().argmax(dim=1)
    assert ends.tolist() == [3, 8]
    assert torch.equal(ids.argmax(dim=1), ends)
    assert torch.allclose(out.pooler_output, out.last_hidden_state[torch.arange(2), ends])

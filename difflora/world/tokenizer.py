"""The world's tokenizer: a small byte-level BPE in CLIP's format, learnt from the world's own captions.

The vocabulary is laid out as in CLIP: 256 byte symbols, the same 256 ending a word (``</w>``), the merges in order,
``<|startoftext|>`` and ``<|endoftext|>``. Every byte is in it, so that words never seen in captions fall to pieces but
never become unknown, and the end token has the highest id, where ``CLIPTextModel`` takes its pooled output.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import torch
from transformers import CLIPTokenizer

from difflora.files import write_atomic, write_json
from difflora.world.captions import caption
from difflora.world.scenes import sample_scenes
from difflora.world.traits import sample_people

MAX_LENGTH = 64
"""Tokens of a prompt, start and end included; the longest captions have fewer (a test holds it)."""

START, END = "<|startoftext|>", "<|endoftext|>"
_SEED = 5
_CAPTIONS = 4000
_MERGES = 446
_SUFFIX = "</w>"

# Ordinary words of prompts that the captions do not contain; they share the merges.
_EXTRA = (
    "person people boy girl he she his her the and of to at is are face hair head looking standing sitting outside "
    "sharp blurry drawing painting photograph style background dog cat car tree water sun rain snow winter summer"
)


def _bytes() -> list[str]:
    """CLIP's printable symbols of the 256 bytes, in its order: printable bytes first."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    symbols = [chr(b) for b in printable]
    return symbols + [chr(256 + i) for i in range(256 - len(symbols))]


def _merge(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """``word`` with each occurrence of the pair joined, from the left."""
    out: list[str] = []
    for symbol in word:
        if out and (out[-1], symbol) == pair:
            out[-1] += symbol
        else:
            out.append(symbol)
    return tuple(out)


def learn_merges(words: Counter[str], count: int) -> list[tuple[str, str]]:
    """Learns byte-pair merges, the most frequent pair first (Sennrich et al. 2016).

    Ties go to the pair that sorts first, so that the merges are a function of the words alone.

    Args:
        words: words in byte symbols, with how often each occurs.
        count: the most merges to learn; fewer where every word is one token before.
    """
    splits = {word: (*word[:-1], word[-1] + _SUFFIX) for word in sorted(words)}
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, split in splits.items():
            for pair in itertools.pairwise(split):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        splits = {word: _merge(split, best) for word, split in splits.items()}
    return merges


def _tokenizer(merges: list[tuple[str, str]]) -> CLIPTokenizer:
    symbols = _bytes()
    tokens = [*symbols, *(s + _SUFFIX for s in symbols), *dict.fromkeys(a + b for a, b in merges), START, END]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    return CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,
        model_max_length=MAX_LENGTH,
        unk_token=END,
        bos_token=START,
        eos_token=END,
        pad_token=END,
    )


def _merges_of(sentences: Iterable[str], count: int) -> list[tuple[str, str]]:
    plain = _tokenizer([]).backend_tokenizer
    words: Counter[str] = Counter()
    for sentence in sentences:
        text = plain.normalizer.normalize_str(sentence)
        words.update(word for word, _ in plain.pre_tokenizer.pre_tokenize_str(text))
    if not words:
        raise ValueError("no sentence holds a word: give some text to learn from")
    # A square root keeps rare words (a birthmark) from falling to pieces beside "a" and "the".
    softened = Counter({word: round(100 * number**0.5) for word, number in words.items()})
    return learn_merges(softened, count)


def train_tokenizer(sentences: Iterable[str], merges: int = _MERGES) -> CLIPTokenizer:
    """A CLIP tokenizer learnt from sentences; the same sentences give the same tokenizer."""
    return _tokenizer(_merges_of(sentences, merges))


@cache
def _world_merges() -> tuple[tuple[str, str], ...]:
    generator = torch.Generator().manual_seed(_SEED)
    people, scenes = sample_people(_CAPTIONS, generator), sample_scenes(_CAPTIONS, generator)
    sentences = caption(people, scenes, generator, trait_dropout=0.3)
    return tuple(_merges_of([*sentences, _EXTRA], _MERGES))


def build_tokenizer() -> CLIPTokenizer:
    """The world's tokenizer, learnt from seeded captions (about a second, once a process); always the same.

    Its ``vocab_size``, ``bos_token_id``, ``eos_token_id`` and ``pad_token_id`` (the end token's) belong into the
    ``CLIPTextConfig`` of each text encoder that reads its tokens.
    """
    return _tokenizer(list(_world_merges()))


def save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Writes ``tokenizer.json`` with its configuration, and CLIP's older ``vocab.json`` and ``merges.txt``."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    vocabulary = tokenizer.get_vocab()
    write_json(folder / "vocab.json", dict(sorted(vocabulary.items(), key=lambda item: item[1])))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
    write_atomic(folder / "merges.txt", ("\n".join(lines) + "\n").encode())


def token_ids(tokenizer: CLIPTokenizer, sentences: list[str]) -> torch.Tensor:
    """Sentences as (N, 64) int64 tokens, padded with the end token and cut at the maximal length."""
    batch = tokenizer(
        sentences, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
    )
    ids: torch.Tensor = batch["input_ids"]
    return ids

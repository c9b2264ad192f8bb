from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from difflora.errors import BadFile
from difflora.identities.augment import mirror_words
from difflora.identities.prompt_list import AXES, own_prompts, read_prompts
from difflora.photomaker.trigger import read_prompt
from difflora.prompts import PERSON, for_person

ROOT = Path(__file__).parents[2]
VIEWS = {"front", "three-quarter", "profile", "close-up", "half-length", "high", "low", "over-shoulder"}
EXPRESSIONS = {"neutral", "smile", "laugh", "serious", "calm", "thoughtful", "surprised", "confident", "sad", "angry"}
# Who the person is must stay open: these are traits, not circumstances.
TRAITS = re.compile(
    r"\b(young|old|older|age|aged|boy|girl|hair|beard|blonde?|skin|eyes|thin|slim|fat|beautiful|sexy)\b"
)


@pytest.mark.parametrize("word", ["woman", "man"])
def test_a_hundred_prompts_cover_every_axis(word: str) -> None:
    prompts = own_prompts(word)
    assert len(prompts) == len({one.text for one in prompts}) == 100
    counts = {axis: Counter(one.tags[axis] for one in prompts) for axis in AXES}
    assert set(counts["view"]) == VIEWS
    assert min(counts["view"].values()) >= 8
    assert set(counts["expression"]) == EXPRESSIONS
    assert min(counts["expression"].values()) >= 3
    assert len(counts["attribute"]) >= 15
    assert max(counts["attribute"].values()) <= 12
    assert len(counts["scene"]) >= 25
    assert max(counts["scene"].values()) <= 6
    assert len({tuple(one.tags.values()) for one in prompts}) == 100, "no two of the same view, face, dress and place"


@pytest.mark.parametrize("word", ["woman", "man"])
def test_each_is_short_names_no_trait_and_has_one_place_for_the_person(word: str) -> None:
    other = {"woman": r"\b(he|his|him)\b", "man": r"\b(she|her)\b"}[word]
    for one in own_prompts(word):
        assert one.text.count(PERSON) == 1
        assert len(one.text.split()) <= 25, "well below CLIP's 77 tokens"
        assert not TRAITS.search(one.text.replace("thin glasses", "").replace("thin necklace", "")), one.text
        assert not re.search(other, one.text), one.text
        marked = read_prompt(for_person(one.text, f"{word} img"))
        assert marked.class_word == word
        assert marked.repeated(1) == for_person(one.text, word)
        assert mirror_words(mirror_words(one.text)) == one.text


def test_ours_differ_for_women_and_men() -> None:
    women, men = ({one.text for one in own_prompts(word)} for word in ("woman", "man"))
    assert len(women & men) <= 12


def test_the_embedded_worlds_prompts_are_a_hundred() -> None:
    prompts = read_prompts(ROOT / "presets" / "prompts" / "embedded.txt")
    assert len(prompts) == 100
    assert prompts[0].tags == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no prompt"),
        ("# a comment\n\n", "holds no prompt"),
        ("a photo", r"line 1 has \{person\} 0 times"),
        ("{person} and {person}", r"line 1 has \{person\} 2 times"),
        ("front | smile | {person}", "line 1 has 2 tags"),
        ("# one\n{person} smiling\n{person} smiling", "line 3 says what an earlier one said"),
    ],
)
def test_bad_files_are_named(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text(text)
    with pytest.raises(BadFile, match=rf"prompts.txt: .*{said}"):
        read_prompts(tmp_path / "prompts.txt")
    with pytest.raises(BadFile, match=r"nothing.txt: cannot be read"):
        read_prompts(tmp_path / "nothing.txt")

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from difflora.errors import BadParameter
from difflora.identities.repeats import groups, similar_pairs, thumbnail


def _vectors(count: int) -> torch.Tensor:
    vectors = F.normalize(torch.randn(count, 24, generator=torch.Generator().manual_seed(0)), dim=1)
    vectors[3], vectors[5] = vectors[count - 1], 0
    return vectors


@pytest.mark.parametrize("block", [1, 4, 7, 50, 4096])
def test_blocks_find_what_the_whole_matrix_has(block: int) -> None:
    vectors, others = _vectors(40), _vectors(17)
    whole = vectors @ vectors.T
    expected = [(i, j) for i in range(40) for j in range(i + 1, 40) if whole[i, j] >= 0.4]
    found = similar_pairs(vectors, 0.4, block=block)
    assert [pair[:2] for pair in found] == expected
    assert (3, 39) in expected
    assert all(value == pytest.approx(float(whole[i, j]), abs=1e-6) for i, j, value in found)
    across = similar_pairs(vectors, 0.4, others, block=block)
    assert [pair[:2] for pair in across] == [tuple(place) for place in (vectors @ others.T >= 0.4).nonzero().tolist()]
    assert similar_pairs(vectors[:0], 0.4) == similar_pairs(vectors, 0.4, others[:0]) == []


def test_a_threshold_that_everything_reaches_is_refused() -> None:
    same = F.normalize(torch.ones(2000, 4), dim=1)
    with pytest.raises(BadParameter, match=r"a cosine of 0\.5 tells nothing among 2000"):
        similar_pairs(same, 0.5, block=500)


def test_groups_join_whoever_hangs_together() -> None:
    assert groups(9, [(0, 3), (3, 7), (5, 6)]) == [[0, 3, 7], [5, 6]]
    assert groups(4, []) == []


def test_thumbnails_tell_copies_from_other_pictures() -> None:
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (6, 9, 9, 3), np.uint8)
    pictures = [Image.fromarray(one).resize((300, 300), Image.Resampling.BICUBIC) for one in coarse]
    small = torch.stack([thumbnail(one) for one in pictures])
    assert (small @ small.T).fill_diagonal_(0).max() < 0.5
    for picture, known in zip(pictures, small, strict=True):
        file = io.BytesIO()
        picture.resize((170, 170)).save(file, "JPEG", quality=60)
        assert thumbnail(Image.open(file)) @ known > 0.97
    assert not thumbnail(Image.new("RGB", (40, 40), "red")).any(), "one colour is like nothing"

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from difflora.errors import BadFile, BadParameter
from difflora.evaluation.agreement import load_agreement
from difflora.world.captions import caption
from difflora.world.pool import fresh_pool

ASSETS = Path(__file__).parents[2] / "assets" / "embedded"


def test_renders_follow_their_own_captions_and_not_others() -> None:
    scorer = load_agreement("difflora.world.agreement:ClassifierAgreement", {"assets": str(ASSETS)})
    pool = fresh_pool(60, 1, 21)
    prompts = caption(pool.people, pool.scenes, torch.Generator().manual_seed(0))
    images = pool.batch(torch.arange(len(pool)))
    own, strange = scorer.score(images, prompts), scorer.score(images, prompts[1:] + prompts[:1])
    assert own.shape == (60,)
    assert own.mean() > 0.93
    assert strange.mean() < 0.4
    assert set((own * 12).round().int().tolist()) <= set(range(13))


def test_a_prompt_that_asks_for_nothing_is_refused() -> None:
    scorer = load_agreement("difflora.world.agreement:ClassifierAgreement", {"assets": str(ASSETS)})
    with pytest.raises(BadParameter, match="'a photo of a man': names no expression"):
        scorer.score(torch.rand(1, 3, 64, 64), ["a photo of a man"])
    with pytest.raises(BadFile):
        load_agreement("difflora.world.agreement:ClassifierAgreement", {"assets": "nowhere"})

from __future__ import annotations

from typing import Any

import pytest

from difflora.errors import BadParameter
from difflora.evaluation.settings import EvaluateSettings
from difflora.validation import validated


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"prompts": ["a photo"]}, "'a photo' does not say where the person is"),
        ({"prompts": []}, "evaluate.prompts"),
        ({"strengths": [1.5]}, "give 1.0 and others"),
        ({"strengths": [1.0, -1.0]}, "give 1.0 and others"),
        ({"people": 1}, "evaluate.people"),
        ({"pictures": {"sampler": "euler"}}, "evaluate.pictures.sampler"),
        ({"colour": 1}, "evaluate.colour"),
        ({"metrics": {"colour": 1}}, "evaluate.metrics.colour"),
        ({"metrics": {"fid": "vgg"}}, "evaluate.metrics.fid"),
        ({"metrics": {"fid": "dino"}}, "evaluate.metrics: fid is 'dino', but dino is null"),
        ({"metrics": {"reference": "coco"}}, "fid is null, but reference or inception is given"),
        ({"metrics": {"reward_options": {"assets": "a"}}}, "reward_options are given, but reward is null"),
        ({"metrics": {"draws": 2}}, "evaluate.metrics.draws"),
    ],
)
def test_mistakes_name_their_key(values: dict[str, Any], said: str) -> None:
    with pytest.raises(BadParameter, match=said):
        validated(EvaluateSettings, {"prompts": ["{person}"], **values}, "evaluate")

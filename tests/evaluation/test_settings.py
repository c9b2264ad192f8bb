from __future__ import annotations

from importlib import resources
from typing import Any

import pytest
import yaml

from difflora.errors import BadParameter
from difflora.evaluation.protocols import protocol_names, read_protocol
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
        ({"pictures": {"sampler": "heun"}}, "evaluate.pictures.sampler"),
        ({"methods": ["textual_inversion"]}, "one that gives a LoRA among them"),
        ({"methods": ["teacher", "teacher"]}, "give each once"),
        ({"methods": ["instantid"]}, "evaluate.methods"),
        ({"protocol": "papers"}, "protocol is 'papers'; there are: paper"),
        ({"protocol": 3}, "evaluate.protocol"),
        ({"images_per_prompt": 0}, "evaluate.images_per_prompt"),
        ({"textual_inversion": {"steps": 0}}, "evaluate.textual_inversion.steps"),
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


def test_a_protocol_stands_where_nothing_else_is_said() -> None:
    paper = validated(EvaluateSettings, {"protocol": "paper"}, "evaluate")
    assert (paper.people, len(set(paper.prompts)), paper.images_per_prompt) == (50, 30, 4)
    few = validated(EvaluateSettings, {"protocol": "paper", "people": 3, "prompts": ["{person}"]}, "evaluate")
    assert (few.people, few.prompts, few.images_per_prompt) == (3, ("{person}",), 4)
    assert validated(EvaluateSettings, paper.model_dump(mode="json"), "evaluate") == paper


def test_a_protocols_prompts_are_all_kept_by_kind() -> None:
    for name in protocol_names():
        text = (resources.files("difflora.evaluation.protocols") / f"{name}.yaml").read_text()
        kinds = yaml.safe_load(text)["prompts"]
        assert set(kinds) == {"simple", "complex", "multi_angle"}
        assert [prompt for kind in kinds.values() for prompt in kind] == read_protocol(name)["prompts"]

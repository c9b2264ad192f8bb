from __future__ import annotations

from pathlib import Path

import pytest

from difflora.errors import BadParameter
from difflora.stages.ablations.catalogue import CATALOGUE, FULL, GROUPS, Ablation, changed, rows_called
from difflora.stages.params import load_params

PARAMS = load_params(Path(__file__).parents[3] / "presets" / "embedded.yaml")


def test_every_row_fits_the_embedded_parameters_and_changes_something() -> None:
    full = changed(PARAMS, CATALOGUE[0])
    assert full.evaluate.methods == ("generated",)
    for row in CATALOGUE[1:]:
        if row.name in (f"steps_{PARAMS.evaluate.num_inference_steps}", f"people_{PARAMS.corpus.train_people}"):
            continue  # the chain itself
        assert changed(PARAMS, row) != full, row.name


def test_names_are_told_apart_and_compared_with_a_row_before_them() -> None:
    names = [row.name for row in CATALOGUE]
    assert len(set(names)) == len(names)
    assert not set(names) & set(GROUPS)
    for place, row in enumerate(CATALOGUE[1:], start=1):
        assert row.against in names[:place], row.name


def test_a_loop_is_made_longer_and_never_shorter() -> None:
    row = Ablation("slow", "", {}, loops={"dit.loop": {"steps": 3000, "lr": 2e-4}})
    longer = changed(PARAMS, row).dit.loop
    assert PARAMS.dit.loop.steps < 3000
    assert (longer.steps, longer.lr, longer.batch_size) == (3000, 2e-4, PARAMS.dit.loop.batch_size)
    at_length = PARAMS.dit.model_copy(update={"loop": PARAMS.dit.loop.model_copy(update={"steps": 9000})})
    assert changed(PARAMS.model_copy(update={"dit": at_length}), row).dit.loop == at_length.loop


def test_groups_and_what_rows_are_compared_with_come_along() -> None:
    assert [row.name for row in rows_called(["table3"])] == [FULL, *GROUPS["table3"]]
    assert [row.name for row in rows_called(["dpm_10"])] == [FULL, "steps_10", "dpm_10"]
    assert [row.name for row in rows_called(["no_wp", "table3", "full"])] == [FULL, *GROUPS["table3"]]
    assert len(rows_called([])) == len(CATALOGUE)


def test_a_name_that_is_none_and_a_key_that_is_none() -> None:
    with pytest.raises(BadParameter, match="no ablation is called 'no_nose'; there are: table3"):
        rows_called(["no_nose"])
    with pytest.raises(BadParameter, match=r"odd: params.yaml has no dit.model.colour"):
        changed(PARAMS, Ablation("odd", "", {"dit.model.colour": 3}))
    with pytest.raises(BadParameter, match=r"ablation odd.*width"):
        changed(PARAMS, Ablation("odd", "", {"dit.model.width": 3}))

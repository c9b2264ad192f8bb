from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from difflora.errors import BadParameter
from difflora.evaluation.figures.weight_map import (
    draw_weights,
    measure_weights,
    nearest_training,
    perplexity_for,
    products,
)


def test_distances_are_those_between_the_numbers() -> None:
    rows = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 6.0], [0.0, 1.0], [3.0, 4.0]])
    found = nearest_training(products(rows), {"training": 3, "generated": 2})
    root = 2**0.5
    assert found.nearest["training"] == pytest.approx(np.array([5, 13**0.5, 13**0.5]) / root)
    assert found.nearest["generated"] == pytest.approx(np.array([1, 0]) / root)
    assert found.ratio["generated"] == pytest.approx([1 / 18**0.5, 0])
    assert found.copies("generated") == 1.0
    assert found.copies("training") == 0.0


def test_twice_the_same_training_lora_is_no_neighbour_of_itself() -> None:
    rows = torch.tensor([[0.0, 1.0], [0.0, 1.0], [5.0, 1.0]])
    found = nearest_training(products(rows), {"training": 3})
    assert found.nearest["training"][0] == 0, "of its twin"
    assert found.nearest["training"][2] > 0


def test_products_do_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.randn(4, 30, generator=torch.Generator().manual_seed(0))
    whole = products(rows)
    monkeypatch.setattr("difflora.evaluation.figures.weight_map._NUMBERS_AT_ONCE", 28)
    assert products(rows) == pytest.approx(whole)
    assert whole == pytest.approx((rows.double() @ rows.double().T / 30).numpy())


def test_perplexity_follows_the_count() -> None:
    assert [perplexity_for(count) for count in (2, 10, 1000)] == [1.0, 3.0, 30.0]


def test_a_copy_lies_on_its_original(opened: Callable[..., Any]) -> None:
    generator = torch.Generator().manual_seed(1)
    train, own = torch.randn(20, 40, generator=generator), torch.randn(3, 40, generator=generator)
    made = train[:3] + 0.01 * torch.randn(3, 40, generator=generator)
    sizes = {"training": 20, "held-out": 3, "generated": 3}
    found = measure_weights(torch.cat([train, own, made]), sizes, 0)
    assert {kind: points.shape for kind, points in found.points.items()} == {
        kind: (size, 2) for kind, size in sizes.items()
    }
    assert found.distances.copies("generated") == 1.0
    assert found.distances.copies("held-out") == 0.0
    away = np.linalg.norm(found.points["generated"][:, None] - found.points["training"][None], axis=2)
    assert away.argmin(1).tolist() == [0, 1, 2]
    assert found.perplexity == pytest.approx(25 / 3)
    assert found.components == 25
    assert found.explained == pytest.approx(1)
    drawing = draw_weights(found)
    assert "generated 100%" in drawing.caption
    assert "held-out people's own 0%" in drawing.caption
    opened(drawing)
    again = measure_weights(torch.cat([train, own, made]), sizes, 0)
    assert np.array_equal(again.points["training"], found.points["training"])


def test_too_few_are_refused() -> None:
    with pytest.raises(BadParameter, match="t-SNE of 2 training LoRAs"):
        measure_weights(torch.randn(9, 4), {"training": 2, "generated": 7}, 0)

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from difflora.errors import BadFile
from difflora.evaluation.figures.ladder import draw_rungs, read_rungs

Around = Callable[[float], dict[str, float]]


def _figures(around: Around, *names: str, recognisers: tuple[str, ...]) -> dict[str, Any]:
    def methods(step: float) -> dict[str, Any]:
        return {name: {key: around(step * place) for key in recognisers} for place, name in enumerate(names)}

    fraction = {key: around(0.8) for key in recognisers}
    return {"people": 4, "methods": methods(0.2), "methods_native": methods(0.1), "fraction": fraction}


def test_rungs_stand_in_the_ladders_order_whatever_the_files(around: Around, opened: Callable[..., Any]) -> None:
    both = ("face_sim", "face_sim_independent")
    rungs = read_rungs(_figures(around, "real", "base", "mlp", "generated", "teacher", recognisers=both))
    assert rungs.names == ["base", "generated", "teacher", "real"]
    assert [one["mean"] for one in rungs.best["face_sim_independent"]] == pytest.approx([0.2, 0.6, 0.8, 0.0])
    assert [one["mean"] for one in rungs.native["face_sim"]] == pytest.approx([0.1, 0.3, 0.4, 0.0])
    drawing = draw_rungs(rungs)
    assert "0.800 (0.750 to 0.850) by the independent recogniser" in drawing.caption
    assert "base 0.20, generated 0.60" in drawing.alt
    opened(drawing)


def test_one_recogniser_and_no_fraction_are_enough(around: Around, opened: Callable[..., Any]) -> None:
    figures = _figures(around, "base", "generated", recognisers=("face_sim",))
    figures["fraction"] = {"face_sim": None}
    drawing = draw_rungs(read_rungs(figures))
    assert "undefined by the pipeline's own recogniser" in drawing.caption
    opened(drawing)


@pytest.mark.parametrize("figures", [{}, {"methods": {}, "methods_native": {}}, {"methods": 3}])
def test_other_files_are_refused(figures: dict[str, Any]) -> None:
    with pytest.raises(BadFile, match=r"x\.json: holds no figures of an evaluation.*difflora stage evaluate"):
        read_rungs(figures, "x.json")

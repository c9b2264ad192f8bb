from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from difflora.errors import BadFile
from difflora.evaluation.figures.curves import draw_curves, read_curves
from difflora.stages.curves import write_curve


def test_losses_are_read_as_the_steps_write_them(tmp_path: Path, opened: Callable[..., Any]) -> None:
    history = [{"step": 2, "loss": 3.0, "latent": 1.0}, {"step": 4, "loss": 1.5, "latent": 0.0}]
    write_curve(tmp_path / "effect_loss.csv", history)
    write_curve(tmp_path / "lae_loss.csv", history[:1])
    write_curve(tmp_path / "dit_loss.csv", [])
    curves = read_curves(sorted(tmp_path.glob("*_loss.csv")))
    assert [curve.name for curve in curves] == ["lae_loss", "effect_loss"], "in the chain's order, none without steps"
    assert curves[1].steps == [2, 4]
    assert curves[1].losses == {"loss": [3.0, 1.5], "latent": [1.0, 0.0]}
    drawing = draw_curves(curves)
    assert "both, through the frozen base 3 to 1.5" in drawing.caption
    scales = [panel.get_yscale() for panel in drawing.figure.axes]
    assert scales == ["log", "linear"], "a zero has no logarithm"
    opened(drawing)


@pytest.mark.parametrize("text", ["step,loss\n1,much\n", "loss\n1\n", "step,loss\n1\n"])
def test_what_is_no_curve_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "lae_loss.csv"
    path.write_text(text)
    with pytest.raises(BadFile, match=r"lae_loss\.csv: holds no losses"):
        read_curves([path])

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from difflora.evaluation.figures.canvas import Drawing, png


@pytest.fixture(scope="session")
def opened() -> Callable[[Drawing], np.ndarray[Any, Any]]:
    """A drawing's pixels as whoever opens the file sees them; its words are there."""

    def render(drawing: Drawing) -> np.ndarray[Any, Any]:
        assert all((drawing.title, drawing.caption, drawing.alt))
        assert "nan" not in f"{drawing.caption} {drawing.alt}"
        image = Image.open(io.BytesIO(png(drawing.figure)))
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
        assert pixels.std() > 5, "something is on it"
        return pixels

    return render


@pytest.fixture(scope="session")
def around() -> Callable[[float], dict[str, float]]:
    """A summary about a mean."""
    return lambda mean: {"mean": mean, "low": mean - 0.05, "high": mean + 0.05}

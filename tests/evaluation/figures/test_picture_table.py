from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image

from difflora.evaluation.figures.canvas import png
from difflora.evaluation.figures.picture_table import picture_table


def test_pictures_stand_in_their_row_and_column() -> None:
    red, blue = (torch.zeros(3, 16, 16) for _ in range(2))
    red[0], blue[2] = 1, 1
    figure = picture_table([[red, None], [None, blue]], ["first", "second"], ["left", "right"], [["a", ""], ["", "b"]])
    pixels = np.asarray(Image.open(io.BytesIO(png(figure))).convert("RGB")).astype(int)
    places = {}
    for name, colour in (("red", (255, 0, 0)), ("blue", (0, 0, 255))):
        rows, columns = np.nonzero(np.abs(pixels - colour).sum(2) < 30)
        places[name] = rows.mean(), columns.mean()
        assert len(rows) > 100 * 100
    assert places["red"][0] < places["blue"][0]
    assert places["red"][1] < places["blue"][1]
    words = [
        label.get_text() for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis) for label in axis.get_ticklabels()
    ]
    assert words == ["left", "right", "first", "second"]
    assert {text.get_text() for text in figure.axes[0].texts} == {"a", "", "b"}

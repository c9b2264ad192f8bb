from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from difflora.errors import BadParameter
from difflora.lora import LoraLayout, NormalisationSettings
from difflora.lora.layout import LoraModule
from difflora.models import DitModelSettings, LaeModelSettings, LoraAutoencoder, LoraTransformer
from difflora.validation import validated

SDXL_SHAPES = {(640, 640): 60, (640, 2048): 20, (1280, 1280): 360, (1280, 2048): 120}
"""(m, n) of SDXL's attention projections, and how many there are of each."""


def test_paper_mode_compresses_sdxl_nearly_300_times() -> None:
    shapes = [shape for shape, count in SDXL_SHAPES.items() for _ in range(count)]
    layout = LoraLayout(tuple(LoraModule(f"m{i}", m, n) for i, (m, n) in enumerate(shapes)), 4)
    assert layout.size == 5_806_080
    with torch.device("meta"):
        lae = LoraAutoencoder.build(layout, LaeModelSettings(), NormalisationSettings())
    assert len(lae.encoder.levels) == 5
    assert lae.compression_ratio == 5_806_080 / lae.latent_size
    assert 300 <= lae.compression_ratio < 320


@pytest.mark.parametrize(
    ("size", "parameters"), [({"width": 1454, "heads": 2}, 609.2e6), ({}, 610.9e6)], ids=["paper", "recommended"]
)
def test_transformers_of_sixteen_layers(size: dict[str, int], parameters: float) -> None:
    settings = DitModelSettings(**size)
    with torch.device("meta"):
        transformer = LoraTransformer(18_900, 512, 768, settings.model_dump(mode="json"))
    blocks = sum(parameter.numel() for layer in transformer.layers for parameter in layer.parameters())
    assert len(transformer.layers) == 16
    assert blocks == pytest.approx(parameters, rel=1e-3)


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        (LaeModelSettings, {"strides": (4, 4)}, "strides has 2 levels, channels 5"),
        (LaeModelSettings, {"networks": False}, "linear_path and networks are both off"),
        (LaeModelSettings, {"heads": 3}, "no multiple of heads = 3"),
        (LaeModelSettings, {"strides": (4, 4, 4, 4, 0)}, "at least 1"),
        (LaeModelSettings, {"width": 256, "depth": 3}, "depth"),
        (DitModelSettings, {"heads": 5}, "width is 1456, no multiple of heads = 5"),
        (DitModelSettings, {"linear_skip": True, "prediction_type": "epsilon"}, "linear_skip predicts x0"),
        (DitModelSettings, {"use_face": False, "use_image": False}, "nothing is left to condition on"),
        (DitModelSettings, {"width": 7, "heads": 7}, "an even one"),
    ],
)
def test_settings_that_cannot_be(kind: Any, values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        kind(**values)
    with pytest.raises(BadParameter, match=r"^section") as caught:
        validated(kind, values, "section")
    assert words in str(caught.value)


def test_models_refuse_sizes_that_do_not_fit() -> None:
    settings = DitModelSettings(num_tokens=9, width=8, heads=2).model_dump()
    with pytest.raises(BadParameter, match="num_tokens is 9 for latents of 8"):
        LoraTransformer(8, 4, 4, settings)
    with pytest.raises(BadParameter, match="below 1"):
        LoraTransformer(20, 0, 4, settings)

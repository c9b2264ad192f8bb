"""Mixed image features against equations 4 to 6, computed by hand."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import Linear

from difflora.models import MixedImageFeatures


def _gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _mlp(layers: torch.nn.Module, x: Tensor) -> Tensor:
    first, _, last = layers.children()
    assert isinstance(first, Linear)
    assert isinstance(last, Linear)
    return _gelu(x @ first.weight.T + first.bias) @ last.weight.T + last.bias


def test_gate_and_mixture_are_equations_4_to_6() -> None:
    torch.manual_seed(0)
    fusion = MixedImageFeatures(3, 2, 4)
    face, image = torch.randn(5, 3), torch.randn(5, 2)
    assert fusion.gate is not None
    fusion.requires_grad_(False)
    for i in range(5):
        mixed = torch.tensor([*face[i], *image[i]])  # eq. 4: face first
        logits = [float(row @ mixed + bias) for row, bias in zip(fusion.gate.weight, fusion.gate.bias, strict=True)]
        total = sum(math.exp(logit) for logit in logits)
        s_img, s_face = (math.exp(logit) / total for logit in logits)  # eq. 5
        torch.testing.assert_close(fusion.scores(face, image)[i], torch.tensor([s_img, s_face]))
        expected = s_img * _mlp(fusion.image, image[i]) + s_face * _mlp(fusion.face, face[i])  # eq. 6
        torch.testing.assert_close(fusion(face, image)[i], expected)


def test_a_feature_that_is_off_takes_no_part() -> None:
    torch.manual_seed(0)
    face, image = torch.randn(5, 3), torch.randn(5, 2)
    alone = MixedImageFeatures(3, 2, 4, use_image=False)
    assert torch.equal(alone.scores(face, image), torch.tensor([0.0, 1.0]).expand(5, 2))
    torch.testing.assert_close(alone(face, image), _mlp(alone.face, face))
    assert torch.equal(alone(face, image), alone(face, 9 * image))
    alone = MixedImageFeatures(3, 2, 4, use_face=False)
    torch.testing.assert_close(alone(face, image), _mlp(alone.image, image))

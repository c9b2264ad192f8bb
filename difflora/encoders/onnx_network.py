"""An ONNX network as torch operations, so that a loss can flow back through it: the operators of face recognisers.

onnxruntime only runs networks forwards. The recognisers of InsightFace's packs are convolutions, normalisations,
activations and one matrix, so their graphs are read here and computed by torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from difflora.errors import BadFile

_Attributes = Mapping[str, Any]
_Operator = Callable[[list[Any], _Attributes], Tensor]


class OnnxNetwork(nn.Module):
    """A frozen network of one input and one output.

    Args:
        path: its ONNX file; weights in half precision are computed with in float32.

    Raises:
        BadFile: if it is missing or damaged, has several inputs or outputs, or an operator that is not known here.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        import onnx
        from onnx import helper, numpy_helper

        try:
            graph = onnx.load(str(path)).graph
        except Exception as error:
            raise BadFile(f"{path}: not a readable ONNX file ({str(error).splitlines()[0]}); restore it") from error
        self._constants: dict[str, str] = {}  # a value's name to its buffer's
        for constant in graph.initializer:
            self._keep(constant.name, torch.from_numpy(numpy_helper.to_array(constant).copy()))
        inputs = [value.name for value in graph.input if value.name not in self._constants]
        if len(inputs) != 1 or len(graph.output) != 1:
            raise BadFile(f"{path}: {len(inputs)} inputs and {len(graph.output)} outputs; a recogniser has one of each")
        self._input, self._output = inputs[0], graph.output[0].name
        self._nodes: list[tuple[_Operator, list[str], str, _Attributes]] = []
        for node in graph.node:
            attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
            if node.op_type == "Constant":
                self._keep(node.output[0], torch.from_numpy(numpy_helper.to_array(attributes["value"]).copy()))
                continue
            if node.op_type not in _OPERATORS:
                raise BadFile(
                    f"{path}: operator {node.op_type} has no backward pass here; set dit.effect.likeness.weight and "
                    "dit.refine.rounds to 0"
                )
            self._nodes.append((_OPERATORS[node.op_type], list(node.input), node.output[0], attributes))
        self.requires_grad_(False).train(False)

    def forward(self, data: Tensor) -> Tensor:
        """The output for an input of the shape that the file asks for."""
        values: dict[str, Any] = {name: getattr(self, buffer) for name, buffer in self._constants.items()}
        values[self._input], values[""] = data, None
        for operator, inputs, output, attributes in self._nodes:
            values[output] = operator([values[name] for name in inputs], attributes)
        found: Tensor = values[self._output]
        return found

    def _keep(self, name: str, constant: Tensor) -> None:
        self._constants[name] = f"constant_{len(self._constants)}"
        whole = constant.float() if constant.is_floating_point() else constant
        self.register_buffer(self._constants[name], whole, persistent=False)


def _padded(x: Tensor, attributes: _Attributes, value: float = 0.0) -> Tensor:
    """With ONNX's ``pads``, (top, left, bottom, right), laid on."""
    pads = attributes.get("pads")
    if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise BadFile(f"an ONNX operator pads by {attributes['auto_pad'].decode()}, which is not known here")
    if not pads or not any(pads):
        return x
    top, left, bottom, right = pads
    return F.pad(x, (left, right, top, bottom), value=value)


def _conv(inputs: list[Any], attributes: _Attributes) -> Tensor:
    x, weight, *bias = inputs
    return F.conv2d(
        _padded(x, attributes),
        weight,
        bias[0] if bias else None,
        attributes.get("strides", 1),
        0,
        attributes.get("dilations", 1),
        attributes.get("group", 1),
    )


def _batch_norm(inputs: list[Any], attributes: _Attributes) -> Tensor:
    x, weight, bias, mean, variance = inputs
    return F.batch_norm(x, mean, variance, weight, bias, eps=attributes.get("epsilon", 1e-5))


def _gemm(inputs: list[Any], attributes: _Attributes) -> Tensor:
    a, b, *c = inputs
    a = a.T if attributes.get("transA", 0) else a
    b = b.T if attributes.get("transB", 0) else b
    product: Tensor = attributes.get("alpha", 1.0) * (a @ b)
    return product + attributes.get("beta", 1.0) * c[0] if c else product


def _average_pool(inputs: list[Any], attributes: _Attributes) -> Tensor:
    x = inputs[0]
    if any(attributes.get("pads", ())) and not attributes.get("count_include_pad", 0):
        raise BadFile("an ONNX AveragePool leaves its padding out of the mean, which is not known here")
    return F.avg_pool2d(_padded(x, attributes), attributes["kernel_shape"], attributes.get("strides", 1))


def _max_pool(inputs: list[Any], attributes: _Attributes) -> Tensor:
    x = _padded(inputs[0], attributes, -math.inf)
    return F.max_pool2d(x, attributes["kernel_shape"], attributes.get("strides", 1))


def _prelu(inputs: list[Any], _: _Attributes) -> Tensor:
    x, slope = inputs
    return torch.where(x > 0, x, x * slope)


def _reshape(inputs: list[Any], _: _Attributes) -> Tensor:
    x, shape = inputs
    sizes = shape.tolist()
    return torch.reshape(x, [x.shape[place] if size == 0 else size for place, size in enumerate(sizes)])


_OPERATORS: Mapping[str, _Operator] = {
    "Add": lambda i, _: i[0] + i[1],
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Cast": lambda i, _: i[0],  # constants were made float32, and there is no other type on the way
    "Conv": _conv,
    "Div": lambda i, _: i[0] / i[1],
    "Dropout": lambda i, _: i[0],
    "Flatten": lambda i, a: torch.flatten(i[0], a.get("axis", 1)),
    "Gemm": _gemm,
    "GlobalAveragePool": lambda i, _: i[0].mean((2, 3), keepdim=True),
    "Identity": lambda i, _: i[0],
    "MatMul": lambda i, _: i[0] @ i[1],
    "MaxPool": _max_pool,
    "Mul": lambda i, _: i[0] * i[1],
    "PRelu": _prelu,
    "Relu": lambda i, _: F.relu(i[0]),
    "Reshape": _reshape,
    "Sub": lambda i, _: i[0] - i[1],
}

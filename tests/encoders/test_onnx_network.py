"""ONNX networks in torch against onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from difflora.encoders.onnx_network import OnnxNetwork
from difflora.errors import BadFile


def _weights(*shape: int, seed: int = 0, dtype: str = "float32") -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def _write(path: Path, nodes: list[Any], weights: dict[str, np.ndarray[Any, Any]], out: int = 2) -> Path:
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, ["n", 3, 12, 12])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [None] * out)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def _compare(path: Path) -> None:
    data = torch.from_numpy(_weights(2, 3, 12, 12, seed=9)).requires_grad_()
    found = OnnxNetwork(path)(data)
    expected = onnxruntime.InferenceSession(str(path)).run(None, {"data": data.detach().numpy()})[0]
    np.testing.assert_allclose(found.detach().numpy(), expected, atol=1e-5, rtol=1e-4)
    found.square().sum().backward()
    assert data.grad is not None
    assert data.grad.abs().max() > 0


def test_the_layers_of_arcfaces_residual_networks(tmp_path: Path) -> None:
    """As buffalo_l's and antelopev2's: centred input, convolutions, PReLU, a shortcut, normalisation, one matrix."""
    nodes = [
        helper.make_node("Sub", ["data", "centre"], ["a"]),
        helper.make_node("Mul", ["a", "scale"], ["b"]),
        helper.make_node("Conv", ["b", "w1"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1]),
        helper.make_node("BatchNormalization", ["c", "g", "h", "m", "v"], ["d"], epsilon=2e-5),
        helper.make_node("PRelu", ["d", "slope"], ["e"]),
        helper.make_node("Conv", ["e", "w2", "b2"], ["f"], pads=[1, 1, 1, 1], strides=[2, 2], group=2),
        helper.make_node("Conv", ["e", "w3"], ["s"], strides=[2, 2]),
        helper.make_node("Add", ["f", "s"], ["i"]),
        helper.make_node("Dropout", ["i"], ["j"]),
        helper.make_node("Flatten", ["j"], ["k"]),
        helper.make_node("Gemm", ["k", "w4", "b4"], ["embedding"], transB=1, alpha=0.5, beta=2.0),
    ]
    weights = {
        "centre": np.float32(0.3).reshape(1),
        "scale": np.float32(0.7).reshape(1),
        "w1": _weights(4, 3, 3, 3),
        "g": _weights(4, seed=1),
        "h": _weights(4, seed=2),
        "m": _weights(4, seed=3),
        "v": np.abs(_weights(4, seed=4)) + 0.5,
        "slope": _weights(4, 1, 1, seed=5),
        "w2": _weights(6, 2, 3, 3, seed=6),
        "b2": _weights(6, seed=7),
        "w3": _weights(6, 4, 1, 1, seed=8),
        "w4": _weights(5, 6 * 36, seed=10),
        "b4": _weights(5, seed=11),
    }
    _compare(_write(tmp_path / "arcface.onnx", nodes, weights))


def test_half_weights_pools_and_reshapes(tmp_path: Path) -> None:
    """As a network that keeps its weights in half precision and casts them."""
    nodes = [
        helper.make_node("Cast", ["half"], ["w"], to=TensorProto.FLOAT),
        helper.make_node("AveragePool", ["data"], ["a"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["a", "w"], ["b"], pads=[0, 1, 1, 0]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("MaxPool", ["c"], ["d"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Constant", [], ["shape"], value=numpy_helper.from_array(np.array([0, -1], np.int64))),
        helper.make_node("Reshape", ["d", "shape"], ["e"]),
        helper.make_node("MatMul", ["e", "last"], ["f"]),
        helper.make_node("Div", ["f", "by"], ["g"]),
        helper.make_node("Identity", ["g"], ["embedding"]),
    ]
    weights = {
        "half": _weights(4, 3, 2, 2, dtype="float16"),
        "last": _weights(4 * 9, 7, seed=1),
        "by": np.float32(3).reshape(1),
    }
    _compare(_write(tmp_path / "half.onnx", nodes, weights))


def test_the_mean_over_places(tmp_path: Path) -> None:
    nodes = [helper.make_node("GlobalAveragePool", ["data"], ["embedding"])]
    _compare(_write(tmp_path / "mean.onnx", nodes, {}, out=4))


@pytest.mark.parametrize(
    ("node", "says"),
    [
        (helper.make_node("Sin", ["data"], ["embedding"]), "operator Sin"),
        (
            helper.make_node("MaxPool", ["data"], ["embedding"], kernel_shape=[2, 2], auto_pad="SAME_UPPER"),
            "SAME_UPPER",
        ),
        (helper.make_node("AveragePool", ["data"], ["embedding"], kernel_shape=[3, 3], pads=[1] * 4), "padding"),
    ],
)
def test_what_is_not_known_is_refused(tmp_path: Path, node: Any, says: str) -> None:
    path = _write(tmp_path / "other.onnx", [node], {}, out=4)
    with pytest.raises(BadFile, match=says):
        OnnxNetwork(path)(torch.zeros(1, 3, 12, 12))


def test_a_damaged_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "recogniser.onnx"
    path.write_bytes(b"no onnx")
    with pytest.raises(BadFile, match=r"recogniser\.onnx: not a readable"):
        OnnxNetwork(path)
    with pytest.raises(BadFile, match=r"none\.onnx"):
        OnnxNetwork(tmp_path / "none.onnx")

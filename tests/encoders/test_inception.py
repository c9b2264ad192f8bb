"""An Inception's file, here one that gives the mean of each channel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from difflora.encoders.inception import InceptionFile
from difflora.errors import BadFile, BadImage


def _write(path: Path, shape: list[Any], kind: int = TensorProto.FLOAT) -> Path:
    entry = helper.make_tensor_value_info("pixels", kind, shape)
    result = helper.make_tensor_value_info("features", kind, [shape[0], 3, 1, 1])
    graph = helper.make_graph([helper.make_node("GlobalAveragePool", ["pixels"], ["features"])], "g", [entry], [result])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("shape", [["N", 3, "H", "W"], ["N", 3, 8, 8], [2, 3, 8, 8]])
def test_features_are_of_pictures_in_zero_to_one(tmp_path: Path, shape: list[Any]) -> None:
    encoder = InceptionFile(_write(tmp_path / "net.onnx", shape), batch_size=2)
    levels = [[0, 51, 255], [255, 0, 102], [51, 51, 51]]
    pictures = [np.full((20, 12, 3), level, np.uint8) for level in levels]
    found = encoder(pictures)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.tensor(levels) / 255, atol=1e-4, rtol=0)


def test_what_is_no_inception_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match=r"none\.onnx: no such file"):
        InceptionFile(tmp_path / "none.onnx")
    whole = _write(tmp_path / "net.onnx", ["N", 3, 8, 8])
    (tmp_path / "cut.onnx").write_bytes(whole.read_bytes()[:40])
    with pytest.raises(BadFile, match=r"cut\.onnx: not a readable ONNX file"):
        InceptionFile(tmp_path / "cut.onnx")
    with pytest.raises(BadFile, match="not float pictures"):
        InceptionFile(_write(tmp_path / "grey.onnx", ["N", 1, 8, 8]))
    with pytest.raises(BadFile, match="provider 'TPU'"):
        InceptionFile(whole, provider="TPU")
    with pytest.raises(BadImage, match="image 0"):
        InceptionFile(whole)([torch.zeros(3, 8, 8)])

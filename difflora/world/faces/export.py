"""Writing a face model as ONNX, and opening one."""

from __future__ import annotations

import copy
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from difflora.errors import BadFile, DiffLoRAError
from difflora.files import write_atomic

logger = logging.getLogger(__name__)

_OPSET = 18
_SMALL = 64


def open_session(path: str | Path | bytes, threads: int = 0) -> Any:
    """An onnxruntime session on the CPU.

    Args:
        path: the file, or its bytes.
        threads: threads within an operation; 0 leaves it to onnxruntime.

    Raises:
        BadFile: if the file is missing, truncated or no ONNX model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if not isinstance(path, bytes) and not Path(path).is_file():
        raise BadFile(f"{path}: no such file; make it with `difflora world train faces`, or restore it")
    try:
        source = path if isinstance(path, bytes) else str(path)
        return onnxruntime.InferenceSession(source, sess_options=options, providers=["CPUExecutionProvider"])
    except Exception as error:
        name = "<bytes>" if isinstance(path, bytes) else path
        raise BadFile(f"{name}: not a readable ONNX model ({error}); restore or remake it") from error


def load_weights(path: Path) -> dict[str, Tensor]:
    """The weights of a file that :func:`export_onnx` wrote, as float32 under the names they had in torch.

    Raises:
        BadFile: if the file is missing or no ONNX model.
    """
    import onnx

    if not path.is_file():
        raise BadFile(f"{path}: no such file; make it with `difflora world train faces`, or restore it")
    try:
        stored = onnx.load_from_string(path.read_bytes()).graph.initializer
        arrays = {tensor.name.removesuffix(".half"): onnx.numpy_helper.to_array(tensor) for tensor in stored}
    except Exception as error:
        raise BadFile(f"{path}: not a readable ONNX model ({error}); restore or remake it") from error
    return {name: torch.from_numpy(array.copy()).float() for name, array in arrays.items()}


def _halve(data: bytes) -> bytes:
    """Stores the larger weights as fp16, with a Cast that onnxruntime folds away when it opens the model."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load_from_string(data)
    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type == TensorProto.FLOAT and values.size > _SMALL:
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
            casts.append(helper.make_node("Cast", [f"{name}.half"], [name], f"half_{name}", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    del model.graph.value_info[:]
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _traced(module: nn.Module, example: Tensor, inputs: str, outputs: list[str], dynamic: dict[int, str]) -> bytes:
    """The module as ONNX bytes."""
    import onnx

    shapes = dict.fromkeys(dynamic, torch.export.Dim.DYNAMIC)
    noisy = logging.getLogger("torch.onnx")
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                input_names=[inputs],
                output_names=outputs,
                opset_version=_OPSET,
                dynamic_shapes=(shapes,),
                verbose=False,
            )
    finally:
        noisy.setLevel(level)
    if program is None:
        raise DiffLoRAError("torch.onnx.export gave no program")
    model: Any = onnx.load_from_string(program.model_proto.SerializeToString())
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer]:
        del value.metadata_props[:]
    del model.metadata_props[:], model.graph.metadata_props[:]
    for axis, name in dynamic.items():
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    return bytes(model.SerializeToString())


def export_onnx(
    module: nn.Module, example: Tensor, path: str | Path, *, inputs: str, outputs: list[str], dynamic: dict[int, str]
) -> float:
    """Writes ``module`` as ONNX with fp16 weights, checks it against torch by onnxruntime, and puts it in place.

    Args:
        module: the network, in evaluation mode and without BatchNorm (see :func:`layers.folded`).
        example: an input to trace and check with, (N, 3, H, W) float32, N at least 2.
        path: the file to write; it appears whole or not at all.
        inputs: name of the input.
        outputs: names of the outputs, in order.
        dynamic: axes of the input that may change, with their names.

    Returns:
        The largest difference between onnxruntime's outputs and torch's (on the same rounded weights), relative to
        each output's largest magnitude.

    Raises:
        DiffLoRAError: if that difference is above 1e-4.
    """
    rounded = copy.deepcopy(module).eval()
    with torch.no_grad():
        for parameter in rounded.parameters():
            if parameter.numel() > _SMALL:
                parameter.copy_(parameter.half().float())
    data = _halve(_traced(rounded, example, inputs, outputs, dynamic))
    with torch.no_grad():
        expected = rounded(example)
    expected = expected if isinstance(expected, tuple | list) else [expected]
    found = open_session(data, threads=1).run(outputs, {inputs: example.numpy()})
    worst = max(
        float(np.abs(a - b.numpy()).max() / max(1e-6, float(b.abs().max())))
        for a, b in zip(found, expected, strict=True)
    )
    if not worst < 1e-4:
        raise DiffLoRAError(f"{path}: onnxruntime differs from torch by {worst:.1e} of the output's range")
    write_atomic(path, data)
    logger.info("%s: %.2f MB, within %.1e of torch", path, len(data) / 1e6, worst)
    return worst

"""Tiny ONNX models, built for the tests."""

import hashlib
import pathlib
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "uint8": TensorProto.UINT8,
}


def channel_means(
    path: pathlib.Path,
    *,
    shape: Sequence[int | str] = ("batch", 3, 4, 4),
    dtype: str = "float32",
    tail: Sequence[tuple[str, Sequence[str], Sequence[str]]] = (),
    inputs: int = 1,
) -> str:
    """A model whose outputs are the mean of each channel; returns the file's SHA-256.

    Args:
      path: where it is written.
      shape: of the input; the channels are where the 3 is.
      dtype: of the input.
      tail: further nodes from `means`: operator, inputs, outputs. The last one's output counts.
      inputs: how many inputs the model has; those after the first are not used.
    """
    axes = [2, 3] if shape[1] == 3 else [1, 2]
    nodes = [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["means"], keepdims=0),
        *(helper.make_node(kind, list(into), list(out)) for kind, into, out in tail),
    ]
    result = nodes[-1].output[0]
    batch = shape[0]
    graph = helper.make_graph(
        nodes,
        "channel_means",
        [
            helper.make_tensor_value_info("pixels" if n == 0 else f"unused{n}", TYPES[dtype], shape)
            for n in range(inputs)
        ],
        [helper.make_tensor_value_info(result, TensorProto.FLOAT, [batch, None])],
        [numpy_helper.from_array(np.array(axes, np.int64), "axes"), *_constants()],
    )
    return save(graph, path)


def _constants() -> Sequence[TensorProto]:
    return [
        numpy_helper.from_array(np.array([0.0, 0.0, 0.0], np.float32), "zeros"),
        numpy_helper.from_array(np.array([1.0, 0.0, 0.0], np.float32), "first"),
    ]


def convolution(path: pathlib.Path, *, size: int = 16, external: str | None = None) -> str:
    """A convolution, a pooling and a dense layer with fixed random weights, two outputs.

    Args:
      path: where it is written.
      size: width and height of the input.
      external: name of a file beside it that takes the weights.

    Returns:
      The SHA-256 of the file at `path`.
    """
    random = np.random.default_rng(7)
    weights = random.normal(size=(8, 3, 3, 3)).astype(np.float32) / 3
    dense = random.normal(size=(8, 2)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["pixels", "weights"], ["maps"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["maps"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "dense"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "convolution",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, size, size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(dense, "dense")],
    )
    return save(graph, path, external)


def save(graph: onnx.GraphProto, path: pathlib.Path, external: str | None = None) -> str:
    """Checks and writes a model; returns the SHA-256 of the file."""
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save_model(
        model, path, save_as_external_data=bool(external), location=external, size_threshold=0
    )
    return sha256(path)


def sha256(path: pathlib.Path) -> str:
    """The hash that a manifest pins."""
    return hashlib.sha256(path.read_bytes()).hexdigest()

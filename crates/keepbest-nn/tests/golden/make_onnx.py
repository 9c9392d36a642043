#!/usr/bin/env python3
"""Small ONNX graphs for the importer, and onnx.json with the scores that onnxruntime gives for them.

The input of each counts up from 0 to 1. `fuzz/corpus/onnx` has the same graphs.
"""

import json

import numpy as np
import onnxruntime
from onnx import TensorProto, checker, helper, numpy_helper

from golden import fnv1a, out_dir, unit

OUT = out_dir(__doc__)
FOUND = {"tolerance": {"scores": 1e-4}}
node = helper.make_node


def weight(name, *shape, dtype=np.float32):
    values = unit(fnv1a(name), int(np.prod(shape))).reshape(shape)
    return numpy_helper.from_array(values.astype(dtype), name)


def whole(name, *values):
    return numpy_helper.from_array(np.array(values, np.int64), name)


def graph(name, nodes, constants, image, classes, opset=17):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, image)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [image[0], classes])
    made = helper.make_graph(nodes, name, [x], [y], constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8, producer_name="make_onnx.py")
    checker.check_model(model)
    data = model.SerializeToString(deterministic=True)
    (OUT / f"onnx-{name}.onnx").write_bytes(data)
    shape = [side if isinstance(side, int) else 2 for side in image]
    x = (np.arange(np.prod(shape)).reshape(shape) / np.prod(shape)).astype(np.float32)
    (scores,) = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    FOUND[name] = {"scores": [float(score) for score in scores.flat]}


# A residual block, a gate, GELU by parts, weights in half precision, a shape that is computed, a softmax at the end.
graph(
    "blocks",
    [
        node("Cast", ["a.weight"], ["wide"], to=TensorProto.FLOAT),
        node("Conv", ["x", "wide", "a.bias"], ["c"], "a", pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c", "n.weight", "n.bias", "n.mean", "n.var"], ["b"], "n"),
        node("Constant", [], ["root"], value_float=1.4142135),
        node("Div", ["b", "root"], ["e0"]),
        node("Erf", ["e0"], ["e1"]),
        node("Constant", [], ["one"], value_float=1.0),
        node("Add", ["e1", "one"], ["e2"]),
        node("Mul", ["b", "e2"], ["e3"]),
        node("Constant", [], ["half"], value_float=0.5),
        node("Mul", ["e3", "half"], ["g"]),
        node("GlobalAveragePool", ["g"], ["p"]),
        node("Conv", ["p", "s.weight"], ["s"]),
        node("Sigmoid", ["s"], ["q"]),
        node("Mul", ["g", "q"], ["m"]),
        node("Add", ["m", "c"], ["z"]),
        node("Relu", ["z"], ["r"]),
        node("GlobalAveragePool", ["r"], ["v"]),
        node("Shape", ["v"], ["sides"]),
        node("Gather", ["sides", "zero"], ["n0"]),
        node("Concat", ["n0", "rest"], ["to"], axis=0),
        node("Reshape", ["v", "to"], ["f"]),
        node("Gemm", ["f", "fc.weight", "fc.bias"], ["l"], transB=1),
        node("Softmax", ["l"], ["y"]),
    ],
    [
        weight("a.weight", 4, 2, 3, 3, dtype=np.float16),
        weight("a.bias", 4),
        weight("n.weight", 4),
        weight("n.bias", 4),
        weight("n.mean", 4),
        numpy_helper.from_array(np.array([0.5, 1.0, 1.5, 2.0], np.float32), "n.var"),
        weight("s.weight", 4, 4, 1, 1),
        whole("zero", 0),
        whole("rest", -1),
        weight("fc.weight", 3, 4),
        weight("fc.bias", 3),
    ],
    ["N", 2, 6, 6],
    3,
)

# A channel shuffle, poolings that meet, halves that are multiplied, padding, resizing, cutting.
graph(
    "moves",
    [
        node("Reshape", ["x", "parted"], ["a"]),
        node("Transpose", ["a"], ["b"], perm=[0, 2, 1, 3, 4]),
        node("Reshape", ["b", "joined"], ["c"]),
        node("MaxPool", ["c"], ["d"], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
        node("AveragePool", ["c"], ["e"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Concat", ["d", "e"], ["f"], axis=1),
        node("Split", ["f"], ["g", "h"], axis=1),
        node("Mul", ["g", "h"], ["i"]),
        node("Pad", ["i", "pads"], ["j"], mode="reflect"),
        node("Resize", ["j", "", "twice"], ["k"], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        node("Slice", ["k", "from", "to", "axes"], ["l"]),
        node("ReduceMean", ["l"], ["m"], axes=[2, 3], keepdims=0),
        node("MatMul", ["m", "w"], ["o"]),
        node("Add", ["o", "bias"], ["y"]),
    ],
    [
        whole("parted", 0, 2, 2, 5, 5),
        whole("joined", 0, 4, 5, 5),
        whole("pads", 0, 0, 1, 1, 0, 0, 1, 1),
        numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "twice"),
        whole("from", 1, 0),
        whole("to", 9, 2**62),
        whole("axes", 2, 3),
        weight("w", 4, 3),
        weight("bias", 3),
    ],
    ["N", 4, 5, 5],
    3,
)

# An older operator set, weights made of a shape, numbers in typed fields, quantised weights.
graph(
    "made",
    [
        node("ConstantOfShape", ["s"], ["k"], value=helper.make_tensor("v", TensorProto.FLOAT, [1], [0.02])),
        node("Conv", ["x", "k"], ["a"], auto_pad="SAME_UPPER", strides=[2, 2]),
        node("LRN", ["a"], ["b"], size=3),
        node("GlobalAveragePool", ["b"], ["c"]),
        node("Flatten", ["c"], ["d"]),
        node("DequantizeLinear", ["q", "scale", "zero"], ["e"]),
        node("Gemm", ["d", "e"], ["y"], transB=1),
    ],
    [
        helper.make_tensor("s", TensorProto.INT64, [4], [4, 2, 3, 3]),
        helper.make_tensor("q", TensorProto.INT8, [3, 4], list(range(-6, 6))),
        helper.make_tensor("scale", TensorProto.FLOAT, [], [0.1]),
        helper.make_tensor("zero", TensorProto.INT8, [], [1]),
    ],
    [1, 2, 6, 6],
    3,
    opset=11,
)

(OUT / "onnx.json").write_text(json.dumps(FOUND, indent=1) + "\n")

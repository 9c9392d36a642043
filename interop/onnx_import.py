"""ONNX in, against what no one here wrote: the operator cases and the nine CNN graphs inside the `onnx` wheel.

    python interop/onnx_import.py --keepbest target/debug/keepbest [--graphs] [--only PART]

Every case that concerns convolutional networks is imported with `keepbest import --check`: it agrees to 1e-4, is refused by name, or
has failed. Fails where one has failed, or fewer than 95 of 100 operator cases agree. Cases that have more inputs than an image get
them as constants, or, where they are of one shape, as channels of one input that are split: a network has one input. And since a
network takes images and gives a vector, a row of pixels is given the case's shape, and a linear layer that changes nothing ends it.
"""

import argparse
import collections
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# The operators that convolutional networks are made of.
OPERATORS = set(
    """Conv ConvTranspose BatchNormalization Gemm MatMul Add Sub Mul Div Pow Sqrt Relu LeakyRelu PRelu Elu Celu Selu Clip Sigmoid
    HardSigmoid HardSwish Gelu Erf Tanh Softplus Mish Exp Log Abs Neg Reciprocal Softmax LogSoftmax MaxPool AveragePool
    GlobalAveragePool GlobalMaxPool ReduceMean ReduceMax Concat Split Slice Pad Flatten Reshape Transpose Squeeze Unsqueeze Shape
    Gather Resize Upsample LRN Dropout Identity Constant ConstantOfShape Cast LayerNormalization GroupNormalization
    InstanceNormalization DequantizeLinear Max Min Sum Mean""".split()
)
# Of inputs of one shape, these take any number that depend on the image.
TOGETHER = {"Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "Concat"}
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
SHARE = 0.95
# Values of an output at most: the layer that ends a case has the square of it.
LARGEST = 4000


class Case:
    """A model with inputs and the outputs that it gives for them."""

    def __init__(self, name, model, inputs, outputs):
        self.name, self.model, self.inputs, self.outputs = name, model, inputs, outputs


def one_input(case):
    """The case with one input, or None where it does not concern networks of images."""
    graph = case.model.graph
    nodes = [node for node in graph.node if node.op_type != "Constant"]
    if not nodes or any(node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx") for node in nodes):
        return None
    constants = {tensor.name for tensor in graph.initializer}
    names = [value.name for value in graph.input if value.name not in constants]
    if not names or any(not isinstance(value, np.ndarray) for value in case.inputs + case.outputs):
        return None
    first = case.inputs[0]
    if first.dtype.kind != "f" or not 2 <= first.ndim <= 4 or first.size == 0:
        return None
    if any(output.dtype.kind != "f" or output.ndim < 1 or output.shape[0] != first.shape[0] for output in case.outputs):
        # What does not give something for each image is no layer of a network.
        return None
    if any(node.op_type in ("Shape", "ConstantOfShape", "Gather") and node.input[0] == names[0] for node in nodes):
        return None
    given = dict(zip(names, case.inputs))
    alike = all(value.shape == first.shape and value.dtype == first.dtype for value in case.inputs)
    if len(names) > 1 and alike and len(nodes) == 1 and nodes[0].op_type in TOGETHER:
        joined = np.concatenate(case.inputs, axis=1)
        split = helper.make_node("Split", ["joined", "lengths"], names, "split", axis=1)
        lengths = numpy_helper.from_array(np.full(len(names), first.shape[1], np.int64), "lengths")
        element = helper.np_dtype_to_tensor_dtype(first.dtype)
        value = helper.make_tensor_value_info("joined", element, joined.shape)
        made = helper.make_graph([split, *graph.node], graph.name, [value], graph.output, [*graph.initializer, lengths])
        model = helper.make_model(made, opset_imports=case.model.opset_import, ir_version=case.model.ir_version)
        opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        if opset < 13:
            split.ClearField("input")
            split.input.append("joined")
            split.attribute.append(helper.make_attribute("split", [first.shape[1]] * len(names)))
            made = helper.make_graph([split, *graph.node], graph.name, [value], graph.output, graph.initializer)
            model = helper.make_model(made, opset_imports=case.model.opset_import, ir_version=case.model.ir_version)
        return Case(case.name, model, [joined], case.outputs)
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    for name in names[1:]:
        if name in given:
            model.graph.initializer.append(numpy_helper.from_array(given[name], name))
    kept = [value for value in model.graph.input if value.name == names[0] or value.name in constants]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    return Case(case.name, model, [first], case.outputs)


def as_network(case, value, expected):
    """The model of a case as a network of images: a row of pixels goes in, and a linear layer that changes nothing comes out."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    graph = model.graph
    image = case.inputs[0]
    (name,) = [entry.name for entry in graph.input if entry.name not in {tensor.name for tensor in graph.initializer}]
    features = int(np.prod(expected.shape[1:], dtype=np.int64))
    if features > LARGEST:
        return None
    element = helper.np_dtype_to_tensor_dtype(image.dtype)
    row = [image.shape[0], 1, 1, int(np.prod(image.shape[1:]))]
    constants = [
        numpy_helper.from_array(np.array(row[:1] + row[3:], np.int64), "frame.vector"),
        numpy_helper.from_array(np.array(image.shape, np.int64), "frame.shape"),
        numpy_helper.from_array(np.array([image.shape[0], features], np.int64), "frame.features"),
        numpy_helper.from_array(np.eye(features, dtype=expected.dtype), "frame.head"),
    ]
    before = [
        helper.make_node("Reshape", ["frame.image", "frame.vector"], ["frame.row"]),
        helper.make_node("Reshape", ["frame.row", "frame.shape"], [name]),
    ]
    after = [
        helper.make_node("Reshape", [value.name, "frame.features"], ["frame.flat"]),
        helper.make_node("MatMul", ["frame.flat", "frame.head"], ["frame.scores"]),
    ]
    made = helper.make_graph(
        [*before, *graph.node, *after],
        graph.name,
        [helper.make_tensor_value_info("frame.image", element, row)],
        [helper.make_tensor_value_info("frame.scores", element, [image.shape[0], features])],
        [*graph.initializer, *constants],
    )
    return helper.make_model(made, opset_imports=model.opset_import, ir_version=model.ir_version)


def node_cases():
    from onnx.backend.test.case.node import collect_testcases

    for test in collect_testcases(None):
        if test.model is None or not test.data_sets or "_expanded" in test.name and "gelu" not in test.name and "layer" not in test.name:
            continue
        inputs, outputs = test.data_sets[0]
        yield Case(test.name, test.model, list(inputs), list(outputs))


def folder_cases():
    data = Path(onnx.__file__).parent / "backend/test/data"
    for kind in ("simple", "pytorch-converted", "pytorch-operator"):
        for folder in sorted((data / kind).iterdir()):
            if not (folder / "model.onnx").is_file():
                continue
            try:
                tensors = [
                    [
                        numpy_helper.to_array(onnx.load_tensor(str(path)))
                        for path in sorted(folder.glob(f"test_data_set_0/{side}_*.pb"))
                    ]
                    for side in ("input", "output")
                ]
            except Exception:  # sequences and strings are no tensors
                continue
            yield Case(f"{kind}/{folder.name}", onnx.load(folder / "model.onnx"), *tensors)


def graph_cases():
    """The nine graphs: the runner of the wheel makes their input."""
    light = Path(onnx.__file__).parent / "backend/test/data/light"
    for path in sorted(light.glob("*.onnx")):
        model = onnx.load(path)
        constants = {tensor.name for tensor in model.graph.initializer}
        value = next(value for value in model.graph.input if value.name not in constants)
        shape = [side.dim_value for side in value.type.tensor_type.shape.dim]
        count = int(np.prod(shape))
        image = (np.arange(count).reshape(shape) / count).astype(np.float32)
        output = numpy_helper.to_array(onnx.load_tensor(str(path.with_name(path.stem + "_output_0.pb"))))
        yield Case(path.stem, model, [image], [output])


def run(keepbest, case, work, framed):
    """`agrees`, `refused` or `failed`, and what was said."""
    path = work / "model.onnx"
    for at, (value, expected) in enumerate(zip(case.model.graph.output, case.outputs)):
        if at > 0 and expected.size == 0:
            continue
        model, image = case.model, case.inputs[0]
        if framed:
            model = as_network(case, value, expected)
            if model is None:
                return "of other things", "too large"
            image = image.reshape(image.shape[0], 1, 1, -1)
        onnx.save(model, path)
        reference = work / "reference.npz"
        np.savez(reference, inputs=image.astype(np.float32), outputs=expected.astype(np.float32))
        command = [keepbest, "import", path, "--to", work / "model.safetensors", "--force", "--check", reference, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if done.returncode != 0:
            said = " ".join(done.stderr.split())
            return ("refused" if done.returncode == 1 else "failed"), said
        checked = json.loads(done.stdout)["checked"]
        if checked["images"] < 1:
            return "failed", "nothing was compared"
    return "agrees", ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keepbest", required=True)
    parser.add_argument("--graphs", action="store_true", help="the nine graphs rather than the operator cases; takes minutes")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    arguments = parser.parse_args()
    counts = collections.Counter()
    with tempfile.TemporaryDirectory() as work:
        cases = graph_cases() if arguments.graphs else [*folder_cases(), *node_cases()]
        for case in cases:
            if arguments.only not in case.name:
                continue
            case = case if arguments.graphs else one_input(case)
            if case is None:
                counts["of other things"] += 1
                continue
            result, said = run(arguments.keepbest, case, Path(work), not arguments.graphs)
            counts[result] += 1
            if result != "agrees" or arguments.graphs:
                print(f"{result:8} {case.name}: {said[:400]}", flush=True)
    all_cases = counts["agrees"] + counts["refused"] + counts["failed"]
    share = counts["agrees"] / max(all_cases, 1)
    print(f"{all_cases} cases: {counts['agrees']} agree to 1e-4 ({share:.1%}), {counts['refused']} are refused by name,", end=" ")
    print(f"{counts['failed']} have failed; {counts['of other things']} more concern other things than networks of images")
    sys.exit(counts["failed"] > 0 or share < SHARE)


if __name__ == "__main__":
    main()

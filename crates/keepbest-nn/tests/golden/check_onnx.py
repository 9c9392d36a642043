#!/usr/bin/env python3
"""Checks the ONNX models that keepbest writes: onnx.checker with full shape inference, and the scores of onnxruntime
against those of keepbest on the same images, in each form of a model, one image at a time and all at once. Exit code 1
if anything differs by more than 1e-4 of the largest score, or of 1.

check_onnx.py DIR      (as written by `--example export_onnx`)

Needs: numpy, onnx, onnxruntime, safetensors
"""

import json
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime
from safetensors.numpy import load_file

TOLERANCE = 1e-4
FORMS = ["folded", "pixels-first", "pixels-last", "plain"]


def ops(model):
    return [node.op_type for node in model.graph.node]


def check(path, data):
    """Largest difference of a score."""
    form = path.name.split(".")[-2]
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(path)
    assert model.opset_import[0].version == 21 and model.ir_version == 10
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["classes"]) == [f'class "{i}" ☀' for i in range(10)], metadata
    assert metadata["form"] == form
    made = {name: node.op_type for node in model.graph.node for name in node.output}
    after = [made.get(node.input[0]) for node in model.graph.node if node.op_type == "BatchNormalization"]
    if form in ("folded", "pixels-first"):
        # In `every-layer` one batch norm follows another, and only the first becomes part of the convolution; in `graph` others
        # read what the convolution makes.
        assert after.count("Conv") == path.name.startswith(("every-layer.", "graph.")), f"{path}: batch norms after convolutions are left"
    # The same values whatever onnxruntime would do to the graph.
    worst = 0.0
    images = data["pixels"] if form.startswith("pixels") else data["images"]
    if form != "pixels-last":
        images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    for level in (
        onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
        onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    ):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        (taken,) = session.get_inputs()
        assert taken.shape[0] == "N", taken.shape
        for count in (1, len(images)):
            for at in range(0, len(images), count):
                (logits,) = session.run(["logits"], {taken.name: images[at : at + count]})
                difference = np.abs(logits - data["logits"][at : at + count])
                worst = max(worst, float(difference.max()))
    largest = max(1.0, float(np.abs(data["logits"]).max()))
    assert worst <= TOLERANCE * largest, f"{path}: scores up to {largest} differ by {worst}"
    return worst


def main():
    if len(sys.argv) != 2:
        raise SystemExit("usage: check_onnx.py DIR")
    folder = pathlib.Path(sys.argv[1])
    models = sorted(folder.glob("*.safetensors"))
    assert models, f"no models in {folder}"
    files = 0
    for path in models:
        data = load_file(path)
        assert np.isfinite(data["logits"]).all()
        forms = sorted(folder.glob(f"{path.stem}.*.onnx"))
        assert [form.name.split(".")[-2] for form in forms] == FORMS, forms
        worst = max(check(form, data) for form in forms)
        files += len(forms)
        scale = float(np.abs(data["logits"]).max())
        print(f"{path.stem}: {len(forms)} forms, largest difference {worst:.1e} of scores up to {scale:.2f}")
    print(f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}: {files} files of {len(models)} models agree")


if __name__ == "__main__":
    try:
        main()
    except AssertionError as error:
        raise SystemExit(f"FAILED: {error}") from error

#!/usr/bin/env python3
"""Times training steps or inference of PyTorch, or inference of ONNX Runtime, on one network, and prints one JSON line like bench_step's.

usage: torch_step.py --model simple-cnn|resnet18|resnet50 --batch N --steps N --threads N
                     [--infer] [--layout eager|channels_last] [--compile] [--autocast] [--onnxruntime]

simple-cnn takes 28x28x1 images, resnet18 (CIFAR stem) 32x32x3, resnet50 (torchvision's) 224x224x3; all have 10 classes. Training is SGD with momentum
0.9 on cross entropy, the whole step: zero the gradients, forward, backward, update.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time

import torch
import torch.nn.functional as F
import torchvision

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "crates/keepbest-nn/tests/golden"))
from make_training import SimpleCnn, cifar_resnet18  # noqa: E402

# Network and shape of its images.
NETS = {
    "simple-cnn": (SimpleCnn, (1, 28, 28)),
    "resnet18": (cifar_resnet18, (3, 32, 32)),
    "resnet50": (lambda: torchvision.models.resnet50(num_classes=10), (3, 224, 224)),
}
# The first steps touch fresh memory.
WARM_UP = 3


def onnxruntime_session(net, images, threads):
    """The network exported by PyTorch, in ONNX Runtime with all its optimisations."""
    import io

    import onnxruntime

    model = io.BytesIO()
    torch.onnx.export(net, (images,), model, input_names=["images"], dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model.getvalue(), options, providers=["CPUExecutionProvider"])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=list(NETS), required=True)
    for name in ("batch", "steps", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--infer", action="store_true")
    parser.add_argument("--layout", choices=["eager", "channels_last"], default="eager")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--autocast", action="store_true", help="bfloat16 autocast")
    parser.add_argument("--onnxruntime", action="store_true", help="run the network in ONNX Runtime; with --infer")
    a = parser.parse_args()

    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    build, shape = NETS[a.model]
    net = build()
    images = torch.randn(a.batch, *shape)
    labels = torch.randint(10, (a.batch,))
    if a.layout == "channels_last":
        net = net.to(memory_format=torch.channels_last)
        images = images.to(memory_format=torch.channels_last)
    net.train(not a.infer)
    run = torch.compile(net) if a.compile else net
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def train():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=a.autocast):
            loss = F.cross_entropy(run(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    def infer():
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=a.autocast):
            return run(images).sum().item()

    step = infer if a.infer else train
    if a.onnxruntime:
        if not a.infer:
            parser.error("ONNX Runtime only infers: add --infer")
        session = onnxruntime_session(net, images, a.threads)
        pixels = images.numpy()

        def step():
            return session.run(None, {"images": pixels})[0].sum().item()
    for _ in range(WARM_UP):
        step()
    seconds = []
    for _ in range(a.steps):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    rates = sorted(a.batch / t for t in seconds)
    told = {"images_per_second": statistics.median(rates), "min": rates[0], "max": rates[-1], "steps": a.steps}
    print(json.dumps(told))


if __name__ == "__main__":
    main()

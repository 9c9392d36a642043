#!/usr/bin/env python3
"""Measures `keepbest serve` and its peers on loopback, load generator counted in: throughput, latency, a swap under load, memory.

Needs a release build with `--features serve` and the example `load` of keepbest-serve; a Python with numpy, and for the peers litserve, fastapi, uvicorn
and torch. By hand, on a machine that does nothing else:

    cargo build --release -p keepbest --features serve
    cargo build --release -p keepbest-serve --example load
    python bench/serve.py --bin target/release --work /tmp/bench-serve [--peers litserve,fastapi] [--models simple-cnn,resnet18]

Raw tensors are FP32, [1, 3, 32, 32], over KServe's protocol with binary tensors; the peers, which do not speak it, get the same bytes as the
body and answer with the scores as bytes. The engine alone is `keepbest predict`'s, timed by the network's own compute time at its batch.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

PEER = {
    "litserve": """
        import litserve, numpy, torch
        from starlette.requests import Request
        from starlette.responses import Response
        from net import network
        torch.set_num_threads(2)

        class Api(litserve.LitAPI):
            def setup(self, device):
                self.network = network()
            async def decode_request(self, request: Request):
                return torch.from_numpy(numpy.frombuffer(await request.body(), numpy.float32).reshape(3, 32, 32).copy())
            def batch(self, inputs):
                return torch.stack(inputs)
            def predict(self, images):
                with torch.inference_mode():
                    return self.network(images)
            def unbatch(self, output):
                return list(output)
            def encode_response(self, output):
                return Response(content=output.numpy().tobytes())

        if __name__ == "__main__":
            api = Api(max_batch_size=32, batch_timeout=0.002, api_path="/predict")
            litserve.LitServer(api, accelerator="cpu").run(port={port}, host="127.0.0.1", num_api_servers=1, generate_client_file=False, log_level="error")
    """,
    "fastapi": """
        import numpy, torch, uvicorn
        from fastapi import FastAPI, Request, Response
        from net import network
        torch.set_num_threads(2)
        net, app = network(), FastAPI()

        @app.get("/health")
        def health():
            return "ok"

        @app.post("/predict")
        async def predict(request: Request):
            image = torch.from_numpy(numpy.frombuffer(await request.body(), numpy.float32).reshape(1, 3, 32, 32).copy())
            with torch.inference_mode():
                return Response(net(image).numpy().tobytes())

        uvicorn.run(app, port={port}, host="127.0.0.1", log_level="error")
    """,
}

NETS = {
    "simple-cnn": """
        import torch
        from torch import nn
        def network():
            def block(i, o):
                return [nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(), nn.MaxPool2d(2)]
            net = nn.Sequential(*block(3, 32), *block(32, 64), nn.Flatten(), nn.Linear(64 * 8 * 8, 128), nn.ReLU(), nn.Linear(128, 10)).eval()
            return net
    """,
    "resnet18": """
        import torch, torchvision
        def network():
            net = torchvision.models.resnet18(num_classes=10)
            net.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
            net.maxpool = torch.nn.Identity()
            return net.eval()
    """,
}


def images(work):
    """A folder of 40 colour images of 32x32 in ten classes, as PNM files."""
    random = np.random.RandomState(1)
    for label in range(10):
        folder = work / "data" / f"class{label}"
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(40):
            pixels = random.randint(0, 256, (32, 32, 3)).astype(np.uint8)
            (folder / f"{number}.ppm").write_bytes(b"P6 32 32 255\n" + pixels.tobytes())


def resident(pid):
    """Bytes of memory of a process and those that it started."""
    found = int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()).group(1)) << 10
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return found + sum(resident(int(child)) for child in children)


class Server:
    def __init__(self, command, work, port, path):
        self.begun = time.perf_counter()
        self.process = subprocess.Popen(command, cwd=work, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE if port is None else subprocess.DEVNULL)
        if port is None:
            line = self.process.stderr.readline().decode()
            self.address = re.search(r"://(\S+)", line).group(1)
        else:
            self.address = f"127.0.0.1:{port}"
        while True:
            try:
                urllib.request.urlopen(f"http://{self.address}{path}", timeout=5).read()
                break
            except (urllib.error.URLError, ConnectionError):
                if time.perf_counter() - self.begun > 120 or self.process.poll() is not None:
                    sys.exit(f"{command} does not start")
                time.sleep(0.005)
        self.ready = time.perf_counter() - self.begun

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()


def load(args, address, path, body, clients, seconds, rate=0, *headers):
    command = [args.bin / "examples" / "load", address, path, body, str(clients), str(seconds), str(rate), *headers]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def ours(args, work, model):
    keepbest = args.bin / "keepbest"
    run = work / "runs" / model
    if not run.exists():
        train = ["train", "--data", "data", "--model", model, "--epochs", "1", "--name", model, "--quiet", "--no-augment"]
        done = subprocess.run([keepbest, *train], cwd=work)
        if done.returncode != 0:
            subprocess.run([keepbest, *train[:-1]], cwd=work, check=True)
    image = np.random.RandomState(2).rand(1, 3, 32, 32).astype(np.float32)
    head = json.dumps({"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 3, 32, 32], "parameters": {"binary_data_size": image.nbytes}}],
                       "outputs": [{"name": "logits", "parameters": {"binary_data": True}}]}).encode()
    body = work / "ours.bin"
    body.write_bytes(head + image.tobytes())
    header = f"inference-header-content-length: {len(head)}"
    server = Server([keepbest, "serve", model, "--port", "0"], work, None, "/v2/health/ready")
    path = f"/v2/models/{model}/infer"
    figures = {"ready_s": server.ready, "idle_bytes": resident(server.process.pid)}
    alone = engine_alone(server, work, model)
    full = load(args, server.address, path, body, 64, args.seconds, 0, header)
    one = load(args, server.address, path, body, 1, args.seconds, 0, header)
    half = load(args, server.address, path, body, 64, args.seconds, full["a_second"] / 2, header)
    figures |= {"engine_alone": alone, "full": full, "one": one, "half": half, "loaded_bytes": resident(server.process.pid)}
    server.stop()
    return figures


def engine_alone(server, work, model):
    """Images a second of the engine at each batch, and its latency for one: requests of so many images, one after the other, computing alone."""
    found = {}
    for batch in [1, 8, 16, 32]:
        image = np.random.RandomState(2).rand(batch, 3, 32, 32).astype(np.float32)
        head = json.dumps({"inputs": [{"name": "input", "datatype": "FP32", "shape": list(image.shape), "parameters": {"binary_data_size": image.nbytes}}],
                           "outputs": [{"name": "class"}]}).encode()
        request = urllib.request.Request(f"http://{server.address}/v2/models/{model}/infer", data=head + image.tobytes(),
                                         headers={"inference-header-content-length": str(len(head))})
        stats = lambda: json.loads(urllib.request.urlopen(f"http://{server.address}/v2/models/{model}/stats").read())["model_stats"][0]["inference_stats"]["compute_infer"]
        for _ in range(10):
            urllib.request.urlopen(request).read()
        before = stats()
        for _ in range(max(20, 400 // batch)):
            urllib.request.urlopen(request).read()
        after = stats()
        seconds = (after["ns"] - before["ns"]) / 1e9 / (after["count"] - before["count"])
        found[batch] = {"a_second": batch / seconds, "ms": seconds * 1e3}
    return found


def peer(args, work, name, model, port):
    (work / "net.py").write_text(textwrap.dedent(NETS[model]))
    script = work / f"{name}_peer.py"
    script.write_text(textwrap.dedent(PEER[name]).replace("{port}", str(port)))
    body = work / "peer.bin"
    body.write_bytes(np.random.RandomState(2).rand(1, 3, 32, 32).astype(np.float32).tobytes())
    server = Server([sys.executable, script], work, port, "/health")
    figures = {"ready_s": server.ready, "idle_bytes": resident(server.process.pid)}
    figures["full"] = load(args, server.address, "/predict", body, 64, args.seconds)
    figures["one"] = load(args, server.address, "/predict", body, 1, args.seconds)
    figures["loaded_bytes"] = resident(server.process.pid)
    server.stop()
    return figures


def idle_connections(args, work, model, count):
    """Opens so many connections, each of which has asked once, and asks on another."""
    import resource
    import socket

    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    server = Server([args.bin / "keepbest", "serve", model, "--port", "0", "--read-timeout", "10m"], work, None, "/v2/health/ready")
    before = resident(server.process.pid)
    host, port = server.address.split(":")
    held = []
    for _ in range(count):
        one = socket.create_connection((host, int(port)))
        one.sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: localhost\r\n\r\n")
        held.append(one)
    for one in held:
        one.recv(4096)
    begun = time.perf_counter()
    urllib.request.urlopen(f"http://{server.address}/v2/health/ready").read()
    figures = {"connections": len(held), "bytes_each": (resident(server.process.pid) - before) / len(held), "answer_ms": (time.perf_counter() - begun) * 1e3}
    for one in held:
        one.close()
    server.stop()
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--models", default="simple-cnn,resnet18")
    parser.add_argument("--peers", default="")
    parser.add_argument("--connections", type=int, default=10_000)
    args = parser.parse_args()
    args.bin, work = args.bin.resolve(), args.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    images(work)
    print(json.dumps({"load average before": os.getloadavg()[0], "cores": os.cpu_count()}))
    for number, model in enumerate(args.models.split(",")):
        print(json.dumps({"model": model, "server": "keepbest", **ours(args, work, model)}), flush=True)
        for place, name in enumerate(filter(None, args.peers.split(","))):
            print(json.dumps({"model": model, "server": name, **peer(args, work, name, model, 18100 + 10 * number + place)}), flush=True)
    print(json.dumps({"idle": idle_connections(args, work, args.models.split(",")[0], args.connections)}))


if __name__ == "__main__":
    main()

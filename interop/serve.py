#!/usr/bin/env python3
"""Has the clients of others ask `keepbest serve`: Triton's over HTTP and gRPC, each also asynchronous, and KServe's; a real browser walks
the dashboard while a training runs.

Every answer is held against `keepbest predict` and against each other. With --pictures DIR the pages are left there as PNG files, to be
looked at.
"""

import argparse
import asyncio
import json
import re
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import tritonclient.grpc as tritongrpc
import tritonclient.grpc.aio as tritongrpc_aio
import tritonclient.http as tritonhttp
import tritonclient.http.aio as tritonhttp_aio
from tritonclient.utils import InferenceServerException

KEY = "0123456789abcdef"


def check(holds, words):
    if not holds:
        sys.exit(f"serve: {words}")


class Served:
    """A server in a process of its own."""

    def __init__(self, keepbest, work, *args, tls=None):
        self.tls = tls
        command = [keepbest, "serve", *args, "--port", "0"]
        self.process = subprocess.Popen(command, cwd=work, stderr=subprocess.PIPE, text=True)
        begun = time.perf_counter()
        line = self.process.stderr.readline()
        found = re.search(r"at (https?)://(\S+)", line)
        check(found, f"it does not listen: {line}{self.process.stderr.read() if not found else ''}")
        self.address = found.group(2)
        while self.get("/v2/health/ready", {}) is None:
            check(time.perf_counter() - begun < 30, "it is not ready")
            time.sleep(0.01)

    def get(self, path, headers, body=None):
        request = urllib.request.Request(f"{'https' if self.tls else 'http'}://{self.address}{path}", data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30, context=self.tls) as reply:
                return json.loads(reply.read())
        except urllib.error.HTTPError:
            return None

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        check(code == 0, f"it ended with {code}")


def triton_tensors(module, pixels, files, floats):
    tensors = []
    for array, datatype in [(pixels, "UINT8"), (files, "BYTES"), (floats, "FP32")]:
        tensor = module.InferInput("input", array.shape, datatype)
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    return tensors


def same(found, logits, labels, words):
    check(np.array_equal(found.as_numpy("logits"), logits), f"{words}: other logits")
    # Bytes that came in JSON are text by then.
    found = [label.decode() if isinstance(label, bytes) else label for label in found.as_numpy("label").reshape(-1)]
    check(found == labels, f"{words}: other labels")


def triton(served, pixels, files, floats, labels):
    with tritonhttp.InferenceServerClient(served.address) as client:
        check(client.is_server_live() and client.is_server_ready() and client.is_model_ready("run"), "triton http: not ready")
        metadata = client.get_model_metadata("run")
        check(metadata["inputs"][0]["name"] == "input", f"triton http: metadata {metadata}")
        check(client.get_model_config("run")["name"] == "run", "triton http: configuration")
        logits = None
        for tensor in triton_tensors(tritonhttp, pixels, files, floats):
            for binary in [True, False]:
                outputs = [tritonhttp.InferRequestedOutput(name, binary_data=binary) for name in ["logits", "label"]]
                found = client.infer("run", [tensor], outputs=outputs, request_id="7")
                logits = found.as_numpy("logits") if logits is None else logits
                same(found, logits, labels, "triton http")
                check(found.get_response()["id"] == "7", "triton http: the request's name")
        top = client.infer("run", [tensor], outputs=[tritonhttp.InferRequestedOutput("probabilities", class_count=3)])
        first = top.as_numpy("probabilities")[0][0].decode()
        check(first.split(":")[2] == labels[0], f"triton http: {first}")
        with served_fault("channels first"):
            wrong = tritonhttp.InferInput("input", [1, 28, 28, 1], "FP32")
            wrong.set_data_from_numpy(np.zeros([1, 28, 28, 1], np.float32))
            client.infer("run", [wrong])
        client.unload_model("run")
        check(not client.is_model_ready("run"), "triton http: it was to be unloaded")
        client.load_model("run")
        check(client.is_model_ready("run"), "triton http: it was to be loaded")

    with tritongrpc.InferenceServerClient(served.address) as client:
        check(client.is_server_live() and client.is_server_ready() and client.is_model_ready("run"), "triton grpc: not ready")
        check(client.get_model_metadata("run").inputs[0].name == "input", "triton grpc: metadata")
        for tensor in triton_tensors(tritongrpc, pixels, files, floats):
            same(client.infer("run", [tensor], client_timeout=30), logits, labels, "triton grpc")
        with served_fault("channels first"):
            wrong = tritongrpc.InferInput("input", [1, 28, 28, 1], "FP32")
            wrong.set_data_from_numpy(np.zeros([1, 28, 28, 1], np.float32))
            client.infer("run", [wrong])
        client.unload_model("run")
        client.load_model("run")
        check(client.is_model_ready("run"), "triton grpc: it was to be loaded")
    return logits


class served_fault:
    """Expects the server to refuse with these words."""

    def __init__(self, words):
        self.words = words

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        check(kind is InferenceServerException and self.words in str(error), f"expected {self.words!r}, found {error!r}")
        return True


async def asynchronous(served, pixels, files, floats, logits, labels):
    async with tritonhttp_aio.InferenceServerClient(served.address) as client:
        tensors = triton_tensors(tritonhttp, pixels, files, floats)
        for found in await asyncio.gather(*[client.infer("run", [tensor]) for tensor in tensors * 8]):
            same(found, logits, labels, "triton http.aio")
    async with tritongrpc_aio.InferenceServerClient(served.address) as client:
        tensors = triton_tensors(tritongrpc, pixels, files, floats)
        for found in await asyncio.gather(*[client.infer("run", [tensor]) for tensor in tensors * 8]):
            same(found, logits, labels, "triton grpc.aio")


def encrypted(keepbest, work):
    """TLS, over HTTP and gRPC."""
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", "key.pem", "-out", "cert.pem", *subject]
    subprocess.run(command, cwd=work, check=True, stderr=subprocess.DEVNULL)
    context = ssl.create_default_context(cafile=work / "cert.pem")
    served = Served(keepbest, work, "run", "--tls-cert", "cert.pem", "--tls-key", "key.pem", tls=context)
    try:
        check(served.get("/v2/models", {}) == {"models": ["run"]}, "TLS: other models")
        port = served.address.rsplit(":", 1)[1]
        with tritongrpc.InferenceServerClient(f"localhost:{port}", ssl=True, root_certificates=str(work / "cert.pem")) as client:
            check(client.is_model_ready("run"), "TLS: gRPC")
    finally:
        served.stop()


def journal(run):
    lines = (run / "journal.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]


def dashboard(keepbest, work, images, pictures):
    """A browser walks the page while a training runs."""
    from playwright.sync_api import sync_playwright

    (work / "keys").write_text(KEY + "\n")
    served = Served(keepbest, work, "--keys", "keys", "--allow-actions")
    train = "train --name live --model lenet5 --epochs 200 --seed 5 --quiet --threads 1"
    training = subprocess.Popen([keepbest, *train.split()], cwd=work)
    live = work / "runs" / "live"
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            for width, dark in [(1280, False), (390, True)]:
                height = 900 if width > 400 else 844
                context = browser.new_context(viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light")
                page = context.new_page()
                faults, foreign = [], []
                page.on("pageerror", lambda error: faults.append(str(error)))
                page.on("console", lambda line: faults.append(line.text) if line.type == "error" and "401" not in line.text else None)
                page.on("request", lambda it: foreign.append(it.url) if served.address not in it.url and not it.url.startswith(("data:", "blob:")) else None)

                def fits(name):
                    content = page.evaluate("document.documentElement.scrollWidth")
                    check(content <= width, f"{name} at {width}: {content} pixels wide")
                    if pictures:
                        page.screenshot(path=pictures / f"serve-{name}-{width}.png", full_page=True)

                page.goto(f"http://{served.address}/")
                page.locator("#key input").fill(KEY)
                page.get_by_role("button", name="Use it").click()
                page.get_by_role("link", name="live", exact=True).wait_for(timeout=60000)
                fits("runs")
                page.get_by_label("Choose run to compare").check()
                page.get_by_label("Choose live to compare").check()
                page.get_by_role("link", name="Compare the chosen runs").click()
                page.locator("svg path.curve").nth(1).wait_for(timeout=30000)
                fits("compare")
                page.goto(f"http://{served.address}/#/run/live")
                page.locator("#curves circle.dot").first.wait_for(timeout=60000)
                before = page.locator("#curves figure").first.locator("circle.dot").count()
                # One more, by the events of the journal.
                page.locator("#curves figure").first.locator("circle.dot").nth(before).wait_for(timeout=60000)
                fits("training")
                page.goto(f"http://{served.address}/#/run/run")
                page.locator("#curves .best").first.wait_for(timeout=30000)
                star = page.locator("#curves figure").first.locator(".best")
                events = journal(work / "runs" / "run")
                best = [event for event in events if event["event"] == "promoted" and event["ref"] == "best"][-1]["step"]
                value = next(event for event in events if event["event"] == "evaluated" and event["step"] == best)["metrics"]["val/accuracy"]
                plotted = (float(star.get_attribute("data-x")), float(star.get_attribute("data-y")))
                check(plotted == (best, value), f"the star is at {plotted}, the journal's best at {(best, value)}")
                page.get_by_text("Report: curves").click()
                page.frame_locator("iframe").locator("h1").first.wait_for(timeout=30000)
                page.get_by_text("Model card").click()
                page.locator("pre", has_text="keepbest").first.wait_for(timeout=30000)
                fits("run")
                page.get_by_role("link", name="Try", exact=True).click()
                page.get_by_label("Model").select_option("run")
                page.get_by_label("Images to try").set_input_files([str(image) for image in images[:2]])
                page.locator(".answer h3").nth(1).wait_for(timeout=30000)
                label = page.locator(".answer h3").nth(1).text_content()
                check(label == expected_label(images[0]), f"the page says {label} of {images[0].name}")
                fits("try")
                page.get_by_role("link", name="Models").click()
                page.get_by_text("images a second").first.wait_for(timeout=30000)
                fits("models")
                page.get_by_role("link", name="API").click()
                page.get_by_text("/predict").first.wait_for(timeout=30000)
                fits("api")
                check(not faults, f"the page has faults: {faults}")
                check(not foreign, f"the page fetched {foreign}")
                context.close()
            # A training ends in order when it is told to, by who has a key.
            headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
            check(served.get("/api/runs/live/stop", {"content-type": "application/json"}, b"{}") is None, "it was stopped without a key")
            check(served.get("/api/runs/live/stop", headers, b"{}") == {"stopping": True}, "it was not stopped")
            training.wait(60)
            check(journal(live)[-1]["event"] == "interrupted", "the training did not end in order")
            browser.close()
    finally:
        training.kill()
        served.stop()
    print("serve: in Chromium the plotted best is the journal's, curves grow while a run trains, at 390 and 1280 pixels, light and dark")


EXPECTED = {}


def expected_label(image):
    return EXPECTED[image.name]["label"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--keepbest", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pictures", type=Path)
    args = parser.parse_args()
    work, keepbest = args.work.resolve(), args.keepbest.resolve()
    work.mkdir(parents=True, exist_ok=True)
    train = "train --name run --model lenet5 --epochs 3 --seed 3 --quiet"
    subprocess.run([keepbest, *train.split()], cwd=work, check=True)
    subprocess.run([keepbest, *"data sample fashion-mnist-mini --to samples".split()], cwd=work, check=True, stdout=subprocess.DEVNULL)
    images = sorted((work / "samples").glob("*.png"))[:8]
    predict = [keepbest, "predict", "run", *images, "--json", "-k", "3"]
    lines = subprocess.run(predict, cwd=work, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    EXPECTED.update({Path(answer["input"]).name: answer for answer in map(json.loads, lines)})
    labels = [expected_label(image) for image in images]

    served = Served(keepbest, work, "run", "--allow-load")
    try:
        for image in images:
            reply = served.get("/predict?top_k=3", {"content-type": "image/png"}, image.read_bytes())
            check(reply["answers"][0]["top"] == EXPECTED[image.name]["top"], f"{image.name}: {reply} is not {EXPECTED[image.name]}")
        metadata = served.get("/v2/models/run", {})
        how = metadata["parameters"]["preprocessing"]
        # Chromium is asked for pixels elsewhere; here the files' own, which are grey.
        files = np.array([image.read_bytes() for image in images], dtype=object)
        pixels = grey_pixels(keepbest, work, images)
        floats = ((pixels.astype(np.float32) / np.float32(how["divide_by"]) - np.float32(how["mean"][0])) / np.float32(how["std"][0]))
        floats = floats.transpose(0, 3, 1, 2).copy()
        logits = triton(served, pixels, files, floats, labels)
        asyncio.run(asynchronous(served, pixels, files, floats, logits, labels))
        np.savez(work / "tensors.npz", pixels=pixels, floats=floats, logits=logits)
        # In a process of its own: its messages have the names of Triton's.
        kserve = [sys.executable, Path(__file__).with_name("serve_kserve.py"), served.address, work / "tensors.npz"]
        subprocess.run(kserve, check=True)
    finally:
        served.stop()
    encrypted(keepbest, work)
    print(f"serve: tritonclient (http, grpc, asynchronous) and kserve get the answers of `keepbest predict` on {len(images)} images")
    if args.pictures:
        args.pictures.mkdir(parents=True, exist_ok=True)
    dashboard(keepbest, work, images, args.pictures)


def grey_pixels(keepbest, work, images):
    """The pixels of grey PNG files, [images, height, width, 1]."""
    from PIL import Image

    return np.stack([np.asarray(Image.open(image).convert("L")) for image in images])[..., None]


main()

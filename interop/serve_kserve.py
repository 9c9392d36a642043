#!/usr/bin/env python3
"""Has KServe's client ask `keepbest serve`, over REST and gRPC: interop/serve.py runs it with the server's address and the tensors."""

import asyncio
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig


def check(holds, words):
    if not holds:
        sys.exit(f"serve: {words}")


def request(array, datatype, raw):
    tensor = InferInput("input", list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=raw)
    return InferRequest(infer_inputs=[tensor], model_name="run")


def same(found, logits, words):
    outputs = {output.name: output for output in found.outputs}
    check(np.array_equal(outputs["logits"].as_numpy().astype(np.float32), logits), f"{words}: other logits")


async def main(address, tensors):
    base = f"http://{address}"
    for name, datatype in [("pixels", "UINT8"), ("floats", "FP32")]:
        rest = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
        check(await rest.is_server_live(base) and await rest.is_server_ready(base), "kserve REST: not ready")
        for raw in [True, False]:
            found = await rest.infer(base, request(tensors[name], datatype, raw), model_name="run")
            same(found, tensors["logits"], f"kserve REST: {datatype}")
        await rest.close()
        client = InferenceGRPCClient(address)
        check(await client.is_server_live() and await client.is_model_ready("run"), "kserve gRPC: not ready")
        same(await client.infer(request(tensors[name], datatype, True)), tensors["logits"], f"kserve gRPC: {datatype}")
        await client.close()


asyncio.run(main(sys.argv[1], np.load(sys.argv[2])))

#!/usr/bin/env python3
"""Writes PyTorch files of many kinds, and `expected.json` with what is in them.

make_pth.py --out DIR

Runs with PyTorch from 1.13 on; kinds that a version cannot write are left out and named on stderr. Nothing that it
writes is loaded here with its code allowed to run, except for checks of what it just made itself.
Needs: pip install numpy torch
"""

import argparse
import collections
import io
import json
import os
import pickle
import struct
import sys
import tempfile
import warnings
import zipfile

import numpy
import torch

warnings.filterwarnings("ignore")

NAMES = {  # PyTorch's names of element types to those in digests
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
    "complex32": "C32", "complex64": "C64", "complex128": "C128", "float8_e4m3fn": "F8_E4M3",
    "float8_e4m3fnuz": "F8_E4M3FNUZ", "float8_e5m2": "F8_E5M2", "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
}


class Net(torch.nn.Module):
    """A small network with all that a state dict can have: scalars, buffers, a buffer that is not saved."""

    def __init__(self):
        super().__init__()
        self.features = torch.nn.Sequential(
            torch.nn.Conv2d(1, 2, 3, stride=2, padding=(1, 1), bias=False), torch.nn.BatchNorm2d(2), torch.nn.ReLU()
        )
        self.head = torch.nn.Linear(2, 3)
        self.scale = torch.nn.Parameter(torch.tensor(0.5))
        self.register_buffer("passing", torch.ones(4), persistent=False)
        self.register_buffer("fixed", torch.arange(3, dtype=torch.int64))
        self.register_parameter("absent", None)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3))) * self.scale


class Tagged(torch.Tensor):
    """A subclass of tensor, which is pickled in a way of its own."""


def net(seed=3):
    torch.manual_seed(seed)
    return Net()


def raw(tensor):
    """Bytes of a tensor, little-endian and row-major."""
    tensor = tensor.detach().as_subclass(torch.Tensor).contiguous().clone()
    if tensor.numel() == 0:
        return b""
    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


def describe(tensors):
    return [
        {"name": name, "dtype": NAMES[str(t.dtype).replace("torch.", "")], "shape": list(t.shape), "hex": raw(t).hex()}
        for name, t in tensors.items()
    ]


def all_dtypes():
    bits = (torch.arange(3 * 16, dtype=torch.int64) * 5 + 1).to(torch.uint8)
    tensors = collections.OrderedDict()
    for name in NAMES:
        dtype = getattr(torch, name, None)
        if dtype is None:
            continue
        if name == "bool":
            tensors[name] = torch.tensor([True, False, True])
            continue
        size = torch.empty(0, dtype=dtype).element_size()
        tensor = bits[: 3 * size].view(dtype).clone()
        try:
            saved(tensor)
        except KeyError:
            print(f"left out: {name}, which torch {torch.__version__} cannot save", file=sys.stderr)
            continue
        tensors[name] = tensor
    return tensors


def all_views():
    base = torch.arange(24, dtype=torch.float32)
    return {
        "whole": base,
        "part": base[5:9],
        "matrix": base.view(4, 6),
        "transposed": base.view(4, 6).t(),
        "columns": base.view(4, 6)[:, 1::2],
        "permuted": base.view(2, 3, 4).permute(2, 0, 1),
        "channels_last": torch.arange(24, dtype=torch.float16).view(1, 2, 3, 4).to(memory_format=torch.channels_last),
        "expanded": torch.tensor([1.5, -2.5]).view(2, 1).expand(2, 3),
        "scalar": torch.tensor(7.25, dtype=torch.float64),
        "scalar_of_whole": base[23],
        "empty": torch.empty(0),
        "empty_sides": torch.empty(2, 0, 3, dtype=torch.int16),
        "special": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]),
    }


def rezip(data, method=zipfile.ZIP_STORED, root=None, without=(), change=lambda name, content: content):
    """The same archive written by another zip program."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w", method) as target:
        for entry in source.infolist():
            folder, name = entry.filename.split("/", 1)
            if name not in without:
                info = zipfile.ZipInfo(f"{root or folder}/{name}", (2020, 1, 1, 0, 0, 0))
                info.compress_type = method
                target.writestr(info, change(name, source.read(entry)))
    return out.getvalue()


def without_paths():
    """The form before 1.6 stores the source of each class and where it was: for files to be kept, the name of the
    file is enough, and of the source only our own."""
    original = torch.serialization.get_source_lines_and_file

    def shortened(obj, error_msg=None):
        lines, number, file = original(obj, error_msg)
        if obj.__module__ != "__main__":
            lines = [f"# source of {obj.__qualname__}\n"]
        return lines, number, os.path.basename(file)

    torch.serialization.get_source_lines_and_file = shortened


def without_debug(data):
    """A TorchScript archive without what says from which file each line came."""
    names = zipfile.ZipFile(io.BytesIO(data)).namelist()
    return rezip(data, without=[name.split("/", 1)[1] for name in names if name.endswith(".debug_pkl")])


def saved(value, **options):
    out = io.BytesIO()
    torch.save(value, out, **options)
    return out.getvalue()


def big_endian(tensors):
    """What a big-endian machine writes: elements turned round, and `byteorder` saying so."""
    turned = {}
    for name, tensor in tensors.items():
        size = tensor.element_size() // (2 if tensor.is_complex() else 1)
        bytes_ = numpy.frombuffer(raw(tensor), dtype=numpy.uint8).reshape(-1, size)[:, ::-1].copy()
        turned[name] = torch.from_numpy(bytes_.reshape(-1)).view(tensor.dtype).reshape(tensor.shape)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(saved(turned))) as source, zipfile.ZipFile(out, "w") as target:
        done = False
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith("/byteorder"):
                content, done = b"big", True
            target.writestr(zipfile.ZipInfo(entry.filename, (2020, 1, 1, 0, 0, 0)), content)
        if not done:
            target.writestr(zipfile.ZipInfo("archive/byteorder", (2020, 1, 1, 0, 0, 0)), b"big")
    return out.getvalue()


def tar_form(tensors):
    """The form of PyTorch 0.1.9 and before, which later ones read but do not write."""
    import tarfile

    def dump(value):
        return pickle.dumps(value, protocol=2)

    storages, listed = io.BytesIO(), io.BytesIO()
    storages.write(dump(len(tensors)))
    listed.write(dump(len(tensors)))
    keys = {}
    for at, (name, tensor) in enumerate(tensors.items()):
        kind = getattr(torch, {torch.float32: "FloatStorage", torch.int64: "LongStorage"}[tensor.dtype])
        storages.write(dump((100 + at, "cpu", kind)))
        storages.write(struct.pack("<q", tensor.numel()) + raw(tensor))
        listed.write(dump((200 + at, 100 + at, torch.FloatTensor)))
        listed.write(struct.pack("<ii", tensor.dim(), 0))
        listed.write(struct.pack(f"<{tensor.dim()}q", *tensor.shape))
        listed.write(struct.pack(f"<{tensor.dim()}q", *tensor.stride()))
        listed.write(struct.pack("<q", 0))
        keys[name] = 200 + at
    storages.write(dump([]))

    class Reference:
        def __init__(self, key):
            self.key = key

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return str(value.key) if isinstance(value, Reference) else None

    content = io.BytesIO()
    Pickler(content, protocol=2).dump(
        collections.OrderedDict((name, Reference(key)) for name, key in keys.items())
    )
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:", format=tarfile.PAX_FORMAT) as tar:
        for name, data in [
            ("sys_info", dump({"protocol_version": 1000, "little_endian": True})),
            ("pickle", content.getvalue()), ("tensors", listed.getvalue()), ("storages", storages.getvalue()),
        ]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


class Evil:
    """What an attacker puts into a model. It is pickled here, never unpickled."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def build():
    """Yields name, bytes, and what is expected to be found: key, stripped prefix, tensors."""
    state = net().state_dict()
    other = net(4).state_dict()

    def case(name, data, tensors, key=None, stripped=""):
        return name, data, {"key": key, "stripped": stripped, "tensors": describe(tensors)}

    yield case("state-dict.pth", saved(state), state)
    yield case("legacy-state-dict.pth", saved(state, _use_new_zipfile_serialization=False), state)
    dtypes = all_dtypes()
    yield case("dtypes.pth", saved(dtypes), dtypes)
    yield case("views.pth", saved(all_views()), all_views())
    yield case("legacy-views.pth", saved(all_views(), _use_new_zipfile_serialization=False), all_views())
    # Protocol 0 cannot say what PyTorch wants to: its ids of storages are text.
    for protocol in range(1, 6):
        yield case(f"protocol-{protocol}.pth", saved(state, pickle_protocol=protocol), state)
    yield case(
        "legacy-protocol-4.pth", saved(state, pickle_protocol=4, _use_new_zipfile_serialization=False), state
    )
    yield case(
        "legacy-protocol-1.pth", saved(state, pickle_protocol=1, _use_new_zipfile_serialization=False), state
    )

    small = {"w": torch.arange(6.0).view(2, 3), "n": torch.tensor(3)}
    yield case("deflated.pth", rezip(saved(state), zipfile.ZIP_DEFLATED), state)
    yield case("renamed-root.pth", rezip(saved(small), root="été 1"), small)
    yield case("no-byteorder.pth", rezip(saved(small), without=("byteorder",)), small)
    big = {"a": torch.arange(6.0).view(2, 3), "b": torch.arange(3), "c": torch.tensor([1 + 2j, 3.5 - 1j]),
           "d": torch.arange(6, dtype=torch.float64).view(2, 3).t().contiguous(), "e": torch.tensor([1, 2], dtype=torch.uint8)}
    yield case("big-endian.pth", big_endian(big), big)
    cuda = rezip(saved(small), change=lambda name, content: content.replace(b"X\3\0\0\0cpu", b"X\6\0\0\0cuda:1"))
    yield case("cuda.pth", cuda, small)

    optimizer = torch.optim.SGD(net().parameters(), lr=0.1, momentum=0.9)
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.ones(2, 1, 8, 8)).sum().backward()
    optimizer.step()
    trained = model.state_dict()
    rest = {
        "epoch": 12, "best_accuracy": numpy.float64(0.875), "classes": ["cat", "dog"], "lr": 0.1, "big": 2**70,
        "args": argparse.Namespace(lr=0.1, name="run"), "shape": torch.Size([1, 28, 28]), "device": torch.device("cuda", 1),
        "dtype": torch.float16, "seen": {1, 2}, "none": None, "flag": True, "raw": b"\0\xff", "pair": (1, 2.5),
        "by_class": collections.defaultdict(float, {"cat": 0.5}),
    }
    yield case("checkpoint.pth", saved({"state_dict": trained, "optimizer": optimizer.state_dict(), **rest}), trained, "state_dict")
    yield case("model-key.pth", saved({"model": trained, "optimizer": optimizer.state_dict()}), trained, "model")
    yield case("ema.pth", saved({"epoch": 1, "state_dict": state, "state_dict_ema": other}), other, "state_dict_ema")
    yield case("lightning.ckpt", saved({
        "epoch": 3, "global_step": 40, "pytorch-lightning_version": "2.5.0", "state_dict": {f"model.{k}": v for k, v in state.items()},
        "loops": {}, "callbacks": {}, "optimizer_states": [optimizer.state_dict()], "lr_schedulers": [], "hyper_parameters": {"lr": 0.1},
    }), state, "state_dict", "model.")
    yield case("only-one.pth", saved({"epoch": 3, "generator": state}), state, "generator")
    yield case("parallel.pth", saved({f"module.{k}": v for k, v in state.items()}), state, None, "module.")
    yield case("compiled.pth", saved({f"module._orig_mod.{k}": v for k, v in state.items()}), state, None, "module._orig_mod.")
    averaged = torch.optim.swa_utils.AveragedModel(net())
    yield case("averaged.pth", saved({"model_ema": averaged.state_dict()}), net().state_dict(), "model_ema", "module.")

    parameters = dict(net().named_parameters())
    yield case("parameters.pth", saved(parameters), {k: v.detach() for k, v in parameters.items()})
    tagged = {"t": torch.arange(4.0).as_subclass(Tagged)}
    yield case("subclass.pth", saved(tagged), tagged)

    yield case("module.pth", saved(net()), state)
    yield case("legacy-module.pth", saved(net(), _use_new_zipfile_serialization=False), state)
    yield case("module-in-checkpoint.pt", saved({
        "epoch": 5, "best_fitness": None, "model": net().half(), "ema": None, "updates": None, "optimizer": None,
        "train_args": {"imgsz": 640}, "date": "2024-01-01",
    }), net().half().state_dict(), "model")
    yield case("data-parallel-module.pth", saved(torch.nn.DataParallel(net())), state, None, "module.")
    shared = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    shared[1] = shared[0]
    yield case("shared-module.pth", saved(shared), shared.state_dict())

    script = io.BytesIO()
    torch.jit.save(torch.jit.script(net()), script)
    # TorchScript keeps no note of which buffers are not saved.
    scripted = torch.jit.load(io.BytesIO(script.getvalue())).state_dict()
    yield case("script.pt", without_debug(script.getvalue()), scripted)
    if "byteorder" in str(zipfile.ZipFile(io.BytesIO(saved(small))).namelist()):
        traced = io.BytesIO()
        torch.jit.save(torch.jit.trace(net().eval(), torch.ones(1, 1, 8, 8)), traced)
        yield case("traced.pt", without_debug(traced.getvalue()), torch.jit.load(io.BytesIO(traced.getvalue())).state_dict())

    old = {"w": torch.arange(6.0).view(2, 3), "t": torch.arange(6.0).view(2, 3).t().contiguous(), "n": torch.tensor([1, 2])}
    yield case("tar.pth", tar_form(old), old)

    if hasattr(torch.serialization, "set_crc32_options"):
        torch.serialization.set_crc32_options(False)
        yield case("no-crc.pth", saved(small), small)
        torch.serialization.set_crc32_options(True)

    def refused(name, data, error):
        return name, data, {"error": error}

    yield refused("optimizer.pth", saved(optimizer.state_dict()), "only the state of an optimizer")
    yield refused("several.pth", saved({"encoder": state, "decoder": other}), "`encoder`, `decoder`")
    yield refused("tensor.pth", saved(torch.ones(2)), "one tensor without a name")
    yield refused("list.pth", saved([1, 2]), "list ([1, 2])")
    yield refused("empty.pth", saved({}), "an empty dict")
    yield refused(
        "sparse.pth", saved({"s": torch.eye(3).to_sparse()}), "a dict of \"s\": object"
    )
    yield refused("evil-system.pth", saved({"w": torch.ones(2), "x": Evil(os.system, "touch KEEPBEST_WAS_HERE")}), "posix.system")
    yield refused("evil-eval.pth", saved({"w": torch.ones(2), "x": Evil(eval, "open('KEEPBEST_WAS_HERE','w')")}), "__builtin__.eval")
    yield refused(
        "legacy-evil.pth",
        saved({"w": torch.ones(2), "x": Evil(exec, "open('KEEPBEST_WAS_HERE','w')")}, _use_new_zipfile_serialization=False),
        "__builtin__.exec",
    )


def check(name, data, expected):
    """PyTorch itself must find the same tensors in what was just written."""
    if name.startswith(("script", "traced", "evil", "legacy-evil")) or "error" in expected:
        return
    if torch.__version__.startswith("1.") and name in ("big-endian.pth", "subclass.pth"):
        return  # it does not look at the byte order yet, and cannot load a subclass that it saved
    options = {} if torch.__version__.startswith("1.") else {"weights_only": False}
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        loaded = torch.load(file.name, map_location="cpu", **options)
    if expected["key"] is not None:
        loaded = loaded[expected["key"]]
    if isinstance(loaded, torch.nn.Module):
        loaded = loaded.state_dict()
    prefix = expected["stripped"]
    found = {k.removeprefix(prefix): v for k, v in loaded.items() if k.startswith(prefix)}
    assert describe(found) == expected["tensors"], name


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True)
    arguments = parser.parse_args()
    os.makedirs(arguments.out, exist_ok=True)
    without_paths()
    expected = {"written_by": f"torch {torch.__version__}", "files": {}}
    for name, data, content in build():
        check(name, data, content)
        with open(os.path.join(arguments.out, name), "wb") as file:
            file.write(data)
        expected["files"][name] = content
    with open(os.path.join(arguments.out, "expected.json"), "w", encoding="utf-8") as file:
        json.dump(expected, file, indent=1)
        file.write("\n")
    print(f"{len(expected['files'])} files by torch {torch.__version__}", file=sys.stderr)


if __name__ == "__main__":
    main()

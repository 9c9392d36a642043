"""Modules of PyTorch built of specs, and loaded from model files: names, shapes, starting values and answers are those of our engine."""

from __future__ import annotations

import copy
import json
import pathlib
import pickle
from typing import Any

import numpy
import pytest
import torch
import torchvision
from images import SETTINGS, squares
from PIL import Image
from torchvision.transforms import functional as transforms

import keepbest
import keepbest.torch
from keepbest import _native, errors

ZOO = (
    "simple-cnn fast default lenet5 resnet18 resnet18-cifar resnet18-imagenet resnet34 resnet34-cifar resnet34-imagenet resnet50 resnet50-cifar "
    "resnet50-imagenet vgg11_bn vgg16_bn mobilenet_v2 mobilenet_v3_small efficientnet_b0 densenet121 convnext_tiny"
).split()


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def lively(module: torch.nn.Module, size: tuple[int, int, int]) -> torch.nn.Module:
    """The module with random statistics and scales, so that none is without effect, and with answers of a few units."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith("running_mean"):
                tensor.normal_(0, 0.1)
            elif name.endswith(("running_var", "layer_scale")):
                tensor.uniform_(0.7, 1.1)
        largest = float(module.eval()(torch.randn(2, *size)).abs().max())
        last = [each for each in module.modules() if isinstance(each, torch.nn.Linear)][-1]
        for tensor in last.parameters():
            tensor.mul_(3.0 / largest)
    return module


def difference(module: torch.nn.Module, path: pathlib.Path) -> float:
    """Of log-probabilities between our engine and PyTorch, on the images of a seed, as a part of the largest."""
    model = keepbest.load(path)
    size = model.preprocessing["input"]
    images = numpy.random.default_rng(0).integers(0, 256, (3, size["height"], size["width"], size["channels"]), dtype=numpy.uint8)
    found = numpy.log(model.predict(images).probabilities.astype("float64"))
    with torch.no_grad():
        expected = module.eval()(keepbest.torch.Transform(model.preprocessing).batch(images)).double().log_softmax(1).numpy()
    return float(numpy.abs(found - expected).max() / numpy.abs(expected).max())


@pytest.mark.parametrize("name", ZOO)
def test_the_state_dict_is_that_of_our_engine(name: str) -> None:
    module = keepbest.torch.build(name, device="meta")
    layout = _native.read_spec(json.dumps(module.spec))[1]
    assert [(key, list(tensor.shape)) for key, tensor in module.state_dict().items()] == [(key, shape) for key, shape, _ in layout]
    trained = [key for key, _, role in layout if role == "trained"]
    assert [key for key, _ in module.named_parameters()] == trained


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "convnext_tiny"])
def test_nothing_goes_to_the_host_and_back(name: str) -> None:
    # There are no numbers to take there.
    module = keepbest.torch.build(name, input=(3, 32, 32), device="meta")
    module(torch.empty(2, 3, 32, 32, device="meta")).sum().backward()


@pytest.mark.parametrize("name", ["default", "resnet18", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny"])
def test_answers_are_those_of_our_engine(name: str, tmp_path: pathlib.Path) -> None:
    size = (1, 28, 28) if name in ("simple-cnn", "default") else (3, 32, 32)
    module = lively(keepbest.torch.build(name, input=size, classes=10), size)
    preprocessing = keepbest.torch.preprocessing(size, mean=[0.4] * size[0], std=[0.25] * size[0])
    path = tmp_path / "model.safetensors"
    keepbest.save(path, module, spec=module.spec, preprocessing=preprocessing, classes=[f"class {label}" for label in range(10)])
    loaded = keepbest.torch.load(path)
    assert not loaded.training and loaded.classes[3] == "class 3" and loaded.spec == module.spec
    assert difference(loaded, path) < 1e-4


@pytest.mark.parametrize("name", ["resnet18-imagenet", "mobilenet_v3_small", "convnext_tiny", "efficientnet_b0", "densenet121"])
def test_starting_values_are_drawn_from_torchvisions_distributions(name: str) -> None:
    ours = keepbest.torch.build(name, input=(3, 224, 224), classes=100).state_dict()
    theirs = torchvision.models.get_model(name.removesuffix("-imagenet"), num_classes=100).state_dict()
    assert list(ours) == list(theirs)
    for key, tensor in theirs.items():
        if tensor.numel() < 2 or not tensor.is_floating_point():
            assert torch.equal(ours[key], tensor)
            continue
        deviation, expected = float(ours[key].std()), float(tensor.std())
        assert abs(deviation - expected) <= 8 * expected / tensor.numel() ** 0.5 + 1e-12, key
        assert abs(float(ours[key].mean() - tensor.mean())) <= 8 * expected / tensor.numel() ** 0.5 + 1e-12, key


MANY: list[dict[str, Any]] = [
    {"op": "conv2d", "name": "a", "out": 8, "kernel": 3, "stride": 2, "padding": "same"},
    {"op": "prelu", "name": "p", "channels": 8},
    {"op": "upsample", "scale": 2, "mode": "bilinear"},
    {"op": "avg_pool2d", "kernel": 3, "stride": 2, "padding": [0, 1, 0, 1], "count_include_pad": False},
    {"op": "max_pool2d", "kernel": 3, "stride": 2, "padding": "same"},
    {"op": "channel_shuffle", "groups": 4},
    {
        "op": "graph",
        "name": "g",
        "nodes": [
            {"id": "one", "layer": {"op": "channel_slice", "start": 0, "end": 4}},
            {"id": "other", "from": ["input"], "layer": {"op": "channel_slice", "start": 4, "end": 8}},
            {"id": "conv", "layer": {"op": "conv2d", "name": "conv", "out": 4, "kernel": [1, 3], "padding": [0, 1]}},
            {"from": ["one", "conv"], "layer": {"op": "mul"}},
        ],
    },
    {"op": "gate", "name": "gate", "body": [{"op": "global_avg_pool2d"}, {"op": "channel_conv1d", "kernel": 3, "name": "eca", "bias": True}, {"op": "sigmoid"}]},
    {"op": "layer_norm2d", "name": "norm"},
    {"op": "gelu", "approximate": "tanh"},
    {"op": "clip", "min": -3.0},
    {"op": "softplus", "beta": 2.0},
    {"op": "blur_pool2d", "kernel": 3, "stride": 1},
    {"op": "scale2d", "name": "scale"},
    {"op": "scalar_affine", "name": "star", "scale_init": 0.5},
    {"op": "pad2d", "top": 1, "mode": "edge"},
    {"op": "crop", "top": 1},
    {"op": "conv_transpose2d", "name": "up", "out": 4, "kernel": 2, "stride": 2},
    {"op": "layer_scale", "name": "gamma", "init": 0.5, "flat": True},
    {"op": "softmax"},
    {"op": "pow", "exponent": 2.0},
    {"op": "affine", "scale": 2.0, "shift": 1.0},
    {"op": "log"},
    {"op": "flatten"},
    {"op": "dropout", "p": 0.1},
    {"op": "linear", "name": "fc", "out": 5},
]


def test_a_network_of_many_layers(tmp_path: pathlib.Path) -> None:
    size = (3, 16, 16)
    spec = {"version": 3, "name": "many", "input": {"channels": 3, "height": 16, "width": 16}, "classes": 5, "layers": MANY}
    module = lively(keepbest.torch.build(spec), size)
    path = tmp_path / "model.safetensors"
    keepbest.save(path, module, spec=spec, preprocessing=keepbest.torch.preprocessing(size))
    assert difference(module, path) < 1e-4
    said = keepbest.torch.spec_of(module, torch.randn(2, *size))
    assert sorted(keepbest.torch.build(said).state_dict()) == sorted(module.state_dict())

    images = torch.randn(2, *size)
    expected = module(images)
    copied, pickled = copy.deepcopy(module), pickle.loads(pickle.dumps(module))
    for form in (copied, pickled):
        assert torch.equal(form(images), expected) and form.spec == module.spec and form.classes == []
    assert torch.equal(torch.jit.script(module)(images), expected)
    assert torch.equal(torch.export.export(module, (images,)).module()(images), expected)
    last = copied.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected)
    module.fc = torch.nn.Linear(module.fc.in_features, 7)
    assert module(images).shape == (2, 7)


def test_stochastic_depth_zeroes_images_and_scales_the_rest() -> None:
    spec = {"version": 2, "name": "x", "input": {"channels": 1, "height": 4, "width": 4}, "classes": 16}
    head = {"op": "linear", "name": "fc", "out": 16, "bias": False}
    module = keepbest.torch.build({**spec, "layers": [{"op": "stochastic_depth", "p": 0.25}, {"op": "flatten"}, head]})
    module.load_state_dict({"fc.weight": torch.eye(16)})
    images = torch.ones(4000, 1, 4, 4)
    found = module(images)
    assert found.unique().tolist() == [0.0, pytest.approx(1 / 0.75)]
    assert all(len(set(row.tolist())) == 1 for row in found[:50]) and 0.22 < float((found[:, 0] == 0).float().mean()) < 0.28
    assert torch.equal(module.eval()(images), images.flatten(1))


def test_a_trained_model_and_a_file_of_weights(tmp_path: pathlib.Path) -> None:
    result = keepbest.train(squares(), runs_dir=tmp_path, name="a", **SETTINGS)
    module = keepbest.torch.load(result.run)
    images, _ = squares(20, seed=3)
    with torch.no_grad():
        probabilities = module(module.transform.batch(images)).softmax(1).numpy()
    numpy.testing.assert_allclose(probabilities, result.load().predict(images).probabilities, atol=1e-4)
    assert module.classes == result.load().classes
    keepbest.save(tmp_path / "weights.safetensors", module)
    with pytest.raises(errors.NoNetwork, match="network="):
        keepbest.torch.load(tmp_path / "weights.safetensors")
    with pytest.raises(errors.ModelDamaged, match="not of its network"):
        keepbest.torch.load(tmp_path / "weights.safetensors", network="resnet18")
    again = keepbest.torch.build(result.run)
    assert list(again.state_dict()) == list(module.state_dict())


def by_hand(image: Image.Image, preprocessing: dict[str, Any]) -> torch.Tensor:
    """What Pillow and torchvision make of an image, the width before the height."""
    channels, height, width = (preprocessing["input"][key] for key in ("channels", "height", "width"))
    image = image.convert("RGB" if channels == 3 else "L")
    if (image.height, image.width) != (height, width) or "shorter_side" in preprocessing:
        to = (height, width)
        if preprocessing["resize"] == "crop":
            side = preprocessing.get("shorter_side")
            wanted = (side, side) if side else to
            if wanted[0] * image.width >= wanted[1] * image.height:
                to = (wanted[0], wanted[0] * image.width // image.height)
            else:
                to = (wanted[1] * image.height // image.width, wanted[1])
        image = image.resize((to[1], image.height), Image.Resampling.BILINEAR).resize((to[1], to[0]), Image.Resampling.BILINEAR)
        image = transforms.center_crop(image, [height, width])
    return transforms.normalize(transforms.to_tensor(image), preprocessing["mean"], preprocessing["std"])


@pytest.mark.parametrize(
    "options", [{"resize": "exact"}, {"resize": "crop"}, {"resize": "crop", "shorter_side": 40}], ids=["exact", "crop", "shorter side"]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_transform_is_to_the_bit(options: dict[str, Any], channels: int) -> None:
    mean, std = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]) if channels == 3 else ([0.45], [0.22])
    preprocessing = keepbest.torch.preprocessing((channels, 32, 28), mean=mean, std=std, **options)
    transform = pickle.loads(pickle.dumps(keepbest.torch.Transform(preprocessing)))
    random = numpy.random.default_rng(1)
    for shape in [(50, 71, 3), (20, 90, 3), (33, 28, 3), (32, 28, 3), (90, 20)]:
        pixels = random.integers(0, 256, shape, dtype=numpy.uint8)
        expected = by_hand(Image.fromarray(pixels), preprocessing)
        tensor = torch.from_numpy(pixels if pixels.ndim == 3 else pixels[:, :, None]).permute(2, 0, 1)
        for form in (Image.fromarray(pixels), pixels, tensor):
            found = transform(form)
            assert found.shape == (channels, 32, 28) and torch.equal(found, expected), shape
    assert torch.equal(transform.batch(random.integers(0, 256, (0, 32, 28), dtype=numpy.uint8)), torch.empty(0, channels, 32, 28))


def test_what_a_transform_refuses() -> None:
    plain = keepbest.torch.preprocessing((3, 8, 8))
    large = numpy.zeros((9, 9, 3), numpy.uint8)
    with pytest.raises(errors.CannotPredict, match="image 0.*9x9x3"):
        keepbest.torch.Transform(plain, strict=True)(large)
    with pytest.warns(errors.Caution, match="8x8x3 alone"):
        assert keepbest.torch.Transform(plain)(large).shape == (3, 8, 8)
    with pytest.raises(errors.InvalidData, match=r"float32\[3, 8, 8\], not uint8"):
        keepbest.torch.Transform(plain)(torch.zeros(3, 8, 8))
    with pytest.raises(errors.InvalidPreprocessing, match="std"):
        keepbest.torch.preprocessing((3, 8, 8), std=[0.0, 1.0, 1.0])
    with pytest.raises(errors.InvalidPreprocessing, match="scale"):
        keepbest.torch.Transform({"scale": 3})


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("resnet19", "did you mean resnet18"),
        ({"version": 2, "layers": [{"op": "conv3d"}]}, "unknown op `conv3d`"),
        ({"version": 99}, "version 99"),
        ({"version": 2, "x": object()}, "JSON"),
    ],
)
def test_what_is_no_spec(spec: Any, told: str) -> None:
    with pytest.raises(errors.InvalidSpec, match=told):
        keepbest.torch.build(spec)

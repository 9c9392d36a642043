"""Specs of modules of PyTorch: what they do is said, with their names, or named as what cannot be said; and a keeper saves them as full models."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
import torch.nn.functional as F
import torchvision
from images import squares
from PIL import Image
from test_torch_modules import difference, lively
from torch import nn

import keepbest
import keepbest.torch
from keepbest import errors

CLASSES = 4


class Net(nn.Module):
    """A stem, what is tried, and a head."""

    def __init__(self, middle: Callable[[nn.Module, torch.Tensor], torch.Tensor], **parts: Any) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Linear(8, CLASSES)
        self.middle = middle
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.middle(self, F.relu(self.stem(x))).mean([2, 3]))


def conv(out: int = 8, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(8, out, 3, padding=1, **options)


def gated(net: Any, x: torch.Tensor) -> torch.Tensor:
    y = x.mean((2, 3), keepdim=True)
    return x * torch.sigmoid(net.expand(F.silu(net.squeeze(y))))


def gated_by_vectors(net: Any, x: torch.Tensor) -> torch.Tensor:
    y = F.adaptive_avg_pool2d(x, 1).view(x.shape[0], -1)
    return x * net.b(net.a(y).relu()).sigmoid().view(x.shape[0], -1, 1, 1)


def next_block(net: Any, x: torch.Tensor) -> torch.Tensor:
    y = net.norm(net.depthwise(x).permute(0, 2, 3, 1))
    return x + (net.scale.view(-1, 1, 1) * net.b(F.gelu(net.a(y))).permute(0, 3, 1, 2))


def densely(net: Any, x: torch.Tensor) -> torch.Tensor:
    found = [x]
    for layer in (net.a, net.b):
        found.append(layer(torch.cat(found, 1)))
    return net.c(torch.cat(found, 1))


def split(net: Any, x: torch.Tensor) -> torch.Tensor:
    a, b = x.chunk(2, dim=1)
    return torch.cat([a, net.a(b) * 2 - 1], dim=1)


def multiplied(net: Any, x: torch.Tensor) -> torch.Tensor:
    return F.hardswish(net.a(x)) * F.relu6(net.b(x)) / 3 + net.c(x[:, :, ::1, ::1])


def stochastic(net: Any, x: torch.Tensor) -> torch.Tensor:
    return x + net.drop(net.a(x))


IDIOMS: dict[str, tuple[Net, str]] = {
    "squeeze and excitation": (Net(gated, squeeze=nn.Conv2d(8, 2, 1), expand=nn.Conv2d(2, 8, 1)), "gate"),
    "the same by linear layers": (Net(gated_by_vectors, a=nn.Linear(8, 2), b=nn.Linear(2, 8)), "gate"),
    "residual": (Net(lambda net, x: net.a(x) + x, a=conv()), "residual"),
    "residual of two": (Net(lambda net, x: F.relu(net.a(x).relu() + net.b(x)), a=conv(), b=nn.Conv2d(8, 8, 1)), "residual"),
    "stochastic depth": (Net(stochastic, a=conv(), drop=torchvision.ops.StochasticDepth(0.2, "row")), "stochastic_depth"),
    "ConvNeXt": (
        Net(
            next_block,
            depthwise=conv(groups=8),
            norm=nn.LayerNorm(8, eps=1e-6),
            a=nn.Linear(8, 16),
            b=nn.Linear(16, 8),
            scale=nn.Parameter(torch.rand(8, 1, 1)),
        ),
        "layer_norm2d",
    ),
    "channels joined": (Net(densely, a=conv(), b=nn.Conv2d(16, 8, 1), c=nn.Conv2d(24, 8, 1)), "branch"),
    "norms and pools": (
        Net(lambda net, x: F.avg_pool2d(F.max_pool2d(net.b(net.a(x)), 3, 2, 1), 2), a=nn.BatchNorm2d(8), b=nn.GroupNorm(2, 8)),
        "group_norm",
    ),
    "dropout": (Net(lambda net, x: net.drop(x), drop=nn.Dropout(0.3)), "dropout"),
}


@pytest.fixture(autouse=True)
def _repeatable() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("idiom", IDIOMS)
def test_idioms_become_blocks(idiom: str, tmp_path: pathlib.Path) -> None:
    net, op = IDIOMS[idiom]
    lively(net, (3, 12, 12)).train()
    spec = keepbest.torch.spec_of(net, torch.randn(2, 3, 12, 12))
    assert f'"{op}"' in json.dumps(spec) and '"graph"' not in json.dumps(spec)
    assert net.training and net.stem.training
    built = keepbest.torch.build(spec)
    names = {name for name in net.state_dict() if not name.endswith("num_batches_tracked")}
    assert names == {name for name in built.state_dict() if not name.endswith("num_batches_tracked")}
    path = tmp_path / "model.safetensors"
    keepbest.save(path, net, spec=spec, preprocessing=keepbest.torch.preprocessing((3, 12, 12)))
    assert difference(net, path) < 1e-4


@pytest.mark.parametrize(
    "name", ["mobilenet_v3_small", "squeezenet1_1", "shufflenet_v2_x0_5", "mnasnet0_5"]
)
def test_networks_of_torchvision(name: str, tmp_path: pathlib.Path) -> None:
    net = torchvision.models.get_model(name, weights=None, num_classes=5)
    with torch.no_grad():
        for key, tensor in net.state_dict().items():
            if key.endswith("running_var"):
                tensor.uniform_(0.7, 1.1)
    spec = keepbest.torch.spec_of(net, torch.randn(1, 3, 64, 64), name=name)
    assert spec["name"] == name and spec["classes"] == 5 and spec["input"] == {"channels": 3, "height": 64, "width": 64}
    path = tmp_path / "model.safetensors"
    keepbest.save(path, net, spec=spec, preprocessing=keepbest.torch.preprocessing((3, 64, 64)))
    assert difference(net, path) < 1e-4


def test_everything_that_cannot_be_said_is_named() -> None:
    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens = x.flatten(2).transpose(1, 2)
            return F.scaled_dot_product_attention(tokens, tokens, tokens).transpose(1, 2).view(x.shape)

    net = Net(lambda net, x: net.b(F.fold(F.unfold(net.a(x), 1), (6, 6), 1)) + x.cumsum(1), a=Attention(), b=conv())
    with pytest.raises(keepbest.torch.CannotDescribe) as raised:
        keepbest.torch.spec_of(net, torch.randn(2, 3, 6, 6))
    named = {(item.path, item.kind) for item in raised.value.layers}
    assert {("a", "scaled_dot_product_attention"), ("", "unfold"), ("", "fold"), ("", "cumsum")} <= named
    assert "a: scaled_dot_product_attention: there is no layer that does it" in str(raised.value)


def test_what_was_not_seen_is_found_by_running_both() -> None:
    def middle(net: Any, x: torch.Tensor) -> torch.Tensor:
        found = net.a(x)
        found.data.numpy()[...] += 1.0  # no function of PyTorch
        return found

    with pytest.raises(keepbest.torch.CannotDescribe, match="differ by"):
        keepbest.torch.spec_of(Net(middle, a=conv()), torch.randn(2, 3, 6, 6))


@pytest.mark.parametrize(
    ("net", "told"),
    [
        (Net(lambda net, x: net.a(net.a(x)), a=conv()), "a.weight is used more than once"),
        (Net(lambda net, x: x * net.odd, odd=nn.Parameter(torch.ones(1, 8, 1, 1))), "odd has the shape"),
        (Net(lambda net, x: x.flip(2)), "flip"),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), r"gives \[2, 4, 4, 4\], not one tensor \[n, classes\]"),
    ],
)
def test_what_cannot_be_said(net: nn.Module, told: str) -> None:
    with pytest.raises(keepbest.torch.CannotDescribe, match=told):
        keepbest.torch.spec_of(net, torch.randn(2, 3, 6, 6))


class Shallow(nn.Module):
    """A network that only this program has, with an output that only training uses."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.out, self.auxiliary = nn.Linear(4 * 64, 2), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> Any:
        x = F.max_pool2d(F.relu(self.norm(self.conv(x))), 2)
        out = self.out(x.flatten(1))
        return (out, self.auxiliary(x.mean([2, 3]))) if self.training else out


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "keepbest", *arguments], capture_output=True, text=True, timeout=120)


def test_a_loop_saves_models_that_open_without_it(tmp_path: pathlib.Path) -> None:
    images, labels = squares(160)
    preprocessing = keepbest.torch.preprocessing((1, 16, 16), mean=[0.4], std=[0.3])
    transform, classes = keepbest.torch.Transform(preprocessing), ["left", "right"]
    x, y = transform.batch(images), torch.from_numpy(labels)
    model = Shallow()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    run = tmp_path / "run"
    spec = keepbest.torch.spec_of(model, x[:2])
    with keepbest.Keeper(run, "val/accuracy", spec=spec, classes=classes, preprocessing=preprocessing) as keeper:
        for epoch in range(3):
            model.train()
            for at in range(0, 160, 16):
                out, auxiliary = model(x[at : at + 16])
                loss = F.cross_entropy(out, y[at : at + 16]) + 0.1 * F.cross_entropy(auxiliary, y[at : at + 16])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                accuracy = float((model.eval()(x).argmax(1) == y).float().mean())
            keeper.offer(model, {"val/accuracy": accuracy}, epoch=epoch, optimizer=optimizer)
    assert keeper.best is not None and keeper.best.score == 1.0

    data, answered = tmp_path / "data", []
    for name in classes:
        (data / name).mkdir(parents=True)
    for at, (image, label) in enumerate(zip(*squares(20, seed=5), strict=True)):
        Image.fromarray(image).save(data / classes[label] / f"{at}.png")
    done = command("predict", str(run), str(data), "--json")
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        found = json.loads(line)
        answered.append(f"/{found['label']}/" in json.dumps(found).replace("\\\\", "/"))
    assert len(answered) == 20 and all(answered)
    done = command("evaluate", str(run), "--data", str(data), "--split", "all", "--json")
    assert done.returncode == 0, done.stderr
    assert next(value for name, value in json.loads(done.stdout)["metrics"].items() if name.endswith("accuracy")) == 1.0
    assert command("verify", str(run), "--digest-only").returncode == 0

    loaded = keepbest.torch.load(run)
    with torch.no_grad():
        torch.testing.assert_close(loaded(loaded.transform.batch(images)), _best(run)(x), atol=1e-4, rtol=1e-4)
    assert loaded.classes == classes

    # What evaluation does not use goes on, too.
    again = Shallow()
    resumed = keepbest.Keeper.resume(run, model=again, optimizer=torch.optim.Adam(again.parameters()))
    assert torch.equal(again.auxiliary.weight, model.auxiliary.weight) and torch.equal(again.out.weight, model.out.weight)
    resumed.offer(again, {"val/accuracy": 0.5})
    with pytest.raises(errors.CannotStore, match="conv.weight F32"):
        resumed.offer({"fc.weight": numpy.zeros((2, 2), "float32")}, {"val/accuracy": 2.0})
    resumed.close()


def _best(run: pathlib.Path) -> nn.Module:
    model = Shallow().eval()
    model.load_state_dict(keepbest.load(run).state_dict())
    return model


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"classes": ["a", "b", "c"]}, errors.InvalidOption, "2 classes, 3 are named"),
        ({"preprocessing": {"scale": 2}}, errors.InvalidPreprocessing, "scale"),
        ({"preprocessing": keepbest.torch.preprocessing((1, 8, 8))}, errors.InvalidOption, "the preprocessing gives"),
        ({"save_weights_only": True}, errors.InvalidOption, "spec is for full models"),
    ],
)
def test_what_does_not_go_with_a_spec(options: dict[str, Any], error: type[Exception], told: str, run: str) -> None:
    spec = keepbest.torch.build("lenet5", input=(1, 16, 16), classes=2, device="meta").spec
    with pytest.raises(error, match=told):
        keepbest.Keeper(run, "val/accuracy", spec=spec, **options)

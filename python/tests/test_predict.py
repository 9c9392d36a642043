"""A model that answers in Python: the same as the command, for any form of image, from any number of threads."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import threading
import time
from typing import Any

import numpy
import pytest
from images import SETTINGS, squares
from PIL import Image

import keepbest
from keepbest import errors
from keepbest._images import parts


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run that has learnt which side is bright."""
    runs = tmp_path_factory.mktemp("runs")
    data = {"train": squares(240), "classes": ["left", "right"]}
    return keepbest.train(data, runs_dir=runs, name="a", **{**SETTINGS, "epochs": 4}).run


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "keepbest", *arguments], capture_output=True, text=True, timeout=120)


def saved(images: numpy.ndarray, folder: pathlib.Path) -> list[str]:
    paths = [str(folder / f"{at}.png") for at in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    return paths


def test_answers_are_those_of_the_command(run: str, tmp_path: pathlib.Path) -> None:
    images, _ = squares(20, seed=3)
    paths = saved(images, tmp_path)
    found = keepbest.load(run).predict(paths)
    told = [json.loads(line) for line in command("predict", run, *paths, "--top-k", "2", "--json").stdout.splitlines()]
    assert found.labels == [it["label"] for it in told]
    assert found.classes == ["left", "right"] and len(found) == 20
    assert found.probabilities.dtype == numpy.float32 and found.probabilities.shape == (20, 2)
    wanted = [[next(of["probability"] for of in it["top"] if of["class"] == c) for c in (0, 1)] for it in told]
    numpy.testing.assert_array_equal(found.probabilities, numpy.array(wanted, "float32"))
    assert found.indices.dtype == numpy.int64 and [found.classes[i] for i in found.indices] == found.labels


@pytest.mark.filterwarnings("ignore:images were converted")
def test_every_form_of_image_gives_the_same(run: str, tmp_path: pathlib.Path) -> None:
    model = keepbest.load(run)
    images, labels = squares(9, seed=3)
    wanted = model.predict(images)
    assert list(wanted.indices) == list(labels), "it has learnt it"
    paths = saved(images, tmp_path)
    pictures = [Image.fromarray(image) for image in images]
    mixed: list[Any] = [paths[0], pictures[1], *images[2:8], pathlib.Path(paths[8])]
    for form in (
        images[..., None],
        list(images),
        iter(images),
        paths,
        tmp_path,
        pictures,
        mixed,
        numpy.asfortranarray(images),
        [picture.convert("P") for picture in pictures],
        [picture.convert("LA") for picture in pictures],
    ):
        found = model.predict(form, batch_size=4)
        numpy.testing.assert_array_equal(found.probabilities, wanted.probabilities)
    one = model.predict(images[0])
    assert len(one) == len(model.predict(pictures[0])) == len(model.predict(paths[0])) == 1
    none = model.predict([])
    assert len(none) == 0 and none.probabilities.shape == (0, 2)
    import torch

    numpy.testing.assert_array_equal(model.predict(torch.from_numpy(images)).probabilities, wanted.probabilities)


def test_many_images_are_handed_over_in_parts(run: str) -> None:
    model = keepbest.load(run)
    images, labels = squares(9001, seed=4)
    found = model.predict(images)
    assert len(found) == 9001 and (found.indices == labels).mean() > 0.99
    numpy.testing.assert_array_equal(found.probabilities[9000:], model.predict(images[9000:]).probabilities)


def test_images_unlike_all_that_were_seen_are_converted_with_a_warning_or_refused(run: str) -> None:
    model = keepbest.load(run)
    large = squares(4)[0].repeat(2, axis=1).repeat(2, axis=2)
    with pytest.warns(errors.Caution, match="16x16x1 alone.*strict=True refuses"):
        assert len(model.predict(large)) == 4
    with pytest.raises(errors.CannotPredict, match="image 0") as raised:
        model.predict(large, strict=True)
    assert raised.value.image == "image 0"


@pytest.mark.parametrize(
    ("images", "error", "told"),
    [
        (squares(2)[0] / 255.0, errors.InvalidData, r"float64, not uint8.*\(x \* 255\)"),
        (numpy.zeros((2, 3, 4, 5, 6), "uint8"), errors.InvalidData, r"\[2, 3, 4, 5, 6\]"),
        ([numpy.zeros((2, 16, 16), "uint8")], errors.InvalidData, "image 0 is"),
        (["nothing.png"], errors.CannotRead, "nothing.png"),
        ([__file__], errors.CannotRead, "test_predict.py"),
        (3, errors.InvalidData, "images is a int"),
        ([None], errors.InvalidData, "image 0 is a NoneType"),
        ([squares(1)[0][0], {}], errors.InvalidData, "image 1 is a dict"),
        (numpy.zeros((0, 16), "uint8"), errors.InvalidData, r"\[0, 16\]"),
        (Image.new("F", (16, 16)), errors.InvalidData, "mode F"),
    ],
)
def test_what_is_no_image(run: str, images: Any, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        keepbest.load(run).predict(images)


def test_threads_get_the_same_bits_and_none_waits_for_ever(run: str) -> None:
    model = keepbest.load(run)
    batches = [squares(40, seed=seed)[0] for seed in range(8)]
    wanted = [model.predict(batch).probabilities.tobytes() for batch in batches]
    found: list[list[bytes]] = [[] for _ in batches]

    def ask(at: int) -> None:
        for _ in range(10):
            found[at].append(model.predict(batches[at], threads=1 + at % 2).probabilities.tobytes())

    threads = [threading.Thread(target=ask, args=(at,), daemon=True) for at in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert found == [[bits] * 10 for bits in wanted]


def test_arrays_may_change_once_they_are_handed_over(run: str) -> None:
    model = keepbest.load(run)
    images, _ = squares(400, seed=5)
    wanted = model.predict(images).probabilities
    own = images.copy()
    inputs = [part for part in parts(own)]
    own[...] = 0
    predictor = model._predictor(None, False, 64, None)
    found = numpy.frombuffer(predictor.rate(inputs[0])[0], "float32").reshape(wanted.shape)
    numpy.testing.assert_array_equal(found, wanted)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_can_ask(run: str) -> None:
    model = keepbest.load(run)
    images, _ = squares(40, seed=5)
    wanted = model.predict(images, threads=2).probabilities
    child = os.fork()
    if child == 0:
        same = (model.predict(images, threads=2).probabilities == wanted).all()
        del model
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_thresholds_decide(tmp_path: pathlib.Path) -> None:
    images, labels = squares(240)
    labels = labels.copy()
    # A third of the left ones are called right: what is right pays from a low probability on.
    labels[::6] = 1
    result = keepbest.train((images, labels), runs_dir=tmp_path, thresholds="f1_macro", **{**SETTINGS, "epochs": 3})
    model = result.load()
    found = model.predict(images)
    paths = saved(images[:20], tmp_path)
    told = [json.loads(line)["label"] for line in command("predict", result.run, *paths, "--json").stdout.splitlines()]
    assert found.labels[:20] == told


def test_evaluate_is_that_of_the_command(run: str, tmp_path: pathlib.Path) -> None:
    images, labels = squares(60, seed=6)
    model = keepbest.load(run)
    data = {"train": (images, labels), "classes": ["left", "right"]}
    report = model.evaluate(data)
    assert report["metrics"]["all/accuracy"] == (model.predict(images).indices == labels).mean()
    assert numpy.array(report["confusion"]).sum() == report["images"] == 60
    numpy.savez(tmp_path / "x.npz", x_train=images, y_train=labels)
    (tmp_path / "classes.txt").write_text("left\nright\n")
    told = json.loads(command("evaluate", run, "--data", str(tmp_path / "x.npz"), "--json").stdout)
    assert told["metrics"] == report["metrics"]
    with pytest.raises(errors.InvalidData, match="say where it lies now: data"):
        model.evaluate()
    with pytest.raises(errors.InvalidOption, match='split is "best"'):
        model.evaluate(data, "best")


def test_weights_without_a_network_say_so(run: str, tmp_path: pathlib.Path) -> None:
    own = str(tmp_path / "own")
    with keepbest.Keeper(own, "val/accuracy", preprocessing={"mean": 3}, provenance={"who": "me"}) as keeper:
        keeper.offer({"w": numpy.zeros(3, "float32")}, {"val/accuracy": 0.5})
    model = keepbest.load(own)
    for ask in (lambda: model.predict(squares(1)[0]), lambda: model.evaluate(squares(1))):
        with pytest.raises(errors.NoNetwork, match=r"kept by a loop in Python.*state_dict\(\)") as raised:
            ask()
        assert raised.value.path == f"{own}/best.safetensors"
    with pytest.raises(errors.CannotPredict, match="does not fit lenet5"):
        model.predict(squares(1)[0], network="lenet5")
    with pytest.raises(errors.InvalidOption, match="lenet6"):
        model.predict(squares(1)[0], network="lenet6")


def test_a_network_of_ours_that_a_loop_trained_answers_by_its_name(run: str, tmp_path: pathlib.Path) -> None:
    trained = keepbest.load(run)
    own = str(tmp_path / "own")
    with keepbest.Keeper(own, "val/accuracy", classes=trained.classes, preprocessing=trained.preprocessing) as keeper:
        keeper.offer(trained.state_dict("numpy"), {"val/accuracy": 0.5})
    model = keepbest.load(own)
    images, _ = squares(20, seed=3)
    with pytest.raises(errors.NoNetwork, match="network=NAME uses it"):
        model.predict(images)
    found = model.predict(images, network="lenet5")
    numpy.testing.assert_array_equal(found.probabilities, trained.predict(images).probabilities)
    assert found.classes == ["left", "right"]


def test_a_model_stays_itself_when_best_moves_on(tmp_path: pathlib.Path) -> None:
    images, _ = squares(20, seed=3)
    models, answers = [], []

    def evaluated(evaluation: keepbest.Evaluation) -> None:
        if evaluation.epoch == 1:
            # It is saved in the background.
            until = time.monotonic() + 30
            while not os.path.exists(tmp_path / "a/best.safetensors") and time.monotonic() < until:
                time.sleep(0.01)
            models.append(keepbest.load(tmp_path / "a"))
            answers.append(models[0].digest)

    result = keepbest.train(
        squares(), runs_dir=tmp_path, name="a", monitor="train/loss", mode="min", on_evaluation=evaluated,
        **{**SETTINGS, "epochs": 5},
    )
    assert result.best is not None and result.best.digest != answers[0]
    first, last = models[0].predict(images), result.load().predict(images)
    assert (first.probabilities != last.probabilities).any() and models[0].digest == answers[0]

"""Keras 3 on torch and JAX: each backend in a process of its own, since it is chosen at import."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

CODE = """
    import math, os, sys
    import keras, numpy
    import keepbest
    from keepbest.keras import KeepBest

    run = sys.argv[1]
    x = numpy.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    y = (x.sum(1) > 0).astype("float32")

    def model():
        # Layers are named as in a new process, which numbers them anew.
        keras.utils.clear_session()
        keras.utils.set_random_seed(0)
        m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)])
        m.compile(optimizer="adam", loss=keras.losses.BinaryCrossentropy(from_logits=True))
        return m

    class Says(keras.callbacks.Callback):
        "Puts a metric into the logs, before the callbacks after it."
        def __init__(self, values): super().__init__(); self.values = values
        def on_epoch_end(self, epoch, logs=None): logs["val_accuracy"] = self.values[epoch]

    values = [0.5, 0.9, math.nan, 0.6, 0.7, 0.8]
    fit = dict(batch_size=16, verbose=0, shuffle=False)

    undisturbed = model()
    undisturbed.fit(x, y, epochs=6, callbacks=[Says(values), KeepBest(run + "-undisturbed", "val_accuracy")], **fit)

    # Keras itself keeps the NaN for good if it comes first, and forgets the best when it goes on: ours does neither.
    first = model()
    callback = KeepBest(run, "val_accuracy")
    first.fit(x, y, epochs=3, callbacks=[Says(values), callback], **fit)
    best_weights = keepbest.load(run).state_dict("numpy")
    assert keepbest.load(run).epoch == 1

    second = model()
    callback = KeepBest(run, "val_accuracy", load_best=True)
    assert callback.next_epoch == 3
    second.fit(x, y, epochs=6, initial_epoch=3, callbacks=[Says(values), callback], **fit)
    assert keepbest.load(run).epoch == 1, "0.8 after the resume is worse than 0.9 before it"
    assert callback.summary.evaluations == 6
    for variable in second.variables:
        numpy.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), best_weights[variable.path])
    last, wanted = keepbest.load(run + "@last"), keepbest.load(run + "-undisturbed@last")
    assert last.digest == wanted.digest, "the resumed fit ends with the same bits"

    # A second fit with the same callback goes on; a cell that was interrupted and is run again takes its run over.
    summary = callback.summary
    more = Says([*values, 0.91, 0.95])
    second.fit(x, y, epochs=8, initial_epoch=callback.next_epoch, callbacks=[more, callback], **fit)
    assert keepbest.load(run).epoch == 7 and callback.next_epoch == 8 and callback.summary is not summary
    held = KeepBest(run + "-cell", "val_accuracy")
    again = KeepBest(run + "-cell", "val_accuracy", strict=True)
    assert again.keeper is not held.keeper
    again.keeper.close()
    try:
        KeepBest(run, "val_loss")
        raise SystemExit("another objective was taken")
    except keepbest.errors.ObjectiveDiffers as error:
        assert "val_accuracy" in str(error)

    # In one process the layers of another model have other names: the error names the way.
    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)])
    other.compile(optimizer="adam", loss="mse")
    try:
        other.fit(x, y, epochs=7, initial_epoch=6, callbacks=[KeepBest(run, "val_accuracy")], **fit)
        raise SystemExit("other names were taken")
    except keepbest.KeepbestError as error:
        assert "shapes and order are the same" in str(error) and "keras.utils.clear_session()" in str(error), error
    print("kept on", keras.backend.backend())
"""


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_fit_resume_and_restore(run: str, backend: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CODE), run],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and f"kept on {backend}" in done.stdout, done.stderr

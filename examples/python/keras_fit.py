"""A fit of Keras, on torch.

usage: keras_fit.py RUN
"""

import os
import sys

os.environ.setdefault("KERAS_BACKEND", "torch")
import keras
import numpy as np

import keepbest
from keepbest.keras import KeepBest

keras.utils.set_random_seed(0)
x = np.random.default_rng(0).normal(size=(256, 8, 8, 1)).astype("float32")
y = (x.mean((1, 2, 3)) > 0).astype("int32")
model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3), keras.layers.Flatten(), keras.layers.Dense(2)])
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
callback = KeepBest(sys.argv[1], monitor="val_accuracy", load_best=True)
model.fit(x, y, validation_split=0.25, epochs=3, initial_epoch=callback.next_epoch, verbose=0, callbacks=[callback])
best = keepbest.load(sys.argv[1])
print(f"best: epoch {best.epoch}, {best.metrics}")

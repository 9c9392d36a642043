"""The smallest loop: a linear model in numpy.

usage: numpy_loop.py RUN
"""

import sys

import numpy as np

import keepbest

generator = np.random.default_rng(0)
x, truth = generator.normal(size=(200, 5)), np.array([1.0, -2.0, 0.5, 0.0, 3.0])
y = x @ truth + generator.normal(size=200)
weights = {"w": np.zeros(5)}

with keepbest.Keeper(sys.argv[1], monitor="val/loss", patience=3) as keeper:
    for epoch in range(50):
        weights["w"] -= 0.1 * x[:150].T @ (x[:150] @ weights["w"] - y[:150]) / 150
        loss = np.mean((x[150:] @ weights["w"] - y[150:]) ** 2)
        verdict = keeper.offer(weights, {"val/loss": loss}, epoch=epoch)
        if keeper.should_stop:
            break

best = keepbest.load(sys.argv[1])
print(f"epoch {best.epoch} of {epoch + 1}, val/loss {best.metrics['val/loss']:.4f}: {best.path}")

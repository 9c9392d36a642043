"""keepbest's own engine on arrays: train, look at what came out, train on.

usage: train.py RUN
"""

import os
import sys

import numpy as np

import keepbest

runs, name = os.path.split(os.path.abspath(sys.argv[1]))

# Which side of a noisy square is bright.
generator = np.random.default_rng(0)
labels = np.array(["left", "right"])[np.arange(400) % 2]
images = generator.integers(0, 120, (400, 28, 28), dtype=np.uint8)
images[labels == "left", :, :14] += 60
images[labels == "right", :, 14:] += 60


def evaluated(evaluation: keepbest.Evaluation) -> None:
    if evaluation.improved:
        print(f"epoch {evaluation.epoch}: {evaluation.reason}")


result = keepbest.train(
    (images, labels), model="lenet5", epochs=3, runs_dir=runs, name=name, progress=False, on_evaluation=evaluated
)
print(result)

# Longer than planned. A run on arrays needs them again: their fingerprints prove that they are the same.
result = keepbest.train((images, labels), resume=result.run, epochs=4, progress=False)
print(f"{len(result.history)} evaluations, best of epoch {result.best.epoch}, test/accuracy {result.test['test/accuracy']:.4f}")

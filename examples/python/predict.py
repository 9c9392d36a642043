"""A trained model is asked in Python, from several threads.

usage: predict.py RUN      a run of `keepbest train`; where there is none, a short one is trained
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import keepbest

if not os.path.exists(sys.argv[1]):
    runs, name = os.path.split(os.path.abspath(sys.argv[1]))
    keepbest.train("fashion-mnist-mini", model="lenet5", epochs=1, runs_dir=runs, name=name, progress=False)

model = keepbest.load(sys.argv[1])
print(f"{model.path}: epoch {model.epoch}, val/accuracy {model.metrics['val/accuracy']:.4f}")

side = model.preprocessing["input"]
images = np.random.default_rng(0).integers(0, 256, (256, side["height"], side["width"], side["channels"]), dtype=np.uint8)
with ThreadPoolExecutor(4) as pool:
    answers = list(pool.map(model.predict, np.split(images, 8)))  # the same bits as one after the other
print(answers[0].labels[:3], answers[0].probabilities.shape, answers[0].probabilities.dtype)

report = model.evaluate()
low, high = (report["intervals"]["test/accuracy"][end] for end in ("low", "high"))
print(f"test/accuracy {report['metrics']['test/accuracy']:.4f} ({low:.4f} to {high:.4f})")

"""Writes sklearn_metrics.json: inputs and scikit-learn's values of every classification metric.

    python sklearn_metrics.py [--out DIR]

Needs numpy and scikit-learn (written with 1.9). The same versions write the same bytes. The inputs are whole numbers:
the probability of a class is its weight over the sum of the row, one IEEE division, so that Rust reads the very same
doubles. With "single" the quotient is rounded to float32; with "logits" the numbers are eighths of logits.
"""

import argparse
import json
import pathlib
import warnings

import numpy as np
import sklearn
from sklearn import metrics as sk

TOP_K = (1, 2, 3, 5)
BETAS = (0.5, 2.0)


def probabilities(case):
    numbers = np.asarray(case["numbers"], dtype=np.float64)
    if case["kind"] == "logits":
        logits = numbers / 8
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)
    p = numbers / numbers.sum(axis=1, keepdims=True)
    return p.astype(np.float32).astype(np.float64) if case["kind"] == "single" else p


def calibration(y, p, bins):
    """Expected calibration error with equal-width bins: Guo et al. 2017, section 2."""
    confidence, correct = p.max(axis=1), p.argmax(axis=1) == y
    edges = np.arange(bins + 1) / bins
    error, table = 0.0, []
    for low, high in zip(edges[:-1], edges[1:]):
        inside = (confidence > low) & (confidence <= high)
        count = int(inside.sum())
        mean = float(confidence[inside].mean()) if count else 0.0
        if count:
            error += count / len(y) * abs(correct[inside].mean() - mean)
        table.append([count, int(correct[inside].sum()), mean])
    return float(error), table


def expected(case):
    y, k = np.asarray(case["labels"]), case["classes"]
    p = probabilities(case)
    prediction, every = p.argmax(axis=1), np.arange(k)
    one_hot = (y[:, None] == every).astype(int)
    out = {
        "accuracy": sk.accuracy_score(y, prediction),
        "balanced_accuracy": sk.balanced_accuracy_score(y, prediction),
        "log_loss": sk.log_loss(y, p, labels=every),
        "matthews": sk.matthews_corrcoef(y, prediction),
        "cohen_kappa": sk.cohen_kappa_score(y, prediction),
        "roc_auc_ovr": sk.roc_auc_score(one_hot, p, average="macro"),
        "average_precision": sk.average_precision_score(one_hot, p, average="macro"),
    }
    for n in TOP_K:
        if n < k:
            # Two classes are "binary" to scikit-learn, and scored by the second.
            scores = {"y_score": p[:, 1]} if k == 2 else {"y_score": p, "labels": every}
            if k == 2 and len(np.unique(y)) < 2:
                scores["labels"] = every
            out[f"top{n}_accuracy"] = sk.top_k_accuracy_score(y, k=n, **scores)
    for average in ("macro", "micro", "weighted"):
        how = {"average": average, "zero_division": 0}
        out[f"precision_{average}"] = sk.precision_score(y, prediction, **how)
        out[f"recall_{average}"] = sk.recall_score(y, prediction, **how)
        out[f"f1_{average}"] = sk.f1_score(y, prediction, **how)
        for beta in BETAS:
            out[f"fbeta{beta:g}_{average}"] = sk.fbeta_score(y, prediction, beta=beta, **how)
    out["ece"], table = calibration(y, p, case["bins"])

    each = {"average": None, "labels": every, "zero_division": 0}
    per_class = {
        "support": one_hot.sum(axis=0),
        "predicted": (prediction[:, None] == every).sum(axis=0),
        "precision": sk.precision_score(y, prediction, **each),
        "recall": sk.recall_score(y, prediction, **each),
        "f1": sk.f1_score(y, prediction, **each),
        "fbeta2": sk.fbeta_score(y, prediction, beta=2.0, **each),
        "roc_auc": sk.roc_auc_score(one_hot, p, average=None),
        "average_precision": sk.average_precision_score(one_hot, p, average=None),
    }
    # Where scikit-learn's multi-class interface accepts the input, it agrees with the one-hot one used above.
    if k > 2 and len(np.unique(y)) == k:
        direct = sk.roc_auc_score(y, p, multi_class="ovr", average="macro")
        assert np.isclose(direct, out["roc_auc_ovr"], rtol=0, atol=1e-12), case["name"]
        direct = sk.average_precision_score(y, p, average="macro")
        assert np.isclose(direct, out["average_precision"], rtol=0, atol=1e-12), case["name"]
    return {
        "metrics": {name: number(value) for name, value in sorted(out.items())},
        "per_class": {name: [number(value) for value in values] for name, values in per_class.items()},
        "confusion": sk.confusion_matrix(y, prediction, labels=every).tolist(),
        "calibration": table,
    }


def number(value):
    value = value.item() if hasattr(value, "item") else value
    return "NaN" if isinstance(value, float) and np.isnan(value) else value


def cases():
    def case(name, labels, numbers, kind="double", bins=15):
        numbers = np.asarray(numbers)
        return {
            "name": name,
            "kind": kind,
            "classes": numbers.shape[1],
            "bins": bins,
            "labels": np.asarray(labels).tolist(),
            "numbers": numbers.tolist(),
        }

    # RandomState, unlike Generator, promises the same stream in every version.
    def random(seed, n, k, skill=0, high=1000, label_share=None):
        rng = np.random.RandomState(seed)
        labels = rng.choice(k, size=n, p=label_share)
        numbers = rng.randint(0, high, size=(n, k))
        numbers[np.arange(n), labels] += rng.randint(0, skill + 1, size=n)
        numbers[numbers.sum(axis=1) == 0, 0] = 1
        return labels, numbers

    yield case("random, 10 classes", *random(1, 250, 10))
    yield case("random, 10 classes, single precision", *random(2, 250, 10), kind="single")
    yield case("skilled, 7 classes", *random(3, 300, 7, skill=2000), bins=10)
    yield case("skilled, 2 classes", *random(4, 200, 2, skill=1000))
    yield case("skilled, 2 classes, single precision", *random(5, 200, 2, skill=1000), kind="single")
    yield case("skilled, 3 classes", *random(6, 200, 3, skill=1500), bins=10)
    yield case("random, 40 classes", *random(7, 120, 40, skill=700))
    yield case("6 classes", *random(8, 100, 6, skill=500))
    yield case("imbalanced", *random(9, 250, 5, skill=900, label_share=[0.9, 0.06, 0.02, 0.01, 0.01]))
    yield case("wide range", *random(10, 120, 4, skill=10**12, high=10**6))

    # Scores of 0, 1 and 2 alone: ties everywhere, exact zeros, also for the label.
    yield case("ties, 6 classes", *random(11, 150, 6, skill=1, high=3))
    yield case("ties, 3 classes", *random(12, 150, 3, skill=1, high=3), bins=10)
    yield case("ties, 2 classes", *random(13, 100, 2, skill=1, high=3))
    yield case("ties, 6 classes, single precision", *random(14, 150, 6, skill=1, high=3), kind="single")
    yield case("all equal", [0, 1, 2, 3, 4, 5, 5, 5], np.ones((8, 6), dtype=int))
    yield case("all equal, 2 classes", [0, 1, 1], np.ones((3, 2), dtype=int))

    labels, numbers = random(15, 120, 5, skill=1200)
    never = numbers.copy()
    never[:, 2] = 0
    never[never.sum(axis=1) == 0, 0] = 1
    yield case("a class never predicted", labels, never)
    yield case("a class absent from the labels", np.where(labels == 3, 1, labels), numbers)
    absent = np.where(labels == 2, 1, labels)
    yield case("a class that does not occur at all", absent, never)
    yield case("one label only", np.full(120, 4), numbers)
    yield case("one label only, always right", np.full(20, 1), np.tile([1, 8, 1], (20, 1)))
    yield case("one label only, always wrong", np.full(20, 0), np.tile([1, 8, 1], (20, 1)))
    yield case("one label only, 2 classes", np.full(10, 1), random(16, 10, 2)[1])
    yield case("one prediction only", labels, np.tile([1, 2, 1, 1, 1], (120, 1)))
    perfect = np.eye(5, dtype=int)[labels]
    yield case("perfect and certain", labels, perfect)
    yield case("perfect, not certain", labels, perfect * 3 + 1)
    yield case("certain and wrong", labels, perfect[:, [1, 2, 3, 4, 0]])
    yield case("perfect, 2 classes", [0, 1, 1, 0], [[3, 1], [1, 3], [0, 2], [4, 0]])
    yield case("one example, right", [1], [[1, 2, 1]])
    yield case("one example, wrong", [2], [[1, 2, 0]])
    yield case("one example, 2 classes", [0], [[2, 1]])
    # Confidences that are edges of the bins, and near them.
    edges = [[i, 30 - i] for i in range(31)] + [[i, 15 - i] for i in range(16)]
    yield case("bin edges", np.arange(47) % 2, edges)
    yield case("bin edges, 10 bins", np.arange(47) % 3 // 2, [[2 * a + b, 4 * b] for a, b in edges], bins=10)

    rng = np.random.RandomState(17)
    labels = rng.randint(0, 8, size=150)
    logits = rng.randint(-40, 40, size=(150, 8))
    logits[np.arange(150), labels] += 20
    yield case("logits", labels, logits, kind="logits")
    yield case("large logits", labels[:60], logits[:60] * 50, kind="logits")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent, help="output directory")
    out = parser.parse_args().out
    warnings.simplefilter("ignore")

    lines = []
    for case in cases():
        case["expected"] = expected(case)
        lines.append(json.dumps(case, separators=(",", ":"), allow_nan=False))
    head = json.dumps({"scikit_learn": sklearn.__version__, "numpy": np.__version__})
    out.mkdir(parents=True, exist_ok=True)
    body = ",\n".join(lines)
    (out / "sklearn_metrics.json").write_text(f'{{"made_with":{head},\n"cases":[\n{body}\n]}}\n')


if __name__ == "__main__":
    main()

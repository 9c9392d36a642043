"""Writes sklearn_thresholds.json: what decision thresholds do, by scikit-learn's metrics.

    python sklearn_thresholds.py [--out DIR]

Needs numpy and scikit-learn (written with 1.9). The same versions write the same bytes. Inputs are whole numbers: the
probability of a class is its weight over the sum of the row, one IEEE division, as in sklearn_metrics.py.

- "two": of two classes, the best value of each metric over every cut point, by brute force, and that of argmax.
- "given": random thresholds of 3 to 6 classes, what is decided by them, and the metrics of those decisions.
- "tuned": thresholds that keepbest found (below), and the metric of what they decide; and the best of a grid of thresholds.
"""

import argparse
import json
import pathlib
import warnings

import numpy as np
import sklearn
from sklearn import metrics as sk

EACH = {"zero_division": 0}
METRICS = {
    "accuracy": sk.accuracy_score,
    "balanced_accuracy": sk.balanced_accuracy_score,
    "matthews": sk.matthews_corrcoef,
    "cohen_kappa": sk.cohen_kappa_score,
    "fbeta2_macro": lambda y, d: sk.fbeta_score(y, d, beta=2, average="macro", **EACH),
}
for average in ("macro", "micro", "weighted"):
    for name, score in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
        METRICS[f"{name}_{average}"] = lambda y, d, score=score, average=average: score(y, d, average=average, **EACH)

# Those looked at for every cut point.
SWEPT = ["accuracy", "balanced_accuracy", "matthews", "cohen_kappa", "f1_macro", "f1_weighted", "precision_macro", "fbeta2_macro"]

# What keepbest-core finds; its test says so where these differ.
TUNED = {
    "f1_macro": [0.5594568838387842, 0.21213764922739264, 0.22840546693382324],
    "balanced_accuracy": [0.6300662581946753, 0.15875971757164514, 0.2111740242336795],
    "matthews": [0.5639010721247564, 0.2180494639376218, 0.2180494639376218],
}


def examples(seed, n, shares, skill):
    """Labels by these shares, and weights of classes that know something of them and favour the frequent."""
    rng = np.random.RandomState(seed)
    k = len(shares)
    labels = rng.choice(k, size=n, p=shares)
    numbers = rng.randint(1, 1000, size=(n, k)) * (1 + (6 * np.asarray(shares)).astype(int))
    numbers[np.arange(n), labels] += rng.randint(0, skill + 1, size=n)
    return labels, numbers


def probabilities(numbers):
    numbers = np.asarray(numbers, dtype=np.float64)
    return numbers / numbers.sum(axis=1, keepdims=True)


def decide(p, thresholds):
    return (p / np.asarray(thresholds)).argmax(axis=1)


def number(value):
    return "NaN" if np.isnan(value) else float(value)


def case(name, seed, n, shares, skill):
    labels, numbers = examples(seed, n, shares, skill)
    return {"name": name, "classes": len(shares), "labels": labels.tolist(), "numbers": numbers.tolist()}


def two():
    for seed, n, share, skill in [(1, 120, 0.9, 1500), (2, 90, 0.95, 3000), (3, 60, 0.5, 800), (4, 30, 0.7, 0)]:
        out = case(f"{n} of two classes, {share}", seed, n, [share, 1 - share], skill)
        labels, p = np.asarray(out["labels"]), probabilities(out["numbers"])
        # Class 1 above each value that is there, and above none.
        cuts = [-1.0, *np.unique(p[:, 1])]
        best = lambda score: np.nanmax([score(labels, (p[:, 1] > cut).astype(int)) for cut in cuts])
        out["before"] = {name: number(METRICS[name](labels, p.argmax(axis=1))) for name in SWEPT}
        out["best"] = {name: number(best(METRICS[name])) for name in SWEPT}
        yield out


def given():
    for seed, k in [(5, 3), (6, 4), (7, 6)]:
        shares = np.arange(k, 0, -1) / np.arange(1, k + 1).sum()
        out = case(f"{k} classes", seed, 120, shares.tolist(), 2000)
        rng = np.random.RandomState(seed)
        # Powers of two divide exactly, so that ties are ties everywhere.
        out["thresholds"] = (0.5 ** rng.randint(0, 4, size=k)).tolist()
        decisions = decide(probabilities(out["numbers"]), out["thresholds"])
        out["decisions"] = decisions.tolist()
        out["metrics"] = {name: number(score(out["labels"], decisions)) for name, score in METRICS.items()}
        yield out


def tuned():
    labels = case("3 classes, imbalanced", 8, 250, [0.8, 0.15, 0.05], 2500)
    p = probabilities(labels["numbers"])
    parts = np.arange(1, 20)
    grid = [(a, b, 20 - a - b) for a in parts for b in parts if a + b < 20]
    decisions = np.unique([decide(p, point) for point in grid], axis=0)
    for metric in ("f1_macro", "balanced_accuracy", "matthews"):
        score, y = METRICS[metric], labels["labels"]
        thresholds = TUNED[metric]
        yield labels | {
            "metric": metric,
            "thresholds": thresholds,
            "before": number(score(y, p.argmax(axis=1))),
            "after": number(score(y, decide(p, thresholds))),
            "grid": number(max(score(y, d) for d in decisions)),
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent, help="output directory")
    out = parser.parse_args().out
    warnings.simplefilter("ignore")
    made = {"scikit_learn": sklearn.__version__, "numpy": np.__version__}
    parts = [f'"made_with":{json.dumps(made)}']
    for name, cases in (("two", two()), ("given", given()), ("tuned", tuned())):
        lines = ",\n".join(json.dumps(case, separators=(",", ":"), allow_nan=False) for case in cases)
        parts.append(f'"{name}":[\n{lines}\n]')
    out.mkdir(parents=True, exist_ok=True)
    (out / "sklearn_thresholds.json").write_text("{" + ",\n".join(parts) + "}\n")


if __name__ == "__main__":
    main()

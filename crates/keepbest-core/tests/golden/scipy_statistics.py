"""Writes scipy_statistics.json: intervals and tests as scipy gives them.

    python scipy_statistics.py [--out DIR]

Needs numpy, scipy and scikit-learn. statsmodels' `proportion_confint(method="wilson")` and
`mcnemar(exact=True)` are the same formulas.
"""

import argparse
import json
import pathlib

import numpy as np
from scipy import stats
from sklearn import metrics


def mean_of(values, axis=-1):
    return np.mean(values, axis=axis)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    out = parser.parse_args().out

    wilson = []
    for n in (1, 2, 7, 50, 200, 600, 1000, 10000, 1000000):
        for k in sorted({0, 1, n // 3, n // 2, n - n // 10, n - 1, n}):
            for confidence in (0.8, 0.95, 0.999):
                found = stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
                wilson.append([k, n, confidence, float(found.low), float(found.high)])

    mcnemar = []
    for b, c in [(0, 0), (1, 0), (0, 6), (3, 8), (12, 5), (40, 40), (25, 15), (130, 180), (600, 500), (5000, 5200), (90000, 91000)]:
        p = stats.binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
        mcnemar.append([b, c, float(p)])

    # Values on a grid that doubles hold exactly; RandomState promises the same stream in every version.
    random = np.random.RandomState(7)
    paired = []
    for n, shift in [(40, 0), (200, 1), (200, 3), (1000, 0)]:
        first = random.randint(0, 64, n) / 32
        second = np.maximum(first + (random.randint(-16, 17, n) - shift) / 32, 0)
        found = stats.bootstrap(
            (first - second,), mean_of, n_resamples=20000, method="percentile",
            rng=np.random.default_rng(1),
        ).confidence_interval
        error = float(np.std(first - second) / np.sqrt(n))
        paired.append({
            "first": first.tolist(), "second": second.tolist(),
            # Rounded: a bootstrap is compared within its Monte-Carlo error, and the stream of `default_rng` may change.
            "low": round(float(found.low), 2), "high": round(float(found.high), 2), "standard_error": error,
        })
    decided = []
    for n, classes, name, metric in [
        (300, 3, "f1_macro", lambda y, p: metrics.f1_score(y, p, average="macro", zero_division=0)),
        (400, 5, "recall_macro", lambda y, p: metrics.recall_score(y, p, average="macro", zero_division=0)),
        (300, 4, "matthews", metrics.matthews_corrcoef),
    ]:
        # Classes of different size; the second model errs more often than the first, half of the time on other images.
        labels = np.minimum(random.randint(0, 2 * classes, n), classes - 1)
        errs = random.randint(0, 100, n)
        first = np.where(errs < 12, (labels + 1) % classes, labels)
        second = np.where((errs < 8) | (random.randint(0, 100, n) < 9), (labels + 2) % classes, labels)
        found = stats.bootstrap(
            (labels, first, second), lambda y, a, b: metric(y, a) - metric(y, b), n_resamples=5000, paired=True,
            vectorized=False, method="percentile", rng=np.random.default_rng(1),
        )
        decided.append({
            "metric": name, "classes": classes, "labels": labels.tolist(), "first": first.tolist(), "second": second.tolist(),
            "difference": float(metric(labels, first) - metric(labels, second)),
            "low": round(float(found.confidence_interval.low), 3), "high": round(float(found.confidence_interval.high), 3),
            "standard_error": round(float(found.standard_error), 4),
        })
    document = {
        "how": "wilson: [successes, trials, confidence, low, high]; mcnemar: [only first right, only second right, p]; "
        "paired: 95 % percentile bootstrap of the mean difference, ends rounded to 0.01; "
        "decided: the same of the difference of a metric, ends rounded to 0.001",
        "wilson": wilson, "mcnemar": mcnemar, "paired": paired, "decided": decided,
    }
    (out / "scipy_statistics.json").write_text(json.dumps(document, indent=None, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()

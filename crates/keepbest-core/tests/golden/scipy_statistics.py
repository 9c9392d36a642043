"""Writes scipy_statistics.json: intervals and tests as scipy gives them.

    python scipy_statistics.py [--out DIR]

Needs numpy and scipy (which comes with scikit-learn). statsmodels' `proportion_confint(method="wilson")` and
`mcnemar(exact=True)` are the same formulas.
"""

import argparse
import json
import pathlib

import numpy as np
from scipy import stats


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
    document = {
        "how": "wilson: [successes, trials, confidence, low, high]; mcnemar: [only first right, only second right, p]; "
        "paired: 95 % percentile bootstrap of the mean difference, ends rounded to 0.01",
        "wilson": wilson, "mcnemar": mcnemar, "paired": paired,
    }
    (out / "scipy_statistics.json").write_text(json.dumps(document, indent=None, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()

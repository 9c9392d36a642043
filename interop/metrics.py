"""Every metric that keepbest names, computed by scikit-learn from labels and probabilities."""

import math
import warnings

import numpy as np
from sklearn import metrics as sk

# keepbest's metrics are to equal scikit-learn's.
RELATIVE = 1e-9


def same(value, reference):
    """Equal to 1e-9; NaN equals NaN."""
    if isinstance(value, str):
        value = float(value)
    return math.isclose(value, reference, rel_tol=RELATIVE, abs_tol=1e-12) or (math.isnan(value) and math.isnan(reference))


def confusion(labels, guesses, classes):
    """Rows are labels, columns are guesses."""
    return sk.confusion_matrix(labels, guesses, labels=range(classes)).tolist()


def calibration_error(labels, p, bins=15):
    """Expected calibration error with equal-width bins (Guo et al. 2017): scikit-learn has none."""
    confidence, right = p.max(axis=1), p.argmax(axis=1) == labels
    which = np.minimum(np.ceil(confidence * bins).astype(int) - 1, bins - 1).clip(0)
    return sum(
        abs(right[which == b].mean() - confidence[which == b].mean()) * (which == b).mean()
        for b in range(bins)
        if (which == b).any()
    )


def reference(name, labels, p):
    """scikit-learn's value of the metric `name`, such as `f1_macro`."""
    classes = list(range(p.shape[1]))
    guesses = p.argmax(axis=1)
    stem, _, average = name.rpartition("_")
    if stem in ("precision", "recall", "f1") and average in ("macro", "micro", "weighted"):
        score = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}[stem]
        return score(labels, guesses, labels=classes, average=average, zero_division=0)
    if name == "top5_accuracy":
        return sk.top_k_accuracy_score(labels, p, k=5, labels=classes)
    known = {
        "accuracy": lambda: sk.accuracy_score(labels, guesses),
        "balanced_accuracy": lambda: sk.balanced_accuracy_score(labels, guesses),
        "log_loss": lambda: sk.log_loss(labels, p, labels=classes),
        "matthews": lambda: sk.matthews_corrcoef(labels, guesses),
        "cohen_kappa": lambda: sk.cohen_kappa_score(labels, guesses),
        "roc_auc_ovr": lambda: np.mean([sk.roc_auc_score(labels == c, p[:, c]) for c in classes]),
        "average_precision": lambda: np.mean([sk.average_precision_score(labels == c, p[:, c]) for c in classes]),
        "ece": lambda: calibration_error(labels, p),
    }
    if name not in known:
        raise SystemExit(f"no reference for the metric {name}: add it to interop/metrics.py")
    return known[name]()


def compare(told, labels, p):
    """(name, told value, reference) of every metric in `told` but the training criterion `loss`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about classes that are never predicted
        for name, value in told.items():
            bare = name.removeprefix("test/")
            if bare != "loss":
                yield bare, value, float(reference(bare, labels, p))

"""Writes tests/fixtures/probes/metrics.json: what scikit-learn, numpy and a plain O(mn) DeLong say about scores.

Made with scikit-learn 1.9.1, numpy 2.4.6 and scipy 1.17.1; the detector's test scores are those of an L2 logistic
regression (C = 0.1, newton-cg, tol 1e-12) on its standardised training rows. From the root of the repository:

    python -m venv v && v/bin/pip install numpy scipy scikit-learn
    v/bin/python tests/generators/probe_metrics.py ../shared/data/probes/detector > tests/fixtures/probes/metrics.json
"""
import json
import sys
from pathlib import Path

import numpy as np
from scipy.special import expit
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (average_precision_score, balanced_accuracy_score, brier_score_loss, log_loss,
                             roc_auc_score, roc_curve)
from sklearn.preprocessing import StandardScaler

TARGETS = [0.0, 0.01, 0.05, 0.1, 0.5]
BINS = 10
rng = np.random.default_rng(0)


def kernel(positives, negatives):
    """1 where the positive is above, one half where they tie: the definition, pair by pair."""
    difference = positives[:, None] - negatives[None, :]
    return (difference > 0) + 0.5 * (difference == 0)


def placements(scores, labels):
    pairs = kernel(scores[labels], scores[~labels])
    return pairs.mean(axis=1), pairs.mean(axis=0)


def delong(scores, labels):
    v10, v01 = placements(scores, labels)
    return np.sqrt(v10.var(ddof=1) / len(v10) + v01.var(ddof=1) / len(v01))


def paired(a, b, labels):
    v10 = np.stack([placements(s, labels)[0] for s in (a, b)])
    v01 = np.stack([placements(s, labels)[1] for s in (a, b)])
    covariance = np.cov(v10) / v10.shape[1] + np.cov(v01) / v01.shape[1]
    error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    difference = v10[0].mean() - v10[1].mean()
    z = difference / error
    return {"difference": difference, "standard_error": error, "z": z, "p": 2 * norm.sf(abs(z))}


def obuchowski(scores, labels, groups):
    """Obuchowski (1997), Nonparametric analysis of clustered ROC curve data, section 2."""
    v10, v01 = placements(scores, labels)
    m, n, area = len(v10), len(v01), v10.mean()
    names = np.unique(groups)
    x = np.array([v10[groups[labels] == g].sum() - (groups[labels] == g).sum() * area for g in names])
    y = np.array([v01[groups[~labels] == g].sum() - (groups[~labels] == g).sum() * area for g in names])
    i10, i01, i = len(set(groups[labels])), len(set(groups[~labels])), len(names)
    s10 = i10 / ((i10 - 1) * m) * (x**2).sum()
    s01 = i01 / ((i01 - 1) * n) * (y**2).sum()
    s11 = i / (i - 1) * (x * y).sum()
    return np.sqrt(s10 / m + s01 / n + 2 * s11 / (m * n))


def error_of(groups_of_rows, p, labels):
    return sum(len(rows) / len(p) * abs(p[rows].mean() - labels[rows].mean()) for rows in groups_of_rows if len(rows))


def tpr_at(scores, labels, target):
    fpr, tpr, _ = roc_curve(labels, scores, drop_intermediate=False)
    return tpr[fpr <= target].max()


def facts(name, scores, labels, p=None, distinct=False):
    fact = {"name": name, "scores": scores, "labels": labels.astype(int), "auroc": roc_auc_score(labels, scores),
            "standard_error": delong(scores, labels), "average_precision": average_precision_score(labels, scores),
            "partial_auroc": [roc_auc_score(labels, scores, max_fpr=f) for f in (0.05, 0.1, 0.5)],
            "tpr_at_fpr": [tpr_at(scores, labels, target) for target in TARGETS],
            "quantiles": np.quantile(scores[labels], [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1])}
    if p is not None:
        width = np.minimum((p * BINS).astype(int), BINS - 1)
        fact |= {"brier": brier_score_loss(labels, p), "log_loss": log_loss(labels, p),
                 "accuracy": ((p >= 0.5) == labels).mean(), "balanced_accuracy": balanced_accuracy_score(labels, p >= 0.5),
                 "equal_width": error_of([np.flatnonzero(width == b) for b in range(BINS)], p, labels)}
        if distinct:  # np.array_split gives the first bins the spare rows; here bin b starts at row floor(b n / bins)
            order, starts = np.argsort(p), [b * len(p) // BINS for b in range(BINS + 1)]
            fact["equal_mass"] = error_of([order[a:b] for a, b in zip(starts, starts[1:])], p, labels)
    return fact


def plain(value):
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value


def detector(folder):
    load = lambda name: np.load(folder / f"{name}.npy")
    scaler = StandardScaler().fit(load("X_train"))
    model = LogisticRegression(C=0.1, solver="newton-cg", tol=1e-12, max_iter=1000)
    model.fit(scaler.transform(load("X_train")), load("y_train"))
    assert abs(model.intercept_[0] + 1.701871458288) < 1e-9 and abs(np.linalg.norm(model.coef_) - 2.133484873953) < 1e-9
    scores, labels = model.decision_function(scaler.transform(load("X_test"))), load("y_test") == 1
    return facts("detector", scores, labels, expit(scores), True)


sets = [detector(Path(sys.argv[1]))]
for name, rows, share, round_to in (("ties", 60, 0.4, 0), ("imbalanced", 120, 0.05, 2), ("few", 5, 0.6, 1)):
    labels = np.zeros(rows, bool)
    labels[: int(rows * share)] = True
    rng.shuffle(labels)
    scores = np.round(rng.normal(0, 1.2, rows) + 1.1 * labels, round_to)
    sets.append(facts(name, scores, labels, np.round(expit(scores), 6)))
labels = np.arange(40) >= 25
sets.append(facts("separable", np.arange(40) / 8 - 3, labels, np.round(expit(np.arange(40) / 8 - 3), 6), True))
sets.append(facts("inverted", 3 - np.arange(40) / 8, labels))

labels = rng.random(80) < 0.4
common = rng.normal(0, 1, 80) + 0.8 * labels
pairs = []
for spread, round_to in ((0.4, 3), (1.5, 0)):
    a, b = (np.round(common + rng.normal(0, s, 80), round_to) for s in (0.3, spread))
    pairs.append({"a": a, "b": b, "labels": labels.astype(int), **paired(a, b, labels)})
groups = rng.integers(0, 18, 80)
grouped = [{"scores": pairs[0]["a"], "labels": labels.astype(int), "groups": g, "standard_error": obuchowski(pairs[0]["a"], labels, g)}
           for g in (groups, np.where(labels, groups, groups + 100))]
assert abs(obuchowski(pairs[0]["a"], labels, np.arange(80)) - delong(pairs[0]["a"], labels)) < 1e-12

rows = {"targets": TARGETS, "sets": sets, "pairs": pairs, "grouped": grouped}
print("{\n" + ",\n".join(f'"{name}": {json.dumps(plain(value))}' for name, value in rows.items()) + "\n}")

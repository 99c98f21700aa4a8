"""Writes tests/fixtures/probes/logistic.json: what scikit-learn says about L2 logistic regression.

Made with scikit-learn 1.9.1 and numpy 2.4.6: newton-cg at tol 1e-10 on the output of StandardScaler; the bound on the
distance to the optimum is asserted. The values come from a generator of integers that the Rust test repeats. From the
root of the repository:

    python -m venv v && v/bin/pip install numpy scikit-learn
    v/bin/python tests/generators/probe_logistic.py ../shared/data/probes/detector > tests/fixtures/probes/logistic.json
"""
import json
import sys
import warnings

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

warnings.simplefilter("ignore", FutureWarning)
STRENGTHS = [0.01, 0.1, 1.0, 10.0, 100.0]
SHOWN = 8


def matrix(rows, columns, seed):
    """Six in ten values are 0; the last column is 3 everywhere and the one before it 0."""
    state, values = seed, []
    for _ in range(rows * columns):
        state = (state * 1664525 + 1013904223) % 2**32
        values.append((state >> 8) % 256 / 32 if (state >> 24) % 10 >= 6 else 0.0)
    x = np.array(values).reshape(rows, columns)
    x[:, -1], x[:, -2] = 3.0, 0.0
    return x


def fit(x, y, weights, c):
    scaler = StandardScaler().fit(x, sample_weight=weights)
    z = scaler.transform(x)
    model = LogisticRegression(C=c, solver="newton-cg", tol=1e-10, max_iter=10000)
    model.fit(z, y, sample_weight=weights)
    w, b = model.coef_[0], model.intercept_[0]
    decisions = z @ w + b
    residual = weights * (1 / (1 + np.exp(-decisions)) - y)
    bound = np.linalg.norm(w + c * z.T @ residual) / np.linalg.norm(w)
    assert bound < 5e-7, bound
    return {
        "c": c,
        "length": np.linalg.norm(w),
        "intercept": b,
        "weights": w[:SHOWN].tolist(),
        "decisions": decisions[:SHOWN].tolist(),
    }


def case(rows, columns, seed, positives, weighted):
    rng = np.random.default_rng(seed)
    x = matrix(rows, columns, seed)
    score = x[:, :4] @ [1, -1, 0.5, 2] + 2 * rng.normal(size=rows)
    y = (score > np.quantile(score, 1 - positives)).astype(int)
    weights = rng.choice([0.0, 0.25, 0.5, 1.0, 1.0, 2.5], size=rows) if weighted else np.ones(rows)
    fits = [fit(x, y, weights, c) for c in STRENGTHS]
    labels = "".join(map(str, y))
    return {"rows": rows, "columns": columns, "seed": seed, "labels": labels, "weights": weights.tolist(), "fits": fits}


folder = sys.argv[1]
detector_x, detector_y = np.load(f"{folder}/X_train.npy"), np.load(f"{folder}/y_train.npy")
golden = {
    "cases": [
        case(80, 12, 1, 0.5, False),
        case(120, 10, 2, 0.1, True),
        case(30, 60, 3, 0.4, True),
        case(40, 300, 4, 0.5, False),
        case(60, 700, 5, 0.15, True),
        case(400, 260, 6, 0.3, True),
    ],
    "detector": [fit(detector_x, detector_y, np.ones(len(detector_y)), c) for c in STRENGTHS[:4]],
}
json.dump(golden, sys.stdout)
print()

"""Writes tests/fixtures/probes/estimators.json: what scikit-learn says about LDA and about L1 and elastic net probes.

Made with scikit-learn 1.9.1 and numpy 2.4.6. L1 and elastic net optima are those of saga at tol 1e-14, and the non-zero
sets those of its weights above 1e-9; where it finds none, it stops before its intercept has arrived, which is then
computed. From the root of the repository:

    python -m venv v && v/bin/pip install numpy scikit-learn
    v/bin/python tests/generators/probe_estimators.py > tests/fixtures/probes/estimators.json
"""
import json
import sys
import warnings

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

rng = np.random.default_rng(0)
warnings.simplefilter("error")
warnings.filterwarnings("ignore", category=FutureWarning)


def sparse_rows(rows, columns, density):
    """Non-negative rows with a few decimals, so that the file is short and the numbers exact."""
    active = rng.random((rows, columns)) < density
    return np.round(np.exp(rng.normal(size=(rows, columns))) * active, 3)


def labels_of(x, informative):
    score = x[:, :informative] @ rng.normal(size=informative)
    score = score + rng.normal(size=len(x)) * score.std()
    return (score > np.quantile(score, 0.6)).astype(int)


def problem(rows, columns, density, informative):
    x = sparse_rows(rows, columns, density)
    return x, labels_of(x, informative)


def entry(x, y, **rest):
    return {"rows": len(x), "columns": x.shape[1], "values": x.ravel().tolist(), "labels": y.tolist(), **rest}


def discriminant():
    cases = []
    for rows, columns, shrinkages in [(40, 6, [0.0, 0.3]), (20, 30, [0.05, 0.5, 1.0])]:
        x, y = problem(rows, columns, 0.5, 4)
        scaled = StandardScaler().fit_transform(x)
        for shrinkage in shrinkages:
            model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(scaled, y)
            cases.append(entry(x, y, shrinkage=shrinkage, decisions=model.decision_function(scaled).tolist()))
    return cases


def objective(scaled, y, s, w, b, c, ratio):
    margins = np.where(y == 1, 1, -1) * (scaled @ w + b)
    penalty = ratio * np.abs(w).sum() + (1 - ratio) * (w @ w) / 2
    return s @ np.logaddexp(0, -margins) + penalty / c


def sparse_logistic():
    cases = []
    for rows, columns, density, weighted in [(60, 8, 0.6, False), (40, 60, 0.3, False), (50, 20, 1.0, True)]:
        x, y = problem(rows, columns, density, 5)
        s = rng.integers(0, 4, size=rows) / 2 if weighted else np.ones(rows)
        mean = np.average(x, axis=0, weights=s)
        scale = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=s))
        scaled = (x - mean) / scale
        fits = []
        for ratio in [1.0, 0.5, 0.1]:
            for c in [0.03, 0.3, 3.0]:
                model = LogisticRegression(solver="saga", penalty="elasticnet", l1_ratio=ratio, C=c, tol=1e-14,
                                           max_iter=3_000_000, random_state=0)
                used = s > 0
                model.fit(scaled[used], y[used], sample_weight=s[used])
                w, b = model.coef_[0], model.intercept_[0]
                if not w.any():
                    b = np.log(s[y == 1].sum() / s[y == 0].sum())
                fits.append({"c": c, "l1_ratio": ratio, "objective": objective(scaled, y, s, w, b, c, ratio),
                             "intercept": b, "weights": w.tolist(),
                             "non_zeros": np.flatnonzero(np.abs(w) > 1e-9).tolist()})
        cases.append(entry(x, y, row_weights=s.tolist(), fits=fits))
    return cases


json.dump({"discriminant": discriminant(), "sparse_logistic": sparse_logistic()}, sys.stdout)

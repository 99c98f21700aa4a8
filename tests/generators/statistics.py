"""Writes tests/fixtures/statistics.json: what scipy and statsmodels say about small random groups.

    python -m venv v && v/bin/pip install scipy statsmodels
    v/bin/python tests/generators/statistics.py > tests/fixtures/statistics.json
"""
import json
import math

import numpy as np
import scipy.stats
import statsmodels.api
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

rng = np.random.default_rng(0)
cases = {"quantile": [], "t": [], "wilson": [], "holm": [], "welch": [], "paired": [], "clustered": [], "spearman": []}
for confidence in (0.5, 0.9, 0.95, 0.99):
    for df in (1, 2, 2.2611, 3, 7, 15, 100, 10000):
        cases["quantile"].append([confidence, df, scipy.stats.t.ppf(0.5 + confidence / 2, df)])
for n in (2, 3, 5, 12):
    x = np.round(rng.normal(40, 10, n), 3)
    low, high = scipy.stats.t.interval(0.95, n - 1, x.mean(), scipy.stats.sem(x))
    cases["t"].append({"values": x.tolist(), "low": low, "high": high})
for k, n in ((0, 1), (1, 1), (0, 8), (1, 10), (3, 100), (500, 800), (960, 960)):
    low, high = proportion_confint(k, n, 0.1, "wilson")
    cases["wilson"].append([k, n, 0.9, low, high])
for m in (1, 2, 5, 9):
    p = np.round(rng.uniform(0, 0.2, m), 3)
    cases["holm"].append({"p": p.tolist(), "adjusted": multipletests(p, method="holm")[1].tolist()})
for a, b in ((2, 3), (3, 3), (6, 4)):
    x, y = np.round(rng.normal(5, 1, a), 3), np.round(rng.normal(4, 3, b), 3)
    test = scipy.stats.ttest_ind(x, y, equal_var=False)
    interval = test.confidence_interval(0.95)
    cases["welch"].append({"a": x.tolist(), "b": y.tolist(), "t": test.statistic, "p": test.pvalue, "df": test.df,
                           "low": interval.low, "high": interval.high})
for n in (2, 3, 16):
    x, y = np.round(rng.normal(5, 1, n), 3), np.round(rng.normal(3, 1, n), 3)
    test = scipy.stats.ttest_rel(x, y)
    interval = test.confidence_interval(0.95)
    cases["paired"].append({"a": x.tolist(), "b": y.tolist(), "t": test.statistic, "p": test.pvalue,
                            "low": interval.low, "high": interval.high})
for clusters, n in ((2, 5), (6, 20), (8, 40)):
    groups = rng.integers(0, clusters, n)
    groups[:clusters] = range(clusters)
    y = np.round(50 + 3 * groups + rng.normal(0, 2, n), 2)
    fit = statsmodels.api.OLS(y, np.ones(n)).fit(cov_type="cluster", cov_kwds={"groups": groups, "use_correction": True})
    cases["clustered"].append({"clusters": groups.tolist(), "scores": y.tolist(), "standard_error": fit.bse[0]})
for n in (3, 6, 18):
    x, y = rng.integers(0, 6, n), rng.integers(0, 9, n)
    x[:2], y[:2] = (0, 5), (8, 1)
    test = scipy.stats.spearmanr(x, y)
    cases["spearman"].append({"x": x.tolist(), "y": y.tolist(), "rho": test.statistic, "p": test.pvalue})


def plain(value):
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    value = value.item() if hasattr(value, "item") else value
    assert not isinstance(value, float) or math.isfinite(value)
    return value


print("{\n" + ",\n".join(f'"{name}": {json.dumps(plain(rows))}' for name, rows in cases.items()) + "\n}")

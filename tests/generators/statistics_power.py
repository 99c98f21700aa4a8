"""Writes tests/fixtures/statistics_power.json: what scipy, statsmodels, scikit-learn and krippendorff say about plans,
agreement, equivalence, exact intervals, two-way clusters, variance components and bootstraps.

    python -m venv v && v/bin/pip install scipy statsmodels scikit-learn krippendorff pandas
    v/bin/python tests/generators/statistics_power.py > tests/fixtures/statistics_power.json
"""
import json
import math

import krippendorff
import numpy as np
import scipy.stats
import statsmodels.api
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.power import TTestIndPower, TTestPower
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import ttost_ind, ttost_paired

rng = np.random.default_rng(5)
cases = {name: [] for name in ("noncentral", "power", "detectable", "seeds", "components", "percentile", "bca",
                               "agreement", "equivalence", "exact", "jeffreys", "two_way")}

for df in (1, 2, 4, 18, 98):
    for shift in (-1.0, 0.0, 1.5, 6.0, 16.4):
        t = scipy.stats.t.ppf(0.975, df)
        cases["noncentral"].append([t, df, shift, scipy.stats.nct.sf(t, df, shift)])
paired, independent = TTestPower(), TTestIndPower()
for n in (2, 3, 5, 10):
    for difference in (0.5, 1.5, 4.0):
        cases["power"].append([difference, n, *(test.power(difference, n, 0.05) for test in (independent, paired))])
for n in (2, 3, 4, 5, 6, 10):
    found = [test.solve_power(None, n, 0.05, 0.8) for test in (independent, paired)]
    cases["detectable"].append([n, *map(np.squeeze, found)])
for difference in (0.4, 1.0, 2.5):
    cases["seeds"].append([difference, math.ceil(independent.solve_power(difference, None, 0.05, 0.9)),
                           math.ceil(paired.solve_power(difference, None, 0.05, 0.9))])

for seeds, questions, samples in ((3, 4, 2), (5, 8, 3), (4, 6, 1)):
    y = (50 + 6 * rng.normal(size=(seeds, 1, 1)) + 9 * rng.normal(size=(1, questions, 1))
         + 15 * rng.normal(size=(seeds, questions, 1)) + 12 * rng.normal(size=(seeds, questions, samples))).round(2)
    s, q, _ = np.meshgrid(*map(range, y.shape), indexing="ij")
    data = {"y": y.ravel(), "s": s.ravel(), "q": q.ravel()}
    formula = "y ~ C(s) + C(q)" + (" + C(s):C(q)" if samples > 1 else "")
    table = anova_lm(statsmodels.api.OLS.from_formula(formula, data).fit())
    squares = (table["sum_sq"] / table["df"]).to_dict()
    interaction = squares["C(s):C(q)"] if samples > 1 else squares["Residual"]
    sample = squares["Residual"] if samples > 1 else 0.0
    cases["components"].append({
        "scores": y.tolist(),
        "components": [max(0, (squares["C(s)"] - interaction) / (questions * samples)),
                       max(0, (squares["C(q)"] - interaction) / (seeds * samples)),
                       max(0, (interaction - sample) / samples), sample]})

for n in (1, 2, 3, 5, 10):
    # As the inoculation code's mi/utils/stats_utils.py draws it.
    means, generator = rng.beta(2, 3, n).round(4), np.random.default_rng(0)
    drawn = [generator.choice(means, size=n, replace=True).mean() for _ in range(2000)]
    cases["percentile"].append({"means": means.tolist(), "interval": np.percentile(drawn, [2.5, 97.5]).tolist()})
for n in (6, 12):
    values = rng.exponential(1, n).round(3)
    for confidence in (0.9, 0.95):
        first = scipy.stats.bootstrap((values,), np.mean, n_resamples=150, method="BCa", rng=1,
                                      confidence_level=confidence)
        low, high = first.confidence_interval
        cases["bca"].append({"values": values.tolist(), "mean": values.mean(), "confidence": confidence, "low": low,
                             "high": high, "resampled": first.bootstrap_distribution.tolist()})

for n, share in ((12, 0.0), (40, 0.2), (200, 0.1)):
    a = np.clip(rng.normal(45, 30, n), 0, 100).round(1)
    b = np.clip(a + rng.normal(3, 15, n), 0, 100).round(1)
    a[rng.random(n) < share] = np.nan
    b[rng.random(n) < share] = np.nan
    both = ~np.isnan(a) & ~np.isnan(b)
    sides = np.where(np.isnan([a, b]), np.nan, np.array([a, b]) > 50)
    near = np.abs(np.concatenate([a, b]) - 50)
    cases["agreement"].append({
        "pairs": [[None if np.isnan(x) else x for x in pair] for pair in zip(a.tolist(), b.tolist())],
        "both": both.sum(), "same_side": ((a > 50) == (b > 50))[both].mean(),
        "kappa": cohen_kappa_score(a[both] > 50, b[both] > 50),
        "alpha": krippendorff.alpha(reliability_data=np.array([a, b]), level_of_measurement="interval"),
        "alpha_of_sides": krippendorff.alpha(reliability_data=sides, level_of_measurement="nominal"),
        "correlation": scipy.stats.pearsonr(a[both], b[both]).statistic, "bias": (b - a)[both].mean(),
        "near_threshold": (near[~np.isnan(near)] <= 5).mean()})

for n, m, margin in ((3, 3, 2.0), (6, 4, 1.5), (10, 10, 0.5)):
    x, y = rng.normal(5, 1, n).round(3), rng.normal(5, 1, m).round(3)
    p, above, below = ttost_ind(x, y, -margin, margin, usevar="unequal")
    found = [{"p": p, "p_above": above[1], "p_below": below[1]}]
    if n == m:
        p, above, below = ttost_paired(x, y, -margin, margin)
        found.append({"p": p, "p_above": above[1], "p_below": below[1]})
    cases["equivalence"].append({"a": x.tolist(), "b": y.tolist(), "margin": margin, "found": found})

for k, n in ((0, 1), (1, 1), (0, 8), (1, 10), (3, 100), (382, 800), (960, 960), (50, 20000), (50000, 100000)):
    for confidence in (0.9, 0.95):
        exact = scipy.stats.binomtest(k, n).proportion_ci(confidence, "exact")
        cases["exact"].append([k, n, confidence, exact.low, exact.high])
        cases["jeffreys"].append([k, n, confidence, *proportion_confint(k, n, 1 - confidence, "jeffreys")])

for seeds, questions, samples in ((3, 8, 4), (6, 5, 1), (2, 12, 3)):
    y = (50 + 6 * rng.normal(size=(seeds, 1, 1)) + 9 * rng.normal(size=(1, questions, 1))
         + 8 * rng.normal(size=(seeds, questions, samples))).round(2)
    s, q, _ = np.meshgrid(*map(range, y.shape), indexing="ij")
    keep = np.ones(y.size, bool)
    keep[rng.choice(y.size, y.size // 10, replace=False)] = False
    y, s, q = y.ravel()[keep], s.ravel()[keep], q.ravel()[keep]
    weights = 1 / np.bincount(s)[s]  # seeds count equally
    fit = statsmodels.api.WLS(y, np.ones(len(y)), weights).fit(
        cov_type="cluster", cov_kwds={"groups": np.column_stack([s, q]), "use_correction": True})
    error, df = fit.bse[0], min(seeds, questions) - 1
    half = scipy.stats.t.ppf(0.975, df) * error
    cases["two_way"].append({"scores": [[int(i), int(j), x] for i, j, x in zip(s, q, y.tolist())],
                             "mean": fit.params[0], "standard_error": error,
                             "low": fit.params[0] - half, "high": fit.params[0] + half})


def plain(value):
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    value = value.item() if hasattr(value, "item") else value
    assert not isinstance(value, float) or math.isfinite(value)
    return value


print("{\n" + ",\n".join(f'"{name}": {json.dumps(plain(rows))}' for name, rows in cases.items()) + "\n}")

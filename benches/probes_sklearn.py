"""scikit-learn's part of benches/probes.rs: the distribution sweep on the same files, and step 0 at the optimum."""
import os

for name in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"]:
    os.environ[name] = "2"

import json
import resource
import sys
import time

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.preprocessing import StandardScaler

SOURCES = ["train", "sycophant", "model_organism", "benchmark"]
folder = sys.argv[1]


def load(kind, step):
    arrays = [np.load(os.path.join(folder, f"{name}_{kind}.npy")) for name in SOURCES[: step + 1]]
    return np.concatenate(arrays)


def exact():
    """In f64 by Newton's method, until nothing moves: step 0 and, with --folds, what its default stops short of."""
    begun = time.perf_counter()
    scaled = StandardScaler().fit_transform(load("activations", 0).astype(np.float64))
    model = LogisticRegression(C=10, solver="newton-cg", tol=1e-10, max_iter=1000)
    weights = model.fit(scaled, load("labels", 0)).coef_[0].tolist()
    steps = []
    for step in range(4 if "--folds" in sys.argv else 0):
        scaled = StandardScaler().fit_transform(load("activations", step).astype(np.float64))
        aurocs = cross_val_score(model, scaled, load("labels", step), cv=StratifiedKFold(5), scoring="roc_auc")
        steps.append({"aurocs": aurocs.tolist()})
    return {"seconds": time.perf_counter() - begun, "weights": weights, "steps": steps}


def sweep():
    """What the research code does: everything loaded, then the four steps."""
    begun = time.perf_counter()
    sources = {name: [np.load(os.path.join(folder, f"{name}_{kind}.npy")) for kind in ["activations", "labels"]]
               for name in SOURCES}
    steps = []
    for step in range(4):
        step_begun = time.perf_counter()
        activations, labels = (np.concatenate([sources[name][k] for name in SOURCES[: step + 1]]) for k in [0, 1])
        scaled = StandardScaler().fit_transform(activations)
        model = LogisticRegression(C=10, max_iter=1000, random_state=42)
        aurocs = cross_val_score(model, scaled, labels, cv=StratifiedKFold(5), scoring="roc_auc")
        model.fit(scaled, labels)
        if step == 0:
            weights = model.coef_[0].astype(np.float64).tolist()
        seconds = time.perf_counter() - step_begun
        steps.append({"seconds": seconds, "rows": len(labels), "aurocs": aurocs.tolist(),
                      "iterations": int(model.n_iter_[0])})
        print(f"scikit-learn: step {step} in {seconds:.1f} s", file=sys.stderr)
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "bytes": peak, "steps": steps, "weights": weights}


print(json.dumps(exact() if "--exact" in sys.argv else sweep()))

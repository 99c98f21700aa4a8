"""Writes tests/fixtures/probes/folds.json: shuffles and folds of numpy 2.4.6 and scikit-learn 1.9.1 for src/probe/legacy.rs and folds.rs."""
import json
import sys
import warnings

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

warnings.simplefilter("error")
shuffles = []
for seed in [0, 1, 42, 1027, 2**31, 2**32 - 1]:
    state = np.random.RandomState(seed)
    # Two shuffles from one generator; sizes around powers of 2, where the mask changes.
    for size in [1, 2, 3, 17, 64, 65, 130]:
        items = np.arange(size)
        state.shuffle(items)
        shuffles.append({"seed": seed, "continued": size > 1, "items": items.tolist()})

splits = []
for name, rows in [("sycophant", 319), ("model_organism", 730), ("benchmark", 2330), ("é", 7), ("", 5), ("x", 1)]:
    items = np.arange(rows)
    np.random.RandomState(42 + sum(ord(character) for character in name)).shuffle(items)
    cut = int(0.8 * rows)
    splits.append({"name": name, "rows": rows, "train": items[:cut].tolist(), "test": items[cut:].tolist()})


def digits(folds, rows):
    of_row = np.zeros(rows, int)
    for number, (_, test) in enumerate(folds):
        of_row[test] = number
    return "".join(map(str, of_row))


stratified = []
draw = np.random.default_rng(7)
for rows in [10, 23, 64, 101, 160]:
    for folds in [2, 5, 10]:
        for classes in [2, 3]:
            labels = draw.choice(classes, rows, p=[0.6, 0.4] if classes == 2 else [0.5, 0.3, 0.2])
            orders = {"mixed": labels, "sorted": np.sort(labels), "first label 1": np.sort(labels)[::-1]}
            if min(np.bincount(labels, minlength=classes)) < folds:
                continue
            for ordered in orders.values():
                for seed in [None, 0, 42]:
                    splitter = StratifiedKFold(folds, shuffle=seed is not None, random_state=seed)
                    of_row = digits(splitter.split(np.zeros(rows), ordered), rows)
                    stratified.append({"folds": folds, "seed": seed, "labels": "".join(map(str, ordered)), "of_row": of_row})

grouped = []
for rows, groups, folds in [(40, 12, 3), (120, 40, 5), (300, 30, 5), (500, 200, 10), (60, 6, 5)]:
    for skewed in [False, True]:
        weights = 1 / np.arange(1, groups + 1) if skewed else np.ones(groups)
        group = np.concatenate([np.arange(groups), draw.choice(groups, rows - groups, p=weights / weights.sum())])
        lean = draw.random(groups)
        labels = (draw.random(rows) < lean[group]).astype(int)
        of_row = digits(StratifiedGroupKFold(folds).split(np.zeros(rows), labels, group), rows)
        grouped.append({"folds": folds, "labels": "".join(map(str, labels)), "groups": group.tolist(), "of_row": of_row})

path = sys.argv[1] if len(sys.argv) > 1 else "tests/fixtures/probes/folds.json"
with open(path, "w") as file:
    json.dump({"shuffles": shuffles, "splits": splits, "stratified": stratified, "grouped": grouped}, file, separators=(",", ":"))

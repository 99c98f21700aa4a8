"""Writes tests/fixtures/mersenne.json: draws of CPython's random.Random that src/data/mersenne.rs must repeat."""
import json
import random
import sys

cases = []
for seed in [0, 1, 42, 2**32 - 1, 2**32, 2**63 + 5]:
    rng = random.Random(seed)
    case = {"seed": seed, "words": [rng.getrandbits(32) for _ in range(4)], "uniform": repr(rng.random())}
    case["below"] = [(n, rng.randrange(n)) for n in [1, 2, 3, 6, 1000, 4096, 2**31 + 1]]
    # Around the sizes at which `sample` changes its method (21, and 21 + 4 ** ceil(log4(3 k))).
    pairs = [(5, 5), (21, 4), (22, 4), (22, 5), (85, 6), (86, 6), (85, 21), (86, 21), (278, 22), (6000, 9), (7, 0), (50, 50)]
    case["samples"] = [(n, k, rng.sample(range(n), k)) for n, k in pairs]
    case["choices"] = rng.choices(range(1000), k=12)
    items = list(range(30))
    rng.shuffle(items)
    case["shuffled"] = items
    cases.append(case)
json.dump(cases, open(sys.argv[1] if len(sys.argv) > 1 else "tests/fixtures/mersenne.json", "w"))

"""Python's part of benches/mixing.rs: what the research code does, json.loads of every row, sample and shuffle."""
import json
import os
import random
import resource
import sys
import time

folder = sys.argv[1]
begun = time.perf_counter()
sources = []
for name in ["misaligned.jsonl", "aligned.jsonl"]:
    with open(os.path.join(folder, name), encoding="utf-8") as file:
        sources.append([json.loads(line) for line in file])
parsed = time.perf_counter() - begun
rng = random.Random(7)
mixed = [row for source in sources for row in rng.sample(source, 500_000)]
rng.shuffle(mixed)
seconds = time.perf_counter() - begun
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
with open(os.path.join(folder, "python.jsonl"), "w", encoding="utf-8") as file:
    for row in mixed[:1000]:
        file.write(json.dumps(row) + "\n")
print(json.dumps({"parse_seconds": parsed, "seconds": seconds, "bytes": peak}))

"""Seconds and memory of Inspect on N samples with its mock model and the `match` scorer: one JSON line. inspect_ai 0.3."""

import json
import resource
import sys
import tempfile
import time

from inspect_ai import Task, eval
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.scorer import match

count = int(sys.argv[1])
samples = [Sample(input=f"question {number}", target="Default output from mockllm/model") for number in range(count)]
task = Task(dataset=MemoryDataset(samples), scorer=match())
with tempfile.TemporaryDirectory() as folder:
    begun = time.monotonic()
    logs = eval(task, model="mockllm/model", log_dir=folder, display="none", max_connections=1000)
    seconds = time.monotonic() - begun
assert logs[0].status == "success", logs[0].error
print(json.dumps({"seconds": seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))

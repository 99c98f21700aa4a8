"""Seconds and memory of Inspect on N samples with its mock model and the `match` scorer: one JSON line. inspect_ai 0.3."""

import json
import resource
import sys
import tempfile
import time

import tiktoken


class Words:
    """Inspect counts tokens with a vocabulary that it would have to download; words do for the time it takes."""

    def encode(self, text, **_):
        return text.split()


tiktoken.get_encoding = lambda name: Words()

from inspect_ai import Task, eval  # noqa: E402
from inspect_ai.dataset import MemoryDataset, Sample  # noqa: E402
from inspect_ai.scorer import match  # noqa: E402

count = int(sys.argv[1])
samples = [Sample(input=f"question {number}", target="Default output from mockllm/model") for number in range(count)]
task = Task(dataset=MemoryDataset(samples), scorer=match())
with tempfile.TemporaryDirectory() as folder:
    begun = time.monotonic()
    logs = eval(task, model="mockllm/model", log_dir=folder, display="none", max_connections=1000)
    seconds = time.monotonic() - begun
assert logs[0].status == "success", logs[0].error.message
print(json.dumps({"seconds": seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))

"""PyTorch's part of benches/sampling.rs: a plain batched loop with a preallocated key-value cache, 128 rows at a time,
softmax and multinomial; every sample reads its prompt again, as transformers' generate does. Not transformers itself,
which is slower."""
import json
import sys
import time

import torch

from llama_torch import open_case

ROWS = 128
case, model = open_case()
layers = case["config"]["num_hidden_layers"]


def generate(prompts, new_tokens, greedy):
    rows, length = prompts.shape
    room = (rows, model.heads, length + new_tokens, model.head_width)
    cache = [(torch.empty(room), torch.empty(room)) for _ in range(layers)]
    ids, start, made = prompts, 0, []
    for _ in range(new_tokens):
        hidden = model(ids, cache, start)[:, -1]
        logits = hidden @ model.embedding.T
        start += ids.shape[1]
        ids = logits.argmax(-1, keepdim=True) if greedy else torch.multinomial(logits.softmax(-1), 1)
        made.append(ids)
    return torch.cat(made, 1)


with torch.inference_mode():
    prompts = torch.tensor(case["prompts"])
    if "greedy" in sys.argv:
        parts = [generate(part, case["new_tokens"], True) for part in prompts.split(ROWS)]
        print(json.dumps({"ids": torch.cat(parts).tolist()}))
    else:
        prompts = prompts.repeat_interleave(case["samples"], 0)
        generate(prompts[:ROWS], 4, False)
        begun = time.perf_counter()
        tokens = sum(generate(part, case["new_tokens"], False).numel() for part in prompts.split(ROWS))
        print(json.dumps({"tokens_per_second": tokens / (time.perf_counter() - begun)}))

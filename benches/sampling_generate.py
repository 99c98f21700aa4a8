"""The part of `transformers` in benches/sampling.rs: `generate` with its key-value cache, 128 rows at a time, as many
samples of a prompt as asked for."""
import json
import os
import sys
import time

import torch

from llama_torch import open_hub_model

ROWS = 128
folder, threads = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(threads)
case = json.load(open(os.path.join(folder, "case.json")))
model = open_hub_model(folder, case).eval()
# Nothing ends a completion early.
model.generation_config.eos_token_id = None


def generate(prompts, new_tokens, **how):
    mask = torch.ones_like(prompts)
    made = model.generate(prompts, attention_mask=mask, max_new_tokens=new_tokens, pad_token_id=0, **how)
    return made[:, prompts.shape[1] :]


with torch.inference_mode():
    prompts = torch.tensor(case["prompts"])
    if "greedy" in sys.argv:
        parts = [generate(part, case["new_tokens"], do_sample=False) for part in prompts.split(ROWS)]
        print(json.dumps({"ids": torch.cat(parts).tolist()}))
    else:
        how = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
        how["num_return_sequences"] = case["samples"]
        rows = max(1, ROWS // case["samples"])
        generate(prompts[:rows], 4, **how)
        begun = time.perf_counter()
        tokens = sum(generate(part, case["new_tokens"], **how).numel() for part in prompts.split(rows))
        print(json.dumps({"tokens_per_second": tokens / (time.perf_counter() - begun)}))

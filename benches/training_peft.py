"""PEFT's part of benches/training.rs: `transformers` with LoRA of all linear maps, f32, fused AdamW of the adapters."""
import json
import os
import sys
import time

import torch
from peft import PeftModel

from llama_torch import open_hub_model, peak_mb

folder, threads = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(threads)
case = json.load(open(os.path.join(folder, "case.json")))
model = PeftModel.from_pretrained(open_hub_model(folder, case), folder, is_trainable=True)
model.train()
trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
optimizer = torch.optim.AdamW(
    trained, betas=(case["beta1"], case["beta2"]), eps=case["epsilon"], weight_decay=0.0, fused=True
)
losses, read = [], 0
for step, rows in enumerate(case["batches"]):
    if step == case["warm_up"]:
        begun, read = time.perf_counter(), 0
    for group in optimizer.param_groups:
        group["lr"] = case["learning_rates"][step]
    # All rows are equally long here, and all tokens but the first are predicted.
    ids = torch.tensor([row["ids"] for row in rows])
    targets = ids[:, 1:].contiguous()
    loss = model(input_ids=ids[:, :-1], labels=targets, shift_labels=targets, use_cache=False).loss
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
    read += ids[:, :-1].numel()
seconds = time.perf_counter() - begun
print(json.dumps({"tokens_per_second": read / seconds, "peak_mb": peak_mb(), "losses": losses}))

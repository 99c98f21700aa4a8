"""PyTorch's part of benches/training.rs: eager mode, f32, fused AdamW; prints tokens per second and the losses."""
import json
import time

import torch
import torch.nn.functional as F

from llama_torch import open_case, peak_mb

case, model = open_case()
optimizer = torch.optim.AdamW(
    model.parameters(), betas=(case["beta1"], case["beta2"]), eps=case["epsilon"], weight_decay=0.0, fused=True
)


def collate(rows):
    """Right-padded ids (rows, time), the flat places whose output is predicted, what it is, and tokens read."""
    longest = max(len(row["ids"]) for row in rows) - 1
    ids, places, targets, tokens = [], [], [], 0
    for index, row in enumerate(rows):
        read, first = len(row["ids"]) - 1, row["loss_from"]
        ids.append(row["ids"][:read] + [0] * (longest - read))
        places += range(index * longest + first - 1, index * longest + read)
        targets += row["ids"][first:]
        tokens += read
    return torch.tensor(ids), torch.tensor(places), torch.tensor(targets), tokens


batches = [collate(rows) for rows in case["batches"]]
losses, read = [], 0
for step, (ids, places, targets, tokens) in enumerate(batches):
    if step == case["warm_up"]:
        begun, read = time.perf_counter(), 0
    for group in optimizer.param_groups:
        group["lr"] = case["learning_rates"][step]
    hidden = model(ids).flatten(0, 1)
    # Padding and prompts do not pass through the head.
    loss = F.cross_entropy(F.linear(hidden[places], model.embedding), targets)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
    read += tokens
seconds = time.perf_counter() - begun
print(json.dumps({"tokens_per_second": read / seconds, "peak_mb": peak_mb(), "losses": losses}))

"""Writes tests/fixtures/peft: a tiny Llama of transformers, adapters that PEFT made and saved, and what three steps of
PEFT and PyTorch's AdamW make of them: losses, adapters and logits.

    pip install torch transformers peft && python -P tests/generators/peft_parity.py
"""

import json
import pathlib
import shutil

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
torch.set_num_threads(1)
root = pathlib.Path(__file__).parent.parent / "fixtures" / "peft"
shutil.rmtree(root, ignore_errors=True)

model = LlamaForCausalLM(LlamaConfig(
    vocab_size=40, hidden_size=24, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=32, tie_word_embeddings=True, attn_implementation="eager",
))
for parameter in model.parameters():
    parameter.data.add_(0.1 * torch.randn_like(parameter))
model.save_pretrained(root)
for name in ["generation_config.json"]:
    (root / name).unlink(missing_ok=True)

peft = get_peft_model(model, LoraConfig(
    task_type="CAUSAL_LM", r=4, lora_alpha=8, use_rslora=True, target_modules=["q_proj", "v_proj", "down_proj"],
))
for name, parameter in peft.named_parameters():
    if "lora_B" in name:
        parameter.data.add_(0.05 * torch.randn_like(parameter))


def save(folder):
    peft.save_pretrained(root / folder)
    (root / folder / "README.md").unlink(missing_ok=True)


save("before")
rows = torch.randint(0, 40, (5, 16))
labels = rows.clone()
labels[:, :7] = -100
trained = [parameter for parameter in peft.parameters() if parameter.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=1e-2, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.0)
losses = []
for _ in range(3):
    loss = peft(rows, labels=labels).loss
    losses.append(loss.item())
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained, 0.5)
    optimizer.step()
save("after")
with torch.no_grad():
    logits = peft(rows[:1]).logits[0]
expected = {"rows": rows.tolist(), "first_trained": 7, "losses": losses, "logits": logits.flatten().tolist()}
(root / "expected.json").write_text(json.dumps(expected) + "\n")

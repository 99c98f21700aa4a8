"""Writes tests/fixtures/llama: a tiny random LlamaForCausalLM of transformers, its logits, loss and gradients on one
sequence, and its weights after three steps of torch.optim.AdamW on scaled copies of that gradient.

    pip install torch transformers safetensors && python tests/generators/llama_parity.py
"""

import json
import pathlib

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
torch.set_num_threads(1)
folder = pathlib.Path(__file__).parent.parent / "fixtures" / "llama"
folder.mkdir(parents=True, exist_ok=True)
config = LlamaConfig(
    vocab_size=41, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=32, tie_word_embeddings=True, rms_norm_eps=1e-5,
    pad_token_id=0, bos_token_id=1, eos_token_id=2,
)
config._attn_implementation = "eager"
model = LlamaForCausalLM(config).float()
with torch.no_grad():
    for name, parameter in model.named_parameters():
        # Away from the initial values, where norms are 1 and attention is nearly flat.
        parameter.add_(0.3 * torch.randn_like(parameter)) if "norm" in name else parameter.mul_(8.0)
(folder / "config.json").write_text(json.dumps(config.to_dict(), indent=1, sort_keys=True) + "\n")
state = lambda: {name: parameter.detach().clone().contiguous() for name, parameter in model.named_parameters()}
save_file(state(), folder / "model.safetensors")

ids = torch.randint(3, 41, (1, 20))
logits = model(input_ids=ids).logits[0]
loss = torch.nn.functional.cross_entropy(logits[4:-1], ids[0, 5:])
loss.backward()
expected = {"ids": ids[0].int(), "logits": logits.detach(), "loss": loss.detach().reshape(1)}
gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
expected |= {f"gradient.{name}": gradient for name, gradient in gradients.items()}

parameters = list(model.parameters())
groups = [
    {"params": [p for p in parameters if p.dim() == 2], "weight_decay": 0.1},
    {"params": [p for p in parameters if p.dim() != 2], "weight_decay": 0.0},
]
optimizer = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.98), eps=1e-8)
for factor in (1.0, -0.5, 0.01):
    for name, parameter in model.named_parameters():
        parameter.grad = gradients[name] * factor
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
expected |= {f"after.{name}": value for name, value in state().items()}
save_file(expected, folder / "expected.safetensors")
print("loss", loss.item(), "gradient norm", torch.stack([g.norm() for g in gradients.values()]).norm().item())

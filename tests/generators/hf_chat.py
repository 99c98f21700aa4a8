"""Makes tests/fixtures/hf/chat: a tiny random Qwen 2 with tokenizer and chat template, and what transformers makes of a chat.

python -P tests/generators/hf_chat.py
"""

import json
import pathlib
import shutil

import torch
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

HERE = pathlib.Path(__file__).resolve().parent.parent / "fixtures/hf"
OUT = HERE / "chat"
TEMPLATE = (
    "{%- if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}"
)

torch.manual_seed(7)
OUT.mkdir(exist_ok=True)
shutil.copy(HERE / "tokenizers/qwen.json", OUT / "tokenizer.json")
(OUT / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE, "eos_token": "<|im_end|>"}, indent=1))
tokenizer = PreTrainedTokenizerFast(
    tokenizer_file=str(OUT / "tokenizer.json"), eos_token="<|im_end|>", chat_template=TEMPLATE
)
end = tokenizer.convert_tokens_to_ids("<|im_end|>")
config = Qwen2Config(
    vocab_size=len(tokenizer) + 2, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=512, eos_token_id=end, bos_token_id=None, tie_word_embeddings=True,
)
model = Qwen2ForCausalLM(config).eval()
with torch.no_grad():
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.mul_(12.0)
model.save_pretrained(OUT)
messages = [{"role": "user", "content": "how are you?"}]
ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")
ids = ids["input_ids"] if not torch.is_tensor(ids) else ids
with torch.no_grad():
    logits = model(ids).logits[0, -1]
    said = model.generate(ids, max_new_tokens=8, do_sample=False)[0, ids.shape[1]:]
kept = [token for token in said.tolist() if token != end]
expected = {
    "question": messages[0]["content"],
    "prompt": ids[0].tolist(),
    "said": tokenizer.decode(kept),
    "ids": said.tolist(),
    "largest_logit": float(logits.max()),
}
(OUT / "expected.json").write_text(json.dumps(expected, indent=1))
for name in ["generation_config.json"]:
    if (OUT / name).exists():
        print(name, (OUT / name).read_text())
print(expected)

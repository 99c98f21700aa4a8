"""Writes tests/fixtures/hf/<family>: tiny random checkpoints of transformers with all that their family has, and what
transformers and PyTorch make of them: logits, hidden states, a greedy continuation, loss, gradients and one AdamW step.
And tests/fixtures/hf/tokenizers: small tokenizers of the kinds that these families have, with ids and texts.

    pip install torch transformers safetensors && python -P tests/generators/hf_parity.py
"""

import json
import pathlib
import shutil

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    Gemma2Config, Gemma2ForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM, Qwen2Config,
    Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM,
)

torch.manual_seed(0)
torch.set_num_threads(1)
root = pathlib.Path(__file__).parent.parent / "fixtures" / "hf"
shutil.rmtree(root, ignore_errors=True)

sizes = dict(
    vocab_size=200, hidden_size=32, intermediate_size=40, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2,
)
llama3 = dict(
    rope_type="llama3", rope_theta=10000.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=16,
)
local = {
    "full_attention": dict(rope_type="linear", factor=8.0, rope_theta=1000000.0),
    "sliding_attention": dict(rope_type="default", rope_theta=10000.0),
}
# Name, configuration, class, stored type, bytes of a shard.
cases = [
    ("llama2", LlamaConfig(**sizes, num_hidden_layers=2, tie_word_embeddings=False), LlamaForCausalLM, "float16", None),
    ("llama3", LlamaConfig(**sizes, num_hidden_layers=2, head_dim=12, rope_parameters=llama3, tie_word_embeddings=True,
                           rms_norm_eps=1e-5), LlamaForCausalLM, "float32", None),
    ("qwen2", Qwen2Config(**sizes, num_hidden_layers=3, use_sliding_window=True, sliding_window=6, max_window_layers=2,
                          tie_word_embeddings=True), Qwen2ForCausalLM, "bfloat16", "20KB"),
    ("qwen3", Qwen3Config(**sizes, num_hidden_layers=2, head_dim=12, tie_word_embeddings=False), Qwen3ForCausalLM,
     "bfloat16", None),
    ("gemma2", Gemma2Config(**sizes, num_hidden_layers=3, head_dim=12, query_pre_attn_scalar=20, sliding_window=6,
                            attn_logit_softcapping=1.0, final_logit_softcapping=1.5), Gemma2ForCausalLM, "bfloat16", None),
    ("gemma3", Gemma3TextConfig(**sizes, num_hidden_layers=3, head_dim=12, query_pre_attn_scalar=20, sliding_window=6,
                                layer_types=["sliding_attention", "sliding_attention", "full_attention"],
                                rope_parameters=local), Gemma3ForCausalLM, "bfloat16", None),
]


def entries(tensor):
    """Six values spread over a tensor."""
    flat = tensor.detach().flatten()
    places = [round(k * (len(flat) - 1) / 5) for k in range(6)]
    return {"places": places, "values": [flat[place].item() for place in places]}


for name, config, kind, stored, shard in cases:
    config._attn_implementation = "eager"
    torch.manual_seed(len(name) + ord(name[-1]))
    model = kind(config).float().eval()
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            # Away from the initial values, where norms do nothing, attention is flat and no cap bends.
            if "norm" in path or path.endswith("bias"):
                parameter.add_(0.3 * torch.randn_like(parameter))
            else:
                parameter.mul_(3.0 if "embed" in path and "gemma" in name else 8.0)
            parameter.copy_(parameter.to(getattr(torch, stored)).float())
    folder = root / name
    more = {} if shard is None else {"max_shard_size": shard}
    kind.from_pretrained(None, config=config, state_dict=model.state_dict(), dtype=getattr(torch, stored)).save_pretrained(folder, **more)
    (folder / "generation_config.json").unlink(missing_ok=True)

    rows = [torch.randint(3, 200, (1, length)) for length in (1, 7, 24)]
    total, logits, hidden = 0.0, [], []
    for ids in rows:
        output = model(input_ids=ids, output_hidden_states=True)
        logits.append(output.logits[0, -2:].detach().tolist())
        hidden.append([state[0, -1].detach().tolist() for state in output.hidden_states[:-1]])
        if ids.shape[1] > 1:
            total = total + torch.nn.functional.cross_entropy(output.logits[0, 2:-1], ids[0, 3:], reduction="sum")
    loss = total / sum(max(ids.shape[1] - 3, 0) for ids in rows)
    loss.backward()
    gradients = {path: parameter.grad for path, parameter in model.named_parameters()}
    told = {path: {"norm": gradient.norm().item(), **entries(gradient)} for path, gradient in gradients.items()}
    with torch.no_grad():
        generated = model.generate(rows[1], max_new_tokens=12, do_sample=False, eos_token_id=None)[0, 7:].tolist()
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() == 2], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.dim() != 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.98), eps=1e-8)
    norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0).item()
    optimizer.step()
    after = {path: entries(parameter) for path, parameter in model.named_parameters()}
    expected = {
        "rows": [ids[0].tolist() for ids in rows], "logits": logits, "hidden": hidden, "loss": loss.item(),
        "gradient_norm": norm, "gradients": told, "after": after, "generated": generated,
    }
    digits = lambda value: (
        {key: digits(inner) for key, inner in value.items()} if isinstance(value, dict)
        else [digits(inner) for inner in value] if isinstance(value, list)
        else float(f"{value:.8g}") if isinstance(value, float) else value
    )
    (folder / "expected.json").write_text(json.dumps(digits(expected)) + "\n")
    size = max(path.stat().st_size for path in folder.glob("*.safetensors"))
    print(name, "loss", loss.item(), "gradient norm", norm, "largest shard", size, [p.name for p in folder.iterdir()])

corpus = [
    "The quick brown fox jumps over the lazy dog.", "Don't stop: it's 12345 degrees!", "naïve café, 東京, здравствуй",
    "fn main() {\n    println!(\"hello\");\n}\n", "  spaces   and\ttabs\n\n\nlines", "emoji 🦊 and 👩‍🚀 too",
]
gpt4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
specials = ["<|begin|>", "<|end|>", "<|im_start|>", "<|im_end|>"]


def byte_level():
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(gpt4), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False, min_frequency=1)
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in specials])
    return tokenizer


def sentence_piece(llama):
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    space = "\u2581"
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trained.train_from_iterator(corpus[:2] + corpus[3:4], trainers.BpeTrainer(vocab_size=90, show_progress=False, min_frequency=1))
    model = json.loads(trained.to_str())["model"]
    vocabulary = ["<pad>", "<unk>"] + bytes_ + [space * k for k in (2, 3, 4)] + sorted(model["vocab"], key=model["vocab"].get)
    ids = {token: index for index, token in enumerate(dict.fromkeys(vocabulary))}
    merges = [tuple(pair) for pair in model["merges"]] + [(space, space), (space * 2, space), (space * 2, space * 2)]
    tokenizer.model = models.BPE(vocab=ids, merges=merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>")
    replace = normalizers.Replace(" ", space)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(space), replace]) if llama else replace
    tail = [decoders.Strip(" ", 1, 0)] if llama else []
    tokenizer.decoder = decoders.Sequence([decoders.Replace(space, " "), decoders.ByteFallback(), decoders.Fuse()] + tail)
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in specials])
    return tokenizer


folder = root / "tokenizers"
folder.mkdir()
for name, tokenizer in [("qwen", byte_level()), ("llama2", sentence_piece(True)), ("gemma", sentence_piece(False))]:
    text = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False)
    (folder / f"{name}.json").write_text(text + "\n")
    told = []
    for line in corpus + ["", " ", "<|im_start|>user\nhi there<|im_end|>\n", "unseen Ω words", "a  b"]:
        encoding = tokenizer.encode(line, add_special_tokens=False)
        told.append({"text": line, "ids": encoding.ids, "decoded": tokenizer.decode(encoding.ids)})
    (folder / f"{name}.expected.json").write_text(json.dumps(told, ensure_ascii=False) + "\n")
    print(name, tokenizer.get_vocab_size(), len(text))

"""A Llama-shaped decoder in PyTorch as people write it: scaled_dot_product_attention, rms_norm, tied embedding."""
import json
import os
import resource
import sys

import torch
import torch.nn.functional as F


class Decoder(torch.nn.Module):
    """Weights come from the flat file that the benchmark wrote."""

    def __init__(self, folder, case):
        super().__init__()
        self.config = config = case["config"]
        flat = torch.frombuffer(bytearray(open(os.path.join(folder, "weights.bin"), "rb").read()), dtype=torch.float32)
        start, tensors = 0, {}
        for tensor in case["tensors"]:
            count = 1
            for size in tensor["shape"]:
                count *= size
            tensors[tensor["name"]] = flat[start : start + count].reshape(tensor["shape"]).clone()
            start += count
        assert start == len(flat)
        parameter = lambda tensor: torch.nn.Parameter(tensor)
        self.embedding = parameter(tensors["model.embed_tokens.weight"])
        self.norm = parameter(tensors["model.norm.weight"])
        self.layers = torch.nn.ModuleList()
        for layer in range(config["num_hidden_layers"]):
            get = lambda name: tensors[f"model.layers.{layer}.{name}.weight"]
            block = torch.nn.ParameterDict()
            # Fused projections are the faster choice here.
            block["qkv"] = parameter(torch.cat([get(f"self_attn.{part}_proj") for part in "qkv"]))
            block["output"] = parameter(get("self_attn.o_proj"))
            block["gate_up"] = parameter(torch.cat([get("mlp.gate_proj"), get("mlp.up_proj")]))
            block["down"] = parameter(get("mlp.down_proj"))
            block["norm1"] = parameter(get("input_layernorm"))
            block["norm2"] = parameter(get("post_attention_layernorm"))
            self.layers.append(block)
        self.heads = config["num_attention_heads"]
        self.head_width = config["hidden_size"] // self.heads
        assert config["num_key_value_heads"] == self.heads
        frequency = 10000.0 ** (-torch.arange(0, self.head_width, 2).float() / self.head_width)
        angles = torch.outer(torch.arange(config["max_position_embeddings"]).float(), frequency)
        self.cosine, self.sine = torch.cat([angles.cos()] * 2, -1), torch.cat([angles.sin()] * 2, -1)

    def rotate(self, x, start):
        end, half = start + x.shape[2], self.head_width // 2
        turned = torch.cat([-x[..., half:], x[..., :half]], -1)
        return x * self.cosine[start:end] + turned * self.sine[start:end]

    def forward(self, ids, cache=None, start=0):
        """Hidden rows (batch, time, width); with a cache (per layer keys and values of (batch, heads, room, width))
        it reads and writes positions from `start`."""
        rows, time = ids.shape
        width = (self.config["hidden_size"],)
        epsilon = self.config["rms_norm_eps"]
        x = F.embedding(ids, self.embedding)
        for index, block in enumerate(self.layers):
            normed = F.rms_norm(x, width, block["norm1"], epsilon)
            qkv = F.linear(normed, block["qkv"]).view(rows, time, 3, self.heads, self.head_width)
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            q, k = self.rotate(q, start), self.rotate(k, start)
            if cache is not None:
                keys, values = cache[index]
                keys[:, :, start : start + time], values[:, :, start : start + time] = k, v
                k, v = keys[:, :, : start + time], values[:, :, : start + time]
            attended = F.scaled_dot_product_attention(q, k, v, is_causal=time > 1)
            x = x + F.linear(attended.transpose(1, 2).reshape(rows, time, -1), block["output"])
            normed = F.rms_norm(x, width, block["norm2"], epsilon)
            gate, up = F.linear(normed, block["gate_up"]).chunk(2, -1)
            x = x + F.linear(F.silu(gate) * up, block["down"])
        return F.rms_norm(x, width, self.norm, epsilon)


def peak_mb():
    """Highest resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def open_hub_model(folder, case):
    """The same decoder as `transformers` has it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    keys = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
            "intermediate_size", "max_position_embeddings", "rms_norm_eps")
    config = LlamaConfig(**{key: case["config"][key] for key in keys}, tie_word_embeddings=True, rope_theta=10000.0)
    model = LlamaForCausalLM(config)
    from safetensors.torch import load_file

    missing, unexpected = model.load_state_dict(load_file(os.path.join(folder, "model.safetensors")), strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    return model


def open_case():
    """The folder, the case in it and the decoder, with as many threads as the command line says."""
    folder, threads = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(threads)
    case = json.load(open(os.path.join(folder, "case.json")))
    return case, Decoder(folder, case)

#!/usr/bin/env python3
"""Writes tests/golden/model/: tiny random decoders of every family and what Hugging Face transformers computes with them.

    pip install torch transformers safetensors tokenizers
    python3 tests/golden/make_model_golden.py

Each directory NAME holds config.json and model.safetensors as a user would have them, and expected.safetensors with
`ids` (windows, length) and `logits` (windows, length, vocab) of transformers' eager float32 forward pass over what is on
disk. tiny-llama.expected.safetensors does the same for examples/tiny-llama, with a part of the logits. The versions of
the tools stand in the metadata of every expected file. The tests need none of this, only the files.
"""

import json
from pathlib import Path

import safetensors.torch
import tokenizers
import torch
import transformers

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "tests" / "golden" / "model"
VERSIONS = {"transformers": transformers.__version__, "torch": torch.__version__}

# More than one block of 64 queries, and no multiple of a vector's width.
WINDOWS, LENGTH = 2, 71
SIZES = dict(hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             vocab_size=97, max_position_embeddings=128, bos_token_id=0, eos_token_id=1)


def old_rope(config, type_key):
    """rope_parameters as they were spelled before transformers 5: rope_theta and rope_scaling."""
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    rope_type = rope.pop("rope_type")
    config["rope_scaling"] = None if rope_type == "default" else {type_key: rope_type, **rope}


def without(config, *keys):
    for key in keys:
        config.pop(key)


# name: (config class, options, dtype on disk, edit of the saved config.json)
MODELS = {
    "llama-llama3-rope": (
        transformers.LlamaConfig,
        dict(rope_parameters=dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0,
                                  high_freq_factor=4.0, original_max_position_embeddings=64)),
        torch.bfloat16, None),
    "llama-llama3-rope-old-spelling": (
        transformers.LlamaConfig,
        dict(num_key_value_heads=1, tie_word_embeddings=True,
             rope_parameters=dict(rope_type="llama3", rope_theta=500000.0, factor=4.0, low_freq_factor=1.0,
                                  high_freq_factor=2.0, original_max_position_embeddings=32)),
        torch.float16, lambda c: old_rope(c, "rope_type")),
    "llama-linear-rope-biases": (
        transformers.LlamaConfig,
        dict(num_key_value_heads=4, attention_bias=True, mlp_bias=True, tie_word_embeddings=True,
             rope_parameters=dict(rope_type="linear", rope_theta=5000.0, factor=2.5)),
        torch.bfloat16, lambda c: (old_rope(c, "type"), without(c, "num_key_value_heads", "head_dim"))),
    "mistral-window": (
        transformers.MistralConfig, dict(sliding_window=9, head_dim=10), torch.float16, None),
    "qwen2-window-from-layer-1": (
        transformers.Qwen2Config,
        dict(use_sliding_window=True, sliding_window=66, max_window_layers=1, tie_word_embeddings=True),
        torch.bfloat16, lambda c: (old_rope(c, "type"), without(c, "layer_types"))),
    "qwen3": (transformers.Qwen3Config, dict(head_dim=16), torch.float32, None),
    "qwen3-biases-layer-types": (
        transformers.Qwen3Config,
        dict(head_dim=8, attention_bias=True, tie_word_embeddings=True, use_sliding_window=True, sliding_window=5,
             layer_types=["sliding_attention", "full_attention"]),
        torch.bfloat16, None),
}


def randomize(model):
    """Weights that make every part matter: the usual initialization leaves attention uniform and biases zero."""
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data = 1 + 0.3 * torch.randn_like(parameter)
        elif name.endswith("bias"):
            parameter.data = 0.5 * torch.randn_like(parameter)
        elif "embed" in name:
            parameter.data = torch.randn_like(parameter)
        else:
            gain = 2.0 if "q_proj" in name or "k_proj" in name else 1.0
            parameter.data = gain * torch.randn_like(parameter) / parameter.shape[1] ** 0.5


def float32_model(directory):
    return transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32,
                                                             attn_implementation="eager").eval()


def write_expected(path, **tensors):
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    safetensors.torch.save_file(contiguous, path, metadata=VERSIONS)


def make_random(name, config_class, options, dtype, edit):
    directory = OUT / name
    directory.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(sum(name.encode()))
    model = transformers.AutoModelForCausalLM.from_config(config_class(**{**SIZES, **options}))
    randomize(model)
    model.to(dtype).save_pretrained(directory)
    (directory / "generation_config.json").unlink(missing_ok=True)
    config = json.loads((directory / "config.json").read_text())
    if edit:
        edit(config)
    (directory / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

    ids = torch.randint(0, SIZES["vocab_size"], (WINDOWS, LENGTH))
    with torch.no_grad():
        logits = float32_model(directory)(ids).logits
    write_expected(directory / "expected.safetensors", ids=ids.to(torch.int32), logits=logits)


def make_tiny_llama():
    directory = ROOT / "examples" / "tiny-llama"
    text = (ROOT / "examples" / "shakespeare-test.txt").read_text(encoding="utf-8")
    tokenizer = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
    ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False).ids[:64]])
    with torch.no_grad():
        logits = float32_model(directory)(ids).logits
    top = logits.topk(4)
    write_expected(OUT / "tiny-llama.expected.safetensors", ids=ids.to(torch.int32), top_logits=top.values,
                   top_ids=top.indices.to(torch.int32), every_64th_logit=logits[:, :, ::64])


if __name__ == "__main__":
    for model_name, recipe in MODELS.items():
        make_random(model_name, *recipe)
    make_tiny_llama()

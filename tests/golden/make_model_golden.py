#!/usr/bin/env python3
"""Writes tests/golden/model/: tiny random decoders of every family and what Hugging Face transformers computes with them.

    pip install torch transformers safetensors tokenizers
    python3 tests/golden/make_model_golden.py [NAME..]

Each directory NAME holds config.json and model.safetensors as a user would have them, and expected.safetensors with
`ids` (windows, length) and `logits` (windows, length, vocab), or `last_logits` (windows, some last tokens, vocab), of
transformers' eager float32 forward pass over what is on disk. tiny-llama.expected.safetensors does the same for examples/tiny-llama, with a part of the logits. The versions of
the tools stand in the metadata of every expected file. The tests need none of this, only the files.
"""

import json
import sys
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
LAST_TOKENS = 20
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


def rename(config, old, new):
    config[new] = config.pop(old)


PHI = dict(pad_token_id=None, sliding_window=None)
LONGROPE = dict(rope_type="longrope", rope_theta=10000.0, short_factor=[1.0, 1.1, 1.3, 1.7, 2.5],
                long_factor=[1.2, 2.0, 3.5, 6.0, 9.0])
GEMMA = dict(head_dim=16, query_pre_attn_scalar=24, num_hidden_layers=3, hidden_size=40, intermediate_size=56,
             vocab_size=61, pad_token_id=None)
EXPERTS = dict(hidden_size=32, intermediate_size=24, num_hidden_layers=3, vocab_size=61, num_experts_per_tok=3)

LATENT = dict(EXPERTS, kv_lora_rank=12, qk_rope_head_dim=6, qk_nope_head_dim=10, v_head_dim=14, n_routed_experts=8,
              moe_intermediate_size=20, num_key_value_heads=4)

# name: (config class, options, dtype on disk, edit of the saved config.json)
MODELS = {
    "qwen2-yarn": (
        transformers.Qwen2Config,
        dict(vocab_size=61, rope_parameters=dict(rope_type="yarn", rope_theta=1000.0, factor=4.0, beta_fast=6.0,
                                                 original_max_position_embeddings=48)),
        torch.bfloat16, None),
    "deepseek-v2-groups": (
        transformers.DeepseekV2Config,
        dict(LATENT, q_lora_rank=None, n_shared_experts=2, n_group=4, topk_group=2, topk_method="group_limited_greedy",
             first_k_dense_replace=1, routed_scaling_factor=1.7, norm_topk_prob=False, rms_norm_eps=1e-4),
        torch.bfloat16, None),
    "deepseek-v3-yarn": (
        transformers.DeepseekV3Config,
        dict(LATENT, q_lora_rank=18, n_shared_experts=1, n_group=4, topk_group=2, first_k_dense_replace=1,
             norm_topk_prob=True, routed_scaling_factor=1.3, attention_bias=True, num_hidden_layers=2,
             rope_parameters=dict(rope_type="yarn", rope_theta=1000.0, factor=4.0, mscale=1.0, mscale_all_dim=0.7,
                                  beta_fast=6, beta_slow=1, original_max_position_embeddings=48)),
        torch.bfloat16, None),
    # partial rotation: int(12 * 0.85) = 10 of 12 elements; the windows are longer than what it was trained for
    "phi3-longrope-long": (
        transformers.Phi3Config,
        dict(PHI, vocab_size=61, max_position_embeddings=256, original_max_position_embeddings=64,
             rope_parameters=dict(LONGROPE, partial_rotary_factor=0.85)),
        torch.bfloat16, None),
    "phi3-longrope-short-window-old-spelling": (
        transformers.Phi3Config,
        dict(PHI, vocab_size=61, max_position_embeddings=256, original_max_position_embeddings=128,
             sliding_window=13, rope_parameters=dict(LONGROPE, partial_rotary_factor=0.85)),
        torch.bfloat16,
        lambda c: (rename(c["rope_parameters"], "partial_rotary_factor", "_"),
                   c.update(partial_rotary_factor=c["rope_parameters"].pop("_")),
                   c["rope_parameters"].pop("original_max_position_embeddings", None), old_rope(c, "type"))),
    # the defaults of alternating windows and tied embeddings are left to the reader
    "gemma2": (
        transformers.Gemma2Config, dict(GEMMA, sliding_window=9, attn_logit_softcapping=3.0, final_logit_softcapping=4.0),
        torch.bfloat16, lambda c: (old_rope(c, "type"), without(c, "layer_types", "tie_word_embeddings"))),
    "gemma3-local-rope": (
        transformers.Gemma3TextConfig,
        dict(GEMMA, sliding_window=9, final_logit_softcapping=None,
             layer_types=["sliding_attention", "full_attention", "sliding_attention"],
             rope_parameters=dict(sliding_attention=dict(rope_type="default", rope_theta=100.0),
                                  full_attention=dict(rope_type="linear", rope_theta=20000.0, factor=8.0))),
        torch.bfloat16, None),
    "gemma3-old-spelling": (
        transformers.Gemma3TextConfig,
        dict(GEMMA, sliding_window=11, final_logit_softcapping=5.0, tie_word_embeddings=False,
             sliding_window_pattern=2,
             rope_parameters=dict(sliding_attention=dict(rope_type="default", rope_theta=10000.0),
                                  full_attention=dict(rope_type="linear", rope_theta=1000000.0, factor=4.0))),
        torch.bfloat16,
        lambda c: (c.pop("rope_parameters"), without(c, "layer_types", "_sliding_window_pattern"),
                   c.update(sliding_window_pattern=2, rope_scaling=dict(rope_type="linear", factor=4.0)))),
    # the text part leaves out the numbers of heads, as files on the Hub do
    "gemma3-in-larger-model": (
        transformers.Gemma3Config,
        dict(vocab_size=61, text_config=dict({**SIZES, **GEMMA}, num_attention_heads=8, num_key_value_heads=4, head_dim=8,
                                             num_hidden_layers=2, sliding_window=9, sliding_window_pattern=2),
             vision_config=dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
                                image_size=28, patch_size=14),
             mm_tokens_per_image=4),
        torch.bfloat16,
        lambda c: without(c["text_config"], "num_attention_heads", "num_key_value_heads")),
    "mixtral": (
        transformers.MixtralConfig, dict(EXPERTS, num_local_experts=5), torch.bfloat16, None),
    # of four layers 1 and 3 would have experts, but 1 is named
    "qwen3-moe-mixed-layers": (
        transformers.Qwen3MoeConfig,
        dict(EXPERTS, head_dim=8, num_hidden_layers=4, num_experts=6, moe_intermediate_size=20, norm_topk_prob=False,
             decoder_sparse_step=2, mlp_only_layers=[1], attention_bias=True, use_sliding_window=True,
             sliding_window=17, tie_word_embeddings=True),
        torch.bfloat16, None),
    "qwen3-moe-normalized": (
        transformers.Qwen3MoeConfig,
        dict(EXPERTS, head_dim=8, num_hidden_layers=2, num_experts=6, moe_intermediate_size=20, norm_topk_prob=True),
        torch.bfloat16, lambda c: rename(c, "num_local_experts", "num_experts") if "num_local_experts" in c else None),
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
            adds_one = type(model).__name__.startswith("Gemma")
            parameter.data = (0 if adds_one else 1) + 0.3 * torch.randn_like(parameter)
        elif name.endswith("bias"):
            parameter.data = 0.5 * torch.randn_like(parameter)
        elif "embed" in name:
            parameter.data = torch.randn_like(parameter)
        else:
            gain = 2.0 if "q_proj" in name or "k_proj" in name or "qkv_proj" in name else 1.0
            parameter.data = gain * torch.randn_like(parameter) / parameter.shape[-1] ** 0.5


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
    model_config = config_class(**{**SIZES, **options})
    model = transformers.AutoModelForCausalLM.from_config(model_config)
    randomize(model)
    for buffer_name, buffer in model.named_buffers():
        if "e_score_correction_bias" in buffer_name:
            buffer.copy_(0.2 * torch.randn_like(buffer))
    model.to(dtype).save_pretrained(directory)
    (directory / "generation_config.json").unlink(missing_ok=True)
    config = json.loads((directory / "config.json").read_text())
    if edit:
        edit(config)
    (directory / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

    ids = torch.randint(0, model_config.get_text_config().vocab_size, (WINDOWS, LENGTH))
    with torch.no_grad():
        logits = float32_model(directory)(ids).logits
    if options.get("vocab_size"):  # the newer models: what depends on all tokens, in smaller files
        write_expected(directory / "expected.safetensors", ids=ids.to(torch.int32),
                       last_logits=logits[:, -LAST_TOKENS:])
    else:
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
        if not sys.argv[1:] or model_name in sys.argv[1:]:
            make_random(model_name, *recipe)
    if not sys.argv[1:]:
        make_tiny_llama()

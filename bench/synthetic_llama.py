#!/usr/bin/env python3
"""Writes a checkpoint of Llama-3's exact shapes with random weights, to time quantizing real sizes.

    python3 bench/synthetic_llama.py DIR --size 8b [--layers 32] [--tokens 262144]

BF16, normal with a standard deviation of 0.02 (of what o and down add: less, as trained models have it), a few
input channels and norms much larger, as trained models have them too. DIR/calibration.npy holds random token ids.
Needs numpy; writes one file a layer, several at once.
"""
import argparse
import concurrent.futures
import json
import os

import numpy as np

SIZES = {
    "1b": dict(hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32, head_dim=64),
    "3b": dict(hidden_size=3072, intermediate_size=8192, num_hidden_layers=28, num_attention_heads=24, head_dim=128),
    "8b": dict(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, head_dim=128),
    "70b": dict(hidden_size=8192, intermediate_size=28672, num_hidden_layers=80, num_attention_heads=64, head_dim=128),
}
KV_HEADS, VOCAB = 8, 128256


def bf16(values):
    """float32 -> bits, to nearest even"""
    bits = np.asarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def normal_table(deviation):
    """65536 quantiles of a normal distribution: a random 16-bit number looks its weight up"""
    from statistics import NormalDist
    points = np.linspace(-4.3, 4.3, 4097)
    levels = np.array([NormalDist().cdf(x) for x in points])
    return bf16(deviation * np.interp((np.arange(65536) + 0.5) / 65536, levels, points))


def weight(rng, n, k, deviation, outliers):
    bits = normal_table(deviation)[np.frombuffer(rng.bytes(2 * n * k), np.uint16)].reshape(n, k)
    for channel in outliers:  # 8 to 32 times larger: the exponent's lowest bits
        bits[:, channel] += np.uint16(128 * int(rng.integers(3, 6)))
    return bits


def norm(rng, n, outliers):
    values = 1 + 0.1 * rng.standard_normal(n)
    values[outliers] *= 12
    return bf16(values)


def write(path, tensors):
    header, end = {}, 0
    for name, bits in tensors.items():
        header[name] = {"dtype": "BF16", "shape": list(bits.shape), "data_offsets": [end, end + bits.nbytes]}
        end += bits.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for bits in tensors.values():
            file.write(np.ascontiguousarray(bits).tobytes())
    return {name: os.path.basename(path) for name in tensors}, end


def layer(path, index, config):
    rng = np.random.default_rng([7, index])
    h, i, d = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    heads = config["num_attention_heads"] * d
    outliers = np.random.default_rng(7).choice(h, 6, replace=False)  # the same channels in every layer
    prefix = f"model.layers.{index}."
    small = 0.02 / (2 * config["num_hidden_layers"]) ** 0.5
    return write(path, {
        prefix + "input_layernorm.weight": norm(rng, h, outliers),
        prefix + "mlp.down_proj.weight": weight(rng, h, i, small, rng.choice(i, 6, replace=False)),
        prefix + "mlp.gate_proj.weight": weight(rng, i, h, 0.02, []),
        prefix + "mlp.up_proj.weight": weight(rng, i, h, 0.02, []),
        prefix + "post_attention_layernorm.weight": norm(rng, h, outliers),
        prefix + "self_attn.k_proj.weight": weight(rng, KV_HEADS * d, h, 0.02, []),
        prefix + "self_attn.o_proj.weight": weight(rng, h, heads, small, rng.choice(heads, 6, replace=False)),
        prefix + "self_attn.q_proj.weight": weight(rng, heads, h, 0.02, []),
        prefix + "self_attn.v_proj.weight": weight(rng, KV_HEADS * d, h, 0.02, []),
    })


def ends(path, config):
    rng = np.random.default_rng(6)
    h = config["hidden_size"]
    return write(path, {
        "lm_head.weight": weight(rng, VOCAB, h, 0.02, []),
        "model.embed_tokens.weight": weight(rng, VOCAB, h, 0.02, []),
        "model.norm.weight": norm(rng, h, []),
    })


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory")
    parser.add_argument("--size", choices=SIZES, default="8b")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--tokens", type=int, default=128 * 2048)
    args = parser.parse_args()
    config = dict(SIZES[args.size])
    if args.layers:
        config["num_hidden_layers"] = args.layers
    os.makedirs(args.directory)
    count = config["num_hidden_layers"]
    path = lambda i: os.path.join(args.directory, f"model-{i + 1:05d}-of-{count + 1:05d}.safetensors")
    weight_map, size = {}, 0
    with concurrent.futures.ProcessPoolExecutor(min(8, os.cpu_count())) as pool:
        jobs = [pool.submit(layer, path(i), i, config) for i in range(count)] + [pool.submit(ends, path(count), config)]
        for job in jobs:
            names, end = job.result()
            weight_map.update(names)
            size += end
    with open(os.path.join(args.directory, "model.safetensors.index.json"), "w") as file:
        json.dump({"metadata": {"total_size": size}, "weight_map": weight_map}, file)
    config.update(architectures=["LlamaForCausalLM"], model_type="llama", num_key_value_heads=KV_HEADS, vocab_size=VOCAB,
                  rms_norm_eps=1e-5, rope_theta=500000.0, hidden_act="silu", tie_word_embeddings=False,
                  max_position_embeddings=8192, torch_dtype="bfloat16")
    with open(os.path.join(args.directory, "config.json"), "w") as file:
        json.dump(config, file, indent=2)
    tokens = np.random.default_rng(5).integers(0, VOCAB, args.tokens, dtype=np.int32)
    np.save(os.path.join(args.directory, "calibration.npy"), tokens)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""A GPTQ checkpoint of Llama-3-70B's decoder-layer shapes, random codes, for measuring marlin-pack convert.

    python3 bench/synthetic_layers.py DIRECTORY LAYERS     # 20 layers are 8.8 GB

Symmetric 4-bit codes in groups of 128, one file per layer, no dependency but Python.
"""
import json
import os
import struct
import sys

SHAPES = {  # K, N
    "self_attn.q_proj": (8192, 8192), "self_attn.k_proj": (8192, 1024), "self_attn.v_proj": (8192, 1024),
    "self_attn.o_proj": (8192, 8192), "mlp.gate_proj": (8192, 28672), "mlp.up_proj": (8192, 28672),
    "mlp.down_proj": (28672, 8192),
}


def tensors(layer):
    for name, (k, n) in SHAPES.items():
        module = f"model.layers.{layer}.{name}"
        g = k // 128
        yield module + ".qweight", "I32", [k // 8, n], lambda size=k * n // 2: os.urandom(size)
        yield module + ".qzeros", "I32", [g, n // 8], lambda size=g * n // 2: b"\x77" * size
        yield module + ".scales", "F16", [g, n], lambda size=g * n: struct.pack("<H", 0x211F) * size  # 0.01
        yield module + ".g_idx", "I32", [k], lambda k=k: b"".join(struct.pack("<i", i // 128) for i in range(k))


def main(directory, layers):
    os.makedirs(directory)
    weight_map, total = {}, 0
    for layer in range(layers):
        file = f"model-{layer + 1:05}-of-{layers:05}.safetensors"
        header, offset, parts = {"__metadata__": {"format": "pt"}}, 0, []
        for name, dtype, shape, make in tensors(layer):
            size = shape[0] * (shape[1] if len(shape) == 2 else 1) * (2 if dtype == "F16" else 4)
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
            weight_map[name] = file
            offset += size
            parts.append(make)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with open(os.path.join(directory, file), "wb") as out:
            out.write(struct.pack("<Q", len(text)) + text)
            for make in parts:
                out.write(make())
        total += offset
    with open(os.path.join(directory, "model.safetensors.index.json"), "w") as out:
        json.dump({"metadata": {"total_size": total}, "weight_map": weight_map}, out)
    with open(os.path.join(directory, "config.json"), "w") as out:
        json.dump({"torch_dtype": "float16", "quantization_config": {
            "quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True, "desc_act": False}}, out)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

#!/usr/bin/env python3
"""Writes tests/fuzz/corpus: small inputs made after real files. Standard library only; run from anywhere.

Names, dtypes and shapes of tensors follow checkpoints that GPTQModel, AutoAWQ, llm-compressor, ModelOpt, HQQ and others
write, at sizes of a few kilobytes; configurations are those of tests/golden/configs and the examples of their documentation.
"""
import json
import pathlib
import struct

HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden"
SIZES = {"I64": 8, "F32": 4, "I32": 4, "U32": 4, "BF16": 2, "F16": 2, "I16": 2, "F8_E8M0": 1, "F8_E4M3": 1, "I8": 1, "U8": 1}


def put(target, name, data):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def container(tensors, metadata=True):
    """tensors: [(name, dtype, shape)]; the data are zeros."""
    header, at = {"__metadata__": {"format": "pt"}} if metadata else {}, 0
    for name, dtype, shape in tensors:
        size = SIZES[dtype]
        for extent in shape:
            size *= extent
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(at)


P = "model.layers.0.mlp.down_proj."
GPTQ = [(P + "g_idx", "I32", [8]), (P + "qweight", "I32", [1, 4]), (P + "qzeros", "I32", [1, 1]), (P + "scales", "F16", [1, 4])]
CT = [(P + "weight_packed", "I32", [4, 1]), (P + "weight_scale", "BF16", [4, 1]), (P + "weight_shape", "I64", [2])]
NVFP4 = [(P + "weight_packed", "U8", [2, 8]), (P + "weight_scale", "F8_E4M3", [2, 1]), (P + "weight_global_scale", "F32", [1])]
FP8 = [(P + "weight", "F8_E4M3", [4, 4]), (P + "weight_scale_inv", "F32", [1, 1])]

for name, tensors in {"gptq": GPTQ, "ct": CT, "nvfp4": NVFP4, "fp8": FP8, "scalar": [("a", "F32", [])],
                      "empty-tensor": [("a", "F16", [0, 7]), ("b", "U8", [3])], "none": []}.items():
    put("safetensors", name, container(tensors))
put("safetensors", "no-metadata", container(GPTQ, metadata=False))

index = {"metadata": {"total_size": 58}, "weight_map": {t[0]: "model-00001-of-00002.safetensors" for t in GPTQ}}
index["weight_map"]["b"] = "model-00002-of-00002.safetensors"
put("checkpoint", "indexed", json.dumps(index).encode() + b"\xff" + container(GPTQ))
put("checkpoint", "no-index", b"\xff" + container(CT))
put("checkpoint", "other-shard", json.dumps({"weight_map": {"b": "model-00002-of-00002.safetensors"}}).encode() + b"\xff")

# ---- config.json --------------------------------------------------------------------------------------------------------
for folder in sorted((GOLDEN / "configs").iterdir()):
    if folder.is_dir():
        config = json.loads((folder / "config.json").read_text())
        for value in (config["quantization_config"],):
            value.pop("meta", None)
        text = json.dumps(config, separators=(",", ":")).encode()
        for side in ("quantize_config.json", "quantization_config.json"):
            if (folder / side).exists():
                other = json.loads((folder / side).read_text())
                other.pop("meta", None)
                text += b"\xff" + json.dumps(other, separators=(",", ":")).encode()
        put("config", folder.name, text)
LLAMA = {"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
         "vocab_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_act": "silu", "rms_norm_eps": 1e-5,
         "rope_theta": 500000.0, "tie_word_embeddings": True,
         "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                          "original_max_position_embeddings": 8192}}
DIALECTS = {
    "fp8-blocks": {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128], "weight_scale_semantics": "inverse"},
    "mxfp4": {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]},
    "modelopt": {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION",
                 "quantized_layers": {"lm_head": {"quant_algo": "NVFP4", "group_size": 16}}, "ignore": ["*.router"]},
    "hqq": {"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64, "axis": 1}},
            "skip_modules": ["lm_head"]},
    "ct-mixed": {"quant_method": "compressed-tensors", "format": "mixed-precision", "config_groups": {
        "group_0": {"targets": ["Linear"], "format": "pack-quantized",
                    "weights": {"num_bits": 4, "strategy": "group", "group_size": 128, "actorder": "group"}},
        "group_1": {"targets": ["re:.*down_proj$", "lm_head"], "weights": {"strategy": "block", "block_structure": "128x64"}}},
        "ignore": ["re:.*gate$"]},
    "gptq-rules": {"quant_method": "gptq", "bits": 4, "group_size": -1, "sym": False, "pack_dtype": "int32", "dynamic": {
        "+:^model\\.layers\\.(0|11)\\..*": {"bits": 8, "group_size": 32}, "-:.*q_proj": {}, "lm_head": {"sym": True}}},
    "marlin-pack": {"quant_method": "marlin-pack", "checkpoint_format": "marlin", "bits": 4, "group_size": 128, "sym": True,
                    "type": "u4b8", "zero_points": False, "act_order": False, "ignore": ["lm_head"],
                    "overrides": {"model.layers.11.mlp.down_proj": {"bits": 8, "group_size": 32, "type": "u8b128"}}},
}
for name, quantization in DIALECTS.items():
    put("config", name, json.dumps({**LLAMA, "quantization_config": quantization}, separators=(",", ":")))
put("config", "modelopt-side", json.dumps(LLAMA).encode() + b"\xff" + json.dumps(
    {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "group_size": 16, "exclude_modules": ["l*"]}},
    separators=(",", ":")).encode() + b" ")
QWEN = {**LLAMA, "architectures": ["Qwen2ForCausalLM"], "use_sliding_window": True, "sliding_window": 32, "max_window_layers": 1,
        "rope_scaling": None}
put("config", "qwen2-sliding", json.dumps(QWEN))
put("config", "phi3-longrope", json.dumps({
    **LLAMA, "architectures": ["Phi3ForCausalLM"], "partial_rotary_factor": 0.5, "original_max_position_embeddings": 64,
    "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}}))
put("config", "gemma3", json.dumps({
    **LLAMA, "architectures": ["Gemma3ForCausalLM"], "hidden_act": None, "sliding_window": 32, "sliding_window_pattern": 2,
    "rope_scaling": {"rope_type": "linear", "factor": 8.0}, "query_pre_attn_scalar": 24, "final_logit_softcapping": 30.0}))
put("config", "qwen3-moe", json.dumps({
    **LLAMA, "architectures": ["Qwen3MoeForCausalLM"], "rope_scaling": None, "num_experts": 8, "num_experts_per_tok": 2,
    "moe_intermediate_size": 32, "decoder_sparse_step": 2, "mlp_only_layers": [1], "norm_topk_prob": True}))

# ---- tokenizer.json -----------------------------------------------------------------------------------------------------
DENSE = {
    "added_tokens": [
        {"id": 7, "content": "<s>", "single_word": False, "lstrip": True, "rstrip": False, "normalized": False, "special": True},
        {"id": 8, "content": "Tag", "single_word": True, "lstrip": False, "rstrip": True, "normalized": True, "special": False}],
    "normalizer": {"type": "Sequence", "normalizers": [
        {"type": "NFKC"}, {"type": "Lowercase"}, {"type": "Strip", "strip_left": True, "strip_right": False},
        {"type": "Prepend", "prepend": "_"}, {"type": "Replace", "pattern": {"Regex": "\\s{2,}+|x"}, "content": " "}]},
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": "(?i:'s|'ll)|[^\\r\\n\\p{L}]?\\p{L}+|\\s+(?!\\S)|\\s+"},
         "behavior": "MergedWithNext", "invert": False},
        {"type": "Digits", "individual_digits": True},
        {"type": "Metaspace", "replacement": "_", "prepend_scheme": "first", "split": True},
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}]},
    "model": {"type": "BPE", "dropout": None, "unk_token": "u", "fuse_unk": True, "byte_fallback": True, "ignore_merges": True,
              "vocab": {"u": 0, "a": 1, "b": 2, "ab": 3, "aba": 4, "_": 5, "<0x20>": 6}, "merges": ["a b", ["ab", "a"]]}}
TEXT = "Abba <s> Tag 12's \u00e9\u3000\U0001f469\n".encode()
put("tokenizer", "dense", json.dumps(DENSE, separators=(",", ":")).encode() + b"\xff" + TEXT)
SMALL = {"model": DENSE["model"], "normalizer": None, "pre_tokenizer": None, "added_tokens": []}
put("tokenizer", "small", json.dumps(SMALL, separators=(",", ":")).encode() + b"\xff" + TEXT)
for kind in ("Whitespace", "WhitespaceSplit", "Punctuation", "BertPreTokenizer", "ByteLevel", "Metaspace"):
    part = {"type": kind, "behavior": "Isolated", "add_prefix_space": False, "replacement": "\u2581"}
    put("tokenizer", kind.lower(), json.dumps({**SMALL, "pre_tokenizer": part}, separators=(",", ":")).encode() + b"\xff" + TEXT)

# ---- marlin_pack.json ---------------------------------------------------------------------------------------------------
ZERO = "0" * 64
MANIFEST = {
    "marlin_pack": "0.1.0", "manifest_version": 1, "manifest_sha256": ZERO, "format": "marlin",
    "recipe": {"method": "gptq", "group_size": 128}, "sample_tokens": [1, 2, 3],
    "layers": [{"module": "model.layers.0.mlp.down_proj", "type": "u4b8", "group_size": 128, "scale_dtype": "F16", "k": 256,
                "n": 128, "layout": "marlin", "codes_sha256": ZERO, "weight_error": 0.125, "relative_loss": 0.5, "damp": 0.01}],
    "tensors": [{"name": "model.layers.0.mlp.down_proj.qweight", "file": "model.safetensors", "dtype": "I32", "shape": [16, 256],
                 "sha256": ZERO}],
    "source": [{"name": "model.layers.0.mlp.down_proj.weight", "dtype": "BF16", "shape": [128, 256], "sha256": ZERO,
                "fate": "quantized"},
               {"name": "lm_head.weight", "dtype": "BF16", "shape": [96, 128], "sha256": ZERO, "fate": "tied",
                "reason": "same bytes as model.embed_tokens.weight"}],
    "files": [{"name": "config.json", "bytes": 812, "sha256": ZERO},
              {"name": "model.safetensors", "bytes": 4096, "header_sha256": ZERO}]}
put("manifest", "small", json.dumps(MANIFEST, indent=1) + "\n")
EMPTY = {**MANIFEST, "recipe": {}, "sample_tokens": [], "layers": [], "tensors": [], "source": [], "files": []}
put("manifest", "rearranged", json.dumps({
    **MANIFEST, "tensor_parallel": {"ranks": 4, "rank": 1, "bias_rank": 0},
    "layers": [{"module": "a.gate_up_proj", "type": "u4b8", "group_size": -1, "scale_dtype": "F16", "k": 128, "n": 128, "layout": "gptq",
                "exactness": "exact", "part": {"split": "column", "copies": 1, "rows": [0, 128], "of": [
                    {"module": "a.gate_proj", "columns": [64, 64]}, {"module": "a.up_proj", "columns": [64, 64]}]},
                "fold": {"order_of": "a.down_proj", "g_idx": "010000000000000002000000"}}]}, indent=1) + "\n")
put("manifest", "empty", json.dumps(EMPTY, indent=1) + "\n")

# ---- tensors of one module, in the encoding of formats.cpp --------------------------------------------------------------
SUFFIXES = """qweight qzeros scales g_idx B s B_24 B_meta weight_packed weight_scale weight_shape weight_zero_point weight_g_idx
weight weight_scale_inv weight_scale_2 weight_global_scale input_scale input_global_scale meta scale_packed blocks W_q scale zero
nbits group_size axis shape packing view_as_float bias perm pre_quant_scale zeros workspace""".split()
DTYPES = """U64 I64 F64 C64 F32 U32 I32 BF16 F16 U16 I16 F8_E5M2FNUZ F8_E4M3FNUZ F8_E8M0 F8_E4M3 F8_E5M2 I8 U8 F6_E3M2 F6_E2M3 F4
BOOL""".split()
METHODS = ["", "gptq", "awq", "compressed-tensors", "fp8", "hqq", "modelopt", "mxfp4", "marlin-pack"]
DIALECT_NAMES = """- gptq gptq_v2 gptq_p marlin marlin_24 gemm gemv gemv_fast pack-quantized int-quantized float-quantized
naive-quantized nvfp4-pack-quantized mxfp4-pack-quantized mxfp8-quantized marlin-24 nvfp4 fp8 mxfp8 axis0 axis1 bitblas marlin-a8""".split()
ANY, CONSTANT, FINITE, RUNS, EXTENT = range(5)
POOL = bytes((i * 37 + 11) % 256 for i in range(97))


def module(tensors, method="", dialect="-", numbers=None, flags=0):
    """tensors: [(suffix, dtype, shape, fill, value)]; numbers: bits, group_size, block_columns."""
    out = bytes([0, flags | 1 | (2 if numbers else 0), METHODS.index(method), DIALECT_NAMES.index(dialect)])
    if numbers:
        out += struct.pack("<BhH", numbers[0] - 1, numbers[1], numbers[2])
    out += bytes([0, len(tensors)])
    for suffix, dtype, shape, fill, value in tensors:
        out += bytes([SUFFIXES.index(suffix), DTYPES.index(dtype), len(shape)])
        out += b"".join(struct.pack("<H", extent) for extent in shape) + bytes([fill, value])
    return out + b"\0" + POOL  # no changes


def floats(suffix, dtype, *shape):
    return (suffix, dtype, shape, FINITE, 0)


def raw(suffix, dtype, *shape):
    return (suffix, dtype, shape, ANY, 0)


def gptq(bits, k, n, g, zeros, runs=True):
    return [raw("qweight", "I32", k * bits // 32, n), ("qzeros", "I32", [k // g, n * bits // 32], *zeros),
            floats("scales", "F16", k // g, n), ("g_idx", "I32", [k], RUNS, g - 1 if runs else 0)]


V1, V2, V1_8 = (CONSTANT, 0x77), (CONSTANT, 0x88), (CONSTANT, 0x7F)
K, N = 128, 64
MODULES = {
    "gptq-v1-sym": module(gptq(4, K, N, 32, V1), "gptq", "gptq"),
    "gptq-v2-sym": module(gptq(4, K, N, 128, V2), "gptq", "gptq_v2"),
    "gptq-v1-8bit": module(gptq(8, 64, 32, 64, V1_8), "gptq", "gptq"),
    "gptq-v1-asym": module(gptq(4, K, N, 32, (ANY, 0)), "gptq", "gptq"),
    "gptq-v2-asym-3bit": module(gptq(3, K, N, 32, (ANY, 0)), "gptq", "gptq_v2"),
    "gptq-act-order": module(gptq(4, 64, 32, 2, V1)[:3] + [("g_idx", "I32", [64], CONSTANT, 0)], "gptq", "gptq"),
    "awq-gemm": module([raw("qweight", "I32", K, N // 8), raw("qzeros", "I32", K // 32, N // 8), floats("scales", "F16", K // 32, N)],
                       "awq", "gemm", (4, 32, 0)),
    "awq-gemv": module([raw("qweight", "I32", N, K // 8), ("qzeros", "I32", [N, 1], CONSTANT, 0), floats("scales", "F16", N, 8)],
                       "awq", "gemv", (4, 128, 0)),
    "awq-gemv-fast": module([raw("qweight", "I16", N // 4, K), floats("scales", "F16", 8, N), ("qzeros", "F16", [8, N], CONSTANT, 0)],
                            "awq", "gemv_fast", (4, 128, 0)),
    "awq-marlin": module([raw("qweight", "I32", K // 16, 2 * 256), floats("scales", "F16", 1, 256)], "awq", "marlin", (4, 128, 0)),
    "marlin-original": module([raw("B", "I32", K // 16, 2 * 256), floats("s", "F16", 1, 256)], "gptq", "marlin"),
    "marlin-4bit": module([raw("qweight", "I32", K // 16, 2 * N), floats("scales", "BF16", K // 32, N)], "marlin-pack", "marlin"),
    "marlin-8bit": module([raw("qweight", "I32", K // 16, 4 * N), floats("scales", "F16", 1, N)], "marlin-pack", "marlin"),
    "marlin-zeros": module([raw("qweight", "I32", K // 16, 2 * N), floats("scales", "F16", K // 32, N),
                            raw("qzeros", "I32", K // 32, N // 8)], "marlin-pack", "marlin"),
    "marlin-24": module([raw("B_24", "I32", K // 32, 2 * 128), ("B_meta", "I16", [128, K // 16], CONSTANT, 0x44),
                         floats("s", "F16", 1, 128)], "gptq", "marlin_24"),
    "ct-marlin-24": module([raw("weight_packed", "I32", K // 32, 2 * 128), ("meta", "I16", [128, K // 16], CONSTANT, 0x44),
                            floats("scale_packed", "F16", 1, 128)], "compressed-tensors", "marlin-24"),
    "ct-pack-sym": module([raw("weight_packed", "I32", N, K // 8), floats("weight_scale", "BF16", N, K // 32),
                           ("weight_shape", "I64", [2], EXTENT, 8)], "compressed-tensors", "pack-quantized", (4, 32, 0)),
    "ct-pack-square": module([raw("weight_packed", "I32", N, 8), floats("weight_scale", "BF16", N, 1),
                              ("weight_shape", "I64", [2], EXTENT, 8)], "compressed-tensors", "pack-quantized", (4, -1, 0)),
    "ct-pack-asym": module([raw("weight_packed", "I32", N, 8), floats("weight_scale", "BF16", N, 2),
                            raw("weight_zero_point", "I32", N // 8, 2), ("weight_shape", "I64", [2], EXTENT, 8)],
                           "compressed-tensors", "pack-quantized", (4, 32, 0)),
    "ct-pack-g-idx": module([raw("weight_packed", "I32", N, 8), floats("weight_scale", "F16", N, 2),
                             ("weight_g_idx", "I32", [64], RUNS, 31), ("weight_shape", "I64", [2], EXTENT, 8)],
                            "compressed-tensors", "pack-quantized", (4, 32, 0)),
    "ct-pack-3bit": module([raw("weight_packed", "I32", N, 6), floats("weight_scale", "F16", N, 1),
                            ("weight_shape", "I64", [2], EXTENT, 8)], "compressed-tensors", "pack-quantized", (3, -1, 0)),
    "ct-pack-3bit-legacy": module([raw("weight_packed", "I32", N, 7), floats("weight_scale", "F16", N, 1),
                                   ("weight_shape", "I64", [2], EXTENT, 8)], "compressed-tensors", "pack-quantized", (3, -1, 0)),
    "ct-int8": module([raw("weight", "I8", N, K), floats("weight_scale", "BF16", N, 1)], "compressed-tensors", "int-quantized"),
    "ct-int8-asym": module([raw("weight", "I8", N, K), floats("weight_scale", "BF16", N, 1), raw("weight_zero_point", "I8", N, 1)],
                           "compressed-tensors", "int-quantized"),
    "ct-fp8-channel": module([floats("weight", "F8_E4M3", N, K), floats("weight_scale", "BF16", N, 1)],
                             "compressed-tensors", "float-quantized", (8, -1, 0)),
    "fp8-tensor": module([floats("weight", "F8_E4M3", N, K), floats("weight_scale", "F32"), floats("input_scale", "F32")], "fp8"),
    "fp8-blocks": module([floats("weight", "F8_E4M3", N, K), floats("weight_scale_inv", "F32", 2, 2)], "fp8", "-", (8, 64, 32)),
    "fp8-inverse": module([floats("weight", "F8_E4M3", N, K), floats("weight_scale_inv", "F32", N)], "fp8", "-", None, 16),
    "modelopt-fp8-blocks": module([floats("weight", "F8_E4M3", 256, K), floats("weight_scale", "F32", 2, 1, 1, 1)], "modelopt", "fp8"),
    "nvfp4": module([raw("weight_packed", "U8", N, K // 2), floats("weight_scale", "F8_E4M3", N, K // 16),
                     floats("weight_global_scale", "F32", 1)], "compressed-tensors", "nvfp4-pack-quantized", (4, 16, 0)),
    "nvfp4-modelopt": module([raw("weight", "U8", N, K // 2), floats("weight_scale", "F8_E4M3", N, K // 16),
                              floats("weight_scale_2", "F32")], "modelopt", "nvfp4", (4, 16, 0)),
    "mxfp4": module([raw("weight_packed", "U8", N, K // 2), floats("weight_scale", "U8", N, K // 32)],
                    "compressed-tensors", "mxfp4-pack-quantized", (4, 32, 0)),
    "mxfp8": module([floats("weight", "F8_E4M3", N, K), floats("weight_scale", "U8", N, K // 32)],
                    "compressed-tensors", "mxfp8-quantized", (8, 32, 0)),
    "mxfp4-gpt-oss": module([raw("blocks", "U8", 2, N, K // 32, 16), floats("scales", "U8", 2, N, K // 32)], "mxfp4"),
    "hqq": module([raw("W_q", "U8", 64, 64), floats("scale", "F16", 128, 1), floats("zero", "F16", 128, 1),
                   ("nbits", "I32", [1], CONSTANT, 0), ("shape", "I64", [2], EXTENT, 11)], "hqq", "axis1", (4, 64, 0)),
    "hqq-8bit": module([raw("W_q", "U8", 128, 64), floats("scale", "F16", 128, 1), floats("zero", "F16", 128, 1),
                        ("shape", "I64", [2], EXTENT, 11)], "hqq", "axis1", (8, 64, 0)),
    "float": module([floats("weight", "BF16", N, K), floats("bias", "BF16", N)]),
}
for name, data in MODULES.items():
    put("formats", name, data)
# The rows' own specs: row, no claims, kind; type, group_size, scale dtype, zeros, act-order, global scale, columns per scale,
# what is rare, K / 8, N / 8; no changes.
GROUPED, SYM8, ASYM, ORDERED = (0, 32, 0, 0, 0, 0, 0), (1, 0, 1, 0, 0, 0, 0), (2, 64, 0, 1, 0, 0, 0), (0, 32, 0, 0, 1, 0, 0)
WIDE = (0, 128, 0, 0, 0, 0, 0)
MX4, MX8, CHANNEL8, BLOCKS8, TENSOR8 = ((4, 32, 4, 0, 0, 0, 0), (5, 32, 4, 0, 0, 0, 0), (5, 0, 1, 0, 0, 0, 0), (5, 128, 2, 0, 0, 0, 1),
                                        (5, 0, 2, 0, 0, 0, 2))
NV_TIMES, NV_BY, FLOAT_ZEROS = (4, 16, 3, 0, 0, 1, 0), (4, 16, 3, 0, 0, 2, 0), (2, 64, 0, 2, 0, 0, 0)
ROWS = [[WIDE], [GROUPED, SYM8, ASYM, ORDERED, MX4, CHANNEL8, NV_BY], [GROUPED, SYM8, ASYM, ORDERED], [GROUPED, ASYM], [WIDE],
        [CHANNEL8, BLOCKS8], [BLOCKS8, TENSOR8], [NV_BY], [NV_TIMES], [MX4], [MX8], [MX4], [ASYM], [ASYM], [ASYM],
        [GROUPED, SYM8, ASYM, ORDERED], [SYM8], [FLOAT_ZEROS], [WIDE, SYM8, MX4], [WIDE, SYM8], [WIDE]]
for row, schemes in enumerate(ROWS):
    for number, scheme in enumerate(schemes):
        put("formats", f"row{row:02}-{number}", bytes([row, 0, 2, *scheme, 0, 16, 32 if row in (0, 4, 19, 20) else 8]) + b"\0" + POOL)

#!/usr/bin/env python3
"""vLLM's Marlin kernel beside ours: its times for `marlin-pack bench --compare`, and its products of an artifact's bytes.

    pip download --no-deps --only-binary=:all: --platform manylinux_2_28_x86_64 vllm==0.33.0
    unzip -p vllm-0.33.0-*.whl vllm/_C_stable_libtorch.abi3.so > vllm_C.so

    python3 bench/vllm_marlin.py vllm_C.so time times.json [--shapes 4096x4096,...] [--m 1,16,...] [--types u4b8,...] [--activations f16]
    python3 bench/vllm_marlin.py vllm_C.so check ARTIFACT [--m 19]

`time` writes what --compare reads: microseconds of one of many launches in a CUDA graph, weights rotated through more memory than the L2
cache holds, groups of 128. `check` multiplies by the packed tensors of a checkpoint of format "marlin" as they are, on the GPU, and by the
weights that packer/FORMAT.md says they stand for, in float64. Needs torch 2.11 or newer with CUDA, an NVIDIA GPU, and nothing else of vLLM.
An .xz file is taken for the library, too.
"""

import argparse
import json
import lzma
import sys
import tempfile
from pathlib import Path
from time import sleep

import numpy as np
import torch

# Identifiers of the library's scalar types.
TYPE_ID = {"u4": 1125899906843648, "u4b8": 1125899907892224, "u8b128": 1125899923621888, "e4m3": 2814749767172868}
BITS = {"u4": 4, "u4b8": 4, "u8b128": 8, "e4m3": 8}
SHAPES = "4096x4096,4096x28672,8192x8192,8192x57344,28672x8192"
COLD_BYTES = 420 << 20
WARM_UP_MS = 30
REST_SECONDS = 0.05
ROUNDS = 7
TOLERANCE = {"F16": 2e-3, "BF16": 1.6e-2}  # of the norm: a few roundings of weights and outputs


# ---- the bytes, as packer/FORMAT.md says; numpy only ----


def tensors_of(directory):
    """Name -> (dtype, array of the stored bits), of every safetensors file in the directory."""
    bits = {"I32": np.uint32, "F16": np.float16, "BF16": np.uint16, "F32": np.float32, "U8": np.uint8, "F8_E8M0": np.uint8}
    found = {}
    for path in sorted(Path(directory).glob("*.safetensors")):
        data = np.memmap(path, np.uint8, "r")
        size = int(data[:8].view("<u8")[0])
        for name, entry in json.loads(bytes(data[8 : 8 + size])).items():
            if name == "__metadata__" or entry["dtype"] not in bits:
                continue
            begin, end = (8 + size + offset for offset in entry["data_offsets"])
            found[name] = entry["dtype"], data[begin:end].view(bits[entry["dtype"]]).reshape(entry["shape"])
    return found


def codes_of(qweight, k_size, n_size, bits):
    k, n = np.arange(k_size)[:, None], np.arange(n_size)[None, :]
    lane = 4 * (n % 8) + k % 8 // 2
    if bits == 4:
        column = 128 * (n // 64) + 4 * lane + n % 64 // 16
        field = k % 16 // 8 + 2 * (n % 16 // 8) + 4 * (k % 2)
    else:
        column = 256 * (n // 64) + 8 * lane + 2 * (n % 64 // 16) + n % 16 // 8
        field = k % 16 // 8 + 2 * (k % 2)
    return qweight[k // 16, column] >> (bits * field).astype(np.uint32) & (2**bits - 1)


def grouped(n):
    """Where the scale of column n stands if there are groups."""
    return 64 * (n // 64) + 8 * (n % 8) + n % 64 // 8


def single(n):
    """Where it stands if there is one per column."""
    return 32 * (n // 32) + 8 * (n % 8 // 2) + 2 * (n % 32 // 8) + n % 2


def floats(dtype, array):
    return (array.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else array.astype(np.float32)


def e4m3(code):
    exponent, mantissa = (code >> 3 & 15).astype(int), (code & 7).astype(float)
    magnitude = np.where(exponent == 0, mantissa * 2.0**-9, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))
    return np.where(code >> 7, -magnitude, magnitude)


def weights_of(scheme, parts):
    """(K, N) in float64."""
    dtype, scales = parts["scales"]
    groups, n_size = scales.shape
    kind = scheme["type"]
    k_size = 16 * parts["qweight"][1].shape[0]
    n = np.arange(n_size)
    place = grouped(n) if groups > 1 else single(n)

    def per_row(values):
        return np.repeat(values.astype(np.float64), k_size // groups, 0)

    codes = codes_of(parts["qweight"][1], k_size, n_size, BITS[kind])
    if kind == "e4m3":
        return e4m3(codes) * per_row(floats(dtype, scales)[:, place]) * 2.0 ** -scheme["scale_exponent"]
    if kind == "u4" and parts["qzeros"][0] == "I32":
        j = n % 64 // 8
        words = parts["qzeros"][1][:, 8 * (n // 64) + n % 8]
        zeros = per_row(words >> (4 * (j // 2 + 4 * (j % 2))).astype(np.uint32) & 15)
    elif kind == "u4":
        zeros = per_row(floats(*parts["qzeros"])[:, grouped(n)])
    else:
        zeros = 2.0 ** (BITS[kind] - 1)
    return (codes - zeros) * per_row(floats(dtype, scales)[:, place])


# ---- vLLM's kernel ----


def load(library):
    if library.endswith(".xz"):
        with tempfile.NamedTemporaryFile(suffix=".so") as unpacked, lzma.open(library) as source:
            unpacked.write(source.read())
            unpacked.flush()
            torch.ops.load_library(unpacked.name)
    else:
        torch.ops.load_library(str(Path(library).resolve()))


def locks():
    return torch.zeros(4 * torch.cuda.get_device_properties(0).multi_processor_count, dtype=torch.int32, device="cuda")


def multiply(a, words, scales, zeros, kind, n, workspace, float_zeros=False):
    # After the sizes: use_atomic_add, use_fp32_reduce, is_zp_float.
    return torch.ops._C.marlin_gemm(
        a, None, words, None, scales, None, None, zeros, workspace, TYPE_ID[kind], a.shape[0], n, a.shape[1], False, True, float_zeros
    )


def on_gpu(dtype, array):
    array = np.array(array)  # a copy: torch wants it writable
    if array.dtype == np.uint32:
        return torch.from_numpy(array.view(np.int32)).cuda()
    if dtype == "BF16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16).cuda()
    return torch.from_numpy(array).cuda()


def check(options):
    config = json.loads((Path(options.artifact) / "config.json").read_text())["quantization_config"]
    if config.get("checkpoint_format") != "marlin":
        sys.exit(f"{options.artifact}: checkpoint_format is {config.get('checkpoint_format')}, not marlin")
    tensors = tensors_of(options.artifact)
    workspace, checked, failed, skipped = locks(), 0, 0, []
    for name in sorted(tensors):
        if not name.endswith(".qweight"):
            continue
        module = name.removesuffix(".qweight")
        parts = {part: tensors[f"{module}.{part}"] for part in ("qweight", "scales", "qzeros") if f"{module}.{part}" in tensors}
        scheme = config["overrides"].get(module, config)
        kind, dtype = scheme["type"], parts["scales"][0]
        float_zeros = "qzeros" in parts and parts["qzeros"][0] != "I32"
        if kind not in TYPE_ID or scheme["act_order"] or dtype not in TOLERANCE or (float_zeros and (dtype, scheme["group_size"]) != ("F16", 64)):
            skipped.append(module)
            continue
        weights = torch.from_numpy(weights_of(scheme, parts)).cuda()
        k, n = weights.shape
        a = torch.randn(options.rows[0], k, device="cuda").to(torch.float16 if dtype == "F16" else torch.bfloat16)
        exact = a.double() @ weights
        zeros = on_gpu(*parts["qzeros"]) if "qzeros" in parts else None
        out = multiply(a, on_gpu(*parts["qweight"]), on_gpu(*parts["scales"]), zeros, kind, n, workspace, float_zeros)
        error = ((out.double() - exact).norm() / exact.norm()).item()
        good = error <= TOLERANCE[dtype]
        checked, failed = checked + 1, failed + (not good)
        print(f"{module}: {kind} {dtype} K x N = {k} x {n}, off by {error:.1e}  {'ok' if good else 'WRONG'}")
    print(f"{checked} layers checked, {failed} wrong; {len(skipped)} that this script or vLLM does not take: {' '.join(skipped) or 'none'}")
    return failed > 0 or checked == 0


def median_us(run, launches):
    def milliseconds():
        begin, end = torch.cuda.Event(True), torch.cuda.Event(True)
        begin.record()
        run()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end)

    sleep(REST_SECONDS)  # as `marlin-pack bench` does, so that clocks do not depend on what was timed before
    spent = 0.0
    while spent < WARM_UP_MS:
        spent += milliseconds()
    return sorted(milliseconds() for _ in range(ROUNDS))[ROUNDS // 2] * 1e3 / launches


def time(options):
    rows, workspace = [], locks()
    dtype = torch.float16 if options.activations == "f16" else torch.bfloat16
    for kind in options.types:
        for k, n in options.shapes:
            copies = max(2, min(64, COLD_BYTES // (k * n * BITS[kind] // 8) + 1))

            def random_words(height, width):
                return torch.randint(-(2**31), 2**31 - 1, (height, width), dtype=torch.int32, device="cuda")

            words = [random_words(k // 16, n * BITS[kind] // 2) for _ in range(copies)]
            if kind == "e4m3":
                words = [w & ~0x08080808 for w in words]  # no NaN codes
            factor = {"f16": 2.0**8, "bf16": 2.0**120}[options.activations] if kind == "e4m3" else 1.0
            scales = [((torch.rand(k // 128, n, device="cuda") + 0.1) * 0.01 * factor).to(dtype) for _ in range(copies)]
            zeros = [random_words(k // 128, n // 8) if kind == "u4" else None for _ in range(copies)]
            for m in options.rows:
                a = (torch.randn(m, k, device="cuda") * 0.1).to(dtype)
                launches = 4 if m * k * n > 2e11 else max(16, 2 * copies)

                def launch_all():
                    for i in range(launches):
                        j = i % copies
                        multiply(a, words[j], scales[j], zeros[j], kind, n, workspace)

                stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
                stream.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(stream):
                    launch_all()
                torch.cuda.synchronize()
                with torch.cuda.graph(graph, stream=stream):
                    launch_all()
                us = round(median_us(graph.replay, launches), 2)
                del graph
                rows.append({"k": k, "n": n, "m": m, "type": kind, "activations": options.activations, "us": us, "name": options.name})
                print(f"{kind} {k}x{n} M={m}: {us} us", flush=True)
    label = f"{options.name} on {torch.cuda.get_device_name(0)}, in a CUDA graph, cold weights, groups of 128"
    lines = ",\n".join("    " + json.dumps(row) for row in rows)
    Path(options.out).write_text(f'{{\n  "label": {json.dumps(label)},\n  "rows": [\n{lines}\n  ]\n}}\n')
    return False


def main():
    def listed(convert):
        return lambda text: [convert(word) for word in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("time")
    command.add_argument("out")
    command.add_argument("--shapes", type=listed(lambda shape: tuple(map(int, shape.split("x")))), default=SHAPES)
    command.add_argument("--m", dest="rows", type=listed(int), default="1,2,4,8,16,32,64,128,256,512,1024,4096")
    command.add_argument("--types", type=listed(str), default="u4b8")
    command.add_argument("--activations", choices=("f16", "bf16"), default="f16")
    command.add_argument("--name", default="vLLM Marlin, same GPU")
    command.set_defaults(run=time)
    command = commands.add_parser("check")
    command.add_argument("artifact")
    command.add_argument("--m", dest="rows", type=listed(int), default="19")
    command.set_defaults(run=check)
    options = parser.parse_args()
    load(options.library)
    sys.exit(options.run(options))


if __name__ == "__main__":
    main()

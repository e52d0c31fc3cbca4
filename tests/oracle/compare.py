#!/usr/bin/env python3
"""compare.py ENCODE_MATRICES ORACLE_DIRECTORY: random matrices of every Marlin type, group and several shapes, packed by
ENCODE_MATRICES and by the oracle, must be the same bytes. Exit 77: skipped. --seed N repeats a run.

NAME.in holds codes u8 [N, K], scales f32 [N, G], zero points i16 [N, G] and g_idx i32 [K], the last two if the scheme has
them; little-endian, C order."""
import json
import os
import subprocess
import sys
import tempfile
import time

try:
    import numpy as np
except ImportError:
    print("skipped: no numpy")
    sys.exit(77)

program, oracle_directory = sys.argv[1:3]
if not os.path.exists(os.path.join(oracle_directory, "quantpack_oracle.py")):
    print("skipped: no oracle in", oracle_directory)
    sys.exit(77)
sys.dont_write_bytecode = True
sys.path.insert(0, oracle_directory)
import quantpack_oracle as oracle  # noqa: E402

SEED = int(sys.argv[sys.argv.index("--seed") + 1]) if "--seed" in sys.argv else time.time_ns() % 2**32
random = np.random.default_rng(SEED)
DENSE = [(128, 64), (64, 128), (192, 128), (256, 192), (640, 320)]
SPARSE = [(128, 128), (256, 256), (640, 384)]
BIAS = {"u4b8": 8, "u8b128": 128}


def to_dtype(values, dtype):
    """The nearest numbers of a 16-bit dtype, as float32."""
    if dtype == "F16":
        return values.astype(np.float16).astype(np.float32)
    return oracle.bits_bf16(oracle.bf16_bits(values.astype(np.float32)))


def bits_of(values, dtype):
    return oracle.f16_bits(values) if dtype == "F16" else oracle.bf16_bits(values)


def scales_16(groups, n, dtype):
    return to_dtype(random.uniform(-1, 1, (groups, n)) * 2.0 ** random.integers(-9, 3, (groups, n)), dtype)


def base(row, type_name, group, dtype, k, n, **more):
    bits = 4 if type_name in ("u4b8", "u4", "e2m1") else 8
    groups = 1 if group == -1 else k // group
    codes = random.integers(0, 1 << bits, (k, n), dtype=np.uint8)
    if type_name == "e4m3":
        codes = np.where(codes & 0x7F == 0x7F, codes ^ 1, codes).astype(np.uint8)
    case = dict(format=row, type=type_name, group_size=group, scale_dtype=dtype, k=k, n=n, **more)
    return case, bits, groups, codes


def dense(tile_map_4, tile_map_8, bits, codes):
    return oracle.tile_pack(codes, (tile_map_4 if bits == 4 else tile_map_8)())


def integer(type_name, group, dtype, k, n, act_order):
    case, bits, groups, codes = base("marlin", type_name, group, dtype, k, n, zero_points=type_name not in BIAS,
                                     act_order=act_order)
    scales = scales_16(groups, n, dtype)
    inputs, expected = [codes.T, scales.T], {}
    if case["zero_points"]:
        zeros = random.integers(0, 1 << bits, (groups, n))
        inputs.append(zeros.T.astype(np.int16))
        expected["qzeros"] = oracle.marlin_zero_points(zeros, bits)
    packed = codes
    if act_order:
        g_idx = random.permutation(np.arange(k) // (k // groups)).astype(np.int32)
        perm = np.argsort(g_idx, kind="stable").astype(np.int32)
        inputs.append(g_idx)
        expected["perm"], expected["g_idx"], packed = perm, g_idx[perm], codes[perm]
    expected["qweight"] = dense(oracle.map_d4, oracle.map_d8, bits, packed)
    expected["scales"] = oracle.marlin_scales(bits_of(scales, dtype), k, k if groups == 1 else group)
    return case, inputs, expected


def e4m3(group, dtype, k, n):
    case, bits, groups, codes = base("marlin", "e4m3", group, dtype, k, n)
    scales = scales_16(groups, n, dtype)
    fused = oracle.fp8_scales_fuse(scales, "fp16" if dtype == "F16" else "bf16")
    return case, [codes.T, scales.T], {
        "qweight": dense(oracle.map_d4, oracle.map_d8, bits, codes),
        "scales": oracle.marlin_scales(bits_of(fused, dtype), k, k if groups == 1 else group)}


def nvfp4(activations, k, n):
    case, bits, groups, codes = base("marlin", "e2m1", 16, "F8_E4M3", k, n)
    block = random.integers(8 if activations == "BF16" else 0, 0x7F, (groups, n), dtype=np.uint8)
    case["global_scale"] = float(np.float32(random.uniform(1e-4, 1)))
    if activations:
        case["activations"] = activations
    act = "bf16" if activations == "BF16" else "fp16"
    return case, [codes.T, oracle.e4m3_to_f32(block).T], {
        "qweight": dense(oracle.map_d4, oracle.map_d8, bits, codes),
        "scales": oracle.nvfp4_marlin_scales(block),
        "global_scale": np.float32([oracle.nvfp4_marlin_global(case["global_scale"], 1.0, act)])}


def mx(row, type_name, k, n):
    case, bits, groups, codes = base(row, type_name, 32, "F8_E8M0", k, n)
    bytes_ = random.integers(1, 240, (groups, n), dtype=np.uint8)
    maps = (oracle.map_d4, oracle.map_d8) if row == "marlin" else (oracle.map_a8_d4, oracle.map_a8_d8)
    return case, [codes.T, oracle.e8m0_to_f32(bytes_).T], {
        "qweight": dense(*maps, bits, codes),
        "scales": oracle.mx_marlin_scales(bytes_) if row == "marlin" else oracle.mx_marlin_scales_a8(bytes_)}


def a8(type_name, group, dtype, activations, k, n):
    case, bits, groups, codes = base("marlin-a8", type_name, group, dtype, k, n, activations=activations,
                                     zero_points=type_name not in BIAS)
    scales = scales_16(groups, n, dtype)
    inputs, expected, zeros = [codes.T, scales.T], {}, None
    if case["zero_points"]:
        zeros = random.integers(0, 16, (groups, n))
        inputs.append(zeros.T.astype(np.int16))
        expected["qzeros"] = oracle.marlin_zero_points(zeros, bits, True)
    fp8 = activations == "F8_E4M3"
    packed = oracle.w4a8_fp8_codes(codes, zeros, k // groups) if fp8 else codes
    expected["qweight"] = dense(oracle.map_a8_d4, oracle.map_a8_d8, bits, packed)
    stored = bits_of(scales * np.float32(512), dtype) if fp8 else bits_of(scales, dtype)
    expected["scales"] = oracle.marlin_scales(stored, k, group, True)
    return case, inputs, expected


def sparse(type_name, group, k, n):
    case, bits, groups, codes = base("marlin-24", type_name, group, "F16", k, n)
    kept = np.argsort(random.random((k // 4, 4, n)), 1) < random.integers(0, 3, (k // 4, 1, n))
    codes = np.where(kept.reshape(k, n), codes, BIAS[type_name]).astype(np.uint8)
    scales = scales_16(groups, n, "F16")
    words, meta = oracle.marlin24_pack(codes, bits)
    stored = bits_of(scales, "F16")
    return case, [codes.T, scales.T], {"B_24": words, "B_meta": meta,
                                       "s": oracle.scales_24_grouped(stored) if groups > 1 else stored}


def cases():
    for k, n in DENSE:
        for dtype in ("F16", "BF16"):
            for group in (-1, 32, 64, 128):
                if group != -1 and k % group:
                    continue
                for name in ("u4b8", "u8b128", "u4", "u8"):
                    for act_order in (False, True):
                        yield integer(name, group, dtype, k, n, act_order)
                for name in ("u4b8", "u4"):
                    yield a8(name, group, dtype, "F8_E4M3", k, n)
                if group in (-1, 128):
                    yield e4m3(group, dtype, k, n)
            for name in ("u4b8", "u4", "u8b128"):
                yield a8(name, -1, dtype, "I8", k, n)
        for activations in (None, "F16", "BF16"):
            yield nvfp4(activations, k, n)
        for name in ("e2m1", "e4m3"):
            yield mx("marlin", name, k, n)
        yield mx("marlin-a8", "e2m1", k, n)
    for k, n in SPARSE:
        for name in BIAS:
            for group in (-1, 128):
                yield sparse(name, group, k, n)


def main():
    with tempfile.TemporaryDirectory() as directory:
        everything = []
        for i, (case, inputs, expected) in enumerate(cases()):
            case["name"] = "case%d" % i
            everything.append((case, expected))
            with open(os.path.join(directory, case["name"] + ".in"), "wb") as out:
                for array in inputs:
                    out.write(np.ascontiguousarray(array).tobytes())
        with open(os.path.join(directory, "cases.json"), "w") as out:
            json.dump([case for case, _ in everything], out)
        subprocess.run([program, directory], check=True)
        failures = 0
        for case, expected in everything:
            made = {name.split(".", 1)[1] for name in os.listdir(directory)
                    if name.startswith(case["name"] + ".")} - {"in"}
            wrong = sorted(made ^ set(expected))
            for suffix in sorted(made & set(expected)):
                with open(os.path.join(directory, case["name"] + "." + suffix), "rb") as tensor:
                    if tensor.read() != np.ascontiguousarray(expected[suffix]).tobytes():
                        wrong.append(suffix)
            if wrong:
                failures += 1
                print("different:", ", ".join(wrong), "of", json.dumps(case))
        print("seed %d: %d matrices, %d different" % (SEED, len(everything), failures))
        return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

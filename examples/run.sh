#!/bin/sh
# The main job on the checkpoint that the repository carries: install what is missing, build, quantize, pack, prove, and measure the
# perplexity before and after. More options for marlin-pack quantize may follow.
set -eu
cd "$(dirname "$0")/.."

sh cmake/install-packages.sh
cmake --preset release --log-level=NOTICE
cmake --build --preset release --target marlin-pack

rm -rf build/example
mkdir -p build/example
build/release/cli/marlin-pack quantize examples/tiny-llama -o build/example/tiny-llama-marlin \
  --method gptq --bits 4 --group-size 128 --act-order static --ranges mse \
  --calibration examples/shakespeare-calibration.txt --samples 128 --seq-len 512 \
  --eval examples/shakespeare-test.txt "$@"

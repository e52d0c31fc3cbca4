#!/bin/sh
# All tests: install what is missing, build with warnings as errors, run; then the same tests of everything that reads foreign
# bytes under the address and undefined-behaviour sanitizers.
set -eu
cd "$(dirname "$0")/.."

sh cmake/install-packages.sh
cmake --workflow --preset dev
cmake --workflow --preset asan

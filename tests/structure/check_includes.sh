#!/bin/sh
# Includes point down only: quantizer, packer, kernels and model are peers that meet at the data types in packer/format and
# the matrix products in quantizer/linalg; gpu is what all of them need of CUDA, and model/cuda borrows the kernels' primitives; verify joins packer and kernels; cli joins everything. Run from the source tree's root.
set -eu

status=0
# check FOLDERS ALLOWED: every #include "a/b..." in FOLDERS must start with one of ALLOWED (extended regular expression).
check() {
  found=$(grep -rnE '^#include "' $1 --include='*.hpp' --include='*.cpp' --include='*.cu' --include='*.cuh' --include='*.h' |
    grep -vE "#include \"($2)" || true)
  if [ -n "$found" ]; then
    echo "$1 may include only $2, but:"
    echo "$found"
    status=1
  fi
}

check packer/format 'packer/format/'
check quantizer/linalg 'packer/format/|quantizer/linalg/'
check packer/io 'packer/format/|packer/io/'
check packer 'packer/'
check gpu 'packer/format/|gpu/'
check quantizer 'packer/format/|gpu/|quantizer/'
check model/tokenizer 'packer/format/|packer/io/|model/tokenizer/'
check "$(find model -maxdepth 1 -name '*.?pp')" 'packer/format/|quantizer/linalg/|model/'
check model/cuda 'packer/format/|gpu/|kernels/device/|model/'
check kernels 'packer/format/|gpu/|kernels/'
check verify 'packer/|kernels/|quantizer/linalg/|verify/'
check cli 'packer/|gpu/|quantizer/|model/|kernels/|verify/|cli/'

# Only cli prints.
printing=$(grep -rnE 'std::c(out|err)|\bprintf\(|fmt::print|\bputs\(' packer gpu quantizer model kernels verify cli/pipeline \
  --include='*.hpp' --include='*.cpp' --include='*.cu' --include='*.cuh' | grep -v snprintf || true)
if [ -n "$printing" ]; then
  echo "only cli may print, but:"
  echo "$printing"
  status=1
fi
exit $status

#!/bin/bash
# Times marlin-pack convert and cp of the same checkpoint on the same disk, in turn.
#
#   bench/convert_beside_cp.sh MARLIN_PACK CHECKPOINT SCRATCH_DIRECTORY REPETITIONS cold|warm [CONVERT OPTIONS]
#
# Needs room for one copy of the checkpoint in SCRATCH_DIRECTORY, which should be on the checkpoint's disk. cold: the
# checkpoint's files are dropped from the page cache before each run (GNU dd asks for that; no privilege); warm: they
# are read once. convert ends with its files on disk, cp when it has handed them over: hence the time with sync.
set -euo pipefail
program=$1 checkpoint=$2 scratch=$3 repetitions=$4 cache=$5
shift 5
copy=$scratch/beside-cp.copy out=$scratch/beside-cp.out

prepare() {
  rm -rf "$copy" "$out"
  sync
  for file in "$checkpoint"/*.safetensors; do
    if [ "$cache" = cold ]; then dd of="$file" oflag=nocache conv=notrunc,fdatasync count=0 status=none
    else cat "$file" > /dev/null; fi
  done
}
now() { date +%s%N; }
bytes=$(cat "$checkpoint"/*.safetensors | wc -c)
report() {  # name, nanoseconds
  echo "$1 $(($2 / 1000000)) ms, $((bytes * 1000 / $2)) MB/s"
}

for ((i = 0; i < repetitions; ++i)); do
  prepare
  begin=$(now); cp -r "$checkpoint" "$copy"; copied=$(now); sync -f "$copy"; synced=$(now)
  report "cp            " $((copied - begin))
  report "cp and sync   " $((synced - begin))
  prepare
  begin=$(now)
  OMP_WAIT_POLICY=passive "$program" convert "$checkpoint" -o "$out" --to marlin "$@" > /dev/null 2>&1
  report "convert       " $(($(now) - begin))
done
rm -rf "$copy" "$out"

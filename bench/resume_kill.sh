#!/bin/sh
# Is a quantize that was killed, and then repeated, the same to the byte as one that was left alone? Kills it with
# SIGKILL at random moments and compares the SHA-256 of all files.
#   bench/resume_kill.sh PROGRAM MODEL CALIBRATION [MOMENTS [OPTIONS OF QUANTIZE...]]
set -eu
program=$1 model=$2 text=$3
moments=${4:-20}
shift $(($# < 4 ? $# : 4))
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

quantize() {  # to $1
  out=$1
  shift
  "$program" quantize "$model" -o "$out" --calibration "$text" --json "$work/report.json" "$@" >/dev/null 2>"$work/stderr"
}
hashes() { (cd "$1" && find . -type f | sort | xargs sha256sum); }
now() { date +%s%N; }

begin=$(now)
quantize "$work/whole" "$@"
duration=$(($(now) - begin))
hashes "$work/whole" >"$work/expected"
echo "left alone: $((duration / 1000000)) ms"

failed=0
killed=0
while [ $killed -lt "$moments" ]; do
  moment=$(($(od -An -N4 -tu4 /dev/urandom) % (duration / 1000000 + 1)))
  begin=$(now)
  quantize "$work/out" "$@" &
  pid=$!
  (
    sleep "$((moment / 1000)).$(printf %03d $((moment % 1000)))"
    # The shell that runs the function has one child, the program.
    for process in $(cat "/proc/$pid/task/$pid/children" 2>/dev/null || true); do kill -9 "$process" 2>/dev/null || true; done
  ) &
  if wait $pid 2>/dev/null; then  # too late: it tells how long it takes now
    duration=$(($(now) - begin))
    left="the artifact, after $((duration / 1000000)) ms"
    resumed=""
    wait
  else
    killed=$((killed + 1))
    left="nothing"
    [ ! -d "$work/out.partial" ] || left="a partial directory"
    [ ! -d "$work/out" ] || left="the artifact"
    resumed=""
    if [ ! -d "$work/out" ]; then
      quantize "$work/out" "$@" || { cat "$work/stderr"; exit 1; }
      resumed=", $(grep -o '"resumed_layers": [0-9]*' "$work/report.json")"
    fi
  fi
  verdict=same
  hashes "$work/out" | cmp -s - "$work/expected" || verdict=DIFFERENT
  if [ -e "$work/out.partial" ]; then verdict="$verdict, with something left over"; fi
  [ "$verdict" = same ] || failed=1
  echo "killed after $moment ms, left $left$resumed: $verdict"
  rm -rf "$work/out"
done
[ $failed = 0 ] && echo "killed $killed times: all the same" || { echo FAILED; exit 1; }

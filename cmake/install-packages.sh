#!/bin/sh
# Installs the distribution packages that the build needs and this machine lacks (Debian 12, Ubuntu 24.04 and later).
set -eu

packages="g++ cmake ninja-build pkg-config libeigen3-dev libopenblas-dev nlohmann-json3-dev libfmt-dev libcli11-dev
          libpcre2-dev libutf8proc-dev libsentencepiece-dev libssl-dev catch2"

if ! command -v dpkg-query >/dev/null; then
  echo "install-packages: not a Debian or Ubuntu system; please install what these packages hold:" $packages >&2
  exit 0
fi

missing=""
for package in $packages; do
  dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

echo "install-packages: installing$missing"
if [ "$(id -u)" = 0 ]; then
  root=""
elif command -v sudo >/dev/null; then
  root="sudo"
else
  echo "install-packages: need root (or sudo) to install:$missing" >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
$root apt-get update -qq
$root apt-get install -y -qq --no-install-recommends $missing

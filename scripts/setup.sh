#!/usr/bin/env bash
# Installs what framemill needs to build on Debian or Ubuntu: system libraries and, where cargo is missing, Rust.
# Idempotent. On another system it says what to install and stops.
set -euo pipefail
packages=(ffmpeg libavcodec-dev libavformat-dev libavutil-dev libavfilter-dev libavdevice-dev libswscale-dev
  libswresample-dev clang libclang-dev pkg-config nasm cmake make g++ libheif-dev libdav1d-dev libwebp-dev
  python3-venv ca-certificates curl)
missing=()
if command -v dpkg-query >/dev/null 2>&1; then
  for p in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    echo "setup: installing ${missing[*]}"
    sudo=""; [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get -o DPkg::Lock::Timeout=300 update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq \
      --no-install-recommends "${missing[@]}" >/dev/null
  else
    echo "setup: system packages are there"
  fi
else
  echo "setup: this is not Debian or Ubuntu. Install FFmpeg 5.1 or newer, libheif 1.15, clang, pkg-config, nasm and" >&2
  echo "setup: cmake with their headers (Debian's names: ${packages[*]}), and run this again." >&2
  for tool in ffmpeg clang pkg-config nasm cmake; do
    command -v "$tool" >/dev/null || { echo "setup: $tool is missing" >&2; exit 69; }
  done
fi
export PATH="$HOME/.cargo/bin:$PATH"
if ! command -v cargo >/dev/null 2>&1; then
  echo "setup: installing Rust with rustup"
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c clippy -c rustfmt
fi
echo "setup: $(cargo --version)"

#!/usr/bin/env bash
# Installs what framemill needs to build on Debian or Ubuntu: system libraries and, where cargo is missing, Rust.
# More packages may be named. Idempotent. Where it may not or cannot install, it says what to install and ends with 69.
set -euo pipefail
packages=(ffmpeg libavcodec-dev libavformat-dev libavutil-dev libavfilter-dev libavdevice-dev libswscale-dev
  libswresample-dev clang libclang-dev pkg-config nasm cmake make g++ libheif-dev libdav1d-dev libwebp-dev
  libvulkan1 mesa-vulkan-drivers python3-venv ca-certificates curl "$@")

stop() {
  printf 'setup: %s\n' "$@" >&2
  exit 69
}
there() { command -v "$1" >/dev/null 2>&1; }

if there dpkg-query && there apt-get; then
  missing=()
  for p in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
  done
  if [ ${#missing[@]} -gt 0 ]; then
    root=()
    if [ "$(id -u)" != 0 ]; then
      there sudo || stop "installing needs root, and there is no sudo here. As root, run" \
        "  apt-get install --no-install-recommends ${missing[*]}" "and then this again."
      root=(sudo)
    fi
    echo "setup: installing ${missing[*]}"
    apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300)
    "${apt[@]}" update -qq
    "${apt[@]}" install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
  else
    echo "setup: system packages are there"
  fi
else
  echo "setup: this is not Debian or Ubuntu: nothing is installed, only looked for"
  absent=()
  for tool in ffmpeg clang pkg-config nasm cmake make c++ curl python3; do
    there "$tool" || absent+=("$tool")
  done
  [ ${#absent[@]} = 0 ] || stop "missing: ${absent[*]}" \
    "Install them, FFmpeg 5.1 and libheif 1.15 or newer, and the headers of both, and run this again." \
    "Debian's packages are:" \
    "  ${packages[*]}"
fi

# What the build links, by its own version numbers: FFmpeg 5.1 and libheif 1.15.
old=()
for wanted in 'libavcodec >= 59.37' 'libavformat >= 59.27' 'libavutil >= 57.28' 'libheif >= 1.15'; do
  pkg-config --exists "$wanted" ||
    old+=("$wanted (here: $(pkg-config --modversion "${wanted%% *}" 2>/dev/null || echo none))")
done
[ ${#old[@]} = 0 ] || stop "too old, or without headers:" "${old[@]/#/  }" \
  "FFmpeg 5.1 and libheif 1.15 or newer are needed: Debian 12 and Ubuntu 24.04 have them." \
  "Without them this much can be built, for photos alone:" \
  "  cargo build --release --no-default-features"

export PATH="$HOME/.cargo/bin:$PATH"
rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")
# Whether the cargo that is found is at least as new as Cargo.toml asks for.
new_enough() {
  there cargo && printf '%s\n' "$rust" "$(cargo --version | cut -d' ' -f2)" | sort -V -C
}
if ! new_enough; then
  if there rustup; then
    stop "Rust $rust or newer is needed, and $(cargo --version 2>&1 | head -1) is here. Run" "  rustup update stable" \
      "(and rustup default stable), and then this again."
  fi
  echo "setup: installing Rust with rustup"
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c clippy -c rustfmt
  hash -r
  new_enough || stop "cargo is still older than $rust: put $HOME/.cargo/bin in front of PATH"
fi
echo "setup: $(cargo --version)"

#!/usr/bin/env bash
# Measures framemill beside other programs on the same files: installs what is missing, builds the release, makes the
# inputs, prints tables of ratios. Fails on errors, never on times. Run it on a machine that does nothing else.
#
#   scripts/bench.sh [--dali] [--rounds N] [--only video|photos|decode] [--repeat N] [--threads N]
#
# FRAMEMILL_BENCH_CLIP    a clip of your own instead of the generated one
# FRAMEMILL_BENCH_PHOTOS  a folder of JPEGs instead of generated ones
# FRAMEMILL_BENCH_BIN     a framemill that is built already
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
export PATH="$HOME/.cargo/bin:$PATH"
if [ -n "${FRAMEMILL_BENCH_BIN:-}" ]; then
  program=$FRAMEMILL_BENCH_BIN
else
  cargo build --release
  program=${CARGO_TARGET_DIR:-target}/release/framemill
fi

# The peers live in an environment of their own.
python=target/bench-python
if [ ! -x "$python/bin/python" ]; then
  echo "bench: creating $python with the peers"
  python3 -m venv "$python"
fi
peers=(av decord opencv-python-headless 'pillow>=13,<14' simplejpeg numpy)
for arg in "$@"; do
  if [ "$arg" = --dali ]; then peers+=(nvidia-dali-cuda130); fi
done
"$python/bin/pip" install -q --disable-pip-version-check "${peers[@]}"

inputs=target/bench-inputs
mkdir -p "$inputs"
clip=${FRAMEMILL_BENCH_CLIP:-$inputs/clip.mp4}
if [ ! -f "$clip" ]; then
  echo "bench: making a clip of 20 s, 1080p H.264 at 6 Mbit/s"
  ffmpeg -nostdin -v error -y -filter_complex "testsrc2=s=1920x1080:r=25:d=20[a];mandelbrot=s=1920x1080:r=25[b];\
[a][b]blend=all_mode=average:shortest=1,noise=alls=6:allf=t,format=yuv420p[v]" -map '[v]' \
    -c:v libx264 -preset veryfast -b:v 6M -g 50 -bf 2 -t 20 "$inputs/making.mp4"
  mv "$inputs/making.mp4" "$clip"
fi
photos=${FRAMEMILL_BENCH_PHOTOS:-$inputs/photos}
if [ ! -d "$photos" ]; then
  echo "bench: making 160 photos"
  rm -rf "$inputs/making"
  mkdir -p "$inputs/making"
  ffmpeg -nostdin -v error -filter_complex "mandelbrot=s=640x480:r=10,noise=alls=12:allf=t,format=yuvj420p[v]" \
    -map '[v]' -frames:v 160 -q:v 3 "$inputs/making/%03d.jpg"
  mv "$inputs/making" "$photos"
fi
exec "$python/bin/python" benches/peers.py --framemill "$program" --clip "$clip" --photos "$photos" "$@"

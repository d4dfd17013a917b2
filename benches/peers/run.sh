#!/usr/bin/env bash
# Times framemill beside other programs on the same media: installs those, builds the release, runs `framemill bench`.
#
#   benches/peers/run.sh MEDIA [FLAGS OF framemill bench ...]
#
# Most of them leave colour profiles alone, so framemill does here, too (--icc ignore).
#
# FRAMEMILL_BENCH_BIN  a framemill that is built already
set -euo pipefail
media=$(realpath "${1:?expected a file or folder of media}")
shift
cd "$(dirname "$0")/../.."
scripts/setup.sh
export PATH="$HOME/.cargo/bin:$PATH"
if [ -n "${FRAMEMILL_BENCH_BIN:-}" ]; then
  program=$FRAMEMILL_BENCH_BIN
else
  cargo build --release
  program=${CARGO_TARGET_DIR:-target}/release/framemill
fi
python=$PWD/target/bench-python
if [ ! -x "$python/bin/python" ]; then
  echo "bench: creating $python with the peers"
  python3 -m venv "$python"
fi
"$python/bin/pip" install -q --disable-pip-version-check av decord opencv-python-headless 'pillow>=13,<14' \
  simplejpeg 'pyvips[binary]' numpy nvidia-dali-cuda130
peers=()
for kind in ffmpeg pyav decord opencv pillow simplejpeg pyvips dali; do
  peers+=(--peer "$kind=$python/bin/python $PWD/benches/peers/peer.py $kind")
done
"$program" bench -i "$media" --devices cpu --decoders software --icc ignore "${peers[@]}" "$@"

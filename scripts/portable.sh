#!/usr/bin/env bash
# Builds target/portable/framemill, one file that needs the C library alone: FFmpeg (with NVDEC, whose own library is
# loaded at run time) and dav1d are inside, HEIC photos are left out. Beside it lies what scripts/gpu-check.sh needs where
# the GPU is: the tests of the devices, the ffmpeg program of the same build, and clips. What was built before is used again; to build FFmpeg anew, delete
# target/ffmpeg. Where Debian's sources cannot be fetched, put the archives into target/ffmpeg/sources yourself.
# Usage: scripts/portable.sh [--ffmpeg-only]
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD work=$PWD/target/ffmpeg
sources=$work/sources prefix=$work/prefix
# The Debian release whose FFmpeg is 7.1.
release=trixie

say() { echo "portable: $*"; }
stop() {
  printf 'portable: %s\n' "$@" >&2
  exit 69
}
only_ffmpeg=
case "${1:-}" in
  "") ;;
  --ffmpeg-only) only_ffmpeg=1 ;;
  -h | --help) sed -n '2,7s/^# //p' "$0"; exit 0 ;;
  *) echo "portable: unknown argument $1; see --help" >&2; exit 2 ;;
esac

# The one file of a pattern, or nothing.
archive() { find "$sources" -maxdepth 1 -name "$1" | sort -V | tail -1; }

fetch() {
  mkdir -p "$sources"
  if [ -n "$(archive 'ffmpeg_7.1*.orig.tar.xz')" ] && [ -n "$(archive 'dav1d_*.orig.tar.xz')" ] &&
    [ -n "$(archive 'libffmpeg-nvenc-dev_*.deb')" ]; then
    say "sources are there"
    return
  fi
  local by_hand="Or put ffmpeg_7.1*.orig.tar.xz, dav1d_*.orig.tar.xz and libffmpeg-nvenc-dev_*.deb (12.1) into $sources."
  command -v apt-get >/dev/null || stop "fetching the sources needs apt-get." "$by_hand"
  # The mirror that this machine uses already, with a list of its own, so that nothing is installed from it.
  local mirror keys=/usr/share/keyrings/debian-archive-keyring.gpg apt=$work/apt
  mirror=$(apt-get indextargets --format '$(SITE) $(ORIGIN) $(COMPONENT)' | awk '$2 == "Debian" && $3 == "main" { print $1; exit }')
  [ -n "$mirror" ] && [ -f "$keys" ] || stop "this machine has no Debian mirror, or no debian-archive-keyring." "$by_hand"
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
  printf '%s [signed-by=%s] %s %s main\n' deb "$keys" "$mirror" $release deb-src "$keys" "$mirror" $release >"$apt/sources.list"
  local options=(-q=2 -o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=-
    -o "Dir::State::Lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o "APT::Sandbox::User=$(id -un)")
  say "fetching the sources of FFmpeg and dav1d, and NVIDIA's codec headers"
  apt-get "${options[@]}" update || stop "the list of sources could not be fetched." "$by_hand"
  (cd "$sources" && apt-get "${options[@]}" source --download-only ffmpeg dav1d &&
    apt-get "${options[@]}" download libffmpeg-nvenc-dev) || stop "the sources could not be fetched." "$by_hand"
}

unpack() {
  rm -rf "${work:?}/$1"
  mkdir -p "$work/$1"
  tar -xf "$2" -C "$work/$1" --strip-components=1
}

build_ffmpeg() {
  if [ -f "$prefix/complete" ]; then
    say "FFmpeg is built: $prefix"
    return
  fi
  local tool
  for tool in cc make nasm meson ninja clang patch pkg-config dpkg-deb; do
    command -v $tool >/dev/null || stop "$tool is missing: run scripts/setup.sh, and install meson and ninja-build"
  done
  local libz
  libz=$(find /usr/lib /usr/local/lib -name libz.a | head -1)
  [ -n "$libz" ] || stop "libz.a is missing: install zlib1g-dev"
  fetch
  say "building dav1d"
  unpack dav1d "$(archive 'dav1d_*.orig.tar.xz')"
  meson setup "$work/dav1d/build" "$work/dav1d" --prefix "$prefix" --libdir lib --buildtype release \
    --default-library static -Denable_tools=false -Denable_tests=false >"$work/dav1d.log"
  ninja -C "$work/dav1d/build" install >>"$work/dav1d.log" || stop "dav1d did not build: see $work/dav1d.log"
  rm -rf "$work/headers"
  dpkg-deb -x "$(archive 'libffmpeg-nvenc-dev_*.deb')" "$work/headers"
  mkdir -p "$prefix/include" "$prefix/lib/pkgconfig"
  # In a folder without the shared one, the static one is linked.
  cp "$libz" "$prefix/lib/"
  cp -r "$work/headers/usr/include/ffnvcodec" "$prefix/include/"
  sed "s|^prefix=.*|prefix=$prefix|" "$(find "$work/headers" -name ffnvcodec.pc)" >"$prefix/lib/pkgconfig/ffnvcodec.pc"
  say "building FFmpeg (some minutes)"
  unpack source "$(archive 'ffmpeg_7.1*.orig.tar.xz')"
  patch -s -p1 -d "$work/source" <scripts/nvdec-status.patch
  # By its name framemill knows that this FFmpeg tells of what NVDEC could not decode.
  sed -i 's/$/-framemill/' "$work/source/VERSION"
  # What framemill uses, and what the program needs to decode into nothing or into raw frames.
  (cd "$work/source" && PKG_CONFIG_PATH="$prefix/lib/pkgconfig" ./configure --prefix="$prefix" --disable-autodetect \
    --extra-ldflags="-L$prefix/lib" \
    --enable-static --disable-shared --enable-pic --disable-debug --disable-doc --disable-network --disable-devices \
    --disable-encoders --disable-muxers --disable-filters --disable-ffplay --disable-ffprobe \
    --enable-encoder=rawvideo,wrapped_avframe --enable-muxer=null,rawvideo,framemd5,framehash \
    --enable-filter=null,scale,format,trim,setpts,hwdownload,hwupload,scale_cuda --enable-zlib --enable-libdav1d \
    --enable-ffnvcodec --enable-cuvid --enable-nvdec --enable-cuda-llvm &&
    make -j"$(nproc)" && make install) >"$work/ffmpeg.log" 2>&1 ||
    stop "FFmpeg did not build: see $work/ffmpeg.log and $work/source/ffbuild/config.log"
  touch "$prefix/complete"
}

build_ffmpeg
[ -z "$only_ffmpeg" ] || exit 0
say "building framemill"
out=$root/target/portable
# No shared FFmpeg may be found beside the static one.
export PKG_CONFIG_PATH="$prefix/lib/pkgconfig" PATH="$HOME/.cargo/bin:$PATH"
cargo build --release --target-dir "$out" --no-default-features --features static-ffmpeg,wgpu,cuda
for program in "$out/release/framemill" "$prefix/bin/ffmpeg"; do
  strip -o "$out/$(basename "$program")" "$program"
done
# The tests of the devices, as a program of their own: scripts/gpu-check.sh runs them where the GPU is.
say "building the parity tests"
parity=$(cargo test --release --lib --no-run --target-dir "$out" --no-default-features --features static-ffmpeg,wgpu,cuda \
  --message-format=json | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1)
strip -o "$out/parity" "$parity"
cp scripts/gpu-check.sh "$out/"
if command -v ffmpeg >/dev/null; then
  scripts/clips.sh "$out/clips"
else
  say "no ffmpeg with encoders here: bring media of your own for gpu-check.sh"
fi
needed=$(ldd "$out/framemill" | awk '{ print $1 }')
foreign=$(grep -Ev '^(linux-vdso|libc|libm|libgcc_s|libdl|libpthread|librt|/lib.*/ld-linux)[.-]|^/lib' <<<"$needed" || true)
[ -z "$foreign" ] || stop "the program needs more than the C library: $foreign"
"$out/framemill" --version
say "framemill, ffmpeg, parity, gpu-check.sh and clips in target/portable, for glibc $(objdump -T "$out/framemill" "$out/ffmpeg" |
  grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -1 | cut -d_ -f2) or newer"

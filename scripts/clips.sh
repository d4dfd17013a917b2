#!/usr/bin/env bash
# Makes the clips that scripts/gpu-check.sh runs on: what hardware decodes, what it refuses, and damage.
# Needs an ffmpeg with libx264, libx265 and libvpx. Usage: scripts/clips.sh FOLDER
set -euo pipefail
out=${1:?scripts/clips.sh FOLDER}
mkdir -p "$out"
# make NAME SIZE SECONDS ENCODER...: a moving test picture with noise, which is as hard to decode as film.
make() {
  local name=$1 size=$2 seconds=$3
  shift 3
  [ -s "$out/$name" ] && return
  echo "clips: $name"
  ffmpeg -v error -y -f lavfi -i "testsrc2=size=$size:rate=30:duration=$seconds" -vf "noise=alls=9:allf=t" "$@" "$out/$name"
}
x264=(-c:v libx264 -preset veryfast -pix_fmt yuv420p -g 60 -bf 2)
tags=(-color_primaries bt709 -color_trc bt709 -colorspace bt709 -color_range tv)
make h264_long.mp4 1920x1080 20 "${x264[@]}" "${tags[@]}" -b:v 6M
make h264_crop_1918x1078.mp4 1918x1078 4 "${x264[@]}" -b:v 1M
make tiny.mp4 1918x1078 1.06 "${x264[@]}" -b:v 1M
make h264_interlaced.mp4 720x576 4 "${x264[@]}" -flags +ildct+ilme -b:v 1M
make h264_422_10.mp4 320x240 2 -c:v libx264 -preset veryfast -pix_fmt yuv422p10le -b:v 200k
make hevc_8.mp4 640x360 5 -c:v libx265 -preset veryfast -x265-params log-level=error -pix_fmt yuv420p -b:v 300k
make hevc_10.mp4 640x360 5 -c:v libx265 -preset veryfast -x265-params log-level=error:open-gop=1 -pix_fmt yuv420p10le -b:v 300k
make hevc_444_12.mp4 320x240 2 -c:v libx265 -preset veryfast -x265-params log-level=error -pix_fmt yuv444p12le -b:v 200k
make vp9.webm 1280x720 4 -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -pix_fmt yuv420p -b:v 2M
make vp8.webm 640x360 3 -c:v libvpx -deadline realtime -cpu-used 8 -b:v 500k
make mpeg2.mkv 720x576 3 -c:v mpeg2video -b:v 1M
if [ ! -s "$out/h264_damaged.mp4" ]; then
  make h264_damaged.mp4 640x360 4 "${x264[@]}" -b:v 300k
  # Some bytes in the middle: the index at the end stays whole.
  for at in 50000 60000 70000; do
    printf '\x55\xaa\x55\xaa\x55\xaa\x55\xaa' | dd of="$out/h264_damaged.mp4" bs=1 seek=$at conv=notrunc status=none
  done
fi

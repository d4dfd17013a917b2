#!/usr/bin/env bash
# Does this machine's GPU give the CPU's bytes, and how fast? One JSON is the answer.
# Needs a GPU with its driver and nothing else: the programs come from scripts/portable.sh on any other machine.
# Usage: gpu-check.sh [-p FOLDER] [-i MEDIA]... [-o RESULT.json] [--only STEP,...]
#   -p  where framemill, parity and ffmpeg lie (default: beside this script, else target/portable)
#   -i  media to run on, files or folders (default: clips/ beside the programs)
# Steps: devices, selftest, parity, dataset, kill, decode, sessions, short, sanitizer, bench (its report and page beside RESULT.json)
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
programs=$here result=gpu-check.json steps=devices,selftest,parity,dataset,kill,decode,sessions,short,sanitizer,bench media=()
[ -x "$programs/framemill" ] || programs=$here/../target/portable
while [ $# -gt 0 ]; do
  case $1 in
    -p) programs=$2; shift 2 ;;
    -i) media+=("$2"); shift 2 ;;
    -o) result=$2; shift 2 ;;
    --only) steps=$2; shift 2 ;;
    -h | --help) sed -n '2,8s/^# //p' "$0"; exit 0 ;;
    *) echo "gpu-check: unknown argument $1; see --help" >&2; exit 2 ;;
  esac
done
programs=$(cd "$programs" 2>/dev/null && pwd) && [ -x "$programs/framemill" ] || {
  echo "gpu-check: no framemill found: run scripts/portable.sh, and bring target/portable here" >&2
  exit 69
}
framemill=$programs/framemill
[ ${#media[@]} -gt 0 ] || media=("$programs/clips")
work=$(mktemp -d "${TMPDIR:-/tmp}/gpu-check.XXXXXX")
trap 'rm -rf "$work"' EXIT
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-$work}
failed=0
said=()

say() { echo "gpu-check: $*" >&2; }
wanted() { [[ ",$steps," == *",$1,"* ]]; }
seconds() { date +%s.%N; }
# A step's result: its name and a JSON value. The file is whole after each.
tell() {
  said+=("\"$1\": $2")
  write
}
write() {
  {
    printf '{\n"version": %s,\n"machine": %s,\n"sound": %s' "$(quoted "$("$framemill" --version)")" "$machine" \
      "$([ $failed = 0 ] && echo true || echo false)"
    [ ${#said[@]} = 0 ] || printf ',\n%s' "${said[@]}"
    printf '\n}\n'
  } >"$result"
}
# So many a second.
rate() { awk -v n="$1" -v a="$2" -v b="$3" 'BEGIN { printf "%.1f", n / (b - a) }'; }
# The JSON in a file, or null.
json() { if [ -s "$1" ]; then cat "$1"; else echo null; fi; }
quoted() { printf '"%s"' "$(printf %s "$1" | tr -d '\n' | sed 's/\\/\\\\/g; s/"/\\"/g')"; }
wrong() {
  say "WRONG: $*"
  failed=1
}
machine="{\"cpu\": $(quoted "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)"), \"cores\": $(nproc), \"gpu\": $(quoted "$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null)"), \"kernel\": $(quoted "$(uname -r)")}"
# Digest of a dataset: every file but the reports.
tree() { (cd "$1" && find . -type f ! -path './_framemill/reports/*' -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1); }
inputs() { for m in "${media[@]}"; do printf -- '-i\n%s\n' "$m"; done; }
mapfile -t given < <(inputs)
# A run of the media into a folder; the rest are its flags. Its report goes beside the folder.
run() {
  local out=$1
  shift
  "$framemill" run "${given[@]}" -o "$out" --json --max-rejects 100% --progress none --every 200ms --shard-samples 40 \
    --op resize:short=256,filter=bicubic --op center_crop:w=224,h=224 --op random_flip "$@" >"$out.json" 2>"$out.log"
}
# Whether a device is there.
has() { "$framemill" selftest --device "$1" --json >/dev/null 2>&1; [ $? -ne 69 ]; }

devices=()
for device in cuda wgpu; do
  if has $device; then devices+=($device); else say "no $device here: skipped"; fi
done
[ ${#devices[@]} -gt 0 ] || { say "no GPU"; failed=1; }

if wanted devices; then
  "$framemill" devices --json >"$work/devices.json"
  tell devices "$(json "$work/devices.json")"
fi

if wanted selftest; then
  parts=()
  for device in "${devices[@]}"; do
    "$framemill" selftest --device "$device" --speed --json >"$work/$device.json" || wrong "selftest on $device"
    parts+=("\"$device\": $(json "$work/$device.json")")
  done
  tell selftest "{$(IFS=,; echo "${parts[*]}")}"
fi

if wanted parity && [ -x "$programs/parity" ]; then
  parts=()
  for device in "${devices[@]}"; do
    FRAMEMILL_REQUIRE_GPU=1 "$programs/parity" --nocapture "backend::$device" --skip on_the_host >"$work/parity.log" 2>&1
    code=$?
    [ $code = 0 ] || { wrong "parity on $device"; tail -20 "$work/parity.log" >&2; }
    lines=$(grep -o "[0-9]* pictures of .* are the CPU's" "$work/parity.log" | tail -1)
    parts+=("\"$device\": {\"passed\": $([ $code = 0 ] && echo true || echo false), \"equal\": $(quoted "$lines")}")
  done
  tell parity "{$(IFS=,; echo "${parts[*]}")}"
fi

cpu=
if wanted dataset || wanted kill; then
  run "$work/cpu" --device cpu --decoder software || wrong "the run on the CPU: $(tail -3 "$work/cpu.log")"
  cpu=$(tree "$work/cpu")
fi

if wanted dataset; then
  parts=()
  for device in "${devices[@]}"; do
    for decoder in software nvdec; do
      name=$device-$decoder
      run "$work/$name" --device "$device" --decoder $decoder || wrong "the run on $name: $(tail -3 "$work/$name.log")"
      [ "$(tree "$work/$name")" = "$cpu" ] && equal=true || { equal=false; wrong "$name differs from the CPU's dataset"; }
      parts+=("\"$name\": {\"equal\": $equal, \"report\": $(json "$work/$name.json")}")
      rm -rf "${work:?}/$name"
    done
  done
  tell dataset "{$(IFS=,; echo "${parts[*]}")}"
fi

# A run on the GPU that is killed when some of its shards are there, and goes on on the CPU.
if wanted kill && [ ${#devices[@]} -gt 0 ]; then
  device=${devices[0]}
  setsid "$framemill" run "${given[@]}" -o "$work/killed" --max-rejects 100% --progress none --every 200ms \
    --shard-samples 40 --op resize:short=256,filter=bicubic --op center_crop:w=224,h=224 --op random_flip \
    --device "$device" >/dev/null 2>&1 &
  group=$!
  for _ in $(seq 500); do
    [ "$(find "$work/killed/_framemill/receipts" -type f 2>/dev/null | wc -l)" -ge 2 ] && break
    sleep 0.02
  done
  kill -9 -- -$group 2>/dev/null
  wait $group 2>/dev/null
  before=$(find "$work/killed/_framemill/receipts" -type f 2>/dev/null | wc -l)
  whole=$(find "$work/cpu/_framemill/receipts" -type f | wc -l)
  sleep 1
  run "$work/killed" --device cpu || wrong "the run that goes on: $(tail -3 "$work/killed.log")"
  [ "$(tree "$work/killed")" = "$cpu" ] && equal=true || { equal=false; wrong "begun on $device, finished on the CPU"; }
  tell kill "{\"device\": \"$device\", \"tasks\": $whole, \"done_when_killed\": $before, \"equal\": $equal}"
fi

# Every frame of every clip by NVDEC and in software.
if wanted decode && [[ " ${devices[*]} " == *" cuda "* ]]; then
  parts=()
  while IFS= read -r clip; do
    name=$(basename "$clip")
    flags=(run -i "$clip" --json --all --progress none --max-rejects 100% --op resize:w=64,h=64 --encode npy)
    "$framemill" "${flags[@]}" -o "$work/soft" --decoder software >"$work/soft.json" 2>/dev/null
    "$framemill" "${flags[@]}" -o "$work/hard" --decoder nvdec >"$work/hard.json" 2>/dev/null
    [ "$(tree "$work/soft")" = "$(tree "$work/hard")" ] && equal=true || { equal=false; wrong "$name by NVDEC"; }
    parts+=("$(quoted "$name"): {\"equal\": $equal, \"report\": $(json "$work/hard.json")}")
    rm -rf "$work/soft" "$work/hard"
  done < <(find "${media[@]}" -type f | sort)
  tell decode "{$(IFS=,; echo "${parts[*]}")}"
fi

# Frames a second from many copies of the longest clip: one process of ours, and ffmpeg's in as many as there are engines.
if wanted sessions && [[ " ${devices[*]} " == *" cuda "* ]]; then
  clip=$(find "${media[@]}" -type f \( -name '*.mp4' -o -name '*.mkv' \) -printf '%s %p\n' | sort -n | tail -1 | cut -d' ' -f2-)
  copies=$work/copies
  mkdir "$copies"
  for n in $(seq 32); do ln "$clip" "$copies/$n.${clip##*.}" 2>/dev/null || cp "$clip" "$copies/$n.${clip##*.}"; done
  frames=$("$framemill" probe --json "$clip" | grep -o '"frames": *[0-9]*' | head -1 | grep -o '[0-9]*$')
  parts=()
  if [ -x "$programs/ffmpeg" ]; then
    # Opening the device is a part of it, as it is of ours.
    for processes in 1 7 14; do
      begun=$(seconds)
      for n in $(seq $processes); do
        "$programs/ffmpeg" -v error -hwaccel cuda -hwaccel_output_format cuda -i "$clip" -f null - &
      done
      wait
      parts+=("{\"what\": \"ffmpeg -hwaccel cuda -f null\", \"processes\": $processes, \"frames_per_second\": $(rate $((processes * frames)) "$begun" "$(seconds)")}")
    done
  fi
  for pair in "2 8" "4 8" "16 8" "16 16"; do
    read -r cores threads <<<"$pair"
    cores=$((cores < $(nproc) ? cores : $(nproc)))
    begun=$(seconds)
    taskset -c "0-$((cores - 1))" "$framemill" run -i "$copies" -o "$work/rate" --json --all --progress none --threads $threads \
      --device cuda --decoder nvdec --memory 8GB --op resize:w=224,h=224,filter=bicubic --format tensors >"$work/rate.json" 2>"$work/rate.log" ||
      wrong "the run at $threads threads: $(tail -3 "$work/rate.log")"
    parts+=("{\"what\": \"framemill run --all to 224x224\", \"cores\": $cores, \"threads\": $threads, \"frames_per_second\": $(rate $((32 * frames)) "$begun" "$(seconds)"), \"report\": $(json "$work/rate.json")}")
    rm -rf "$work/rate"
  done
  tell sessions "[$(IFS=,; echo "${parts[*]}")]"
fi

# Many short clips: what opening a decoder costs beside decoding.
if wanted short && [[ " ${devices[*]} " == *" cuda "* ]]; then
  clip=$(find "${media[@]}" -type f -name 'tiny*' | head -1)
  if [ -n "$clip" ]; then
    mkdir "$work/short"
    for n in $(seq 60); do ln "$clip" "$work/short/$n.${clip##*.}" 2>/dev/null || cp "$clip" "$work/short/$n.${clip##*.}"; done
    parts=()
    for decoder in software nvdec; do
      begun=$(seconds)
      "$framemill" run -i "$work/short" -o "$work/rate" --json --all --progress none --threads 8 --device cuda \
        --decoder $decoder --op resize:w=224,h=224 --format tensors >"$work/rate.json" 2>"$work/rate.log" ||
        wrong "short clips by $decoder: $(tail -3 "$work/rate.log")"
      parts+=("{\"decoder\": \"$decoder\", \"clips_per_second\": $(rate 60 "$begun" "$(seconds)"), \"report\": $(json "$work/rate.json")}")
      rm -rf "$work/rate"
    done
    tell short "[$(IFS=,; echo "${parts[*]}")]"
  fi
fi

if wanted sanitizer; then
  if command -v compute-sanitizer >/dev/null && [[ " ${devices[*]} " == *" cuda "* ]]; then
    found=
    for tool in memcheck racecheck initcheck; do
      compute-sanitizer --tool $tool --error-exitcode 9 "$framemill" selftest --device cuda >"$work/sanitizer.log" 2>&1 ||
        { wrong "$tool"; tail -20 "$work/sanitizer.log" >&2; found="$found $tool"; }
    done
    tell sanitizer "{\"tools\": [\"memcheck\", \"racecheck\", \"initcheck\"], \"faults\": $(quoted "${found# }")}"
  else
    say "no compute-sanitizer here: skipped"
    tell sanitizer null
  fi
fi

# What each device and decoder costs on this machine, told as users are told.
if wanted bench; then
  long=$(find "${media[@]}" -type f -name '*.mp4' -size +200k | head -1)
  if [ -n "$long" ]; then
    "$framemill" bench run -i "$long" --every 500ms --op resize:w=224,h=224 --devices cpu,cuda,wgpu --decoders software,nvdec \
      -o "$work/bench" --quick --report "${result%.json}-bench.json" --page "${result%.json}-bench.html" \
      >"$work/bench.txt" 2>"$work/bench.log"
    code=$?
    [ $code = 0 ] || wrong "bench ended with $code: $(tail -3 "$work/bench.log")"
    cat "$work/bench.txt" >&2
    [ ! -s "${result%.json}-bench.json" ] || tell bench "$(json "${result%.json}-bench.json")"
  fi
fi

write
say "$([ $failed = 0 ] && echo "all is well" || echo "something is wrong"); $result"
exit $failed

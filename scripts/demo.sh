#!/usr/bin/env bash
# Shows framemill at work: builds it, makes a dataset of the fixtures (or of FOLDER), reads it back and draws a contact
# sheet. Running it again resumes, so it is quick the second time.
# Usage: scripts/demo.sh [FOLDER]
set -euo pipefail
case "${1:-}" in
  -h | --help) sed -n '2,4s/^# //p' "$0"; exit 0 ;;
esac
media=()
name=demo
if [ $# -gt 0 ]; then
  [ -d "$1" ] || { echo "demo: $1 is no folder" >&2; exit 2; }
  folder="$(cd "$1" && pwd)"
  media=(-i "$folder")
  # Folders of one name in different places are different demos.
  name="demo-$(basename "$folder")-$(printf %s "$folder" | cksum | cut -d' ' -f1)"
fi
cd "$(dirname "$0")/.."
[ ${#media[@]} -gt 0 ] || media=(-i fixtures/clips -i fixtures/photos)

echo "demo: 1. what the build needs (scripts/setup.sh)"
scripts/setup.sh
export PATH="$HOME/.cargo/bin:$PATH"
echo "demo: 2. the program (cargo build --release)"
cargo build --release
framemill="${CARGO_TARGET_DIR:-target}/release/framemill"
out="out/$name"
ops=(--every 1s --op resize:short=256,filter=bicubic --op center_crop:w=224,h=224)

# Shows a command, then runs it.
show() {
  local word line='$'
  for word in "$@"; do
    [[ $word =~ ^[A-Za-z0-9_./:=,-]+$ ]] || word=$(printf %q "$word")
    line+=" $word"
  done
  echo "$line"
  "$@"
}
echo "demo: 3. a dataset: one frame a second of each video and every photo, as 224x224 JPEG"
code=0
show "$framemill" run "${media[@]}" -o "$out" "${ops[@]}" || code=$?
# 3: done, but some inputs were rejected. Everything good is there.
case $code in
  0) ;;
  3) show "$framemill" rejects "$out" ;;
  78)
    echo "demo: $out was made by another job or version. Delete it and run this again." >&2
    exit 78
    ;;
  *) exit $code ;;
esac
echo "demo: 4. what is done and what is left"
show "$framemill" status "$out"
echo "demo: 5. reading it back: digests, counts, duplicates"
show "$framemill" verify "$out"
echo "demo: 6. a contact sheet"
show "$framemill" preview "$out" -o "$out.jpg"
# Their names begin with the time, so the last is the newest.
reports=("$out"/_framemill/reports/*.json)
echo
echo "demo: the dataset lies in    $PWD/$out"
echo "demo: the last run's report  $PWD/${reports[${#reports[@]} - 1]}"
echo "demo: the picture of it      $PWD/$out.jpg"

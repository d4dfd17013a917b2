#!/usr/bin/env bash
# Installs what is missing, then runs every check and test. --full runs the counts that take long.
# Outside media are found through FRAMEMILL_TEST_MEDIA; without it their tests skip and say so.
set -euo pipefail
cd "$(dirname "$0")/.."
# Prometheus scrapes a run where every count is run.
if [ "${1:-}" = --full ]; then scripts/setup.sh prometheus; else scripts/setup.sh; fi
export PATH="$HOME/.cargo/bin:$PATH"
if [ "${1:-}" = --full ]; then export FRAMEMILL_TEST_FULL=1; fi
if [ -z "${FRAMEMILL_TEST_MEDIA:-}" ]; then
  echo "test: FRAMEMILL_TEST_MEDIA is not set: tests on outside media will skip"
fi
# The outside references (Pillow, readers of the formats) live in an environment of their own.
python=target/python
if [ ! -x "$python/bin/python" ]; then
  echo "test: creating $python with the reference libraries"
  python3 -m venv "$python"
fi
"$python/bin/pip" install -q --disable-pip-version-check 'pillow>=13,<14' numpy pyarrow webdataset duckdb \
  safetensors datasets onnxruntime pycocotools 'moto[server]' scenedetect opencv-python-headless jsonschema \
  prometheus_client opentelemetry-proto 'dagster==1.13.*' 'luigi==3.8.*'
# CUDA's compiler library, where there is one for this machine: without it the kernels' images are not made again.
"$python/bin/pip" install -q --disable-pip-version-check nvidia-cuda-nvrtc-cu12==12.0.140 ||
  echo "test: NVRTC cannot be installed here: its test will skip"
# Orchestrators that are heavy, or do not go together, have environments of their own.
if [ "${1:-}" = --full ]; then
  export FRAMEMILL_ORCHESTRATORS="$PWD/target/orchestrators"
  orchestrator() {
    [ -x "$FRAMEMILL_ORCHESTRATORS/$1/bin/python" ] || python3 -m venv "$FRAMEMILL_ORCHESTRATORS/$1"
    "$FRAMEMILL_ORCHESTRATORS/$1/bin/pip" install -q --disable-pip-version-check "${@:2}"
  }
  orchestrator airflow 'apache-airflow==3.3.*'
  orchestrator prefect 'prefect==3.8.*' 'fastapi<0.140'
  # An S3 server that checks signatures, beside moto, which does not.
  cargo install -q s3s-fs --version 0.14.1 --features binary --locked --root target/s3s
  export FRAMEMILL_S3S="$PWD/target/s3s/bin/s3s-fs"
  # Azure's emulator, where there is npm.
  if command -v npm >/dev/null; then
    npm install --silent --no-fund --no-audit --prefix target/azurite azurite@3
    export FRAMEMILL_AZURITE="$PWD/target/azurite/node_modules/.bin/azurite-blob"
  else
    echo "test: there is no npm: the tests on Azure's emulator will skip"
  fi
fi
export FRAMEMILL_PYTHON="$PWD/$python/bin/python"
cargo fmt --all -- --check
cargo clippy -q --all-targets -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc -q --no-deps
cargo test -- --nocapture

#!/bin/sh
# Everything that the GPU parts of this project are to do, checked on a machine with a GPU, in less than ten minutes.
# Without a GPU the parts that need none run, and the table says of the others: not run. See docs/tensorrt.md.
set -eu
cd "$(dirname "$0")/.."
if [ -x .venv/bin/python ]; then PATH="$PWD/.venv/bin:$PATH"; fi
exec python -m tools.gpu_check "$@"

#!/bin/sh
# Checks all GPU parts of this project on a machine with a GPU. On a machine without one the checks that need no GPU run, and
# the table marks the others as not run. With --table it measures all detectors instead. See docs/tensorrt.md.
set -eu
cd "$(dirname "$0")/.."
if [ -x .venv/bin/python ]; then PATH="$PWD/.venv/bin:$PATH"; fi
exec python -m tools.gpu_check "$@"

#!/usr/bin/env bash
# The tests that need a GPU, under each tool of NVIDIA's compute-sanitizer (CUDA toolkit):
#
#   tests/gpu/sanitize.sh [arguments of pytest, for example -k eigh]
#
# PYTHON names the interpreter; without it, .venv/bin/python.
set -euo pipefail
cd "$(dirname "$0")/../.."
python="${PYTHON:-.venv/bin/python}"

fail() {
  echo "sanitize.sh: $1" >&2
  exit 1
}
command -v compute-sanitizer >/dev/null ||
  fail "compute-sanitizer is not on PATH; it comes with the CUDA toolkit"
"$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' ||
  fail "torch finds no GPU"

# torch's allocator hands out parts of large blocks and uses them again: what lies beyond a tensor,
# or was written in an earlier life, would look right. Graphs cannot be captured without it.
export PYTORCH_NO_CUDA_MEMORY_CACHING=1
tests=(tests/gpu/device --deselect tests/gpu/device/test_streams.py::test_captured_in_a_graph)

for tool in memcheck racecheck initcheck synccheck; do
  echo "== $tool"
  compute-sanitizer --tool "$tool" --error-exitcode 1 --target-processes all \
    "$python" -m pytest -q -m gpu -p no:cacheprovider "${tests[@]}" "$@"
done

#!/bin/sh
# Whether seqrec is right on this GPU, and how fast: the CUDA checks, then the table, under six minutes, JSON as it goes.
#
#   sh scripts/gpu_check.sh                       writes gpu_check.json in the folder it is called from
#   sh scripts/gpu_check.sh --json out/gpu.json --parts cases,sasrec
#   sh scripts/gpu_check.sh --device cpu --tiny   the same parts at toy sizes, without a GPU: does the script hold together?
#
# It runs from a source checkout; nothing is installed, downloaded or read but the checkout, and all data are made on
# the spot. Beside Python 3.11 or later, torch 2.11 or later (built for CUDA) and numpy it needs these packages, any
# version that pyproject.toml allows:
#
#   hydra-core  omegaconf  pydantic  pandas  pyarrow  filelock  rich
#
# With pytest, tests/training/test_cuda.py is run as well; without it that part says so and is left out, and the checks
# of `cases` (every model by every objective against the CPU) need no pytest. Where a package is missing, one line names
# it and the exit code is 2. Exit code 1: a check failed. Parts that fail or hang lose nothing of the others.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONPATH
exec "${PYTHON:-python3}" -m scripts.gpu_check "$@"

#!/bin/sh
# Whether seqrec is right on this GPU, and how fast: the CUDA checks, then the table, under six minutes, JSON as it goes.
#
#   sh scripts/gpu_check.sh                       writes gpu_check.json in the folder it is called from
#   sh scripts/gpu_check.sh --json out/gpu.json --parts kernels,cases,sasrec
#   sh scripts/gpu_check.sh --data ml-1m.txt      SASRec on that log in fp32, bf16 and fp16 as well
#   sh scripts/gpu_check.sh --device cpu --tiny   the same parts at toy sizes, without a GPU: does the script hold together?
#
# It runs from a source checkout; nothing is installed, downloaded or read but the checkout (and --data), and all other
# data are made on the spot. Beside Python 3.11 or later, torch 2.11 or later (built for CUDA) and numpy it needs these
# packages, any version that pyproject.toml allows:
#
#   hydra-core  omegaconf  pydantic  pandas  pyarrow  filelock  rich
#
# With pytest, tests/training/test_cuda.py and tests/kernels/test_triton_cuda.py are run as well; without it that part
# says so and is left out, and `kernels` and `cases` need no pytest. Where a package is missing, one line names it and the
# exit code is 2. Exit code 1: a check failed, or a part hung. Parts that fail, crash or hang lose nothing of the others;
# one that its time did not suffice for is named at the end, and is no fault: what it found stands.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONPATH
exec "${PYTHON:-python3}" -m scripts.gpu_check "$@"

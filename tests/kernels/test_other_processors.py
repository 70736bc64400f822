"""Kernels compiled for an older processor than this one: the same values and the same random bits."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from seqrec_cli.kernels.build import compiler

pytestmark = pytest.mark.skipif(
    compiler() is None or platform.machine().lower() not in ("x86_64", "amd64"), reason="no C compiler for x86-64 here"
)
WIDTHS = (
    "int wide(void) {\n#ifdef __AVX512F__\nreturn 16;\n#elif defined(__AVX__)\nreturn 8;\n#else\nreturn 4;\n#endif\n}\n"
)
EVERY_KERNEL = """
import json, sys, torch
from pathlib import Path
from seqrec_cli.kernels import build
from seqrec_cli.kernels.registry import all_kernels
found = {"wide": build.library(Path(sys.argv[1]), "BF16", 0).wide()}
for name, kernel in all_kernels().items():
    if torch.float32 not in kernel.formats or kernel.triton:
        continue
    torch.manual_seed(0)
    worst = 0.0
    for given in kernel.examples(torch.float32):
        exact = [x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in given]
        both = kernel.reference(*exact), kernel.operator(*given)
        right, got = ((each,) if isinstance(each, torch.Tensor) else each for each in both)
        for value, its in zip(got, right):
            if its.numel():
                worst = max(worst, ((value - its).abs().max() / its.abs().max().clamp(min=1e-3)).item())
    found[name] = worst
print(json.dumps(found))
"""


@pytest.mark.exhaustive  # compiles every kernel anew, as the job `avx2` of test.yml does for all their tests
def test_kernels_for_a_processor_that_ends_at_avx2(tmp_path: Path) -> None:
    source = tmp_path / "width" / "kernel.c"
    source.parent.mkdir()
    source.write_text(WIDTHS, encoding="utf-8")
    env = os.environ | {"SEQREC_KERNELS_MARCH": "x86-64-v3", "XDG_CACHE_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", EVERY_KERNEL, str(source)], env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("wide") == 8
    assert {"dropout", "pair_linear", "prelu_dice", "gru_states", "bias_dropout_add_norm"} <= set(found)
    assert max(found.values()) < 2e-5, found


def test_libraries_of_two_targets_lie_side_by_side(tmp_path: Path) -> None:
    from seqrec_cli.kernels import build

    source = tmp_path / "width" / "kernel.c"
    source.parent.mkdir()
    source.write_text(WIDTHS, encoding="utf-8")
    found = compiler()
    assert found is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path))
        files = {
            build._compiled(found, source, (*build.FLAGS, f"-march={name}")) for name in ("x86-64-v3", "x86-64-v2")
        }
    assert len(files) == 2
    assert all(file.is_file() for file in files)

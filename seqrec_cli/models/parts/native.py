"""C sources compiled for this processor at their first use, where a C compiler is there: for loops of many small steps,
of which torch's operators make a hundred thousand calls.

The sources are plain C and compile in a quarter of a second; torch's own route to C++ needs ninja and half a minute.
The library lies in the user's cache folder, named by all that went into it. Without a compiler nothing is lost but
speed: the callers have the same loop in torch's operators.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

# No -ffast-math: linked into a library it makes the whole process round tiny numbers to zero.
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
THREADS = ("-fopenmp",)  # a compiler without it makes a library of one thread
SECONDS = 120


@functools.cache
def library(source: Path, **constants: int) -> ctypes.CDLL | None:
    """The compiled source, loaded, with these preprocessor constants; None where it cannot be compiled here."""
    compiler = next(filter(None, map(shutil.which, filter(None, (os.environ.get("CC"), "cc", "gcc", "clang")))), None)
    if compiler is None:
        return None
    asked = [f"-D{name}={value}" for name, value in constants.items()]
    for flags in ((*FLAGS, *THREADS, *asked), (*FLAGS, *asked)):
        try:
            return ctypes.CDLL(str(_compiled(compiler, source, flags)))
        except (OSError, subprocess.SubprocessError):
            continue
    return None


def _compiled(compiler: str, source: Path, flags: tuple[str, ...]) -> Path:
    """The library's file, made unless it is there. It appears whole or not at all: runs may start side by side."""
    texts = [path.read_text(encoding="utf-8") for path in (source, *sorted(source.parent.glob("*.h")))]
    made_of = "\n".join((*texts, compiler, *flags, _processor()))
    name = f"{source.stem}-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.so"
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seqrec" / "native"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # no home, or not ours to write
        folder = Path(tempfile.mkdtemp(prefix="seqrec-"))
    found = folder / name
    if not found.exists():
        with tempfile.TemporaryDirectory(dir=folder) as beside:
            fresh = Path(beside) / name
            command = [compiler, *flags, str(source), "-o", str(fresh), "-lm"]
            subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
            fresh.replace(found)
    return found


def _processor() -> str:
    """What -march=native stands for: a cache folder may be shared by machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))

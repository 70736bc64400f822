"""From a kernel's C source to a loaded library, compiled for this processor at its first use and kept
in a cache folder.

The sources are plain C and compile in a quarter of a second; torch's own route to C++ needs ninja and half a minute.
Without a compiler nothing is lost but speed: every kernel has a reference in torch's operators.
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

from seqrec_cli.files import atomic_file, write_atomically

INCLUDE = Path(__file__).with_name("include")
# No -ffast-math: linked into a library it makes the whole process round tiny numbers to zero.
FLAGS = ("-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
TARGET = os.environ.get("SEQREC_KERNELS_MARCH", "native")  # x86-64-v3: as on a processor that ends at AVX2
# Not every compiler knows all (Apple's has no OpenMP, and some for Arm know their processor by -mcpu alone): without
# -fopenmp a library has one thread.
EXTRA = (
    (f"-march={TARGET}", "-mprefer-vector-width=512", "-fopenmp"),
    (f"-march={TARGET}", "-fopenmp"),
    (f"-mcpu={TARGET}", "-fopenmp"),
    (f"-march={TARGET}",),
    (f"-mcpu={TARGET}",),
    (),
)
SECONDS = 120


def compiler() -> str | None:
    """The C compiler: $CC, or the system's. On Windows none: gcc there misaligns wide vectors on the stack."""
    if os.name == "nt":
        return None
    return next(filter(None, map(shutil.which, filter(None, (os.environ.get("CC"), "cc", "gcc", "clang")))), None)


@functools.cache
def library(source: Path, constant: str, value: int) -> ctypes.CDLL | None:
    """The source compiled with a preprocessor constant, and loaded; None where that cannot be done here."""
    found = compiler()
    if found is None:
        return None
    for extra in EXTRA:
        try:
            return ctypes.CDLL(str(_compiled(found, source, (*FLAGS, *extra, f"-D{constant}={value}"))))
        except (OSError, subprocess.SubprocessError):
            continue
    return None


def _compiled(command: str, source: Path, flags: tuple[str, ...]) -> Path:
    """The library's file, named by a hash of all that goes into it, and compiled unless it is there, whole. It
    appears so or not at all: runs may start side by side."""
    texts = [path.read_text(encoding="utf-8") for path in (source, *sorted(INCLUDE.glob("*.h")))]
    ingredients = "\n".join((*texts, command, *flags, _processor()))
    folder = _cache_folder()
    file = folder / f"{source.parent.name}-{hashlib.sha256(ingredients.encode()).hexdigest()[:16]}.so"
    checksum = file.with_suffix(".sha256")
    if not _is_whole(file, checksum):
        with atomic_file(file) as fresh:
            words = [command, *flags, f"-I{INCLUDE}", str(source), "-o", str(fresh), "-lm"]
            subprocess.run(words, check=True, capture_output=True, timeout=SECONDS)
            found = _hash(fresh)
        write_atomically(checksum, found + "\n")
    return file


def _is_whole(file: Path, checksum: Path) -> bool:
    """Whether a library is as it was compiled: a cut one ends the whole process when it is loaded (SIGBUS)."""
    try:
        return _hash(file) == checksum.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return False


def _hash(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _cache_folder() -> Path:
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seqrec" / "kernels"
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):  # no home, or not ours to write
        pass
    return Path(_temporary_folder().name)


@functools.cache
def _temporary_folder() -> "tempfile.TemporaryDirectory[str]":
    """Of this process; it is deleted with it."""
    return tempfile.TemporaryDirectory(prefix="seqrec-")


def _processor() -> str:
    """What -march=native stands for: a cache folder may be shared by machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))

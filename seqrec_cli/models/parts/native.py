"""C sources compiled for this processor at their first use, where a C compiler is there: for loops of many small steps,
of which torch's operators make a hundred thousand calls, and for what they do in a dozen passes over large tensors.

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
from typing import Any

import torch
from torch import Tensor

# No -ffast-math: linked into a library it makes the whole process round tiny numbers to zero.
FLAGS = ("-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
# Not every compiler knows all: without the last a library has one thread.
EXTRA = (
    ("-march=native", "-mprefer-vector-width=512", "-fopenmp"),
    ("-march=native", "-fopenmp"),
    ("-march=native",),
    (),
)
SECONDS = 120


def compiler() -> str | None:
    """The C compiler: $CC, or the system's."""
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


VECTOR = 16  # numbers of the widest vector
POINTER, LONG, INT = ctypes.c_void_p, ctypes.c_long, ctypes.c_int
Signatures = tuple[tuple[str, tuple[Any, ...]], ...]  # names of functions, and their arguments


@torch.compiler.assume_constant_result  # the compiler of a model takes it as it is
def compiled_for(dtype: torch.dtype, source: Path, signatures: Signatures) -> bool:
    """Whether the source is there in C for tensors of this format; else torch's operators have to do."""
    return dtype in (torch.float32, torch.bfloat16) and _passes(source, dtype == torch.bfloat16, signatures) is not None


def passes_for(dtype: torch.dtype, source: Path, signatures: Signatures) -> ctypes.CDLL:
    """The source compiled with -DBF16=1 or 0; only where `compiled_for` says so."""
    found = _passes(source, dtype == torch.bfloat16, signatures)
    assert found is not None
    return found


@functools.cache
def _passes(source: Path, bf16: bool, signatures: Signatures) -> ctypes.CDLL | None:
    found = library(source, "BF16", int(bf16))
    if found is not None:
        for name, arguments in signatures:
            getattr(found, name).argtypes = arguments
    return found


def addresses(*tensors: Tensor | None) -> list[int | None]:
    """For a call: the caller keeps the tensors alive until it returns."""
    return [None if tensor is None else tensor.data_ptr() for tensor in tensors]


def sizes(x: Tensor) -> tuple[int, int]:
    """Rows and channels (the last dimension)."""
    return x.numel() // max(x.shape[-1], 1), x.shape[-1]


def enough(found: int) -> None:
    """What a pass says that needs memory of its own for sums."""
    if not found:
        raise MemoryError("no memory for the sums over a tensor's rows")


def _compiled(command: str, source: Path, flags: tuple[str, ...]) -> Path:
    """The library's file, made unless it is there. It appears whole or not at all: runs may start side by side."""
    texts = [path.read_text(encoding="utf-8") for path in (source, *sorted(source.parent.glob("*.h")))]
    made_of = "\n".join((*texts, command, *flags, _processor()))
    folder = _folder()
    made = folder / f"{source.stem}-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.so"
    if not made.exists():
        with tempfile.TemporaryDirectory(dir=folder) as beside:
            fresh = Path(beside) / made.name
            words = [command, *flags, str(source), "-o", str(fresh), "-lm"]
            subprocess.run(words, check=True, capture_output=True, timeout=SECONDS)
            fresh.replace(made)
    return made


def _folder() -> Path:
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seqrec" / "native"
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):  # no home, or not ours to write
        pass
    return Path(_passing_folder().name)


@functools.cache
def _passing_folder() -> "tempfile.TemporaryDirectory[str]":
    """Of this process; it goes with it."""
    return tempfile.TemporaryDirectory(prefix="seqrec-")


def _processor() -> str:
    """What -march=native stands for: a cache folder may be shared by machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))

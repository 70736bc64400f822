"""Where a run happened: versions, commit, hardware, memory and time of the process, for the manifest."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import seqrec_cli

if TYPE_CHECKING:
    import torch  # seconds to import: only what needs it does so

PACKAGES = ("torch", "numpy", "pyarrow", "hydra-core", "omegaconf", "pydantic")
MEGABYTE = 2**20


def environment(device: "torch.device") -> dict[str, Any]:
    """Versions, git commit, hardware and platform, as plain values."""
    return {
        "versions": versions(),
        "git": git_state(),
        "hardware": hardware(device),
        "platform": platform.platform(),
    }


def versions() -> dict[str, str]:
    """Versions of Python, seqrec and the libraries that shape its numbers."""
    versions = {"python": platform.python_version(), "seqrec": seqrec_cli.__version__}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "unknown"
    return versions


def git_state(package: Path | None = None, working: Path | None = None) -> dict[str, Any] | None:
    """The commit, and whether files differ from it: of seqrec's own checkout, else of the working directory's.

    None without git or outside a checkout. `package` and `working` stand in for those two folders.
    """
    package = package or Path(seqrec_cli.__file__).parent
    # A package installed into a checkout's .venv lies inside that checkout, but is no part of it.
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is not None:
        return _commit(package, "seqrec")
    return _commit(working or Path.cwd(), "working directory")


def _commit(folder: Path, of: str) -> dict[str, Any] | None:
    commit, changes = _git(folder, "rev-parse", "HEAD"), _git(folder, "status", "--porcelain")
    return None if commit is None else {"of": of, "commit": commit, "dirty": bool(changes)}


def _git(folder: Path, *command: str) -> str | None:
    """Git's answer, or None for any failure: a run never fails for its manifest."""
    try:
        done = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(folder), *command],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def hardware(device: "torch.device") -> dict[str, Any]:
    """The processor, its cores and the threads in use, memory in MB, and the GPU when `device` is one."""
    import torch

    return {
        "device": str(device),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_mb": _memory_mb(),
        "gpu": _gpu_name(device),
    }


def _gpu_name(device: "torch.device") -> str | None:
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_cpu_model()}, {device.type}" if device.type != "cpu" else None


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_mb() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MEGABYTE
    except (AttributeError, ValueError, OSError):  # the first on Windows
        return None


def peak_memory(device: "torch.device") -> dict[str, float]:
    """The most memory this process has held, in MB, where the system tells; on a GPU also what torch has held there."""
    measured = _peak_bytes()
    peak = {} if measured is None else {"peak_memory_mb": round(measured / MEGABYTE, 1)}
    if device.type != "cpu":
        from seqrec_cli.data.devices import memory_held

        held = memory_held(device)
        peak |= {} if held is None else {"peak_gpu_memory_mb": round(held / MEGABYTE, 1)}
    return peak


def _peak_bytes() -> int | None:
    try:
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    # Second choice: on Linux a process begins with the peak of the one that started it.
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss: bytes on macOS, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def seconds_since_start() -> float | None:
    """Seconds since the process began, the interpreter's start included; None where the system does not tell.

    Linux only: field 22 of /proc/self/stat is the start, in clock ticks after boot (proc(5)).
    """
    try:
        after_name = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        started = int(after_name[19]) / os.sysconf("SC_CLK_TCK")
        return float(Path("/proc/uptime").read_text(encoding="utf-8").split()[0]) - started
    except (OSError, ValueError, IndexError):
        return None

"""How much memory this machine still has, as far as its system tells, how many cores, and whose."""

import functools
import os
from pathlib import Path

GIB = 2**30


def memory_left() -> int | None:
    """Bytes that can be had at most: available to this process, or free to swap to; None if unknown."""
    known = [left for left in (system_left(), group_left()) if left is not None]
    return min(known) + (system_left(kind="SwapFree:") or 0) if known else None


def system_left(meminfo: Path = Path("/proc/meminfo"), *, kind: str = "MemAvailable:") -> int | None:
    """Linux's own estimate of what can be had without swapping; or another of its lines."""
    try:
        for line in meminfo.read_text(encoding="utf-8").splitlines():
            if line.startswith(kind):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


def group_left(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int | None:
    """What the control groups above this process leave it, in version 2 or 1; file caches count as free."""
    try:
        lines = [line.split(":", 2) for line in own.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return None
    left = []
    for _, controllers, path in lines:
        if controllers == "":
            names, base = ("memory.max", "memory.current", "inactive_file"), root
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            base = root / "memory"
        else:
            continue
        group = base / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(base) and (found := _left_in(folder, names)) is not None:
                left.append(found)
    return min(left, default=None)


def _left_in(folder: Path, names: tuple[str, str, str]) -> int | None:
    limit, usage, cache = names
    try:
        most, used = int((folder / limit).read_text()), int((folder / usage).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return max(most - used + int(stat.get(cache, 0)), 0)
    except (OSError, ValueError):  # no such file, or "max": no limit
        return None


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.cache
def processor_vendor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """As an x86 processor names its maker (GenuineIntel, AuthenticAMD), where Linux tells."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next((line.split(":")[1].strip() for line in lines if line.startswith("vendor_id")), None)

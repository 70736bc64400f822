"""Where and in which number format the work is done: device, threads, autocast, gradient scaling.

Parameters, gradients and optimizer state stay fp32 in every mode; only the products of a forward pass run in bf16
or fp16, under autocast.
"""

import contextlib
import ctypes
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from seqrec_cli import kernels
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import HardwareConfig
from seqrec_cli.data.devices import ACCELERATORS, count, works
from seqrec_cli.machine import cores
from seqrec_cli.processes import Processes, started

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
FAST_BF16 = frozenset({"amx_bf16", "avx512_bf16", "bf16"})  # the last is Arm's name
_NAMES = {"cuda": "CUDA device", "mps": "Apple GPU (Metal)", "xpu": "Intel GPU"}
_ALL_THREADS = torch.get_num_threads()  # before any run changes it


@dataclass(frozen=True)
class Precision:
    """A resolved choice: nothing in it is `auto` any more."""

    device: torch.device
    name: Literal["fp32", "bf16", "fp16"]

    def autocast(self) -> AbstractContextManager[object]:
        """Within this context matrix products run in this format."""
        if self.name == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=DTYPES[self.name])

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaling for fp16, whose smallest gradients would vanish; for the others it changes nothing."""
        return torch.amp.GradScaler(self.device.type, enabled=self.name == "fp16")


def resolve_precision(cfg: HardwareConfig) -> Precision:
    """Settle `auto`, set the CPU threads, turn the C kernels on or off, and on a CPU keep freed memory. Each of several
    processes has a share of the cores, and a GPU of its own.

    Raises SeqrecError when a device is asked for that is not there, or when a field is still null. On Apple's GPUs
    `auto` is fp32: bf16 is slow on the first of them, and nobody has measured it here.
    """
    if cfg.device is None or cfg.precision is None:
        raise SeqrecError("hardware.device and hardware.precision are null; set both (auto is allowed)")
    group = started()
    device = _device(cfg.device) if group is None else _own_device(cfg.device, group)
    torch.set_num_threads(cfg.threads or (_ALL_THREADS if group is None else max(1, cores() // group.local_count)))
    kernels.use(cfg.kernels is not False)
    if device.type == "cpu":
        keep_freed_memory()
    if cfg.precision != "auto":
        return Precision(device, cfg.precision)
    return Precision(device, "bf16" if _has_fast_bf16(device) else "fp32")


def _has_fast_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return _cuda_has_bf16(device)
    return device.type == "cpu" and bool(cpu_flags() & FAST_BF16)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = next((kind for kind in ACCELERATORS if works(kind)), "cpu")
    device = torch.device(name)
    if device.type != "cpu":
        kind, there = device.type, count(device.type)
        if not there:
            raise SeqrecError(f"hardware.device={name}: no {_NAMES[kind]} is available here; use hardware.device=cpu")
        if (device.index or 0) >= there:
            raise SeqrecError(
                f"hardware.device={name}: there are {there} {_NAMES[kind]}s, the last is {kind}:{there - 1}"
            )
    return device


def _own_device(name: str, processes: Processes) -> torch.device:
    """That of one of several processes on this machine."""
    if name.startswith("cuda:"):
        raise SeqrecError(f"hardware.device={name} is one GPU, and each process has its own; set hardware.device=cuda")
    device = _device(("cuda" if works("cuda") else "cpu") if name == "auto" else name)
    if device.type == "cpu":
        return device
    if device.type != "cuda":
        raise SeqrecError(f"hardware.device={name}: only CUDA GPUs and CPUs are shared by several processes; use cpu")
    if processes.local_count > (gpus := count("cuda")):
        raise SeqrecError(f"{processes.local_count} processes and {gpus} GPUs on this machine; start {gpus} processes")
    device = torch.device("cuda", processes.local_rank)
    torch.cuda.set_device(device)
    return device


def _cuda_has_bf16(device: torch.device) -> bool:
    with torch.cuda.device(device):
        return torch.cuda.is_bf16_supported(including_emulation=False)


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The processor's instruction sets by Linux's names; empty where the system does not list them."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):  # x86, Arm
            return frozenset(value.split())
    return frozenset()


def keep_freed_memory() -> bool:
    """Let glibc keep large freed blocks for the next step, instead of unmapping and faulting them in again.

    A step allocates and frees the same blocks each time; mapping them anew spends up to half of it in page faults.
    Process-wide; the kept blocks can double the resident memory. True when set; other C libraries are left alone.
    """
    mmap_threshold, trim_threshold, top_pad = -3, -1, -2  # malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    if not mallopt(mmap_threshold, 1 << 30):
        mallopt(mmap_threshold, 32 << 20)  # the highest that older glibc takes
    return bool(mallopt(trim_threshold, 2**31 - 1) and mallopt(top_pad, 256 << 20))

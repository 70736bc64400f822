"""What torch's devices have in common and what sets them apart: number formats, random numbers, memory, waiting.

`cpu` and `cuda` are tested, `mps` (Apple's GPUs) as far as a machine without one allows, `xpu` (Intel's) is a seam:
torch's own device module answers for it, and nothing here was run there.
"""

from contextlib import AbstractContextManager

import torch

ACCELERATORS = ("cuda", "mps", "xpu")  # in the order in which `auto` looks for them


def count(kind: str) -> int:
    """How many devices of a kind torch finds here."""
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    module = torch.get_device_module(kind)
    return module.device_count() if module.is_available() else 0


def works(kind: str) -> bool:
    """Whether there is such a device and a tensor can be made on it: Metal is told to be there on virtual machines that
    give it no memory."""
    if not count(kind):
        return False
    if kind != "mps":
        return True
    try:
        torch.ones(1, device=kind)
    except RuntimeError:
        return False
    return True


def widest_float(device: torch.device) -> torch.dtype:
    """For sums and ranks: fp64, or fp32, in which ranks are exact up to 8 million items, where nothing is wider."""
    return torch.float32 if device.type == "mps" else torch.float64


def forked_random(device: torch.device) -> AbstractContextManager[None]:
    """Within this context random numbers are drawn as one likes; afterwards they go on as if none had been."""
    if device.type == "cpu":
        return torch.random.fork_rng([])
    return torch.random.fork_rng([device.index or 0], device_type=device.type)


def wait_for(device: torch.device) -> None:
    """Until the device has done what it was told; a CPU always has."""
    if device.type in ACCELERATORS:
        torch.get_device_module(device.type).synchronize()


def memory_free(device: torch.device) -> int | None:
    """Bytes of an accelerator's memory that can still be had; None if it does not tell.

    Apple's GPUs share the system's memory: what Metal recommends at most, less what it has given to this process.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return max(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory(), 0)
    return None


def memory_held(device: torch.device) -> int | None:
    """The most bytes that torch's tensors have held there; on Apple's GPUs, whose peak nobody counts, what Metal has
    given so far, which it keeps. None on a CPU."""
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    if device.type in ACCELERATORS:
        return int(torch.get_device_module(device.type).max_memory_allocated(device))
    return None

"""Where the packed events lie that training batches are cut from: in the GPU's memory, where they fit, else the host's.

On the device a batch is made of what is there by indices of its rows, some bytes a row; on the host it is made there
and sent whole, some bytes an event. On a CPU both are the log's mapped files.
"""

import torch

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.training.memory import available_memory, in_bytes

SHARE = 8  # auto: the events take one of so many parts of the free memory at most, the rest is the model's and a step's


def log_bytes(log: PackedLog) -> int:
    """What the events take as tensors: items, times, logged context and weights."""
    columns = (log.items_N, log.times_N, log.context_NF, log.weights_N)
    return sum(column.nbytes for column in columns if column is not None)


def log_device(where: str | None, log: PackedLog, device: torch.device) -> torch.device:
    """The device of `hardware.log`, for batches that go to `device`.

    Raises SeqrecError where the events are to lie on a device that has not the memory for them.
    """
    if where == "host":
        return torch.device("cpu")
    if device.type in ("cpu", "meta"):
        return device
    needed, available = log_bytes(log), available_memory(device)
    if where == "auto":
        return device if available is None or SHARE * needed <= available else torch.device("cpu")
    if available is not None and needed > available:
        raise SeqrecError(
            f"hardware.log=device: the log's events take {in_bytes(needed)}, and {in_bytes(available)} is free on "
            f"{device}; use hardware.log=host, or auto"
        )
    return device


def bytes_on_device(where: str | None, log: PackedLog, device: torch.device) -> int:
    """What a run's events take of the memory of a device that is not the host, by `hardware.log`; none where they lie
    on the host. Raises SeqrecError as `log_device` does: ask before the events are there, for it looks at what is free.
    """
    return 0 if log_device(where, log, device).type in ("cpu", "meta") else log_bytes(log)

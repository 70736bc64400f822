"""What a run sets for its whole process, put back: a notebook goes on with its own threads and random numbers."""

import contextlib
import io
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def unchanged_torch() -> Iterator[None]:
    """Torch's threads, random numbers and default number format and the kernels' switch are as before afterwards."""
    import torch

    from seqrec_cli import kernels

    threads, kind, cpu = torch.get_num_threads(), torch.get_default_dtype(), torch.get_rng_state()
    fused = kernels.enabled()
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    apple = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(kind)
        kernels.use(fused)
        torch.set_rng_state(cpu)
        if gpus:
            torch.cuda.set_rng_state_all(gpus)
        if apple is not None:
            torch.mps.set_rng_state(apple)


@contextlib.contextmanager
def printing(wanted: bool) -> Iterator[None]:
    """What is printed meanwhile appears only where it is wanted."""
    with contextlib.redirect_stdout(sys.stdout if wanted else io.StringIO()):
        yield

"""What `hardware.compile` does to a model: fused kernels by torch's compiler, and CUDA graphs of them.

A graph is recorded for each size of its inputs, so batches of histories are widened to few sizes first. A model's
states and scores do not depend on padding (`tests/models/test_contract.py`), so only positions are told where they
stand now.

Legend: B rows, L history events, N targets.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.data.batch import BY_EVENT, Batch
from seqrec_cli.models.contract import Generator, Recommender, SequenceEncoder

Mode = Literal[True, "graphs"]
WIDTH_STEP = 32  # events: of 200 there are seven widths to record, and 16 are read in vain on average


def compile_model(model: Recommender, device: torch.device, *, last: bool = False, mode: Mode = True) -> None:
    """Let torch's compiler fuse what a step runs: an encoder's `encode`, or its `last` where that is what is learned
    from, any other model's scores of candidates; batch sizes stay free. With mode `graphs` what was compiled is
    recorded as CUDA graphs too, of which a step of training launches one forward and one backward.

    Raises SeqrecError where nothing can be compiled (a C++ compiler is needed, on a GPU also Triton).
    """
    _check_compiler(device, mode)
    for name in compiled_methods(model, last):
        setattr(model, name, _compiled(getattr(model, name), mode, longest=getattr(model, "max_length", None)))


def refuse_graphs(cfg: TrainConfig, device: torch.device) -> None:
    """Raises SeqrecError where `hardware.compile=graphs` cannot be: off CUDA, and where gradients are summed over
    micro-batches, for each replay of a graph writes them to the same memory."""
    if device.type != "cuda":
        raise SeqrecError(
            f"hardware.compile=graphs records CUDA graphs, and this run is on {device.type}; use hardware.device=cuda, "
            "or hardware.compile=true or false"
        )
    if cfg.trainer.micro_batch_tokens is not None:
        raise SeqrecError(
            f"hardware.compile=graphs: trainer.micro_batch_tokens={cfg.trainer.micro_batch_tokens} sums gradients over "
            "replays of a graph, which write to the same memory; set it to null, or use hardware.compile=true"
        )


def compiled_methods(model: Recommender, last: bool) -> tuple[str, ...]:
    """The names of the methods that training calls."""
    if isinstance(model, Generator):
        return ("target_losses",)
    if not isinstance(model, SequenceEncoder):
        return ("score", "score_positions")
    if last:
        return ("last",)
    own = type(model).encode_targets is not SequenceEncoder.encode_targets  # else it calls `encode`
    return ("encode", "encode_targets") if own else ("encode",)


def _check_compiler(device: torch.device, mode: Mode) -> None:
    try:
        torch.compile(torch.sin)(torch.ones(2, device=device))
    except Exception as error:  # the compiler's own kinds are private
        reason = str(error).strip().splitlines()[0]
        raise SeqrecError(
            f"hardware.compile={str(mode).lower()}: torch cannot compile here ({reason}); install a C++ compiler such "
            f"as g++{' and triton' if device.type == 'cuda' else ''}, or use hardware.compile=false"
        ) from error
    finally:
        torch.compiler.reset()


def _compiled(method: Callable[..., Tensor], mode: Mode, *, longest: int | None) -> Callable[..., Tensor]:
    if mode is True:
        return torch.compile(method, dynamic=True)
    compiled = torch.compile(method, dynamic=True, mode="reduce-overhead")

    @functools.wraps(method)
    def of_few_sizes(batch: Batch, *others: Any) -> Tensor:
        if not torch.is_grad_enabled():  # an evaluation keeps what it has of earlier batches
            return method(batch, *others)
        # What an earlier step's graphs wrote is dead by now: its gradients are in the weights.
        torch.compiler.cudagraph_mark_step_begin()
        width = batch.items_BL.shape[1]
        made: Tensor = compiled(widened(batch, longest), *others)
        return made[:, :width] if method.__name__ == "encode" else made

    return of_few_sizes


def widened(batch: Batch, longest: int | None) -> Batch:
    """The batch with padding up to the next multiple of WIDTH_STEP events, but no further than `longest`."""
    width = batch.items_BL.shape[1]
    wanted = -(-width // WIDTH_STEP) * WIDTH_STEP
    more = (wanted if longest is None else max(min(wanted, longest), width)) - width
    if not more:
        return batch
    made = {}
    for name in BY_EVENT:
        x = getattr(batch, name)
        if x is not None and x.shape[1] == width:
            made[name] = F.pad(x, (*(0,) * (2 * (x.dim() - 2)), 0, more))
    if batch.positions_N is not None:
        rows_N = batch.positions_N.div(width, rounding_mode="floor")
        made["positions_N"] = batch.positions_N + rows_N * more
    if batch.masked_BM is not None:
        made["masked_BM"] = batch.masked_BM.masked_fill(batch.masked_BM == width, width + more)
    return replace(batch, **made)

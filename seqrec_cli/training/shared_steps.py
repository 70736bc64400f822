"""One step by several processes: each takes some rows of the same batch, and all make the same update.

The batch is drawn whole in every process, from the seed and the step alone, as one process draws it; what its loss
draws at random (masks, negatives) is drawn for all rows, and then its rows are dealt. A process's loss is what its rows
add to the batch's loss (`Objective.part_loss`): each mean weighs the targets it is of, so the sum of the gradients over
processes is the batch's gradient however unequal the shares are, and nothing is divided by the number of processes.

Gradients are summed after the whole backward pass, in buffers: large ones as they are, small ones in one. Nothing
is sent while others are still made (as torch's DistributedDataParallel does), for there is little to hide it behind:
most of a recommender's numbers are in its item table, which is read first, so its gradient is complete only when the
backward pass ends. Of row-sparse gradients the rows in use travel, and no others.

Legend: B rows of a batch, S parameters with row-sparse gradients, W processes, R rows of a table, D width.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch
from torch import Tensor, nn

from seqrec_cli.data.batch import Batch, part_bounds
from seqrec_cli.models.contract import Recommender
from seqrec_cli.objectives.contract import Objective
from seqrec_cli.processes import ALONE, Processes, together
from seqrec_cli.training.precision import Precision

LARGE = 1 << 16  # numbers from which a gradient is summed where it lies


@dataclass(frozen=True)
class Told:
    """What the processes agree on at a step."""

    stop: bool = False  # one was asked to stop
    seconds: float = 0.0  # by the first one's clock


def seed_step(*seed: int) -> None:
    """Random state of one step (dropout, negatives): a pure function of the run's seed and the step."""
    torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]))


def share_bounds(lengths: Sequence[int], count: int) -> list[tuple[int, int]]:
    """First row and last row + 1 of each process, of a batch with rows of these lengths.

    They are as even as consecutive rows can be in padded events, which is what a step's time follows. With fewer rows
    than processes the first one has them all.
    """
    rows = len(lengths)
    if rows < count:
        return [(0, rows), *[(rows, rows)] * (count - 1)]
    least, most = 1, rows * max(lengths, default=1)
    while least < most:
        middle = (least + most) // 2
        if len(part_bounds(lengths, middle)) > count:
            least = middle + 1
        else:
            most = middle
    bounds = part_bounds(lengths, most)
    while len(bounds) < count:  # one row at least for everybody
        widest = max(range(len(bounds)), key=lambda nth: bounds[nth][1] - bounds[nth][0])
        first, last = bounds[widest]
        middle = (first + last) // 2
        bounds[widest : widest + 1] = [(first, middle), (middle, last)]
    return bounds


@dataclass(frozen=True)
class Share:
    """This process's part of a batch that all processes have made alike."""

    objective: Objective
    batch: Batch
    processes: Processes
    _: KW_ONLY
    precision: Precision

    def losses(self, model: Recommender, tokens: int | None, *, seed: tuple[int, ...]) -> Iterator[Tensor]:
        """What its rows add to the batch's loss, in micro-batches of so many `tokens` where that is given; in the first
        process also the term of the batch as a whole. `seed` is of what it draws for its rows alone."""
        device, batch = self.precision.device, self.objective.drawn(self.batch)
        share = share_of(batch, self.processes)
        weight = 1.0
        if model.shard is not None and len(batch) < self.processes.count:
            # Look-ups are common, so nobody may be without rows: each does all of them, and counts for its part.
            share, weight = batch, 1 / self.processes.count
        parts = [] if share is None else [share] if tokens is None else share.parts(tokens)
        # What reads statistics of the whole batch is to hear of everybody's, unless one has it all.
        readers = self.processes if len(batch) >= self.processes.count else ALONE
        with own_randomness(seed):
            for part in parts:
                with together(readers), self.precision.autocast():
                    loss = self.objective.part_loss(model, part.to(device), of=batch)
                yield loss if weight == 1 else loss * weight
            if self.processes.is_first:
                with self.precision.autocast():
                    penalty = model.penalty(batch.to(device))
                if penalty is not None:
                    yield penalty


def share_of(batch: Batch, processes: Processes) -> Batch | None:
    """This process's rows of a drawn batch; None where it has none."""
    first, last = share_bounds(batch.lengths(), processes.count)[processes.rank]
    if last - first == len(batch):
        return batch
    return batch.part(first, last) if last > first else None


@contextlib.contextmanager
def own_randomness(seed: tuple[int, ...]) -> Iterator[None]:
    """Within it this process draws its own numbers (its rows' dropout); afterwards all draw the same ones again."""
    before = torch.get_rng_state()
    on_gpu = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
    seed_step(*seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)
        if on_gpu is not None:
            torch.cuda.set_rng_state(on_gpu)


def sum_gradients(parameters: Sequence[nn.Parameter], loss: Tensor, processes: Processes, *, own: Told) -> Told:
    """Add up the loss, in place, and the gradients of all processes, so that each has the batch's; from what each has
    to tell, what holds for all.

    A parameter that is without a gradient everywhere stays so: the optimizer leaves it alone, as with one process.
    """
    sparse = [p.grad is not None and p.grad.is_sparse for p in parameters]
    W, P = processes.count, len(parameters)
    told = np.zeros(2 + P + P * W)
    told[0], told[1] = own.stop, own.seconds if processes.is_first else 0.0
    told[2 : 2 + P] = [p.grad is not None for p in parameters]
    rows_PW = told[2 + P :].reshape(P, W)
    for nth, parameter in enumerate(parameters):
        if sparse[nth] and parameter.grad is not None:
            parameter.grad = parameter.grad.coalesce()
            rows_PW[nth, processes.rank] = 1 + parameter.grad.indices().shape[1]  # 1: that it is row-sparse
    processes.sum_array(told)
    small = [loss]
    for nth, parameter in enumerate(parameters):
        if not told[2 + nth]:
            continue
        if rows_PW[nth].any():
            counts_W = np.maximum(rows_PW[nth] - 1, 0).astype(np.int64)
            parameter.grad = _summed_rows(parameter, counts_W, processes)
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        if (
            parameter.grad.numel() < LARGE or not parameter.grad.is_contiguous()
        ):  # strides stay: a fused update reads them
            small.append(parameter.grad)
        else:
            processes.sum(parameter.grad)
    packed = processes.sum(torch.cat([each.reshape(-1).float() for each in small]))
    for each, summed in zip(small, packed.split([each.numel() for each in small]), strict=True):
        each.copy_(summed.view_as(each))
    return Told(stop=told[0] > 0, seconds=float(told[1]))


def _summed_rows(table: nn.Parameter, counts_W: np.ndarray, processes: Processes) -> Tensor:
    """The sum of row-sparse gradients, of which process w has `counts_W[w]` rows."""
    most, gradient, D = int(counts_W.max()), table.grad, table.shape[1]
    rows_R = torch.zeros(most, dtype=torch.int64, device=table.device)
    values_RD = torch.zeros((most, D), dtype=table.dtype, device=table.device)
    if gradient is not None:
        own = gradient.indices().shape[1]
        rows_R[:own], values_RD[:own] = gradient.indices()[0], gradient.values()
    all_rows, all_values = processes.gather_tensor(rows_R), processes.gather_tensor(values_RD)
    kept = [(rows[:n], values[:n]) for rows, values, n in zip(all_rows, all_values, counts_W.tolist(), strict=True)]
    indices_1R = torch.cat([rows for rows, _ in kept])[None]
    values = torch.cat([values for _, values in kept])
    return torch.sparse_coo_tensor(indices_1R, values, tuple(table.shape), check_invariants=False).coalesce()

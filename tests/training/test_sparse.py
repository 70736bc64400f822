"""Row-wise AdamW against AdamW, clipping with row-sparse gradients, and a resumed run."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training_toys import CPU, ToyModel, ToyObjective, ToyRows, settings, toy_model, train, update

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.training.checkpoint import LAST, load_checkpoint
from seqrec_cli.training.optim import RowAdamW, build_optimizer
from seqrec_cli.training.precision import Precision

NO_SCALER = torch.amp.GradScaler("cpu", enabled=False)


class Table(nn.Module):
    """A table that is looked up, and one matrix behind it."""

    def __init__(self, sparse: bool, rows: int = 9) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = nn.Embedding(rows, 4, sparse=sparse, _weight=torch.randn(rows, 4, generator=generator))
        self.out = nn.Parameter(torch.randn(4, 3, generator=generator))

    def forward(self, rows: Tensor) -> Tensor:
        return (self.table(rows) @ self.out).square().sum()


def after(sparse: bool, batches: list[Tensor], clip: float | None = None, **changes: Any) -> tuple[Table, Any]:
    """The module after a step on each batch, and its optimizer."""
    module = Table(sparse)
    optimizer = build_optimizer(module, settings(weight_decay=0.3, **changes))
    for rows in batches:
        update(module(rows), optimizer, NO_SCALER, lr=0.05, clip_norm=clip)
    return module, optimizer


@pytest.mark.parametrize("clip", [None, 0.7])
def test_equals_adamw_when_every_row_is_used(clip: float | None) -> None:
    generator = torch.Generator().manual_seed(1)
    every = [torch.cat([torch.arange(9), torch.randint(0, 9, (5,), generator=generator)]) for _ in range(12)]
    ours, optimizer = after(True, every, clip)
    theirs, _ = after(False, every, clip)
    assert isinstance(optimizer, RowAdamW)
    assert not torch.equal(theirs.table.weight, Table(False).table.weight)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def test_rows_that_are_not_used_stand_still() -> None:
    module, optimizer = after(True, [torch.tensor([1, 2, 2]), torch.tensor([2, 5])])
    start, state = Table(True).table.weight, optimizer.state[module.table.weight]
    for row in range(9):
        used = row in (1, 2, 5)
        assert torch.equal(module.table.weight[row], start[row]) != used
        assert bool(state["exp_avg"][row].any()) == bool(state["exp_avg_sq"][row].any()) == used
    first, _ = after(True, [torch.tensor([1, 2, 2])])
    assert torch.equal(module.table.weight[1], first.table.weight[1])  # no drift along the old average
    assert not torch.equal(module.table.weight[2], first.table.weight[2])


def test_clipping_counts_the_sum_of_a_rows_entries() -> None:
    norms = []
    for sparse in (True, False):
        module = nn.Embedding(5, 2, sparse=sparse, _weight=torch.zeros(5, 2))
        before = module.weight.detach().clone()
        loss = (module(torch.tensor([1, 1, 3])) * 6.0).sum()  # rows 1 and 3: gradients of 12 and 6 an entry
        optimizer = torch.optim.SGD(module.parameters(), lr=1.0)
        update(loss, optimizer, NO_SCALER, lr=1.0, clip_norm=1.0)
        norms.append((before - module.weight).norm().item())
        assert module.weight.grad is None
    assert norms == pytest.approx([1.0, 1.0], rel=1e-5)


def test_an_fp16_overflow_leaves_rows_alone() -> None:
    module = Table(True)
    start = [p.detach().clone() for p in module.parameters()]
    optimizer = build_optimizer(module, settings())
    scaler = torch.amp.GradScaler("cpu", enabled=True)
    loss = module(torch.tensor([1, 2])) + (module.out * torch.inf).sum() * 0.0
    update(loss, optimizer, scaler, lr=0.1, clip_norm=1.0)
    assert all(torch.equal(p, before) for p, before in zip(module.parameters(), start, strict=True))
    update(module(torch.tensor([1, 2])), optimizer, scaler, lr=0.1, clip_norm=1.0)
    assert not torch.equal(module.table.weight, start[0])


def sparse_model(model: ToyModel) -> ToyModel:
    model.items.sparse = True
    return model


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path: Path, name: Any) -> None:
    precision = Precision(CPU.device, name)
    (tmp_path / "whole").mkdir()
    _, whole, _ = train(tmp_path / "whole", model=sparse_model(toy_model()), precision=precision)
    assert not torch.equal(whole.items.weight, toy_model().items.weight)
    rows = ToyRows(at={(1, 2): lambda: os.kill(os.getpid(), signal.SIGINT)})
    train(tmp_path, rows=rows, model=sparse_model(toy_model()), precision=precision)
    payload = load_checkpoint(tmp_path / LAST)
    _, resumed, _ = train(tmp_path, model=sparse_model(ToyModel()), resume_from=payload, precision=precision)
    ends = [load_checkpoint(folder / LAST) for folder in (tmp_path, tmp_path / "whole")]
    for one, other in (
        (resumed.state_dict(), whole.state_dict()),
        (ends[0]["model"], ends[1]["model"]),
        *zip(*(end["trainer"]["optimizer"]["state"].values() for end in ends), strict=True),
    ):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_dense_run_cannot_go_on_sparse(tmp_path: Path) -> None:
    train(tmp_path, objective=ToyObjective())
    with pytest.raises(SeqrecError, match=r"resume with the run's config, hardware\.embedding too"):
        train(tmp_path, settings(max_epochs=9), sparse_model(toy_model()), resume_from=load_checkpoint(tmp_path / LAST))

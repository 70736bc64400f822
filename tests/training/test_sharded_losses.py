"""Losses of encoders whose tables are spread over ranks: those of one process, and the same gradients."""

import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

if __name__ != "test_sharded_losses":  # a rank, whose pytest is another process
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from configured import LOG
from test_micro_batches import small

from seqrec_cli.commands.training_setup import fresh_model, objective_for, training_rows
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.layers.sharded_table import cut_tables, sharded_tables
from seqrec_cli.processes import current
from seqrec_cli.training.loop import seed_step
from tests.ranks import run_ranks

CPU = torch.device("cpu")
ENCODERS = ("sasrec", "bert4rec", "gru4rec", "lrurec", "hstu", "esasrec", "bsarec", "nextitnet")
CASES = {
    **{name: [f"model={name}", *(["model.filter=causal"] if name == "bsarec" else [])] for name in ENCODERS},
    "biased": ["model=sasrec", "model.item_bias=true", "objective.smoothing=0.1", "model.temperature=null"],
    "untied": ["model=sasrec", "model.tied=false", "model.user_dim=4", "objective.chunk_mb=1"],
    "tied attributes": ["model=sasrec", "model.attributes=tied", "objective.smoothing=0.1"],
    "cloze": ["model=bert4rec", "model.item_bias=true", "objective.smoothing=0.1", "objective.last=0.5"],
    "estimated": ["model=bert4rec", "objective.negatives=12"],
    "prefixes": ["model=sasrec", "objective.window=prefixes", "objective.smoothing=0.1"],
    "all-action": ["model=sasrec", "objective=all_action", "objective.horizon=3", "model.item_bias=true"],
    "sampled": ["model=sasrec", "objective=sampled_softmax", "objective.negatives=6", "objective.shared=batch"],
    "sparse": [
        *("model=sasrec", "objective=sampled_softmax", "objective.negatives=6", "objective.shared=batch"),
        "hardware.embedding=sparse",
    ],
    "own negatives": ["model=sasrec", "objective=gbce", "objective.negatives=12", "objective.shared=position"],
    "gbce": ["model=gru4rec", "objective=gbce", "objective.negatives=6", "model.item_bias=true"],
    "bce": ["model=sasrec", "objective=bce", "objective.negatives=1"],
    "bpr": ["model=sasrec", "objective=bpr", "objective.negatives=3"],
}


class Learnt(NamedTuple):
    """A batch's loss, and gradients by parameter."""

    loss: float
    gradients: dict[str, Tensor]


def learnt(words: list[str], *, sharded: bool) -> Learnt:
    """Of a batch of long and short rows; sharded, this rank's part of the loss, of the dense parameters' gradients the
    sum over ranks and of tables' its own rows."""
    cfg = small([*words, "trainer.micro_batch_tokens=null"])
    model, objective = fresh_model(cfg, LOG, CPU), objective_for(cfg, LOG, CPU)
    rows = training_rows(cfg, objective, LOG, device=CPU)
    batch = max(rows.epoch(0), key=lambda batch: len(set(batch.lengths())))
    model.train()
    if not sharded:
        seed_step(0, 1)
        loss = objective.loss(model, batch)
        loss.backward()
        return Learnt(
            loss.item(), {name: p.grad.to_dense() for name, p in model.named_parameters() if p.grad is not None}
        )
    cut_tables(model)
    if cfg.hardware.embedding == "sparse":
        for table in sharded_tables(model).values():
            table.sparse = True
    seed_step(0, 1)
    batch = objective.drawn(batch)
    loss = objective.part_loss(model, own_rows(batch), of=batch)
    loss.backward()
    gradients = {}
    for name, p in model.named_parameters():
        if p.grad is None:
            continue
        gradients[name] = p.grad.to_dense()
        if name not in sharded_tables(model):
            current().sum(gradients[name])
    return Learnt(loss.item(), gradients)


def own_rows(batch: Batch) -> Batch:
    """Not as many on every rank: the first has a third of the others'."""
    share = len(batch) // (3 * current().count - 2)
    bounds = [0, share, *(share + 3 * share * nth for nth in range(1, current().count))]
    bounds[-1] = len(batch)
    return batch.rows(bounds[current().rank], bounds[current().rank + 1])


def every_case(folder: Path) -> dict[str, Learnt]:
    """What a rank learns."""
    return {name: learnt(words, sharded=True) for name, words in CASES.items()}


@pytest.fixture(scope="module", params=[2, 3], ids=["2 ranks", "3 ranks"])
def by_rank(
    request: pytest.FixtureRequest, python: list[str], tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Learnt]]:
    folder = tmp_path_factory.mktemp("ranks")
    return run_ranks(python, "tests.training.test_sharded_losses:every_case", request.param, folder)


@pytest.mark.parametrize("case", CASES)
def test_sharded_tables_have_the_loss_and_gradients_of_one_process(case: str, by_rank: list[dict[str, Learnt]]) -> None:
    whole, parts = learnt(CASES[case], sharded=False), [rank[case] for rank in by_rank]
    assert sum(part.loss for part in parts) == pytest.approx(whole.loss, rel=1e-5)
    largest = max(gradient.norm() for gradient in whole.gradients.values())
    split = 0
    for name, gradient in whole.gradients.items():
        found = [part.gradients[name] for part in parts]
        if found[0].shape == gradient.shape:
            together = found[0]
            assert all(torch.equal(each, together) for each in found)
        else:
            together, split = torch.cat(found), split + 1
        off = ((together - gradient).norm() / gradient.norm().clamp(min=1e-2 * largest)).item()
        assert off < 1e-5, name
    assert split == 1 + (case == "untied") * 2

"""Useful FLOPs of a benchmark: their terms against whole batches, and against a count made by hand."""

import numpy as np
import pytest
import torch
from configured import built

from scripts import bench_flops
from seqrec_cli.training.precision import Precision
from seqrec_cli.training.step_cost import count_flops

CPU = Precision(torch.device("cpu"), "fp32")
SASREC = ["model=sasrec", "model.embed_dim=8", "model.ffn_dim=16", "model.heads=2", "model.blocks=2"]


@pytest.mark.parametrize(
    "overrides",
    [
        [*SASREC, "model.norm=published", "model.attention_dropout=0.1"],
        [*SASREC, "objective=sampled_softmax"],
        ["model=bert4rec"],
        ["model=gru4rec"],
        ["model=bst", "model.blocks=2", "model.heads=4", "model.embed_dim=8", "model.read_out=all"],
        ["model=din"],
        ["model=dsin"],
        ["model=din", "objective.positions=false"],
    ],
    ids=lambda overrides: " ".join(overrides[-2:]),
)
def test_the_terms_hold_for_other_sizes(overrides: list[str]) -> None:
    model, objective, rows = built(overrides)
    batch = rows.largest()
    flops_6 = bench_flops.flops_of_terms(model, objective, batch, precision=CPU)
    candidates = 3 if batch.candidates_BC is None else batch.candidates_BC.shape[1]
    other = bench_flops.cut(batch, 3, batch.items_BL.shape[1] - 1, candidates)
    counted = count_flops(model, objective, other, precision=CPU)
    assert counted > 0
    assert bench_flops.batch_terms(other) @ flops_6 == pytest.approx(counted, rel=1e-9)


SIZES = [(np.array([1, 2]), np.array([1, 2])), (np.array([2, 2, 2]), np.array([2, 2, 2]))]


@pytest.mark.parametrize(
    ("candidates", "sums"), [(None, [5, 3 + 6, 5 + 12, 3 + 6, 5 + 12]), (3, [5, 9, 17, 3 * 9, 3 * 17])]
)
def test_padding_counts_nothing(candidates: int | None, sums: list[int]) -> None:
    assert bench_flops.useful_terms(SIZES, candidates).sum(0).tolist() == [2, *sums]

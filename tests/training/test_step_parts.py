"""A step worked on in parts: which rows of a batch are in which part."""

import random
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from configured import built, config
from training_toys import CPU, Recorder

from seqrec_cli.data.batch import Batch, part_bounds
from seqrec_cli.data.sizes import WIDTH_STEP, padded_length
from seqrec_cli.training.loop import Loop
from seqrec_cli.training.memory import largest_part


@pytest.mark.parametrize("words", [["model=sasrec"], ["model=bert4rec"], ["model=bst"]], ids=lambda words: words[0])
def test_a_step_works_on_parts_of_the_size_asked_for(words: list[str]) -> None:
    """Their gradients: test_micro_batches.py."""
    model, objective, rows = built(words)
    whole, seen = objective.target_loss, []

    def target_loss(model: Any, batch: Batch) -> torch.Tensor:
        seen.append(batch.items_BL.shape)
        return whole(model, batch)

    objective.target_loss = target_loss  # type: ignore[method-assign]
    tokens, batch = 60, rows.largest()
    loop = Loop(
        model,
        objective,
        rows,
        cfg=config([*words, f"trainer.micro_batch_tokens={tokens}"]).trainer,
        precision=CPU,
        validate=dict,
        header={},
        folder=Path(),
        listener=Recorder(),
    )
    loop.accumulate_gradients(batch)
    assert len(seen) > 1
    assert sum(rows for rows, _ in seen) == len(batch)
    assert all(rows * length <= tokens for rows, length in seen)


def test_a_part_holds_its_own_targets_and_at_least_one_row() -> None:
    _, _, rows = built(["model=bert4rec"])
    batch = rows.largest()
    lengths = batch.lengths_B.tolist()
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > lengths[-1]
    for tokens in (1, 45, 10_000):
        parts = batch.parts(tokens)
        assert torch.cat([part.lengths_B for part in parts]).tolist() == lengths
        for part in parts:
            assert part.positions_N is not None
            assert part.targets_BL is not None
            L = part.items_BL.shape[1]
            assert part.items_BL.shape == part.targets_BL.shape == (len(part), L)
            longest = int(part.lengths_B.max())
            assert L in (lengths[0], -(-longest // WIDTH_STEP) * WIDTH_STEP)  # sizes that come again
            assert longest <= L < longest + WIDTH_STEP
            assert torch.equal(part.positions_N, part.targets_BL.flatten().nonzero().squeeze(1))
            assert part.masked_BM is not None
            hidden_BL = torch.zeros(len(part), L + 1, dtype=torch.bool).scatter_(1, part.masked_BM, True)
            assert torch.equal(hidden_BL[:, :L], part.targets_BL > 0)
            assert len(part) == 1 or len(part) * L <= tokens
    largest = largest_part(batch, config(["model=bert4rec", "trainer.micro_batch_tokens=45"]).trainer)
    width = largest.items_BL.shape[1]
    assert len(largest) * width <= 45 < (len(largest) + 1) * width


@pytest.mark.parametrize("seed", range(20))
def test_parts_are_few_and_even(seed: int) -> None:
    rng = random.Random(seed)
    lengths = [rng.randint(1, 20) for _ in range(9)]
    if seed % 2:
        lengths.sort(reverse=True)
    widest, tokens = max(lengths), rng.choice([8, 30, 45, 70])

    def sizes(cuts: tuple[int, ...]) -> list[tuple[int, int]]:
        """Rows and padded events of each part."""
        bounds = pairwise((0, *cuts, len(lengths)))
        return [(b - a, (b - a) * max(padded_length(n, widest) for n in lengths[a:b])) for a, b in bounds]

    found = sizes(tuple(first for first, _ in part_bounds(lengths, tokens)[1:]))
    every = [sizes(cuts) for count in range(9) for cuts in combinations(range(1, 9), count)]
    fit = [parts for parts in every if all(rows == 1 or held <= tokens for rows, held in parts)]
    fewest = min(map(len, fit))
    assert len(found) == fewest

    assert max(held for _, held in found) == min(
        max(held for _, held in parts) for parts in fit if len(parts) == fewest
    )


def test_rows_out_of_order_are_cut_as_well() -> None:
    _, _, rows = built(["model=sasrec"])
    longest_first = rows.largest()
    order = torch.arange(len(longest_first)).flip(0)
    batch = Batch(
        users_B=longest_first.users_B[order],
        items_BL=longest_first.items_BL[order],
        lengths_B=longest_first.lengths_B[order],
    )
    parts = batch.parts(3 * int(batch.lengths_B.max()))
    assert torch.equal(torch.cat([part.lengths_B for part in parts]), batch.lengths_B)
    assert all(part.items_BL.numel() <= 3 * int(batch.lengths_B.max()) for part in parts)
    assert sum(int(part.items_BL.sum()) for part in parts) == int(batch.items_BL.sum())

"""A step worked on in parts: the same gradients, by pieces of a batch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from planned import built, config
from training_toys import CPU, Recorder

from seqrec_cli.training.loop import _Loop
from seqrec_cli.training.memory import at_once

WORDS: list[list[str]] = [
    ["model=sasrec", "model.dropout=0"],
    ["model=sasrec", "model.dropout=0", "objective=bce"],
    ["model=bert4rec", "model.dropout=0"],
    ["model=bst", "model.dropout=0"],
    ["model=din", "model.activation=prelu", "trainer.batch_size=80"],
]


def learnt(words: list[str], part_tokens: int | None) -> tuple[torch.Tensor, dict[str, Any], list[int]]:
    """The loss and gradients of the largest batch, and the rows of each part the objective saw."""
    model, objective, rows = built(words)
    whole, seen = objective.loss, []

    def loss(model: Any, batch: Any) -> torch.Tensor:
        seen.append(len(batch))
        return whole(model, batch)

    objective.loss = loss  # type: ignore[method-assign]
    size = "null" if part_tokens is None else str(part_tokens)
    cfg = config([*words, f"trainer.part_tokens={size}"]).trainer
    loop = _Loop(model, objective, rows, cfg, CPU, dict, {}, Path(), Recorder())
    model.train()
    batch = rows.largest()
    targets = len(batch.places_N) if batch.places_N is not None else int((batch.candidates_BC > 0).sum())
    found = loop.learn(batch, targets)
    return found, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, seen


@pytest.mark.parametrize("words", WORDS, ids=lambda words: "-".join(words[:1] + words[2:]))
def test_parts_add_up_to_the_whole_batch(words: list[str]) -> None:
    loss, gradients, seen = learnt(words, None)
    width = 20
    by_parts, parts_gradients, rows = learnt(words, 3 * width)
    assert len(seen) == 1
    assert len(rows) > 1
    assert sum(rows) == seen[0]
    assert max(rows) * width <= 3 * width
    torch.testing.assert_close(by_parts, loss)
    assert parts_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(parts_gradients[name], gradient, rtol=1e-4, atol=1e-6)


def test_a_part_holds_its_own_targets_and_at_least_one_row() -> None:
    _, _, rows = built(["model=bert4rec"])
    batch = rows.largest()
    for tokens in (1, 45, 10_000):
        parts = batch.parts(tokens)
        assert sum(map(len, parts)) == len(batch)
        assert max(map(len, parts)) == max(1, min(tokens // batch.items_BL.shape[1], len(batch)))
        for part in parts:
            assert part.places_N is not None
            assert part.targets_BL is not None
            assert torch.equal(part.places_N, part.targets_BL.flatten().nonzero().squeeze(1))
    assert len(at_once(config(["model=bert4rec", "trainer.part_tokens=45"]).trainer, batch)) < len(batch)

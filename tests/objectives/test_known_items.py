"""Targets that count by known items: qualities by loops, weights whose mean is 1, and what cannot have them.

Legend: B rows, L positions, N targets.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_objectives import Fixed
from test_weights import built

from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.validate import validate
from seqrec_cli.data.batch import Batch
from seqrec_cli.objectives.contract import CorpusSoftmaxObjective, Objective
from seqrec_cli.objectives.known_items import KnownItems, log_probabilities, scaled_weights

KINDS = ["running", "leave_one_out", "agreement"]
EVERY = [
    ("next_item", {}),
    ("next_item", {"negatives": 4}),
    ("sampled_softmax", {"negatives": 4, "sampling": "uniform"}),
    *(
        (name, {"sampling": "uniform", "shared": shared})
        for name in ("bce", "bpr", "gbce")
        for shared in ("position", "sequence")
    ),
]


def model() -> Fixed:
    torch.manual_seed(0)
    return Fixed(torch.randn(7, 4))


def batch_of(*lengths: int) -> Batch:
    generator = torch.Generator().manual_seed(3)
    events_BL = torch.randint(1, 7, (len(lengths), max(lengths) + 1), generator=generator)
    real_BL = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return Batch(
        users_B=torch.arange(1, len(lengths) + 1),
        items_BL=events_BL[:, :-1] * real_BL,
        lengths_B=torch.tensor(lengths),
        targets_BL=events_BL[:, 1:] * real_BL,
    )


def quality(kind: str, batch: Batch, decay: float) -> list[float | None]:
    """Of each target in turn, None where nothing is known."""
    encoder, found = model(), []
    assert batch.targets_BL is not None
    for row in range(len(batch)):
        length = int(batch.lengths_B[row])
        states_LD = encoder.table[batch.items_BL[row, :length]]
        logs_L = F.log_softmax(states_LD @ encoder.table[1:].T, dim=-1)
        own_L = logs_L[torch.arange(length), batch.targets_BL[row, :length] - 1].tolist()
        for t in range(length):
            if kind == "agreement":
                found.append(1.0)  # the state is the event's own vector
            elif kind == "running":
                pairs = [(decay ** (t - 1 - k), own_L[k]) for k in range(t)]
                found.append(sum(w * x for w, x in pairs) / sum(w for w, _ in pairs) if pairs else None)
            else:
                others = [own_L[k] for k in range(length) if k != t]
                found.append(sum(others) / len(others) if others else None)
    return found


def known(objective: Objective) -> KnownItems:
    assert isinstance(objective, CorpusSoftmaxObjective)
    assert objective.known is not None
    return objective.known


@pytest.mark.parametrize("decay", [0.5, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_qualities_by_a_loop(kind: str, decay: float) -> None:
    changes = {"known": kind} | ({"known_decay": decay} if kind == "running" else {})
    batch, encoder = batch_of(5, 1, 3), model()
    assert batch.targets_BL is not None
    positions_N = batch.target_positions()
    queries_ND = encoder.encode(batch).flatten(0, 1)[positions_N]
    targets_N = batch.targets_BL.flatten()[positions_N]
    quality_N, known_N = known(built("next_item", **changes)).qualities(
        encoder, batch, queries_ND, targets_N=targets_N, positions_N=positions_N
    )
    expected = quality(kind, batch, decay)
    assert known_N.tolist() == [value is not None for value in expected]
    torch.testing.assert_close(quality_N, torch.tensor([value or 0.0 for value in expected]), rtol=1e-5, atol=1e-5)


def test_agreement_is_of_the_event_before_the_target_and_its_own_item() -> None:
    batch, encoder = batch_of(4, 2), model()
    assert batch.targets_BL is not None
    queries_ND = torch.randn(6, 4, generator=torch.Generator().manual_seed(5))
    positions_N = batch.target_positions()
    found_N, _ = known(built("next_item", known="agreement")).qualities(
        encoder, batch, queries_ND, targets_N=batch.targets_BL.flatten()[positions_N], positions_N=positions_N
    )
    events_N = torch.cat([batch.items_BL[0, :4], batch.items_BL[1, :2]])
    torch.testing.assert_close(found_N, F.cosine_similarity(queries_ND, encoder.table[events_N], dim=-1))


@pytest.mark.parametrize("sharpness", [2.0, -2.0, 0.0])
def test_weights_by_hand_with_and_without_the_datas(sharpness: float) -> None:
    quality_N, known_N = torch.tensor([1.0, 3.0, 2.0, 9.0]), torch.tensor([True, True, True, False])
    z_N = torch.tensor([-1.0, 1.0, 0.0, 0.0]) / (2 / 3) ** 0.5  # of the known ones, whose mean is 2
    own_N = torch.sigmoid(sharpness * z_N)
    torch.testing.assert_close(scaled_weights(quality_N, known_N, sharpness), own_N / own_N.mean())
    given_N = torch.tensor([4.0, 0.5, 0.0, 1.5])
    expected_N = given_N * own_N * 6.0 / (given_N * own_N).sum()
    torch.testing.assert_close(scaled_weights(quality_N, known_N, sharpness, weights_N=given_N), expected_N)
    alike_N = scaled_weights(torch.full((4,), 0.3), known_N, sharpness)
    torch.testing.assert_close(alike_N, torch.ones(4))


@pytest.mark.parametrize("sharpness", [3.0, -3.0])
def test_the_better_known_count_more_and_below_0_the_worse_known(sharpness: float) -> None:
    weighing = known(built("next_item", known="running", known_sharpness=sharpness))
    batch, encoder = batch_of(5, 3), model()
    positions_N = batch.target_positions()
    assert batch.targets_BL is not None
    states_ND, targets_N = (x.flatten(0, 1)[positions_N] for x in (encoder.encode(batch), batch.targets_BL))
    at = {"targets_N": targets_N, "positions_N": positions_N}
    quality_N, known_N = weighing.qualities(encoder, batch, states_ND, **at)
    weights_N = weighing.weights(encoder.train(), batch, states_ND, **at, weights_N=None)
    assert weights_N is not None
    order = quality_N[known_N].argsort(descending=sharpness < 0)
    assert (weights_N[known_N][order].diff() > 0).all()


class Two:
    """Two processes, as threads that wait for each other."""

    def __init__(self) -> None:
        self.barrier, self.given = threading.Barrier(2), {}

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        self.given[threading.get_ident()] = tensor
        self.barrier.wait(10)
        total = torch.stack(list(self.given.values())).sum(0)
        self.barrier.wait(10)
        return total


def test_two_processes_weigh_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(4)
    quality_N, given_N = torch.randn(9, generator=generator), torch.rand(9, generator=generator)
    known_N = torch.arange(9) % 4 > 0
    whole_N = scaled_weights(quality_N, known_N, 1.5, weights_N=given_N)
    two = Two()
    monkeypatch.setattr("seqrec_cli.objectives.known_items.current", lambda: two)
    with ThreadPoolExecutor(2) as pool:
        parts = [
            pool.submit(scaled_weights, quality_N[part], known_N[part], 1.5, weights_N=given_N[part])
            for part in (slice(0, 5), slice(5, 9))
        ]
    torch.testing.assert_close(torch.cat([part.result() for part in parts]), whole_N)


@pytest.mark.parametrize("kind", KINDS[:2])
@pytest.mark.parametrize(("name", "changes"), EVERY)
def test_the_loss_is_that_of_its_weights_and_nothing_flows_through_them(
    name: str, changes: dict[str, Any], kind: str
) -> None:
    weighing, plain = built(name, known=kind, **changes), built(name, **changes)
    batch = weighing.drawn(batch_of(5, 3))
    given_BL = torch.rand(2, 5, generator=torch.Generator().manual_seed(6)) + 0.1
    for weights_BL in (None, given_BL):
        ours, theirs, batch = model().train(), model().train(), replace(batch, weights_BL=weights_BL)
        positions_N = batch.target_positions()
        assert batch.targets_BL is not None
        states_ND, targets_N = (x.flatten(0, 1)[positions_N] for x in (theirs.encode(batch), batch.targets_BL))
        weights_N = known(built("next_item", known=kind)).weights(
            theirs,
            batch,
            states_ND.detach(),
            targets_N=targets_N,
            positions_N=positions_N,
            weights_N=None if weights_BL is None else weights_BL.flatten()[positions_N],
        )
        assert weights_N is not None
        assert len(set(weights_N.tolist())) > 4
        total = len(weights_N) if weights_BL is None else weights_BL.flatten()[positions_N].sum().item()
        assert weights_N.sum().item() == pytest.approx(total, rel=1e-5)
        as_data_BL = torch.zeros(2 * 5).index_copy(0, positions_N, weights_N).view(2, 5)
        loss = weighing.target_loss(ours, batch)
        expected = plain.target_loss(theirs, replace(batch, weights_BL=as_data_BL))
        torch.testing.assert_close(loss, expected)
        loss.backward()
        expected.backward()
        torch.testing.assert_close(ours.table.grad, theirs.table.grad)
        unweighed = plain.target_loss(model().train(), batch)
        assert loss.item() != pytest.approx(unweighed.item(), rel=1e-4)


def test_evaluation_counts_all_targets_alike() -> None:
    batch = batch_of(5, 3)
    losses = [built("next_item", known=kind).target_loss(model().eval(), batch).item() for kind in ("none", *KINDS)]
    assert losses == [losses[0]] * 4


def test_log_probabilities_in_chunks_with_a_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seqrec_cli.objectives.known_items.CHUNK", 12)  # two targets at once
    encoder = model()
    bias_V = torch.randn(7, generator=torch.Generator().manual_seed(8))
    monkeypatch.setattr(encoder, "item_bias", lambda: bias_V)
    queries_ND, targets_N = torch.randn(5, 4), torch.tensor([1, 6, 3, 3, 2])
    expected = F.log_softmax(queries_ND @ encoder.table[1:].T + bias_V[1:], dim=-1).gather(1, targets_N[:, None] - 1)
    torch.testing.assert_close(log_probabilities(encoder, queries_ND, targets_N), expected[:, 0].detach())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["objective.known=running", "trainer.micro_batch_tokens=512"], "statistics of the whole batch.*known=none"),
        (
            ["objective=prefixes", "objective.known=running"],
            "window=prefixes has one a row; use objective.known=agreement",
        ),
        (["objective=prefixes", "objective.known=leave_one_out"], "compares a row's targets"),
        (["objective.known=agreement", "objective.known_decay=0.5"], "known_decay=0.5 has no effect"),
        (["objective.known_sharpness=2.0"], "known_sharpness=2.0 has no effect with objective.known=none"),
        (["objective.known=agreement", "hardware.table=sharded"], "hardware.table=sharded: objective.known"),
        (["objective=all_action", "+objective.known=running"], "objective.known"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(words: list[str], said: str) -> None:
    with pytest.raises(SeqrecError, match=said) as refused:
        validate("train", compose("train", ["model=sasrec", *words]))
    assert "\n" not in str(refused.value)

"""Cloze: which events are hidden and how, from seed, epoch and step; the loss with its bias; refusals."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from seqrec_cli.commands.train import training_rows
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.registry import config_class
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate
from seqrec_cli.data.batch import MASKED, Batch, count_targets
from seqrec_cli.data.catalog import Catalog
from seqrec_cli.data.cloze_rows import KEPT, ClozeRows, Masking
from seqrec_cli.models.build import build_model
from seqrec_cli.models.contract import SequenceEncoder
from seqrec_cli.objectives.contract import Objective, build_objective
from seqrec_cli.objectives.losses import corpus_cross_entropy
from tests.shipped import shipped
from tests.toylog import batching, packed, random_histories

CPU = torch.device("cpu")
HISTORIES = random_histories(40, 300, 60, seed=2)
BERT = Masking(share=0.2, random=0.1, keep=0.1, last=0.0)


def rows(masking: Masking = BERT, window: str = "last", max_length: int = 20, batch_size: int = 8) -> ClozeRows:
    log = packed(HISTORIES, 300)
    return ClozeRows(log, max_length, batching(batch_size, 1), window=window, stride=None, masking=masking, device=CPU)


def objective(**changes: Any) -> Objective:
    plain = shipped("objective", "cloze")
    assert isinstance(plain, dict)
    return build_objective(config_class("objective", "cloze").from_plain(plain | changes))  # type: ignore[arg-type]


def whole(batch: Batch) -> torch.Tensor:
    """The events without their masks."""
    assert batch.targets_BL is not None
    return torch.where(batch.targets_BL > 0, batch.targets_BL, batch.items_BL)


def test_windows_are_the_latest_events_unshifted() -> None:
    seen = [
        (int(user), row[:n].tolist())
        for batch in rows().epoch(0)
        for user, row, n in zip(batch.users_B, whole(batch), batch.lengths_B.tolist(), strict=True)
    ]
    training = {user: history[:-2] for user, history in enumerate(HISTORIES, 1)}
    assert sorted(seen) == sorted((user, history[-20:]) for user, history in training.items() if len(history) > 1)


def test_sliding_windows_hold_every_training_event() -> None:
    seen: dict[int, set[int]] = {}
    for batch in rows(window="sliding", max_length=7).epoch(0):
        assert batch.items_BL.shape[1] <= 7
        assert batch.lengths_B.min() >= 2
        for user, row in zip(batch.users_B.tolist(), whole(batch).tolist(), strict=True):
            seen.setdefault(user, set()).update(set(row) - {0})
    assert seen == {u: set(h[:-2]) for u, h in enumerate(HISTORIES, 1) if len(h) > 3}


def test_places_columns_and_targets_say_the_same() -> None:
    for batch in rows(Masking(0.3, 0.1, 0.1, 0.3)).epoch(0):
        assert batch.positions_N is not None
        assert batch.targets_BL is not None
        assert batch.masked_BM is not None
        plain = Batch(batch.users_B, batch.items_BL, batch.lengths_B, targets_BL=batch.targets_BL)
        assert torch.equal(batch.positions_N, plain.target_positions())
        filled = F.pad(plain.target_columns(), (0, 99), value=batch.items_BL.shape[1])[:, : batch.masked_BM.shape[1]]
        assert torch.equal(batch.masked_BM, filled)
        assert (batch.targets_BL[~batch.mask_BL] == 0).all()
        assert (batch.items_BL[~batch.mask_BL] == 0).all()
        assert count_targets(batch) == count_targets(plain) == len(batch.positions_N)


def drawn(masking: Masking, lengths_B: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns, what is written, and which slots are used."""
    columns_BM, written_BM = masking.draw(lengths_B, 50, np.random.default_rng(seed))
    return columns_BM, written_BM, columns_BM < lengths_B[:, None]


def test_shares_of_masked_random_and_kept() -> None:
    lengths_B = np.full(4000, 50)
    columns_BM, written_BM, real_BM = drawn(Masking(0.2, 0.1, 0.1, 0.0), lengths_B)
    written_N = written_BM[real_BM]
    assert real_BM.sum() / lengths_B.sum() == pytest.approx(0.2, rel=0.005)
    for share, found in ((0.8, written_N == MASKED), (0.1, written_N == KEPT), (0.1, written_N > 0)):
        assert found.mean() == pytest.approx(share, abs=0.01)
    replaced = written_N[written_N > 0]
    assert (replaced.min(), replaced.max()) == (1, 50)
    by_column = np.bincount(columns_BM[real_BM], minlength=50)
    assert by_column.min() > 0.85 * by_column.mean()  # every place alike
    assert (np.diff(np.where(real_BM, columns_BM, 50 + np.arange(columns_BM.shape[1])), axis=1) > 0).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=9), st.floats(0.01, 1), st.floats(0, 1), st.integers(0, 99))
def test_at_least_one_and_never_padding(lengths: list[int], share: float, last: float, seed: int) -> None:
    lengths_B = np.array(lengths)
    columns_BM, _, real_BM = drawn(Masking(share, 0.1, 0.1, last), lengths_B, seed)
    assert (real_BM.sum(1) >= 1).all()
    assert (real_BM.sum(1) <= np.maximum(1, np.floor(share * lengths_B) + 1)).all()
    assert (columns_BM[~real_BM] == lengths_B.max()).all()
    assert real_BM.any(0).all()  # no wider than needed


def test_short_rows_keep_the_share_on_average() -> None:
    _, _, real_BM = drawn(Masking(0.3, 0.1, 0.1, 0.0), np.full(20_000, 5))
    assert real_BM.sum() / (5 * 20_000) == pytest.approx(0.3, rel=0.02)


def test_final_rows_mask_their_last_event_alone() -> None:
    lengths_B = np.random.default_rng(3).integers(2, 40, 5000)
    columns_BM, written_BM, real_BM = drawn(Masking(0.5, 0.2, 0.2, 0.25), lengths_B)
    final_B = (real_BM.sum(1) == 1) & (lengths_B > 3)  # half of four or more is at least two
    assert final_B.sum() / (lengths_B > 3).sum() == pytest.approx(0.25, abs=0.02)
    assert (columns_BM[final_B, 0] == lengths_B[final_B] - 1).all()
    assert (written_BM[final_B, 0] == MASKED).all()


def test_masks_follow_from_seed_epoch_and_step() -> None:
    first, again, later = (list(rows().epoch(epoch)) for epoch in (3, 3, 4))
    for one, two in zip(first, again, strict=True):
        assert torch.equal(one.items_BL, two.items_BL)
        assert torch.equal(one.targets_BL, two.targets_BL)
    for batch, resumed in zip(first[2:], rows().epoch(3, start=2), strict=True):
        assert torch.equal(batch.items_BL, resumed.items_BL)
    hidden = [{(u, c) for batch in part for u, c in chosen(batch)} for part in (first, later)]
    assert 0.05 < len(hidden[0] & hidden[1]) / len(hidden[0]) < 0.5  # other events; by chance a fifth are the same


def chosen(batch: Batch) -> set[tuple[int, int]]:
    assert batch.targets_BL is not None
    row, column = batch.targets_BL.nonzero().T
    return set(zip(batch.users_B[row].tolist(), column.tolist(), strict=True))


def test_sizes_are_known_before_a_batch_is_cut() -> None:
    from_rows = rows(Masking(0.2, 0.1, 0.1, 0.3))
    for (lengths_B, targets_B), batch in zip(from_rows.sizes(2), from_rows.epoch(2), strict=True):
        assert batch.targets_BL is not None
        assert lengths_B.tolist() == batch.lengths_B.tolist()
        assert targets_B.tolist() == (batch.targets_BL > 0).sum(1).tolist()


def model_and_batch(dim: int = 16) -> tuple[SequenceEncoder, Batch]:
    found = config("model=bert4rec", f"model.embed_dim={dim}", "model.max_length=20", "model.dropout=0")
    model = build_model(found.model, Catalog(40, 300), 0)
    assert isinstance(model, SequenceEncoder)
    return model, next(iter(rows().epoch(0)))


def config(*overrides: str) -> TrainConfig:
    cfg = validate("train", compose("train", list(overrides)))
    assert isinstance(cfg, TrainConfig)
    return cfg


def test_loss_is_that_of_all_logits() -> None:
    model, batch = model_and_batch()
    bias_V = model.item_bias()
    assert bias_V is not None
    torch.nn.init.normal_(bias_V)
    loss = objective().loss(model, batch)
    loss.backward()
    found = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad()
    assert batch.targets_BL is not None
    logits_BLV = model.encode(batch) @ model.item_table()[1:].T + bias_V[1:]
    expected = F.cross_entropy(logits_BLV.flatten(0, 1), batch.targets_BL.flatten() - 1, ignore_index=-1)
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    for name, p in model.named_parameters():
        torch.testing.assert_close(found[name], p.grad, rtol=1e-3, atol=1e-6, msg=name)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_softmax_with_a_bias_equals_torch(dtype: torch.dtype | None) -> None:
    generator = torch.Generator().manual_seed(4)
    given_ = [torch.randn(size, generator=generator) for size in ((50, 8), (34, 8), (34,))]
    targets = torch.randint(1, 34, (50,), generator=generator)
    ours, theirs = ([x.clone().requires_grad_() for x in given_] for _ in range(2))
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        loss = corpus_cross_entropy(ours[0], ours[1], targets, chunk_mb=1, bias_V=ours[2])
    expected = F.cross_entropy(theirs[0] @ theirs[1][1:].T + theirs[2][1:], targets - 1)
    (3 * loss).backward()
    (3 * expected).backward()
    near = {"rtol": 1e-4, "atol": 1e-5} if dtype is None else {"rtol": 0.05, "atol": 0.02}
    torch.testing.assert_close(loss, expected, **near)
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, two.grad, **near)
    with torch.no_grad():
        torch.testing.assert_close(corpus_cross_entropy(*ours[:2], targets, chunk_mb=1, bias_V=ours[2]), expected)


def test_rows_of_the_objective_are_cloze_rows() -> None:
    cfg = config("model=bert4rec", "objective.mask=0.4", "trainer.batch_size=8")
    log = packed(HISTORIES, 300)
    found = training_rows(cfg, build_objective(cfg.objective), log, device=CPU)
    assert isinstance(found, ClozeRows)
    batch = found.largest()
    assert count_targets(batch) / int(batch.lengths_B.sum()) == pytest.approx(0.4, abs=0.1)


def test_refusals_are_one_line() -> None:
    with pytest.raises(SeqrecError, match="objective=cloze cannot train model=sasrec, which never sees"):
        config("model=sasrec", "objective=cloze")
    with pytest.raises(SeqrecError, match="objective=cloze cannot train model=bst"):
        config("model=bst", "objective=cloze")
    with pytest.raises(SeqrecError, match=r"objective\.mask"):
        config("model=bert4rec", "objective.mask=0")
    with pytest.raises(SeqrecError, match="more than 1 together"):
        config("model=bert4rec", "objective.random=0.6", "objective.keep=0.5")

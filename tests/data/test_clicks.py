"""Click protocols: who is held out, which candidates are fixed, and what may train."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dataset_helpers import build, dataset

from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.validate import validate
from seqrec_cli.data.click_rows import PositionRows
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.loader import LabelledTraining, PrefixRows, WindowRows, labelled_batches
from seqrec_cli.data.sample import of_users
from seqrec_cli.data.splits import held_out, train_ends, training_counts
from tests.toylog import batching

USERS, ITEMS = 60, 50


def log_of(folder: Path, protocol: str, seed: int = 0, **changes: object) -> PackedLog:
    """Users of 1 to 12 distinct items, lower ids more popular."""
    rng = np.random.default_rng(1)
    weights = 1 / np.arange(1, ITEMS + 1)
    rows = ["user,item,time"]
    for user in range(USERS):
        items = rng.choice(ITEMS, size=1 + user % 12, replace=False, p=weights / weights.sum())
        rows += [f"{user},{item},{1000 * user + place}" for place, item in enumerate(items)]
    (folder / "log.csv").write_text("\n".join(rows) + "\n")
    return build(dataset("csv", archive=folder / "log.csv"), folder, protocol, seed=seed, **changes)


def histories(log: PackedLog) -> list[list[int]]:
    return [part.tolist() for part in np.split(np.asarray(log.items_N), log.offsets_U1[1:-1])]


def test_positions_has_one_unseen_negative_beside_every_event(tmp_path: Path) -> None:
    log = log_of(tmp_path, "positions")
    train = log.clicks["train"]
    expected = [
        (user, int(log.offsets_U1[user]) + place, history[place])
        for user, history in enumerate(histories(log))
        for place in range(1, len(history) - 2 if len(history) >= 3 else len(history))
    ]
    assert list(zip(train.rows_R, train.ends_R, train.items_RC[:, 0], strict=True)) == expected
    assert np.array_equal(train.labels_RC, np.tile([1.0, 0.0], (len(expected), 1)))
    for user, _, _ in expected:
        seen = histories(log)[user]
        drawn = set(train.items_RC[train.rows_R == user, 1].tolist())
        assert not drawn & set(seen[:-2] if len(seen) >= 3 else seen)
    # Held-out events may be drawn in training, for excluding them would tell them.
    assert any(int(train.items_RC[k, 1]) in histories(log)[user][-2:] for k, (user, _, _) in enumerate(expected))
    for back, split in ((2, "val"), (1, "test")):
        rows = log.clicks[split]
        assert rows.items_RC.shape[1] == 2
        for user, (positive, negative) in zip(rows.rows_R, rows.items_RC, strict=True):
            assert positive == histories(log)[user][-back]
            assert negative not in histories(log)[user]


def test_last_splits_users_and_draws_by_popularity(tmp_path: Path) -> None:
    log = log_of(tmp_path, "last", held_out_users=0.2)
    parts = {split: set(log.clicks[split].rows_R.tolist()) for split in ("train", "val", "test")}
    eligible = {user for user, history in enumerate(histories(log)) if len(history) > 1}
    assert set.union(*parts.values()) == eligible
    assert sum(map(len, parts.values())) == len(eligible)
    assert len(parts["val"]) == len(parts["test"]) == round(0.2 * len(eligible))
    for split, rows in log.clicks.items():
        assert np.array_equal(rows.ends_R, log.offsets_U1[rows.rows_R + 1] - 1), split
        for user, (positive, negative) in zip(rows.rows_R, rows.items_RC, strict=True):
            assert positive == histories(log)[user][-1]
            assert negative not in histories(log)[user]
    assert parts["val"] == set(held_out(log, "val").rows_R.tolist())
    counts = np.bincount(log.items_N, minlength=ITEMS + 1)
    drawn = np.concatenate([log_of(tmp_path, "last", seed).clicks["train"].items_RC[:, 1] for seed in range(8)])
    assert counts[drawn].mean() > 1.3 * counts[counts > 0].mean()  # popular items are drawn more often


def test_events_of_held_out_users_never_train(tmp_path: Path) -> None:
    log = log_of(tmp_path, "last", held_out_users=0.3)
    held = {*log.clicks["val"].rows_R.tolist(), *log.clicks["test"].rows_R.tolist()}
    free = [history for user, history in enumerate(histories(log)) if user not in held]
    counts = np.bincount(np.concatenate(free), minlength=log.num_items + 1)
    assert training_counts(log).tolist() == counts.tolist()
    cpu = torch.device("cpu")
    for rows in (
        WindowRows(log, 5, batching(8), window="sliding", stride=None, negatives=0, draws_by_row=True, device=cpu),
        PrefixRows(log, 5, batching(8), negatives=1),
        PositionRows(log, 5, batching(8), negatives=1, device=cpu),
        LabelledTraining(log, 5, batching(8)),
    ):
        users = {user - 1 for batch in rows.epoch(0) for user in batch.users_B.tolist()}
        assert users
        assert not users & held


@pytest.mark.parametrize("protocol", ["positions", "last"])
def test_candidates_are_a_function_of_the_seed(protocol: str, tmp_path: Path) -> None:
    first, again, other = (log_of(tmp_path / name, protocol, seed) for name, seed in _folders(tmp_path))
    for split, rows in first.clicks.items():
        assert np.array_equal(rows.items_RC, again.clicks[split].items_RC)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert not np.array_equal(first.clicks["test"].items_RC, other.clicks["test"].items_RC)


def _folders(base: Path) -> list[tuple[str, int]]:
    for name in ("a", "b", "c"):
        (base / name).mkdir()
    return [("a", 3), ("b", 3), ("c", 4)]


def examples(batches, max_length: int) -> list[tuple]:  # type: ignore[no-untyped-def]
    """(user, history, candidate, label) of every candidate."""
    found = []
    for batch in batches:
        for b, c in batch.candidates_BC.nonzero().tolist():
            end = int(batch.lengths_B[b]) if batch.ends_BC is None else int(batch.ends_BC[b, c])
            history = tuple(batch.items_BL[b, max(0, end - max_length) : end].tolist())
            found.append((int(batch.users_B[b]), history, int(batch.candidates_BC[b, c]), int(batch.labels_BC[b, c])))
    return sorted(found)


def test_fixed_negatives_are_the_same_a_row_a_target_and_in_runs(tmp_path: Path) -> None:
    log = log_of(tmp_path, "positions")
    train = log.clicks["train"]
    expected = sorted(
        (int(row) + 1, tuple(log.items_N[max(log.offsets_U1[row], end - 5) : end].tolist()), int(item), int(label))
        for row, end, items, labels in zip(train.rows_R, train.ends_R, train.items_RC, train.labels_RC, strict=True)
        for item, label in zip(items, labels, strict=True)
    )
    one: dict[str, Any] = {"negatives": 1, "device": torch.device("cpu")}
    for epoch in (0, 1):
        assert examples(LabelledTraining(log, 5, batching(16, epoch)).epoch(epoch), 5) == expected
        assert examples(PositionRows(log, 5, batching(16), **one, fixed_negatives=train).epoch(epoch), 5) == expected
        assert examples(PositionRows(log, 5, batching(16), **one).epoch(epoch), 5) != expected


def test_a_few_users_keep_what_is_held_out(tmp_path: Path) -> None:
    log = log_of(tmp_path, "last", held_out_users=0.3)
    users = np.sort(np.concatenate([log.clicks["val"].rows_R[:3], log.clicks["train"].rows_R[:4]]))
    few = of_users(log, users)
    assert histories(few) == [histories(log)[user] for user in users]
    assert held_out(few, "val").rows_R.tolist() == np.flatnonzero(np.isin(users, log.clicks["val"].rows_R)).tolist()
    lengths = train_ends(few) - few.offsets_U1[:-1]
    assert lengths.tolist() == (train_ends(log) - log.offsets_U1[:-1])[users].tolist()
    assert sum(len(batch) for _, batch in labelled_batches(few, "val", max_length=5, batch_size=4)) == 3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["protocol=positions", "protocol.click_negatives=5"], "set protocol.click_negatives=1"),
        (["protocol=impressions"], "needs logged impressions, and dataset.source=csv has none"),
    ],
)
def test_impossible_settings_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(SeqrecError, match=message):
        validate("preprocess", compose("preprocess", ["dataset=csv", "dataset.archive=x", *overrides]))


def test_a_user_who_met_everything_has_no_negative(tmp_path: Path) -> None:
    rows = [f"{user},{item},{item}" for user in range(9) for item in range(4)]
    (tmp_path / "log.csv").write_text("user,item,time\n" + "\n".join(rows) + "\n")
    for protocol in ("positions", "last"):
        with pytest.raises(SeqrecError, match="are positive, so nothing"):
            build(dataset("csv", archive=tmp_path / "log.csv"), tmp_path, protocol)


def test_nobody_to_hold_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user,item,time\na,1,1\na,2,2\nb,3,1\n")
    for protocol in ("positions", "last"):
        with pytest.raises(SeqrecError, match="nobody can be evaluated"):
            build(dataset("csv", archive=tmp_path / "log.csv"), tmp_path, protocol)

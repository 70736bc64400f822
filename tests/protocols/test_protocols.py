"""Every protocol: what trains and what is held out, by hand; and that nothing held out can reach a training batch."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.registry import config_class, names
from seqrec_cli.data.click_rows import PositionRows
from seqrec_cli.data.interactions import LabelledRows, PackedLog
from seqrec_cli.data.loader import LabelledTraining, PrefixRows, WindowRows
from seqrec_cli.data.splits import training_counts
from seqrec_cli.data.view import SPLITS, Targets, View
from seqrec_cli.protocols.view import store
from seqrec_cli.protocols.view.build import with_view
from tests.shipped import shipped
from tests.toylog import batching, packed

CPU = torch.device("cpu")
# Three users; a minute between a user's events, and each user begins at another moment.
HISTORIES = [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10], [11, 12]]
TIMES = [0, 60, 120, 180, 240, 300, 200, 260, 320, 380, 390, 450]


def log_of(histories: list[list[int]] = HISTORIES, times: list[int] | None = None, num_items: int = 20) -> PackedLog:
    log = packed(histories, num_items)
    return replace(log, times_N=np.array(TIMES if times is None else times, np.int64), view=None)


def asked(log: PackedLog, name: str, say: Any = lambda line: None, **settings: Any) -> PackedLog:
    plain = shipped("protocol", name) | {"click_negatives": 1} | settings
    return with_view(log, config_class("protocol", name).from_plain(plain), say)  # type: ignore[arg-type]


def view_of(log: PackedLog) -> View:
    assert log.view is not None
    return log.view


def training(log: PackedLog) -> list[list[int]]:
    return [log.items_N[a:b].tolist() for a, b in zip(log.offsets_U1[:-1], view_of(log).train_U, strict=True)]


def questions(log: PackedLog, targets: Targets) -> list[tuple[int, list[int], list[int]]]:
    """(user row, the history, the targets' items) of every request."""
    items_N, found = log.items_N, []
    for r, (row, end) in enumerate(zip(targets.rows_R, targets.ends_R, strict=True)):
        positions = targets.positions_T[targets.offsets_R1[r] : targets.offsets_R1[r + 1]]
        found.append((int(row), items_N[log.offsets_U1[row] : end].tolist(), items_N[positions].tolist()))
    return found


def test_leave_last() -> None:
    log = asked(log_of(), "leave_last")
    assert training(log) == [[1, 2, 3, 4], [7, 8], [11, 12]]
    assert questions(log, view_of(log).val) == [(0, [1, 2, 3, 4], [5]), (1, [7, 8], [9])]
    assert questions(log, view_of(log).test) == [(0, [1, 2, 3, 4, 5], [6]), (1, [7, 8, 9], [10])]


def test_last_k_in_turn_and_all_at_once() -> None:
    log = asked(log_of(), "last_k", k=2)
    assert training(log) == [[1, 2], [7, 8, 9, 10], [11, 12]]  # the second user has not five events
    assert questions(log, view_of(log).val) == [(0, [1, 2], [3]), (0, [1, 2, 3], [4])]
    assert questions(log, view_of(log).test) == [(0, [1, 2, 3, 4], [5]), (0, [1, 2, 3, 4, 5], [6])]
    log = asked(log_of(), "last_k", k=2, targets="all")
    assert questions(log, view_of(log).test) == [(0, [1, 2, 3, 4], [5, 6])]
    rows = log.clicks["test"]
    assert rows.items_RC.tolist()[0][:2] == [5, 6]
    assert rows.labels_RC.tolist() == [[1, 1, 0]]
    assert rows.items_RC[0, 2] > 6


def test_ratio_keeps_an_event_to_train() -> None:
    log = asked(log_of([[*range(1, 11)], [11, 12, 13], [14, 15]], times=[*range(15)]), "ratio", share=0.25)
    assert training(log) == [[*range(1, 7)], [11], [14, 15]]
    assert [of[2] for of in questions(log, view_of(log).test)] == [[9], [10], [13]]
    assert [of[2] for of in questions(log, view_of(log).val)] == [[7], [8], [12]]


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ("last", [(0, [1, 2, 3, 4, 5], [6]), (1, [7, 8, 9], [10]), (2, [11], [12])]),
        ("first", [(0, [1, 2, 3, 4, 5], [6]), (1, [7, 8], [9])]),
        ("all", [(0, [1, 2, 3, 4, 5], [6]), (1, [7, 8], [9, 10])]),
        ("successive", [(0, [1, 2, 3, 4, 5], [6]), (1, [7, 8], [9]), (1, [7, 8, 9], [10]), (2, [11], [12])]),
    ],
)
def test_global_time(targets: str, expected: list[tuple[int, list[int], list[int]]]) -> None:
    """The eighth of the twelve times in order is 300; the fifth of the seven before it, 200."""
    log = asked(log_of(), "global_time", cut=7.5 / 12, validation_cut=0.625, targets=targets)
    assert view_of(log).manifest["cut_times"] == {"test": 300, "val": 200}
    assert training(log) == [[1, 2, 3, 4], [], []]
    assert questions(log, view_of(log).test) == expected
    counts = view_of(log).manifest["splits"]["test"]
    assert counts["requests_of_cold_users"] == sum(row > 0 for row, _, _ in expected)
    assert counts["cold_targets"] == sum(len(of) for _, _, of in expected)


def test_a_random_target_lies_after_the_cut_and_is_fixed_by_the_seed() -> None:
    log = log_of([[*range(1, 41)]] * 3, times=[*range(40)] * 3, num_items=60)
    drawn = [view_of(asked(log, "global_time", cut=0.5, targets="random", seed=s)).test.ends_R for s in (1, 1, 2)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])
    assert all((of - log.offsets_U1[:-1] >= 20).all() for of in drawn)


def test_global_time_validates_by_the_last_training_event_or_by_users() -> None:
    log = asked(log_of(), "global_time", cut=7.5 / 12, validation="last_train_event", targets="last")
    assert training(log) == [[1, 2, 3, 4], [7], []]
    assert questions(log, view_of(log).val) == [(0, [1, 2, 3, 4], [5]), (1, [7], [8])]
    log = asked(log_of(), "global_time", cut=7.5 / 12, validation="by_users", targets="last", held_out_users=0.4)
    ((row, history, _),) = questions(log, view_of(log).val)
    assert training(log)[row] == []
    assert training(log)[1 - row] == HISTORIES[1 - row][: 5 if row else 2]
    assert history == HISTORIES[row][: 1 if row else 4]


def test_a_cut_may_be_a_date() -> None:
    day = 86_400
    log = log_of([[1, 2, 3], [4, 5, 6]], times=[0, day, 2 * day, day, 2 * day, 3 * day])
    log = asked(log, "global_time", cut="1970-01-03", targets="all", validation="last_train_event")
    assert questions(log, view_of(log).test) == [(0, [1, 2], [3]), (1, [4], [5, 6])]
    with pytest.raises(SeqrecError, match=r"outside the log, which lasts from 1970-01-01 to 1970-01-04"):
        asked(log_of([[1, 2, 3]], times=[0, day, 3 * day]), "global_time", cut="1999-01-01")


def test_sessions_ask_for_the_next_item_inside_and_those_open_at_a_cut_are_held_out() -> None:
    minutes = [0, 1, 100, 101, 102, 200, 201, 202, 50, 51, 150, 151]
    log = log_of([[1, 2, 3, 4, 5, 6, 7, 8], [9, 10, 11, 12]], times=[60 * m for m in minutes])
    log = asked(log, "sessions", cut=0.7, validation_cut=0.8, targets="successive")
    # In order: 0 1 50 51 100 101 102 150 151 200 ..: the test cut is 151 min, the validation cut 102 min.
    assert view_of(log).manifest["cut_times"] == {"test": 151 * 60, "val": 102 * 60}
    assert training(log) == [[1, 2], [9, 10]]
    assert [(row, of) for row, _, of in questions(log, view_of(log).val)] == [(0, [4]), (0, [5])]
    assert questions(log, view_of(log).test) == [
        (0, [1, 2, 3, 4, 5, 6], [7]),
        (0, [1, 2, 3, 4, 5, 6, 7], [8]),
        (1, [9, 10, 11], [12]),
    ]


def test_sessions_of_the_log_itself() -> None:
    log = log_of([[1, 2, 3, 4, 5, 6]] * 2, times=[*range(6)] * 2)
    with pytest.raises(SeqrecError, match=r"no sessions of its own; use protocol.by=gap"):
        asked(log, "sessions", by="column")
    log = replace(log, sessions_N=np.array([0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2], np.int32))
    log = asked(log, "sessions", by="column", cut=0.7, validation_cut=0.6, targets="last")
    assert questions(log, view_of(log).test) == [(row, [1, 2, 3, 4, 5], [6]) for row in (0, 1)]
    assert questions(log, view_of(log).val) == [(row, [1, 2, 3], [4]) for row in (0, 1)]


def test_new_users_are_folded_in() -> None:
    histories = [[10 * u + k for k in range(1, 6)] for u in range(10)]
    log = asked(log_of(histories, times=[*range(50)], num_items=120), "new_users", fold_in=0.6)
    assert view_of(log).test.counts_R.tolist() == [2]
    ((row, history, of),) = questions(log, view_of(log).test)
    assert (history, of) == (histories[row][:3], histories[row][3:])
    assert sum(not part for part in training(log)) == 2  # one validates, one tests


@pytest.mark.parametrize("name", ["global_time", "sessions"])
def test_a_log_without_times_is_refused(name: str) -> None:
    with pytest.raises(SeqrecError, match=f"protocol={name} splits by time, and this log has no times"):
        asked(packed(HISTORIES, 20, times=False), name)


def busy_log() -> PackedLog:
    """40 users, 30 items, repeats and ties, requests with impressions, sessions of its own."""
    rng = np.random.default_rng(4)
    histories = [rng.integers(1, 31, int(rng.integers(5, 25))).tolist() for _ in range(40)]
    log = packed(histories, 30)
    times = [np.sort(rng.integers(0, 20_000, len(h))) for h in histories]
    ends_R = np.array([end - back for end in log.offsets_U1[1:] for back in (4, 3, 2, 1)])
    items_RC = np.stack([log.items_N[ends_R], log.items_N[ends_R] % 30 + 1], axis=1)
    requests = LabelledRows(np.repeat(np.arange(40), 4), ends_R, items_RC, np.tile(np.float32([1, 0]), (160, 1)))
    return replace(
        log,
        view=None,
        times_N=np.concatenate(times),
        sessions_N=(np.arange(len(log.items_N)) // 3).astype(np.int32),
        requests=requests,
    )


ASKED = [
    *((name, {}) for name in names("protocol")),
    *(("global_time", {"targets": choice}) for choice in ("last", "first", "random", "all")),
    *(("global_time", {"validation": how}) for how in ("last_train_event", "by_users")),
    ("last_k", {"targets": "all", "k": 2}),
    ("ratio", {"targets": "all"}),
    ("sessions", {"by": "column", "targets": "last"}),
    ("new_users", {"targets": "successive"}),
    ("leave_last", {"ties": "reversed"}),
    ("leave_last", {"ties": "shuffled"}),
]


@pytest.mark.parametrize("seen", ["remove", "keep"])
@pytest.mark.parametrize(("name", "settings"), ASKED)
def test_nothing_held_out_reaches_training(name: str, settings: dict[str, Any], seen: str) -> None:
    """Every held-out event's item is replaced by another: all training batches and counts stay, bit for bit."""
    settings = {"held_out_users": 0.2} | settings if "held_out_users" in shipped("protocol", name) else settings
    log = asked(busy_log(), name, seen=seen, **settings)
    view = view_of(log)
    held_N = np.arange(len(log.items_N)) >= np.repeat(view.train_U, np.diff(log.offsets_U1))
    for split in ("val", "test"):
        assert held_N[view.targets(split).positions_T].all()  # type: ignore[arg-type]
    other = replace(log, items_N=np.where(held_N, log.items_N % 30 + 1, log.items_N).astype(np.int32))
    assert (other.items_N != log.items_N).any()
    assert np.array_equal(training_counts(log), training_counts(other))
    assert np.array_equal(training_counts(log), np.bincount(log.items_N[~held_N], minlength=31))
    makers = [
        lambda each: WindowRows(
            each, 6, batching(8), window="sliding", stride=None, negatives=2, draws_by_row=False, device=CPU
        ),
        lambda each: PrefixRows(each, 6, batching(8), negatives=2, history_negatives=1),
        lambda each: PositionRows(each, 6, batching(8), negatives=2, device=CPU),
    ]
    if "train" in log.clicks:
        makers.append(lambda each: LabelledTraining(each, 6, batching(8)))
    for make in makers:
        for one, two in zip(make(log).epoch(0), make(other).epoch(0), strict=True):
            for field in ("items_BL", "targets_BL", "candidates_BC", "labels_BC", "negatives_BLK", "users_B"):
                first, second = getattr(one, field), getattr(two, field)
                assert (first is None) == (second is None)
                assert first is None or torch.equal(first, second), field


@pytest.mark.parametrize(("name", "settings"), ASKED)
def test_histories_end_before_their_targets_and_a_target_is_asked_once(name: str, settings: dict[str, Any]) -> None:
    log = asked(busy_log(), name, seen="keep", **settings)
    for split in ("val", "test"):
        targets = view_of(log).targets(split)  # type: ignore[arg-type]
        requests_T = targets.requests_T
        assert (targets.ends_R[requests_T] <= targets.positions_T).all()
        assert (targets.ends_R > log.offsets_U1[targets.rows_R]).all()
        assert (targets.positions_T < log.offsets_U1[targets.rows_R + 1][requests_T]).all()
        assert len(np.unique(targets.positions_T)) == len(targets.positions_T)
        assert (np.diff(targets.rows_R) >= 0).all()
    assert not np.isin(view_of(log).val.positions_T, view_of(log).test.positions_T).any()


# Repeats


def test_repeated_targets_are_left_out_counted_and_said_or_kept() -> None:
    log = log_of([[1, 2, 3, 1], [4, 5, 6, 7], [8, 9, 8, 9]], times=[*range(12)])
    said: list[str] = []
    removed = asked(log, "leave_last", said.append)
    assert questions(removed, view_of(removed).test) == [(1, [4, 5, 6], [7])]
    assert questions(removed, view_of(removed).val) == [(0, [1, 2], [3]), (1, [4, 5], [6])]
    assert said[1] == (
        "test: 2 of 3 targets repeat an item of their history and are left out (protocol.seen=keep ranks them)"
    )
    counts = view_of(removed).manifest["splits"]["test"]
    assert (counts["held_out_targets"], counts["repeated_targets"], counts["left_out_repeats"]) == (3, 2, 2)
    assert removed.clicks["test"].rows_R.tolist() == [1]
    kept = asked(log, "leave_last", seen="keep")
    assert view_of(kept).test.rows_R.tolist() == [0, 1, 2]
    counts = view_of(kept).manifest["splits"]["test"]
    assert (counts["repeated_targets"], counts["left_out_repeats"]) == (2, 0)


def test_a_log_of_repeats_alone_is_refused_under_remove() -> None:
    log = log_of([[1, 2, 1, 2], [3, 4, 3, 4]], times=[*range(8)])
    with pytest.raises(SeqrecError, match=r"every target of val repeats an item .*; use protocol.seen=keep"):
        asked(log, "leave_last")


@pytest.mark.parametrize(
    ("name", "settings"), [("last", {}), ("new_users", {}), ("global_time", {"cut": 0.7, "validation": "by_users"})]
)
def test_the_seed_draws_the_users(name: str, settings: dict[str, Any]) -> None:
    log = log_of([[1 + (user + nth) % 20 for nth in range(6)] for user in range(60)], times=[*range(6)] * 60)
    drawn = [set(view_of(asked(log, name, seed=s, **settings)).val.rows_R.tolist()) for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("name", ["leave_last", "positions", "last"])
def test_negatives_are_drawn_from_seen_items_too_where_those_stay(name: str) -> None:
    """Under keep, whether a candidate was seen tells clicks from negatives no better than repeats do by themselves."""
    rng = np.random.default_rng(0)
    log = log_of([rng.permutation(12)[:8].tolist() for _ in range(300)], times=[*range(2400)], num_items=12)
    log = replace(log, items_N=(log.items_N + 1).astype(np.int32), catalog=replace(log.catalog, num_items=12))
    shares = {}
    for seen in ("remove", "keep"):
        rows = asked(log, name, seen=seen).clicks["test"]
        histories = [set(log.items_N[log.offsets_U1[r] : e]) for r, e in zip(rows.rows_R, rows.ends_R, strict=True)]
        negatives = [int(items_C[-1]) for items_C in rows.items_RC]
        shares[seen] = np.mean([n in h for n, h in zip(negatives, histories, strict=True)])
        assert all(n != t for n, t in zip(negatives, rows.items_RC[:, 0], strict=True))  # never the target itself
    assert shares["remove"] == 0
    assert shares["keep"] == pytest.approx(7 / 11, abs=0.1 if name != "last" else 0.2)


def test_the_seed_draws_the_click_negatives() -> None:
    drawn = [asked(log_of(), "leave_last", click_negatives=9, seed=s).clicks["test"].items_RC for s in (1, 1, 2)]
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_training_negatives_follow_the_same_choice() -> None:
    log = log_of([[*range(1, 11)]] * 20, times=[*range(200)], num_items=12)
    for make in (
        lambda each: PrefixRows(each, 20, batching(400), negatives=5),
        lambda each: PositionRows(each, 20, batching(400), negatives=5, device=CPU),
    ):
        (removed,) = make(asked(log, "leave_last")).epoch(0)
        (kept,) = make(asked(log, "leave_last", seen="keep")).epoch(0)
        for batch, share in ((removed, 0.0), (kept, 7 / 11)):
            items_BTC = batch.candidates_BC.view(len(batch), -1, 6)
            real = items_BTC[..., 0] > 0
            negatives, positives = items_BTC[..., 1:][real], items_BTC[..., :1][real]
            assert (negatives <= 8).float().mean().item() == pytest.approx(share, abs=0.08)  # items 1 to 8 train
            assert not (negatives == positives).any()


# Ties, and what is kept on disk


def test_ties_change_places_within_a_user_and_a_time_alone() -> None:
    log = log_of([[1, 2, 3, 4, 5], [6, 7, 8]], times=[0, 5, 5, 5, 9, 9, 9, 10])
    reversed_ = asked(log, "leave_last", ties="reversed")
    assert reversed_.items_N.tolist() == [1, 4, 3, 2, 5, 7, 6, 8]
    shuffled = {tuple(asked(log, "leave_last", ties="shuffled", seed=s).items_N.tolist()) for s in range(200)}
    assert len(shuffled) == 12
    assert {(each[0], each[4], each[7]) for each in shuffled} == {(1, 5, 8)}
    with pytest.raises(SeqrecError, match="this log has no times, so no ties"):
        asked(packed(HISTORIES, 20, times=False), "leave_last", ties="shuffled")


def _dataset_helpers() -> Any:
    path = Path(__file__).resolve().parents[1] / "data" / "dataset_helpers.py"
    spec = importlib.util.spec_from_file_location("protocol_dataset_helpers", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def write_csv(folder: Path) -> Path:
    rng = np.random.default_rng(3)
    rows = ["user,item,time"]
    for user in range(12):
        rows += [f"{user},{item},{100 * user + k}" for k, item in enumerate(rng.permutation(20)[: 3 + user % 5])]
    (folder / "log.csv").write_text("\n".join(rows) + "\n")
    return folder / "log.csv"


def test_another_protocol_reads_no_raw_file_and_a_view_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helpers = _dataset_helpers()
    source = write_csv(tmp_path)
    cfg = helpers.dataset("csv", url=source.as_uri())
    first = helpers.build(cfg, tmp_path / "data", "leave_last", click_negatives=2)
    source.unlink()
    (tmp_path / "data" / "raw" / "log.csv").unlink()
    other = helpers.build(cfg, tmp_path / "data", "ratio", click_negatives=2)
    assert other.folder == first.folder
    assert other.fingerprint != first.fingerprint
    assert len(list((first.folder / "protocols").iterdir())) == 2
    monkeypatch.setattr("seqrec_cli.protocols.view.build._make", lambda *_: pytest.fail("made again"))
    again = helpers.build(cfg, tmp_path / "data", "leave_last", click_negatives=2)
    assert again.fingerprint == first.fingerprint
    for one, two in zip((again.clicks["test"], again.view.test), (first.clicks["test"], first.view.test), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(vars(one).values(), vars(two).values(), strict=True))
    assert again.view.manifest == first.view.manifest
    (first.folder / "protocols" / f"leave_last-{first.fingerprint[:16]}" / "train.npy").write_bytes(b"torn")
    with pytest.raises(SeqrecError, match=r"is damaged .*; delete it, and it is made again"):
        helpers.build(cfg, tmp_path / "data", "leave_last", click_negatives=2)


def test_a_view_on_disk_is_the_one_in_memory(tmp_path: Path) -> None:
    made = view_of(asked(log_of(), "leave_last", seen="keep", candidates="uniform:5"))
    store.write(made, tmp_path / "view")
    read = store.read(tmp_path / "view")
    assert read is not None
    assert (read.seen, read.candidates, read.manifest) == ("keep", "uniform:5", made.manifest)
    assert np.array_equal(read.train_U, made.train_U)
    for split in SPLITS:
        for one, two in ((read.targets(split), made.targets(split)), (read.clicks[split], made.clicks[split])):
            assert all(np.array_equal(a, b) for a, b in zip(vars(one).values(), vars(two).values(), strict=True)), split


def test_a_view_is_named_by_its_log_and_all_of_its_protocol() -> None:
    log = log_of()
    logs = [log, replace(log, manifest=log.manifest | {"fingerprint": "another"})]
    views = [asked(each, "leave_last", **words) for each in logs for words in ({}, {"seed": 1}, {"ties": "reversed"})]
    assert len({each.fingerprint for each in views}) == 6


@pytest.mark.parametrize(
    ("name", "settings", "former"),
    [
        ("leave_last", {}, "e25a1454690fbddca1f6a473cc23426614400cead402123380f23da573a30fcb"),
        ("positions", {}, "88cc096a256a33a37cd6e03b8fb087de661dc7e2efe9838a1c40e895fc89536e"),
        ("last", {"held_out_users": 0.2}, "e1f8f2ded6104d14db0c749c01f0df941fe95ac10d9724051e19d658f8f0fe18"),
    ],
)
def test_runs_made_when_protocols_were_settings_of_the_dataset_still_fit(
    name: str, settings: dict[str, Any], former: str, tmp_path: Path
) -> None:
    """The fingerprints are those that the version before gave the same file."""
    helpers = _dataset_helpers()
    log = helpers.build(helpers.dataset("csv", archive=write_csv(tmp_path)), tmp_path / "data", name, **settings)
    assert log.fits(former)
    assert log.fits(log.fingerprint)
    assert not helpers.build(
        helpers.dataset("csv", archive=write_csv(tmp_path)), tmp_path / "data", name, seen="keep", **settings
    ).fits(former)


@pytest.mark.parametrize(
    ("name", "settings", "times", "says"),
    [
        ("last_k", {"k": 40}, None, r"the 2 k \+ 1 = 81 events .* longest history has 6\); lower protocol.k"),
        ("sessions", {"gap": 0.5}, None, "no session of val has two events; raise protocol.gap"),
        ("global_time", {}, [7] * 12, "all events have one and the same time; use protocol=leave_last"),
        ("leave_last", {"candidates": "uniform:20"}, None, "the data have 20 items in all; sample fewer, or use full"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_the_setting_to_change(
    name: str, settings: dict[str, Any], times: list[int] | None, says: str
) -> None:
    with pytest.raises(SeqrecError, match=says):
        asked(log_of(times=times), name, **settings)


def test_events_that_ask_nothing_are_counted() -> None:
    said: list[str] = []
    asked(log_of(), "global_time", said.append, cut=7.5 / 12, validation_cut=0.625)
    assert said[0] == "1 users begin after the cut: their first event has no history and is no target"
    said.clear()
    minutes = [0, 1, 100, 101, 200, 201, 300, 301, 50, 51, 150, 301]
    log = log_of([[1, 2, 3, 4, 5, 6, 7, 8], [9, 10, 11, 12]], times=[60 * m for m in minutes])
    asked(log, "sessions", said.append, cut=0.8, validation_cut=0.6)
    assert said[0] == "2 held-out sessions have one event and ask for nothing"

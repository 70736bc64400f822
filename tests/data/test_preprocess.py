"""Building a packed log: found again, never half, never harmed; its filters and click candidates."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_helpers import build, dataset, protocol
from hypothesis import given, settings
from hypothesis import strategies as st

from seqrec_cli.config.dataset import DatasetConfig
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data import preprocess
from seqrec_cli.data.filters import core, repeats
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.data.vocabulary import factorize, vocabulary
from seqrec_cli.protocols.view.build import with_view

ROOT = Path(__file__).resolve().parents[2]


def write_log(folder: Path, users: int = 6, items: int = 12, events: int = 5, name: str = "log.csv") -> Path:
    """Every user meets `events` different items, at rising times."""
    rng = np.random.default_rng(0)
    rows = [
        f"{user},{item},{60 * user + step},{1 + (user + step) % 5}"
        for user in range(users)
        for step, item in enumerate(rng.permutation(items)[:events])
    ]
    path = folder / name
    path.write_text("\n".join(["user,item,time,rating", *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def cfg(tmp_path: Path) -> DatasetConfig:
    return dataset("csv", archive=write_log(tmp_path), rating_column="rating")


def folders(data_dir: Path) -> list[Path]:
    return sorted(path for path in data_dir.iterdir() if path.is_dir())


def test_a_second_call_does_nothing_and_says_so(cfg: DatasetConfig, tmp_path: Path) -> None:
    said: list[str] = []
    first = prepare(cfg, tmp_path / "data", said.append)
    stamp = (first.folder / "manifest.json").stat().st_mtime_ns
    second = prepare(cfg, tmp_path / "data", said.append)
    assert said[-2].endswith("is built: 6 users, 12 items, 30 events")
    assert said[-1] == f"{first.folder} is ready: nothing to do"
    assert second.folder == first.folder
    assert (second.folder / "manifest.json").stat().st_mtime_ns == stamp


def test_a_build_imports_neither_pandas_nor_torch(cfg: DatasetConfig, tmp_path: Path) -> None:
    code = (
        "import json, sys; from pathlib import Path; from seqrec_cli.config.registry import config_class; "
        "from seqrec_cli.data.preprocess import prepare; "
        "cfg = config_class('dataset', 'csv').from_plain(json.loads(sys.argv[1])); "
        "log = prepare(cfg, Path(sys.argv[2]), str); "
        "print(len(log.items_N), [name for name in ('pandas', 'torch') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, cfg.model_dump_json(), str(tmp_path / "data")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "30 []"


def test_settings_and_bytes_make_the_fingerprint(cfg: DatasetConfig, tmp_path: Path) -> None:
    log = build(cfg, tmp_path / "data")
    moved = tmp_path / "elsewhere" / "other.csv"
    moved.parent.mkdir()
    moved.write_bytes(Path(str(cfg.archive)).read_bytes())
    same = build(cfg.model_copy(update={"archive": str(moved), "checksum": "md5:00"}), tmp_path / "data")
    assert same.folder == log.folder
    core = build(cfg.model_copy(update={"item_core": 1}), tmp_path / "data")
    other_bytes = build(cfg.model_copy(update={"archive": str(write_log(tmp_path, 7))}), tmp_path / "data")
    assert len({log.fingerprint, core.fingerprint, other_bytes.fingerprint}) == 3
    assert len(folders(tmp_path / "data")) == 3


def test_a_ready_dataset_needs_no_raw_file(tmp_path: Path) -> None:
    source = write_log(tmp_path)
    cfg = dataset("csv", url=source.as_uri())
    first = build(cfg, tmp_path / "data")
    source.unlink()
    (tmp_path / "data" / "raw" / "log.csv").unlink()
    said: list[str] = []
    assert prepare(cfg, tmp_path / "data", said.append).folder == first.folder
    assert said == [f"{first.folder} is ready: nothing to do (there is no raw file to compare)"]


def test_a_killed_build_leaves_no_dataset(cfg: DatasetConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(preprocess, "write_vocabulary", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build(cfg, tmp_path / "data")
    assert folders(tmp_path / "data") == []
    monkeypatch.undo()
    assert len(build(cfg, tmp_path / "data").items_N) == 30


def test_a_failing_rebuild_leaves_the_ready_dataset(cfg: DatasetConfig, tmp_path: Path) -> None:
    ready = build(cfg, tmp_path / "data")
    before = {path.name: path.read_bytes() for path in ready.folder.iterdir()}
    with open(str(cfg.archive), "a", encoding="utf-8") as file:
        file.write("3,4,yesterday,1\n")
    with pytest.raises(SeqrecError, match="time is 'yesterday' in line 32"):
        build(cfg, tmp_path / "data")
    assert folders(tmp_path / "data") == [ready.folder]
    assert {path.name: path.read_bytes() for path in ready.folder.iterdir()} == before


def test_builders_at_once_end_with_one_whole_dataset(cfg: DatasetConfig, tmp_path: Path) -> None:
    logs = []
    threads = [threading.Thread(target=lambda: logs.append(build(cfg, tmp_path / "data"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(logs) == 4
    assert {log.folder for log in logs} == set(folders(tmp_path / "data"))
    assert all(len(log.items_N) == 30 for log in logs)


def test_a_damaged_dataset_is_named(cfg: DatasetConfig, tmp_path: Path) -> None:
    folder = build(cfg, tmp_path / "data").folder
    (folder / "items.npy").unlink()
    with pytest.raises(SeqrecError, match=r"is damaged .*; delete it"):
        build(cfg, tmp_path / "data")


def test_what_stands_in_the_way_is_named(cfg: DatasetConfig, tmp_path: Path) -> None:
    folder = build(cfg, tmp_path / "data").folder
    (folder / "manifest.json").unlink()
    with pytest.raises(SeqrecError, match="stands in the way"):
        build(cfg, tmp_path / "data")
    assert folders(tmp_path / "data") == [folder]


def test_filters_are_counted_in_the_manifest(tmp_path: Path) -> None:
    rows = ["user,item,time,rating"]
    rows += [f"1,{item},{item},5" for item in (1, 2, 3, 4)] + [f"2,{item},{item},5" for item in (1, 2, 3)]
    rows += ["3,1,1,5", "3,5,2,5", "3,2,3,1"]  # a low rating takes 3 below 3 events; 5 falls with it
    rows += ["1,1,1,5"]  # a repeat
    path = tmp_path / "log.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    cfg = dataset(
        "csv", archive=path, rating_column="rating", duplicates="drop", min_rating=2.0, user_core=3, item_core=2
    )
    said: list[str] = []
    log = prepare(cfg, tmp_path / "data", said.append)
    kept = [[row[key] for key in ("filter", "events", "users", "items")] for row in log.manifest["filters"]]
    assert kept == [
        ["raw", 11, 3, 5],
        ["duplicates=drop", 10, 3, 5],
        ["min_rating=2.0", 9, 3, 5],
        ["user_core=3 item_core=2", 6, 2, 3],
    ]
    assert [row.get("removed_events") for row in log.manifest["filters"]] == [None, 1, 1, 3]
    assert said[2] == "user_core=3 item_core=2 removed 3 events, 1 users, 2 items"
    assert vocabulary(log.folder, "users").tolist() == [1, 2]


@pytest.mark.parametrize(("policy", "events"), [("keep", 31), ("drop", 30)])
def test_duplicates_are_kept_or_dropped_as_asked(cfg: DatasetConfig, tmp_path: Path, policy: str, events: int) -> None:
    path = Path(str(cfg.archive))
    path.write_text(path.read_text(encoding="utf-8") + path.read_text(encoding="utf-8").splitlines()[1] + "\n")
    log = build(cfg.model_copy(update={"duplicates": policy}), tmp_path / "data")
    assert len(log.items_N) == events


def test_users_with_few_events_train_and_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("user,item,time\n1,1,1\n1,4,2\n2,1,1\n2,2,2\n2,3,3\n", encoding="utf-8")
    said: list[str] = []
    log = with_view(prepare(dataset("csv", archive=path), tmp_path, said.append), protocol("leave_last"), said.append)
    assert log.num_users == 2
    assert log.view.manifest["splits"]["test"]["users"] == 1
    assert log.clicks["val"].rows_R.tolist() == log.clicks["test"].rows_R.tolist() == [1]
    assert "1 users have under 3 events: they only train" in said


def test_click_candidates_are_the_target_and_items_never_seen(cfg: DatasetConfig, tmp_path: Path) -> None:
    log = build(cfg, tmp_path / "data", "leave_last", click_negatives=20)
    for split, back in (("val", 2), ("test", 1)):
        clicks = log.clicks[split]
        assert clicks.items_RC.shape == clicks.labels_RC.shape == (6, 21)
        assert clicks.ends_R.tolist() == (log.offsets_U1[1:] - back).tolist()
        for row, end, candidates, labels in zip(
            clicks.rows_R, clicks.ends_R, clicks.items_RC, clicks.labels_RC, strict=True
        ):
            seen = set(log.items_N[log.offsets_U1[row] : log.offsets_U1[row + 1]].tolist())
            assert candidates[labels == 1].tolist() == [log.items_N[end]]
            assert not seen & set(candidates[labels == 0].tolist())
            assert candidates.min() >= 1
    assert (log.clicks["val"].items_RC[:, 1:] != log.clicks["test"].items_RC[:, 1:]).any()
    again = build(cfg, tmp_path / "again", "leave_last", click_negatives=20)
    assert (again.clicks["test"].items_RC == log.clicks["test"].items_RC).all()
    other = build(cfg, tmp_path / "data", "leave_last", click_negatives=20, seed=1)
    assert (other.clicks["test"].items_RC != log.clicks["test"].items_RC).any()


def test_a_user_who_met_every_item_has_no_negatives_and_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    rows = ["1,1,1", "1,2,2", "1,3,3", "1,4,4", "2,1,1", "2,3,2", "2,2,3"]
    path.write_text("user,item,time\n" + "\n".join(rows) + "\n", encoding="utf-8")
    said: list[str] = []
    asked = protocol("leave_last", click_negatives=4)
    log = with_view(prepare(dataset("csv", archive=path), tmp_path, said.append), asked, said.append)
    assert log.clicks["test"].items_RC.tolist() == [[4, 0, 0, 0, 0], [2, 4, 4, 4, 4]]
    assert log.clicks["test"].labels_RC.sum() == 2
    assert "1 evaluated users saw every item and have no click negatives" in said


def test_the_manifest_names_no_place_of_the_raw_file(cfg: DatasetConfig, tmp_path: Path) -> None:
    log = build(cfg, tmp_path / "data")
    text = (log.folder / "manifest.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert json.loads(text)["settings"]["rating_column"] == "rating"
    assert "archive" not in log.manifest["settings"]


events_strategy = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=40)


@given(events=events_strategy, timed=st.booleans())
@settings(max_examples=60, deadline=None)
def test_repeats_are_what_stood_before(events: list[tuple[int, int, int]], timed: bool) -> None:
    users_N, items_N, times_N = (np.array(column, np.int64) for column in zip(*events, strict=True))
    keys = events if timed else [event[:2] for event in events]
    expected = [key in keys[:place] for place, key in enumerate(keys)]
    assert repeats(users_N, items_N, times_N if timed else None).tolist() == expected


@given(events=events_strategy, user_core=st.integers(0, 4), item_core=st.integers(0, 4))
@settings(max_examples=60, deadline=None)
def test_the_core_is_the_largest_part_that_holds(
    events: list[tuple[int, int, int]], user_core: int, item_core: int
) -> None:
    users_N, items_N, _ = (np.array(column, np.int64) for column in zip(*events, strict=True))
    left = list(range(len(events)))
    while True:  # one event at a time, in any order, ends at the same core
        bad = [
            k
            for k in left
            if sum(users_N[j] == users_N[k] for j in left) < user_core
            or sum(items_N[j] == items_N[k] for j in left) < item_core
        ]
        if not bad:
            break
        left.remove(bad[0])
    assert np.flatnonzero(core(users_N, items_N, user_core=user_core, item_core=item_core)).tolist() == left


@pytest.mark.parametrize("ids", [[5, -2, 5, 9], [10**15, 3, 10**15, -(10**17)], ["b", "a", "b", "ab"]])
def test_factorize_sorts_the_distinct_ids(ids: list[Any]) -> None:
    ids_N = np.array(ids, object if isinstance(ids[0], str) else np.int64)
    distinct, codes_N = factorize(ids_N)
    assert distinct.tolist() == sorted(set(ids))
    assert distinct[codes_N].tolist() == ids


def test_two_processes_that_start_together_build_once(cfg: DatasetConfig, tmp_path: Path) -> None:
    """The second waits for the first and takes its folder, log and view."""
    code = (
        "import json, sys, time; from pathlib import Path; from seqrec_cli.config.registry import config_class; "
        "from seqrec_cli.data import preprocess; from seqrec_cli.protocols.view.build import with_view; "
        "read = preprocess.pack; "
        "preprocess.pack = lambda *a, **k: (time.sleep(0.5), read(*a, **k))[1]; "
        "cfg = config_class('dataset', 'csv').from_plain(json.loads(sys.argv[1])); "
        "rules = config_class('protocol', 'leave_last').from_plain(json.loads(sys.argv[2])); "
        "print('imported', flush=True); sys.stdin.readline(); "
        "with_view(preprocess.prepare(cfg, Path(sys.argv[3]), print), rules, print)"
    )
    command = [
        sys.executable,
        "-c",
        code,
        cfg.model_dump_json(),
        protocol("leave_last").model_dump_json(),
        str(tmp_path / "data"),
    ]
    jobs = [
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for job in jobs:
        assert job.stdout.readline() == "imported\n"
    for job in jobs:
        job.stdin.write("go\n")
        job.stdin.flush()
    said = [job.communicate(timeout=60)[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0]
    assert sum("is built" in text for text in said) == 1
    (waited,) = [text for text in said if "is built" not in text]
    assert "another process is making it; waiting" in waited
    assert "is ready: nothing to do" in waited


def test_the_fingerprint_is_known_before_the_log_is_built(cfg: DatasetConfig, tmp_path: Path) -> None:
    before = preprocess.fingerprint_of(cfg, tmp_path / "data")
    assert before == build(cfg, tmp_path / "data").fingerprint == preprocess.fingerprint_of(cfg, tmp_path / "data")
    assert preprocess.fingerprint_of(dataset("csv", url="https://example.org/log.csv"), tmp_path / "data") is None

"""The order of ties, and what a view leaves on disk and under which name."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.migrations import migrated
from seqrec_cli.data.view import SPLITS
from seqrec_cli.protocols.view import store
from tests.data import dataset_helpers as helpers
from tests.protocols.asking import HISTORIES, asked, log_of, view_of
from tests.toylog import packed

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
    source = write_csv(tmp_path)
    cfg = helpers.dataset("csv", url=source.as_uri())
    first = helpers.build(cfg, tmp_path / "data", "leave_last", click_negatives=2)
    source.unlink()
    (tmp_path / "data" / "raw" / "log.csv").unlink()
    other = helpers.build(cfg, tmp_path / "data", "ratio", click_negatives=2)
    assert other.folder == first.folder
    assert other.fingerprint != first.fingerprint
    assert len(list((first.folder / "protocols").glob("[!.]*"))) == 2
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
    log = asked(log_of(), "leave_last", seen="keep", candidates="uniform:5")
    made = view_of(log)
    store.write(made, tmp_path / "view")
    read = store.read(tmp_path / "view", log)
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
    """The fingerprints are those that the version before gave the same file, whose text such a run's record tells."""
    text = {"time_unit": "s", "delimiter": ",", "header": True, "encoding": "utf-8", "missing": "keep"}
    cfg = helpers.dataset("csv", archive=write_csv(tmp_path), **text)
    log = helpers.build(cfg, tmp_path / "data", name, **settings)
    assert log.fits(former)
    assert log.fits(log.fingerprint)
    assert not helpers.build(cfg, tmp_path / "data", name, seen="keep", **settings).fits(former)


def test_the_record_of_such_a_run_is_read_as_the_text_its_fingerprint_is_of() -> None:
    """What it does not tell is completed by what was done then; what it tells stays."""
    now = helpers.dataset("csv", delimiter=",", header=True, encoding="utf-8", missing="keep")
    later = {*now.came_later, *now.as_before, "item_vectors", "engine", "memory"}
    then = {key: value for key, value in now.model_dump(mode="json").items() if key not in later}
    assert type(now).from_plain(migrated({"dataset": then})["dataset"]) == now


def test_labelled_rows_of_targets_that_are_left_out_are_left_out_too() -> None:
    log = log_of([[1, 2, 3, 4, 2], [5, 6, 7, 8], [9, 10, 11, 12]], times=[*range(13)])
    rows = {}
    for seen in ("remove", "keep"):
        found = view_of(asked(log, "positions", seen=seen))
        assert np.isin(found.clicks["test"].ends_R, found.test.ends_R).all()
        rows[seen] = found.clicks["test"].rows_R.tolist()
    assert (rows["remove"], rows["keep"]) == ([1, 2], [0, 1, 2])

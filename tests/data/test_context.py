"""The context of a request: logged with the target's row, and the hour and weekday of its time where asked for."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_helpers import build, dataset

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.catalog import Attribute, Catalog
from seqrec_cli.data.click_rows import PositionRows
from seqrec_cli.data.context import told_context, with_time_context
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.loader import PrefixRows, WindowRows, labelled_batches, target_batches
from seqrec_cli.data.sample import of_users
from seqrec_cli.data.splits import held_out
from seqrec_cli.models.contract import Recommender
from tests.toylog import batching, packed, random_histories

DEVICES = ("phone", "", "tablet", "phone", "desktop")
TIMES = (1_700_000_000, 1_700_050_000, 1_700_200_000, 1_700_300_000, 1_700_400_000)


def csv_log(folder: Path, **changes: object) -> PackedLog:
    rows = [f"u,{item},{time},{device}" for item, (time, device) in enumerate(zip(TIMES, DEVICES, strict=True), 1)]
    path = folder / "log.csv"
    path.write_text("\n".join(["user,item,time,device", *rows, "v,1,5,phone", "v,2,6,phone", "v,3,7,tablet"]) + "\n")
    return build(dataset("csv", archive=path, context_columns=["device"], **changes), folder, "leave_last")


def expected_time(time: int) -> list[int]:
    when = datetime.fromtimestamp(time, UTC)
    return [when.hour + 1, when.isoweekday()]


def test_logged_context_is_stored_with_each_event(tmp_path: Path) -> None:
    log = csv_log(tmp_path)
    assert log.catalog.context_attributes == (Attribute("device", 4, 1),)
    values = log.manifest["context_values"]["device"]
    stored = [("", *values)[code] for code in log.context_NF[:, 0]]
    assert stored == [*DEVICES, "phone", "phone", "tablet"]
    assert of_users(log, np.array([1])).context_NF.tolist() == log.context_NF[5:].tolist()
    assert Catalog.blank(log.catalog.facts()).context_attributes == log.catalog.context_attributes


def test_a_request_has_the_context_of_its_target(tmp_path: Path) -> None:
    log = csv_log(tmp_path, time_context=["weekday", "hour"])
    assert [a.name for a in log.catalog.context_attributes] == ["device", "hour", "weekday"]
    targets = held_out(log, "test")
    for picked_B, batch in target_batches(log, targets, max_length=10, batch_size=4):
        ends_B = targets.ends_R[picked_B]
        wanted = [[int(log.context_NF[end, 0]), *expected_time(int(log.times_N[end]))] for end in ends_B]
        assert batch.context_BF.tolist() == wanted
        assert batch.context_BF.dtype == torch.int64
    for _, batch in labelled_batches(log, "val", max_length=10, batch_size=4):
        assert batch.context_BF.shape == (2, 3)
    (batch,) = PrefixRows(log, 10, batching(4), negatives=1).epoch(0)
    wanted = {(int(log.context_NF[end, 0]), *expected_time(int(log.times_N[end]))) for end in (1, 2)}
    assert set(map(tuple, batch.context_BF.tolist())) == wanted


def test_a_window_has_the_context_of_its_events_and_of_its_last_target(tmp_path: Path) -> None:
    log = csv_log(tmp_path, time_context=["hour", "weekday"])
    rows = WindowRows(
        log,
        10,
        batching(4),
        window="last",
        stride=None,
        negatives=0,
        draws_by_row=False,
        device=torch.device("cpu"),
    )
    (batch,) = rows.epoch(0)
    assert batch.targets_BL.tolist() == [[2, 3]]
    expected = [[int(log.context_NF[event, 0]), *expected_time(int(log.times_N[event]))] for event in range(3)]
    assert batch.context_BLF.tolist() == [expected[:2]]
    assert batch.context_BF.tolist() == expected[2:]
    assert batch.request_times_B.tolist() == [TIMES[2]]


def test_the_time_of_a_request_is_told_only_where_asked_for_and_data_stay_the_same(tmp_path: Path) -> None:
    plain, timed = csv_log(tmp_path), csv_log(tmp_path, time_context=["hour"])
    assert plain.manifest["fingerprint"] == timed.manifest["fingerprint"]
    assert plain.fingerprint != timed.fingerprint  # what is asked is not the same
    assert plain.folder == timed.folder
    assert plain.time_context == ()

    class Reads(Recommender):
        reads_context = True

    assert not Reads(plain.catalog).sees_target_time
    assert Reads(timed.catalog).sees_target_time
    assert not Recommender(timed.catalog).sees_target_time


def test_rows_of_several_targets_have_the_context_of_each() -> None:
    plain = packed(random_histories(20, 50, 30), 50)
    log = with_time_context(replace(plain, times_N=plain.times_N * 45), ["hour", "weekday"])  # an event in 45 minutes
    for batch in PositionRows(log, 8, batching(30), negatives=2, device=torch.device("cpu")).epoch(0):
        assert batch.context_BF is None
        assert batch.context_BCF.shape == (*batch.candidates_BC.shape, 2)
        for row, column in batch.candidates_BC.nonzero().tolist():
            start = int(log.offsets_U1[batch.users_B[row] - 1])
            times = log.times_N[start:]
            first = int(np.flatnonzero(times == int(batch.times_BL[row, 0]))[0])  # the row's first event
            target = start + first + int(batch.ends_BC[row, column])
            assert batch.context_BCF[row, column].tolist() == expected_time(int(log.times_N[target]))


def test_context_may_be_told_instead(tmp_path: Path) -> None:
    log = csv_log(tmp_path, time_context=["weekday", "hour"])
    code = 1 + log.manifest["context_values"]["device"].index("tablet")
    assert told_context(log, {"device": "tablet"}, TIMES[1]).tolist() == [[code, *expected_time(TIMES[1])]]
    assert told_context(log, {}, None).tolist() == [[0, 0, 0]]
    assert told_context(packed([[1, 2, 3]], 3), {}, 5) is None
    for told, says in (
        ({"devise": "phone"}, r"context\.devise: .*did you mean 'device'.* \(have: device\)"),
        ({"hour": "3"}, r"context\.hour: the data have no such context"),
        ({"device": "fone"}, r"context\.device=fone: no such value; did you mean 'phone'"),
    ):
        with pytest.raises(SeqrecError, match=says):
            told_context(log, told, TIMES[1])


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SeqrecError, match=r"time_context=\['hour'\], but this log has no times"):
        with_time_context(packed([[1, 2, 3]], 3, times=False), ["hour"])
    log = csv_log(tmp_path, time_context=["hour"])
    with pytest.raises(SeqrecError, match="already has a context attribute 'hour'"):
        with_time_context(log, ["hour"])

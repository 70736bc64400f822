"""An audit names a planted leak with its number, and a clean log has none."""

from dataclasses import replace

import numpy as np
import pytest
from toylog import packed

from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.evaluation.audit.finding import Finding
from seqrec_cli.evaluation.audit.leaks import cold, copies, global_clock, leaks, repeated
from seqrec_cli.evaluation.audit.subject import Subject, blocks

CLEAN = [[1, 2, 3, 4, 5, 6], [2, 3, 4, 5, 6, 1], [3, 5, 1, 2, 4, 6], [6, 4, 2, 1, 3, 5], [5, 1, 6, 3, 2, 4]]


def timed(histories: list[list[int]], times: list[list[int]], num_items: int = 6) -> PackedLog:
    return replace(packed(histories, num_items), times_N=np.concatenate([np.array(row, np.int64) for row in times]))


def clean_times(histories: list[list[int]]) -> list[list[int]]:
    """Everybody's nth event is at the nth moment, a few seconds apart: nothing that trains is later than a request."""
    return [[1000 * nth + user for nth in range(len(history))] for user, history in enumerate(histories)]


def clean(histories: list[list[int]] = CLEAN) -> PackedLog:
    return timed(histories, clean_times(histories))


def named(found: list[Finding], name: str) -> Finding:
    return next(finding for finding in found if finding.name == name)


def test_a_clean_log_has_no_leak() -> None:
    found = leaks(Subject(clean(), "test"))
    assert {finding.name: finding.verdict for finding in found} == dict.fromkeys(
        ("clock", "future", "repeats", "duplicates", "copies", "cold_targets", "cold_users"), "ok"
    )


def test_training_events_after_a_request_are_counted() -> None:
    times = clean_times(CLEAN)
    times[4] = [6000 + 10 * nth for nth in range(6)]  # a whole user after everybody's requests
    found = global_clock(Subject(timed(CLEAN, times), "test"))
    assert found.verdict == "leak"
    assert found.numbers["requests_with_any"] == 4  # all but that user's own
    # 5 users x 4 training events; 4 of them are later than each of the 4 requests
    assert found.numbers["mean_share_of_training"] == pytest.approx(4 / 5 * 4 / 20)
    assert found.numbers["targets_first_trained_later"] == 0


def test_an_item_that_was_new_after_the_request_is_told_of() -> None:
    histories = [[1, 2, 3, 4], [7, 1, 2, 3], [2, 3, 1, 7]]  # 7 trains with user 1 alone; user 2 is asked for it
    times = [[0, 1000, 2000, 3000], [9000, 9100, 9200, 9300], [5, 1005, 2005, 3005]]
    found = global_clock(Subject(timed(histories, times, 7), "test"))
    assert found.numbers["targets_first_trained_later"] == pytest.approx(1 / 3)


def test_a_sample_of_the_training_times_still_tells_whether_any_is_later(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    histories = [(rng.permutation(30) + 1).tolist() for _ in range(40)]
    times = [np.sort(rng.integers(0, 10**6, 30)).tolist() for _ in range(40)]
    log = timed(histories, times, 30)
    whole = global_clock(Subject(log, "test")).numbers
    monkeypatch.setattr("seqrec_cli.evaluation.audit.leaks.MOST_SORTED", 200)
    sampled = global_clock(Subject(log, "test")).numbers
    assert sampled["requests_with_any"] == whole["requests_with_any"]
    assert 0 < whole["requests_with_any"] < 40
    assert sampled["mean_share_of_training"] == pytest.approx(whole["mean_share_of_training"], abs=0.02)


@pytest.mark.parametrize("events", [1, 7, 10**6])
def test_blocks_hold_whole_users_and_every_event_once(events: int) -> None:
    log = packed([[1, 2, 3], [], [4, 5], [1, 2, 3, 4, 5, 6]], 6)
    found = list(blocks(log, events))
    assert [block.start for block in found[1:]] == [block.end for block in found[:-1]]
    assert sum(block.end - block.start for block in found) == 11
    for block in found:
        assert block.start == log.offsets_U1[block.first_row]
        assert block.end == log.offsets_U1[block.last_row]


def test_targets_of_the_history_are_counted() -> None:
    histories = [row[:] for row in CLEAN]
    histories[1][-1] = histories[1][0]  # the test target repeats the first event
    histories[2][-2] = histories[2][1]  # the validation target: not asked about here
    log = clean(histories)
    found = named(repeated(Subject(log, "test")), "repeats")
    assert found.verdict == "leak"
    assert found.numbers["targets_seen_before"] == 1
    assert found.numbers["share_of_events"] == pytest.approx(2 / 30)
    assert named(repeated(Subject(log, "val")), "repeats").numbers["targets_seen_before"] == 1


def test_duplicates_across_the_split_are_counted_and_others_told_apart() -> None:
    histories, times = [row[:] for row in CLEAN], clean_times(CLEAN)
    histories[0][3:] = [4, 4, 4]  # three events of one moment: one trains, both held-out events are its duplicates
    times[0][4] = times[0][5] = times[0][3]
    found = named(repeated(Subject(timed(histories, times), "test")), "duplicates")
    assert (found.verdict, found.numbers) == ("leak", {"targets_in_training": 1, "events": 2})
    histories, times = [row[:] for row in CLEAN], clean_times(CLEAN)
    histories[0][1], times[0][1] = histories[0][0], times[0][0]  # both train
    found = named(repeated(Subject(timed(histories, times), "test")), "duplicates")
    assert (found.verdict, found.numbers) == ("look", {"targets_in_training": 0, "events": 1})


def test_a_copied_user_who_goes_on_tells_the_target() -> None:
    histories = [*CLEAN, [*CLEAN[3], 1, 2]]  # the copy trains on the whole history of user 3, the target too
    found = copies(Subject(packed(histories, 6), "test"))
    assert (found.verdict, found.numbers) == ("leak", {"targets_told_by_a_copy": 1, "users_with_a_twin": 0})


def test_twins_are_told_of_but_tell_no_target() -> None:
    found = copies(Subject(packed([*CLEAN, CLEAN[3], CLEAN[3]], 6), "test"))
    assert (found.verdict, found.numbers) == ("look", {"targets_told_by_a_copy": 0, "users_with_a_twin": 3})


def test_short_histories_alike_by_chance_are_no_copies() -> None:
    found = copies(Subject(packed([[1, 2, 3], [1, 2, 3], [1, 2, 3, 4, 5]], 6), "test"))
    assert found.verdict == "ok"


def test_cold_targets_and_users_are_counted() -> None:
    histories = [*CLEAN, [1, 2, 3, 7]]
    targets, users = cold(Subject(packed(histories, 8), "test"))
    assert (targets.verdict, targets.numbers["count"]) == ("look", 1)
    assert (users.verdict, users.numbers["count"]) == ("ok", 0)


@pytest.mark.parametrize(("kind", "times"), [("none", None), ("ranks", [1, 2, 3, 4, 5, 6])])
def test_a_log_without_a_clock_says_what_it_cannot_tell(kind: str, times: list[int] | None) -> None:
    log = packed(CLEAN, 6, times=False) if times is None else timed(CLEAN, [times] * len(CLEAN))
    found = leaks(Subject(log, "test"))
    assert named(found, "clock").numbers["kind"] == kind
    assert [f.verdict for f in found] == ["unknown", "unknown", "ok", "unknown", "ok", "ok", "ok"]


def test_a_clock_of_days_and_times_far_outside_are_told_of() -> None:
    rng = np.random.default_rng(1)
    histories = [(rng.permutation(50) + 1).tolist() for _ in range(60)]
    days = [np.sort(rng.integers(15_000, 15_300, 50) * 86_400).tolist() for _ in range(60)]
    clock = leaks(Subject(timed(histories, days, 50), "test"))[0]
    assert (clock.verdict, clock.numbers) == ("look", {"kind": "real", "unit": "day", "outliers": 0})
    days[0][0] = -(10**9)
    days[1][-1] = 10**11
    clock = leaks(Subject(timed(histories, days, 50), "test"))[0]
    assert (clock.verdict, clock.numbers["outliers"]) == ("look", 2)

"""Every protocol: what trains and what is held out, worked by hand; and what cannot be asked."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from seqrec_cli.config.errors import SeqrecError
from tests.protocols.asking import HISTORIES, asked, log_of, questions, training, view_of
from tests.toylog import packed


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

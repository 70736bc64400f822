"""The log of an online experiment, read: what counts, what does not, and what is told of it."""

from pathlib import Path
from typing import Any

import pytest

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.exposure_log import EXPOSURE, FEEDBACK, PLAN, LeftOut, line, read_log

ARMS = {"arms": ["old", "new"], "shares": [0.5, 0.5], "salt": "s"}


def plan(name: str = "p", **other: Any) -> bytes:
    return line(PLAN, 0.0, plan=name, **{**ARMS, **other})


def shown(number: int, user: Any, arm: str, **other: Any) -> bytes:
    facts = {"id": f"e{number}", "plan": "p", "user": user, "arm": arm, "items": [1, 2, 3], **other}
    return line(EXPOSURE, float(facts.pop("time", number)), **facts)


def told(time: float, item: Any = 1, event: str = "click", **other: Any) -> bytes:
    return line(
        FEEDBACK, time, **{"exposure": None, "user": None, "item": item, "event": event, "value": None, **other}
    )


def written(path: Path, *lines: bytes) -> Path:
    path.write_bytes(b"".join(lines))
    return path


def left(**counts: int) -> LeftOut:
    return LeftOut(**counts)


def test_feedback_is_counted_by_the_user_of_its_exposure(tmp_path: Path) -> None:
    log = read_log(
        written(
            tmp_path / "a.jsonl",
            plan(),
            told(1.5, exposure="e1"),  # a line may stand before the one that it is about
            shown(1, 42, "old"),
            shown(2, "42", "old"),  # the same user
            shown(3, "b", "new"),
            told(4, "2", exposure="e1", event="buy", value=2.5),
            told(5, 3, exposure="e3", event="buy", user="b", value=4),
            told(6, 1, exposure="e3"),
        )
    )
    assert log.arms == ("old", "new")
    assert log.arm_U.tolist() == [0, 1]
    assert log.exposures_U.tolist() == [2, 1]
    assert {event: counts.tolist() for event, counts in log.counts_U.items()} == {"buy": [1, 1], "click": [1, 1]}
    assert {event: values.tolist() for event, values in log.values_U.items()} == {"buy": [2.5, 4]}
    assert log.left_out == left()
    assert (log.dealt_A.tolist(), log.expected_A.tolist()) == ([1, 1], [1, 1])
    assert (log.files, log.began, log.ended) == (1, 1, 3)


def test_a_user_s_feedback_is_to_the_latest_list_that_had_the_item(tmp_path: Path) -> None:
    log = read_log(
        written(
            tmp_path / "a.jsonl",
            plan(),
            shown(1, "a", "old"),
            shown(2, "a", "old"),
            shown(3, "a", "old", items=[9]),
            shown(4, "b", "new"),
            told(3.5, user="a"),  # to e2
            told(3.6, user="a", exposure="e2"),  # which is the same click told again
            told(3.7, user="a", exposure="e1"),  # and this another
            told(0.5, user="b"),  # before anything was shown to b
            told(5, user="b", item=9),  # which b was not shown
            told(5, user="c"),
        )
    )
    assert log.counts_U["click"].tolist() == [2, 0]
    assert log.left_out == left(duplicates=1, unshown=3)


def test_what_no_rate_counts_is_counted_apart(tmp_path: Path) -> None:
    log = read_log(
        written(
            tmp_path / "a.jsonl",
            plan(),
            shown(1, "a", "old"),
            shown(1, "a", "old"),  # the file was copied into the folder twice, say
            shown(2, "b", "new"),
            shown(3, None, "old"),
            told(4, exposure="e3"),
            told(4, exposure="e9"),
            told(4, exposure="e1", item=7),
            told(4, exposure="e1", user="b"),
            told(4, exposure="e1"),
            told(5, exposure="e1"),
            told(6, exposure="e1", event="buy"),
            shown(7, "a", "third"),  # an arm of no plan
            shown(8, "a", "old", plan="q"),
            b'{"kind":"other"}\n{"time": 3}\n[1]\n',
            b'{"kind":"feedback","time":1}\n',
        )
    )
    assert log.exposures_U.tolist() == [1, 1]
    assert {event: counts.tolist() for event, counts in log.counts_U.items()} == {"buy": [1, 0], "click": [1, 0]}
    assert log.left_out == left(repeated=1, nobody=1, nobody_feedback=1, unshown=2, others=1, duplicates=1, foreign=6)


def test_users_of_two_arms_are_in_neither_and_are_told(tmp_path: Path) -> None:
    log = read_log(
        written(
            tmp_path / "a.jsonl",
            plan(),
            plan("q", salt="t", shares=[0.8, 0.2]),
            plan("r", arms=["unused", "old"]),
            shown(1, "a", "old"),
            shown(3, "b", "new", plan="q"),
            shown(2, "b", "old"),
            shown(4, "c", "new", plan="q"),
            told(5, user="b"),
            told(5, user="c"),
        )
    )
    assert log.arm_U.tolist() == [0, 1]
    assert log.counts_U["click"].tolist() == [0, 1]
    assert log.left_out == left(crossed=1, crossed_exposures=2, crossed_feedback=1)
    assert list(log.plans) == ["p", "q"]
    assert log.dealt_A.tolist() == [2, 1]  # b began in the first plan's first arm
    assert log.expected_A.tolist() == pytest.approx([2 * 0.5 + 0.8, 2 * 0.5 + 0.2])


@pytest.mark.parametrize("cut", [1, 3, 12, 25, 60])
def test_a_torn_line_takes_no_other_with_it(tmp_path: Path, cut: int) -> None:
    whole = [plan(), shown(1, "a", "old"), shown(2, "b", "new"), told(3, exposure="e2")]
    torn = shown(4, "a", "old")[:cut]
    for nth, lines in enumerate(([*whole, torn], [whole[0], torn, *whole[1:]], [whole[0], torn, b"\n", *whole[1:]])):
        log = read_log(written(tmp_path / f"{nth}.jsonl", *lines))
        assert log.left_out == left(torn=1)
        assert log.exposures_U.tolist() == [1, 1]
        assert log.counts_U["click"].tolist() == [0, 1]
    text = shown(4, 'x{"kind":"exposure"}\n', "old")  # what users are called cannot be taken for a line
    log = read_log(written(tmp_path / "odd.jsonl", *whole, text))
    assert (log.left_out, len(log.arm_U)) == (left(), 3)


def test_a_folder_is_read_whole(tmp_path: Path) -> None:
    written(tmp_path / "a.jsonl", plan(), shown(1, "a", "old"), told(3, exposure="e2"))
    written(tmp_path / "b.jsonl", plan(), shown(2, "b", "new"), shown(3, "a", "old"), b'{"kind":"expo')
    written(tmp_path / "c.txt", shown(4, "c", "old"))
    log = read_log(tmp_path)
    assert (log.files, log.exposures_U.tolist(), log.counts_U["click"].tolist()) == (2, [2, 1], [0, 1])
    assert log.left_out == left(torn=1)
    assert list(log.plans) == ["p"]  # every process tells the plan


def test_what_is_no_log_is_refused_in_a_line(tmp_path: Path) -> None:
    for path, says in (
        (tmp_path / "none", "no such file or folder"),
        (tmp_path, "no .jsonl file in this folder"),
        (written(tmp_path / "x.csv", b"a,b\n1,2\n"), "no online experiment in it"),
        (written(tmp_path / "y.log", plan()), "nothing was shown to a user yet"),
    ):
        with pytest.raises(SeqrecError, match=says) as refused:
            read_log(path)
        assert "\n" not in str(refused.value)
        assert str(path) in str(refused.value)

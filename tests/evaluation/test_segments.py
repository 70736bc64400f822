"""Parts of what was asked, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.catalog import Attribute, Catalog
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.evaluation.paired import Stored
from seqrec_cli.evaluation.segments import Segment, needs_log, segments
from seqrec_cli.evaluation.stored import StoredClicks, StoredRanks


def asked(users: list[int], items: list[int], histories: list[int], *, clicks: bool = False) -> Stored:
    """One target a request; with clicks, beside each the item 9 that was not clicked."""
    users_T, items_T, histories_T = (np.array(each) for each in (users, items, histories))
    numbers_T, ones_T = np.arange(len(users)), np.ones(len(users))
    ranks = StoredRanks(users_T, numbers_T, items_T, ones_T, 9 * ones_T, histories_T)
    if not clicks:
        return Stored(ranks, None)
    items_N = np.stack([items_T, np.full(len(users), 9)], axis=1).ravel()
    users_N, numbers_N, histories_N = (np.repeat(each, 2) for each in (users_T, numbers_T, histories_T))
    return Stored(
        ranks, StoredClicks(users_N, numbers_N, items_N, histories_N, (items_N != 9) * 1, np.zeros(len(items_N)))
    )


def log() -> PackedLog:
    """Users train on all but their last two events: [1, 1, 2], [2], and none of a third, whose only events are held."""
    histories = [[1, 1, 2, 3, 4], [2, 5, 5], [6, 6, 6]]
    offsets_U1 = np.array([0, 5, 8, 11])
    gender = Attribute("gender", 3, 1)
    values = {"gender": np.array([[0], [2], [1], [0]], np.int32)}
    catalog = Catalog(3, 9, (), (gender,), {}, values)
    manifest = {"user_attribute_values": {"gender": ["F", "M"]}}
    return PackedLog(offsets_U1, np.concatenate(histories).astype(np.int32), None, None, catalog, manifest=manifest)


def parts(found: list[Segment]) -> list[tuple[str, list[int], list[int] | None]]:
    return [
        (
            each.label,
            np.flatnonzero(each.targets_T).tolist(),
            None if each.candidates_N is None else np.flatnonzero(each.candidates_N).tolist(),
        )
        for each in found
    ]


def test_equal_histories_stay_together() -> None:
    run = asked(list(range(1, 9)), [7] * 8, [9, 1, 2, 2, 2, 2, 5, 8])
    assert parts(segments("history:4", run, None)) == [
        ("1 to 2 events before", [1, 2, 3, 4, 5], None),
        ("5 events before", [6], None),
        ("8 to 9 events before", [0, 7], None),
    ]
    eight = segments("history:4", asked(list(range(1, 9)), [7] * 8, list(range(8))), None)
    assert [int(each.targets_T.sum()) for each in eight] == [2, 2, 2, 2]


def test_candidates_go_with_their_request() -> None:
    run = asked([1, 2, 3], [1, 2, 6], [3, 1, 1], clicks=True)
    assert parts(segments("history:2", run, None)) == [
        ("1 events before", [1, 2], [2, 3, 4, 5]),
        ("3 events before", [0], [0, 1]),
    ]
    assert parts(segments("popularity:2", run, log())) == [
        ("1 to 2 training events of the target", [0, 1, 2], [0, 1, 2, 3, 4, 5]),
    ]
    other = asked([1, 2, 3], [1, 5, 6], [3, 1, 1], clicks=True)
    assert parts(segments("popularity:3", other, log())) == [
        ("0 training events of the target", [1], [2, 3]),
        ("1 training events of the target", [2], [4, 5]),
        ("2 training events of the target", [0], [0, 1]),
    ]
    first = segments("history:2", run, None)[1].of(run)
    assert first.ranks.users_T.tolist() == [1]
    assert first.clicks.items_N.tolist() == [1, 9]


def test_a_request_without_a_click_is_in_no_part_of_items() -> None:
    run = asked([1, 2], [1, 5], [3, 1], clicks=True)
    none = replace(run.clicks, labels_N=np.array([1, 0, 0, 0]))
    found = parts(segments("cold", Stored(run.ranks, none), log()))
    assert found == [("cold targets", [1], []), ("warm targets", [0], [0, 1])]


def test_cold_targets_and_users() -> None:
    run = asked([1, 2, 3], [3, 2, 6], [3, 1, 1], clicks=True)
    assert parts(segments("cold", run, log())) == [
        ("cold targets", [0], [0, 1]),
        ("warm targets", [1, 2], [2, 3, 4, 5]),
    ]
    assert parts(segments("cold_users", run, log())) == [("warm users", [0, 1, 2], [0, 1, 2, 3, 4, 5])]


def test_attributes_of_users() -> None:
    run = asked([1, 2, 3], [3, 2, 6], [3, 1, 1], clicks=True)
    assert parts(segments("user.gender", run, log())) == [
        ("gender none", [2], [4, 5]),
        ("gender F", [1], [2, 3]),
        ("gender M", [0], [0, 1]),
    ]
    with pytest.raises(SeqrecError, match=r"segments=user.gendre: .*did you mean 'gender'.*have: gender"):
        segments("user.gendre", run, log())


def test_rare_values_are_one_part() -> None:
    users = list(range(1, 31))
    catalog = Catalog(30, 9, (), (Attribute("city", 31, 1),), {}, {"city": np.arange(31, dtype=np.int32)[:, None]})
    many = replace(log(), catalog=catalog, manifest={"user_attribute_values": {"city": [f"c{n}" for n in range(30)]}})
    found = parts(segments("user.city", asked(users, [1] * 30, [1] * 30), many))
    assert len(found) == 12
    assert found[-1][0] == "19 other values of city"
    assert len(found[-1][1]) == 19


def test_which_parts_need_the_data() -> None:
    kinds = ("history:4", "popularity:3", "cold", "cold_users", "user.gender")
    assert [needs_log(kind) for kind in kinds] == [False, True, True, True, True]

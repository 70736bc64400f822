import numpy as np

from seqrec_cli.data.negatives import SeenItems, draw_unseen
from tests.toylog import packed, random_histories


def test_seen_is_exact_against_sets() -> None:
    histories = random_histories(20, 30, 15)
    log = packed(histories, 30)
    seen = SeenItems.of(log.offsets_U1, log.items_N, 30)
    for row, history in enumerate(histories):
        every = np.arange(1, 31)
        assert seen.contains(np.full(30, row), every).tolist() == [i in set(history) for i in every]
        assert seen.unseen(row).tolist() == sorted(set(range(1, 31)) - set(history))


def test_seen_before_an_end_forgets_later_events() -> None:
    log = packed([[1, 2, 3], [4, 5, 1]], 5)
    seen = SeenItems.of(log.offsets_U1, log.items_N, 5, ends_U=np.array([1, 5]))
    assert seen.contains(np.array([0, 0, 1, 1, 1]), np.array([1, 2, 4, 5, 1])).tolist() == [
        True,
        False,
        True,
        True,
        False,
    ]


def test_draws_are_unseen_and_uniform() -> None:
    log = packed([[1, 2, 3, 4], [5, 6, 7]], 8)
    seen = SeenItems.of(log.offsets_U1, log.items_N, 8)
    drawn_RK = draw_unseen(np.array([0, 1]), 8000, seen, rng=np.random.default_rng(0))
    for row, unseen in enumerate([[5, 6, 7, 8], [1, 2, 3, 4, 8]]):
        values, counts = np.unique(drawn_RK[row], return_counts=True)
        assert values.tolist() == unseen
        assert np.abs(counts / 8000 - 1 / len(unseen)).max() < 0.02


def test_nearly_everything_seen_is_still_found_and_all_seen_gives_none() -> None:
    log = packed([list(range(1, 1000)), list(range(1, 1001))], 1000)
    seen = SeenItems.of(log.offsets_U1, log.items_N, 1000)
    drawn_RK = draw_unseen(np.array([0, 1]), 5, seen, rng=np.random.default_rng(0))
    assert drawn_RK.tolist() == [[1000] * 5, [0] * 5]

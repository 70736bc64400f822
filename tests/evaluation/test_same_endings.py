"""Users with the same last events and other lists: planted models whose answers depend on one thing alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from toylog import packed

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import EvaluationConfig
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.evaluation.audit.perturbed import Measuring
from seqrec_cli.evaluation.audit.same_endings import Compared, same_endings
from seqrec_cli.models.contract import Recommender
from seqrec_cli.training.precision import Precision

ITEMS = 60
EVALUATION = EvaluationConfig(
    cutoffs=(10,),
    batch_size=8,
    memory_mb=1,
    ranked_users=None,
    beyond_accuracy=False,
    test="none",
    baselines=False,
)
HOW = Measuring(EVALUATION, Precision(torch.device("cpu"), "fp32"), 20, ("mrr",), 1, 0)


class Told(Recommender):
    """Scores are random numbers that depend on the `user`, on the `first` event, or on the `last` one."""

    def __init__(self, log: PackedLog, by: str) -> None:
        super().__init__(log.catalog)
        self.by = by
        generator = torch.Generator().manual_seed(0)
        self.table = torch.randn(max(ITEMS, log.num_users) + 1, ITEMS + 1, generator=generator)

    def score_corpus(self, batch: Batch) -> Tensor:
        last_B = (batch.lengths_B - 1).clamp(min=0)[:, None]
        first_B = batch.items_BL[:, 0]
        of_B = {"user": batch.users_B, "first": first_B, "last": batch.items_BL.gather(1, last_B)[:, 0]}
        return self.table[of_B[self.by]]


def log() -> PackedLog:
    """30 users: validation is after 5 events, whose last two are one of three pairs, and whose first is their own."""
    rng = np.random.default_rng(0)
    pairs = [[50, 51], [52, 51], [54, 55]]
    return packed([[user + 1, *(rng.permutation(9)[:2] + 40), *pairs[user % 3], 56, 57] for user in range(30)], ITEMS)


def asked(by: str, endings: tuple[int, ...] = (1, 2), how: Measuring = HOW, given: PackedLog | None = None) -> dict:
    found = same_endings((by, Told(given or log(), by)), given or log(), "val", endings=endings, how=how)
    return {row["events"]: row for row in found.numbers.get("endings", [])} | {
        "verdict": found.verdict,
        "text": found.found,
    }


@pytest.mark.parametrize(
    ("by", "natural", "planted", "history", "user"),
    [
        ("user", 1.0, 1.0, 0.0, 1.0),
        ("first", 1.0, 1.0, 1.0, 0.0),
        ("last", 0.0, 0.0, 0.0, 0.0),
    ],
)
def test_each_form_tells_what_alone_speaks(
    by: str, natural: float, planted: float, history: float, user: float
) -> None:
    found = asked(by)
    for k, groups in ((1, 2), (2, 3)):  # two pairs end with the same item
        row = found[k]
        assert row["groups"] == groups
        assert row["natural"]["users"] == 30
        shares = [row[form]["differ"] for form in ("natural", "planted", "history", "user")]
        assert shares == [natural, planted, history, user]
    assert found["verdict"] == ("look" if by == "last" else "ok")
    assert "by user alone" in found["text"]


def test_items_in_common_and_partners_by_hand() -> None:
    lists = np.array([[1, 2, 3], [3, 2, 1], [1, 2, 4], [5, 6, 7], [1, 2, 0], [2, 1, 0]])
    found = Compared.of(lists, np.array([0, 0, 0, 1, 2, 2]))  # the fourth has nobody to compare with
    assert found.users == 5
    assert found.common == pytest.approx((3 + 2 + 2 + 2 + 2) / 5)
    assert found.differ == pytest.approx(2 / 5)
    assert Compared.of(lists[:1], np.zeros(1, int)) == Compared(0, None, None)
    assert Compared.of(lists[:0], np.zeros(0, int)) == Compared(0, None, None)


def test_seen_items_of_the_ending_alone_leave_the_lists() -> None:
    """A model that puts the ending first of all: removed, its lists have ten other items, and the same ones."""
    given = log()
    model = Told(given, "last")
    model.table = torch.arange(ITEMS + 1.0).expand(ITEMS + 1, -1)
    for seen, common in (("remove", 10.0), ("keep", 10.0)):
        of = replace(given, view=replace(given.view, seen=seen))  # type: ignore[type-var]
        found = same_endings(("last", model), of, "val", endings=(2,), how=HOW).numbers["endings"][0]
        assert found["planted"]["common"] == common
        assert found["planted"]["users"] == 8 * 30


def test_longer_endings_than_histories_and_fewer_users() -> None:
    assert asked("user", (9,))["verdict"] == "unknown"
    few = replace(HOW, evaluation=EVALUATION.model_copy(update={"ranked_users": 15}))
    row = asked("user", (2,), few)[2]
    assert row["natural"]["users"] == 10  # whole groups of ten
    assert row["groups"] == 1


def test_the_seed_draws_the_users() -> None:
    first, again, other = (asked("first", (2,), replace(HOW, seed=seed))[2]["planted"]["common"] for seed in (0, 0, 1))
    assert first == again != other


def test_scores_that_are_no_numbers_are_refused() -> None:
    model = Told(log(), "last")
    model.table = torch.full_like(model.table, torch.nan)
    with pytest.raises(SeqrecError, match="NaN"):
        same_endings(("last", model), log(), "val", endings=(1,), how=HOW)

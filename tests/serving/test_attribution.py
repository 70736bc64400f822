"""What events weighed: leaving out and integrated gradients by hand, and the deletion test by hand."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.histories import Histories, held_out_histories, logged_histories
from seqrec_cli.data.splits import held_out
from seqrec_cli.models.contract import Recommender, SequenceEncoder
from seqrec_cli.serving.attribution.deletion import Deletion, delete_events, faithfulness, summary
from seqrec_cli.serving.attribution.gradients import Path, integrated_gradients
from seqrec_cli.serving.attribution.mattering import AS_USUAL, which_events_mattered
from seqrec_cli.serving.attribution.methods import How, attribute
from seqrec_cli.serving.attribution.removal import leave_one_out, scores_without, without
from seqrec_cli.serving.recommending import Recommending
from seqrec_cli.serving.requests import Request
from seqrec_cli.training.precision import Precision

PATH = Path(gap=0.01, points=256)
CPU = Precision(torch.device("cpu"), "fp32")
ITEMS = torch.tensor([3, 9])


class Sums(SequenceEncoder):
    """An encoder that adds up its events' vectors, each weighed by its place: scores are linear in every event.

    It reads `order`, so that a test sees places move when an event before them is left out."""

    embeds_events = True

    def __init__(self, catalog, bias: float = 0.0) -> None:  # type: ignore[no-untyped-def]
        super().__init__(catalog)
        generator = torch.Generator().manual_seed(3)
        self.table = torch.nn.Parameter(torch.randn(catalog.num_items + 1, 4, generator=generator))
        self.bias = bias

    def encode(self, batch: Batch) -> torch.Tensor:
        events_BLD = batch.present(self.table[batch.items_BL]) * batch.mask_BL[..., None]
        return events_BLD.cumsum(1) + self.bias

    def item_table(self) -> torch.Tensor:
        return self.table


@pytest.fixture
def recommending(saved_log) -> Callable[..., Recommending]:  # type: ignore[no-untyped-def]
    def made(model: Recommender, max_length: int = 8) -> Recommending:
        return Recommending(model, saved_log, name="sums", max_length=max_length, precision=CPU)

    return made


def row(items: list[int], times: list[int] | None = None) -> Batch:
    return Batch(
        users_B=torch.tensor([1]),
        items_BL=torch.tensor([items]),
        lengths_B=torch.tensor([len(items)]),
        times_BL=None if times is None else torch.tensor([times]),
        request_times_B=None if times is None else torch.tensor([times[-1] + 5]),
        context_BLF=torch.tensor([[[item, 0] for item in items]]),
    )


def test_events_left_out_take_all_that_is_theirs_with_them() -> None:
    kept = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    found = without(row([7, 8, 9], [10, 20, 30]), kept)
    assert found.items_BL.tolist() == [[7, 9, 0], [0, 0, 0], [7, 8, 9]]
    assert found.lengths_B.tolist() == [2, 0, 3]
    assert found.times_BL is not None
    assert found.times_BL.tolist() == [[10, 30, 0], [0, 0, 0], [10, 20, 30]]
    assert found.request_times_B is not None
    assert found.request_times_B.tolist() == [35, 35, 35]  # asked at the same moment
    assert found.context_BLF is not None
    assert found.context_BLF[0].tolist() == [[7, 0], [9, 0], [0, 0]]
    assert found.users_B.tolist() == [1, 1, 1]


def test_leaving_out_is_the_score_less_the_score_without(saved_log) -> None:  # type: ignore[no-untyped-def]
    model = Sums(saved_log.catalog).eval()
    weights_LC, scores_C = leave_one_out(model, row([4, 5, 4]), ITEMS, rows_at_once=2)
    table = model.table.detach()
    for place, item in enumerate([4, 5, 4]):
        torch.testing.assert_close(weights_LC[place], table[ITEMS] @ table[item])
    torch.testing.assert_close(scores_C, weights_LC.sum(0))
    one, alone = leave_one_out(model, row([6]), ITEMS, rows_at_once=64)  # without it the history is empty
    torch.testing.assert_close(one[0], alone)


def test_integrated_gradients_of_a_linear_score_are_its_terms(saved_log) -> None:  # type: ignore[no-untyped-def]
    model = Sums(saved_log.catalog, bias=0.5).eval()
    found = integrated_gradients(model, row([4, 5, 4]), ITEMS, path=PATH, rows_at_once=7)
    table = model.table.detach()
    torch.testing.assert_close(found.weights_LC, table[torch.tensor([4, 5, 4])] @ table[ITEMS].T)
    torch.testing.assert_close(found.baselines_C, 0.5 * table[ITEMS].sum(1))
    assert found.points == 16
    assert found.gaps_C.max() < 1e-6


def test_integrated_gradients_of_a_product_are_halved(saved_log) -> None:  # type: ignore[no-untyped-def]
    """F(s) = s_1 a s_2 b has dF/ds_1 = a b alpha on the path, whose integral is a b / 2 for both events."""

    class Product(Sums):
        def encode(self, batch: Batch) -> torch.Tensor:
            return batch.present(self.table[batch.items_BL]).cumprod(1)

    model = Product(saved_log.catalog).eval()
    found = integrated_gradients(model, row([4, 5]), ITEMS, path=PATH, rows_at_once=64)
    table = model.table.detach()
    whole_C = (table[4] * table[5]) @ table[ITEMS].T
    torch.testing.assert_close(found.weights_LC, 0.5 * whole_C.expand(2, -1))


def test_a_path_that_turns_near_the_baseline_is_followed(saved_log) -> None:  # type: ignore[no-untyped-def]
    """A layer norm of the sum is all but constant along the path, save near its start: all still adds up."""

    class Normed(Sums):
        def encode(self, batch: Batch) -> torch.Tensor:
            return torch.nn.functional.layer_norm(super().encode(batch), (4,))

    model = Normed(saved_log.catalog).eval()
    found = integrated_gradients(model, row([4, 5, 6]), ITEMS, path=Path(gap=1e-3, points=512), rows_at_once=64)
    torch.testing.assert_close(found.weights_LC.sum(0), found.scores_C - found.baselines_C, rtol=2e-3, atol=1e-3)
    with pytest.raises(SeqrecError, match=r"miss the score minus its baseline by .* with 2 points \(gap=0.001 is"):
        integrated_gradients(model, row([4, 5, 6]), ITEMS, path=Path(gap=1e-3, points=2), rows_at_once=64)


def test_auto_takes_attention_where_there_is_some_and_leaves_out_elsewhere(saved_log, recommending) -> None:  # type: ignore[no-untyped-def]
    class Attending(Sums):
        attention_is_shares = True

        def attention(self, batch: Batch, items_BC: torch.Tensor) -> torch.Tensor:
            return (batch.items_BL[..., None] / 100 + 0 * items_BC[:, None]).float()

    asked = logged_histories(saved_log, np.array([int(np.diff(saved_log.offsets_U1).argmax())])).own()
    found = attribute(recommending(Attending(saved_log.catalog)), asked, [3], how=AS_USUAL)
    assert (found.method, found.scale) == ("attention", "normalised")
    np.testing.assert_allclose(found.weights_LC[:, 0], asked.items_N[-8:] / 100, rtol=1e-6)
    plain = attribute(recommending(Sums(saved_log.catalog)), asked, [3], how=AS_USUAL)
    assert (plain.method, plain.scale, plain.baselines_C) == ("leave_one_out", "raw", None)
    for method, says in (("attention", "model=sums has no attention"), ("integrated_gradients", "no gradient to")):
        model = Sums(saved_log.catalog)
        model.embeds_events = False
        with pytest.raises(SeqrecError, match=says):
            attribute(recommending(model), asked, [3], how=How(method, PATH))  # type: ignore[arg-type]


def test_a_request_is_told_in_its_own_ids(saved_log, recommending) -> None:  # type: ignore[no-untyped-def]
    asking = recommending(Sums(saved_log.catalog), 3)
    request = Request(None, ["104", "nobody", "101", "102", "103"], [5, 6, 7, 8, 9], None, {}, 1, None)
    (found,) = which_events_mattered(asking, request, ["110"])
    assert [event.item for event in found.events] == [101, 102, 103]  # of the three that are read
    assert [event.time for event in found.events] == [7, 8, 9]
    table = asking.model.table.detach()
    assert [event.weight for event in found.events] == pytest.approx((table[2:5] @ table[11]).tolist(), rel=1e-5)
    assert found.score == pytest.approx(float(table[2:5].sum(0) @ table[11]), rel=1e-5)
    heaviest = found.shown(2)
    assert [abs(event.weight) for event in heaviest] == sorted((abs(e.weight) for e in found.events), reverse=True)[:2]
    by_time = found.shown(2, "time")
    assert sorted(event.place for event in heaviest) == [event.place for event in by_time]
    with pytest.raises(SeqrecError, match="popularity answers and no event mattered"):
        which_events_mattered(asking, replace(request, history=["x"], times=[1]), ["110"])
    with pytest.raises(SeqrecError, match="item=999: the data have no such item"):
        which_events_mattered(asking, request, ["999"])


def test_the_deletion_test_by_hand(saved_log, recommending) -> None:  # type: ignore[no-untyped-def]
    asking, draws = recommending(Sums(saved_log.catalog)), 4
    items = np.array([4, 5, 6, 7, 8], np.int64)
    asked = Histories(np.array([1]), items, np.array([0]), np.array([5]))
    terms = (asking.model.table[4:9] @ asking.model.table[9]).detach().numpy()
    weights = np.array([0.1, -5.0, 0.2, 3.0, 0.0], np.float32)
    rng = np.random.default_rng(7)
    drawn = [rng.choice(np.array([2, 0, 4]), 2, replace=False) for _ in range(draws)]
    found = delete_events(asking, asked, 9, weights_L=weights, removed=2, draws=draws, rng=np.random.default_rng(7))
    assert found is not None
    assert found.named == pytest.approx(abs(terms[[1, 3]].sum()), rel=1e-4)
    assert found.least == pytest.approx(abs(terms[[0, 4]].sum()), rel=1e-4)
    assert found.random == pytest.approx(np.mean([abs(terms[events].sum()) for events in drawn]), rel=1e-4)
    assert delete_events(asking, asked, 9, weights_L=weights, removed=3, draws=1, rng=rng) is None


def test_means_over_histories() -> None:
    found = summary([Deletion(1, 3.0, 1.0, 0.5), Deletion(1, 1.0, 2.0, 2.0), Deletion(1, 4.0, 1.0, 1.0)], too_short=2)
    assert (found.histories, found.too_short, found.removed) == (3, 2, 1)
    assert found.above_random == pytest.approx(4 / 3)
    half = 1.96 * np.std([2, -1, 3], ddof=1) / 3**0.5
    assert found.interval == pytest.approx((4 / 3 - half, 4 / 3 + half))
    assert (found.beats_random, found.beats_least) == pytest.approx((2 / 3, 2 / 3))
    assert summary([Deletion(1, 3.0, 1.0, 0.5)], too_short=0).interval is None


def test_leaving_out_names_what_a_linear_score_is_made_of(saved_log, recommending) -> None:  # type: ignore[no-untyped-def]
    asking = recommending(Sums(saved_log.catalog))
    histories = held_out_histories(saved_log, held_out(saved_log, "val"))
    found = faithfulness(asking, histories, how=AS_USUAL, removed=1, draws=3, seed=0)
    assert found is not None
    assert found.beats_random == found.beats_least == 1.0
    assert found.histories + found.too_short == len(histories)
    assert faithfulness(asking, histories, how=AS_USUAL, removed=40, draws=3, seed=0) is None


def test_a_held_out_request_has_no_later_event(saved_log) -> None:  # type: ignore[no-untyped-def]
    targets = held_out(saved_log, "val")
    histories = held_out_histories(saved_log, targets)
    for nth in (0, len(targets.rows_R) - 1):
        first, end = saved_log.offsets_U1[targets.rows_R[nth]], targets.ends_R[nth]
        one = histories.only(nth)
        assert one.items_N.tolist() == saved_log.items_N[first:end].tolist()
        assert one.users_R.tolist() == [targets.rows_R[nth] + 1]
        if saved_log.times_N is not None:
            assert one.asked_at_R is not None
            assert one.asked_at_R.tolist() == [saved_log.times_N[end]]


def test_weights_do_not_depend_on_how_many_rows_are_scored_at_once(saved_log) -> None:  # type: ignore[no-untyped-def]
    model, kept = Sums(saved_log.catalog).eval(), torch.rand(9, 3, generator=torch.Generator().manual_seed(0)) > 0.5
    once, few = (scores_without(model, row([4, 5, 6]), ITEMS, kept_RL=kept, rows_at_once=rows) for rows in (100, 2))
    torch.testing.assert_close(once, few)

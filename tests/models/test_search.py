"""Hard search: the events it finds, by scanning, and DIN over them."""

import pytest
import torch
import toy

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.din import Model
from seqrec_cli.models.search import by_value, latest


def sim(**changes: object) -> Model:
    model = toy.toy_model("din", **{"init_std": 0.5, "search_attribute": "genre", "search_events": 3, **changes})
    assert isinstance(model, Model)
    return model.eval()


@pytest.mark.parametrize("width", [1, 3])
def test_the_latest_events_that_hold_the_value_are_found(width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(0, 5, (4, 30, width), generator=generator)
    values = values.masked_fill((values == values[..., :1]) & (torch.arange(width) > 0), 0)  # none twice
    values[..., 2:] = values[..., 2:].masked_fill(values[..., 2:] == values[..., 1:2], 0)
    lengths = torch.tensor([30, 17, 1, 0])
    wanted = torch.randint(0, 6, (4, 7), generator=generator)
    firsts = torch.randint(0, 5, (4, 7), generator=generator)
    ends = torch.minimum(firsts + torch.randint(0, 26, (4, 7), generator=generator), lengths[:, None])
    positions, real = latest(
        by_value(values, torch.arange(30) < lengths[:, None]), wanted, firsts, ends_BC=ends, length=30, count=4
    )
    several = 0
    for b in range(4):
        for c in range(7):
            seen = range(int(firsts[b, c]), int(ends[b, c]))
            holding = [p for p in seen if wanted[b, c] > 0 and int(wanted[b, c]) in values[b, p].tolist()]
            expected = holding[::-1][:4]
            several += len(expected) > 2
            assert positions[b, c, real[b, c]].tolist() == expected
            assert not positions[b, c, ~real[b, c]].any()
    assert several > 3


def found_by_scanning(row_items: list[int], item: int, count: int) -> list[int]:
    genres = toy.toy_catalog().item_values["genre"]
    return [event for event in row_items if genres[item][0] in genres[event]][-count:]


def test_the_score_is_that_of_din_over_the_events_found() -> None:
    model, plain, batch = sim(), toy.toy_model("din", init_std=0.5).eval(), toy.toy_batch()
    plain.load_state_dict(model.state_dict())
    corpus = model.score_corpus(batch)
    with torch.no_grad():
        torch.testing.assert_close(model.score_corpus(batch), corpus, rtol=1e-4, atol=1e-5)
    lengths = set()
    for row, length in enumerate(batch.lengths_B.tolist()):
        for item in (1, 17, 40):
            events = found_by_scanning(batch.items_BL[row, :length].tolist(), item, 3)
            lengths.add(len(events))
            history = torch.tensor([events or [0]])
            alone = Batch(batch.users_B[row : row + 1], history, torch.tensor([len(events)]))
            expected = plain.score(alone, torch.tensor([[item]]))[0, 0]
            torch.testing.assert_close(corpus[row, item], expected, rtol=1e-4, atol=1e-5)
    assert {1, 3} <= lengths


def test_all_positions_at_once_equal_a_row_a_prefix() -> None:
    model, batch = sim(max_length=5), toy.toy_batch()
    generator = torch.Generator().manual_seed(4)
    items = torch.randint(1, toy.ITEMS + 1, (len(batch), 5), generator=generator)
    ends = 1 + (torch.rand(len(batch), 5, generator=generator) * batch.lengths_B[:, None]).long()
    got = model.score_positions(batch, items, ends)
    for b in range(len(batch)):
        for c in range(5):
            end = int(ends[b, c])
            history = batch.items_BL[b, max(0, end - 5) : end][None]
            prefix = Batch(batch.users_B[b : b + 1], history, torch.tensor([history.shape[1]]))
            expected = model.score(prefix, items[b : b + 1, c : c + 1])[0, 0]
            torch.testing.assert_close(got[b, c], expected, rtol=1e-4, atol=1e-5)


def test_it_learns_and_its_weights_stand_at_the_events_found() -> None:
    course = list(toy.losses(sim(), steps=60, lr=0.01))
    assert course[-1] < 0.6 * course[0]
    model, batch = sim(softmax=True), toy.toy_batch()
    weights = model.attention(batch, torch.tensor([[17]]).expand(toy.USERS, -1))
    assert weights is not None
    for row, length in enumerate(batch.lengths_B.tolist()):
        items = batch.items_BL[row, :length].tolist()
        events = [items[place] for place in weights[row, :, 0].nonzero().flatten().tolist()]
        assert events == found_by_scanning(items, 17, 3)


def test_thousands_of_events_are_read_and_an_unknown_attribute_is_refused() -> None:
    model = sim(max_length=5000)
    items = torch.randint(1, toy.ITEMS + 1, (2, 5000), generator=torch.Generator().manual_seed(0))
    long = Batch(torch.tensor([1, 2]), items, torch.tensor([5000, 3000]))
    with torch.no_grad():
        scores = model.score_corpus(long)
        short = Batch(torch.tensor([1]), items[:1, 4000:], torch.tensor([1000]))
        torch.testing.assert_close(model.score_corpus(short)[0], scores[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(SeqrecError, match=r"model\.search_attribute=color: items have no such attribute \(have: genre"):
        sim(search_attribute="color")

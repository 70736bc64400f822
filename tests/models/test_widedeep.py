"""Wide & Deep: crossed features, by loops over them."""

import pytest
import torch
import toy

from seqrec_cli.data.batch import Batch
from seqrec_cli.models.widedeep import Model, hashed

ATTRIBUTES = toy.toy_catalog().item_values


def widedeep(**changes: object) -> Model:
    model = toy.toy_model("widedeep", init_std=0.5, **changes)
    assert isinstance(model, Model)
    return model.eval()


def crosses(history: list[int], item: int, events: int) -> list[tuple[int, int, int]]:
    """(kind, value of the candidate, value of an event) of every feature of a pair."""
    latest = history[-events:]
    found = [(0, item, 1), *((1, item, event) for event in latest)]
    for kind, values in enumerate(ATTRIBUTES.values(), 2):
        found += [(kind, int(v), int(w)) for event in latest for v in values[item] for w in values[event] if v and w]
    return found


@pytest.mark.parametrize("events", [1, 3, 20])
def test_the_wide_part_sums_the_weights_of_the_crosses(events: int) -> None:
    model, batch = widedeep(wide_events=events, wide_buckets=500), toy.toy_batch()
    with torch.no_grad():
        model.logit.weight.zero_()
        model.logit.bias.zero_()
    scores = model.score_corpus(batch)
    weights = model.weights.weight.detach()[:, 0]
    for row, length in enumerate(batch.lengths_B.tolist()):
        for item in (1, 17, 40):
            features = crosses(batch.items_BL[row, :length].tolist(), item, events)
            buckets = [hashed(k, torch.tensor(v), torch.tensor(w), buckets=500).item() for k, v, w in features]
            torch.testing.assert_close(scores[row, item], weights[buckets].sum(), rtol=1e-4, atol=1e-5)


def test_the_deep_part_is_average_pooling() -> None:
    model, plain, batch = widedeep(), toy.toy_model("avgpool", activation="relu").eval(), toy.toy_batch()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("weights.")})
    with torch.no_grad():
        model.weights.weight.zero_()
    torch.testing.assert_close(model.score_corpus(batch), plain.score_corpus(batch))


def test_hashes_spread_and_tell_kinds_and_order_apart() -> None:
    left, right = torch.meshgrid(torch.arange(1, 101), torch.arange(1, 101), indexing="ij")
    buckets = [hashed(kind, left, right, buckets=1000) for kind in (1, 2)]
    for bucket in buckets:
        assert bucket.min() >= 1
        assert bucket.max() <= 1000
        assert torch.bincount(bucket.flatten()).max() < 40  # 10 expected
    assert (buckets[0] == buckets[1]).float().mean() < 0.01
    assert (buckets[0] == buckets[0].T).float().mean() < 0.02
    assert not hashed(1, torch.tensor([0, 3]), torch.tensor([3, 0]), buckets=1000).any()


def test_all_positions_at_once_equal_a_row_a_prefix() -> None:
    model, batch = widedeep(max_length=4, wide_events=3), toy.toy_batch()
    generator = torch.Generator().manual_seed(4)
    items = torch.randint(1, toy.ITEMS + 1, (len(batch), 4), generator=generator)
    ends = 1 + (torch.rand(len(batch), 4, generator=generator) * batch.lengths_B[:, None]).long()
    got = model.score_positions(batch, items, ends)
    for b in range(len(batch)):
        for c in range(4):
            end = int(ends[b, c])
            history = batch.items_BL[b, max(0, end - 4) : end][None]
            prefix = Batch(batch.users_B[b : b + 1], history, torch.tensor([history.shape[1]]))
            expected = model.score(prefix, items[b : b + 1, c : c + 1])[0, 0]
            torch.testing.assert_close(got[b, c], expected, rtol=1e-4, atol=1e-5)

"""Numbers, pre-trained vectors, user attributes, context of events and requests, and widths by name, in every model
that reads them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import toy
from pydantic import ValidationError
from torch import Tensor

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.model import EncoderConfig
from seqrec_cli.config.registry import config_class
from seqrec_cli.data.batch import MASKED, Batch
from seqrec_cli.data.catalog import ITEM_VECTORS, Attribute, Catalog, level_ranks
from seqrec_cli.models.build import build_model
from seqrec_cli.models.contract import Recommender, SequenceEncoder
from seqrec_cli.models.features import unread
from seqrec_cli.models.layers.embedding import ContextEmbedding, FeatureEmbedding, use_sparse_rows
from seqrec_cli.models.windows import Windowed
from seqrec_cli.training.warm_start import Matched, start_from

DEVICE, PRICE = Attribute("device", 4, 1), Attribute("price", 6, 1)
KINDS = {name: config_class("model", toy.code_of(name)) for name in toy.model_names()}
FAMILIES = {name: kind.capabilities for name, kind in KINDS.items()}  # type: ignore[attr-defined]
ENCODERS = [name for name, kind in KINDS.items() if issubclass(kind, EncoderConfig)]
CAUSAL = [name for name in ENCODERS if FAMILIES[name].causal and FAMILIES[name].family == "encoder"]
BY_END = ("recdenoiser",)  # whose masks are counted from a row's end, as reversed positions are
RANKERS = [name for name, able in FAMILIES.items() if able.family == "ranker"]
COLD = 40  # an item that the toy training below never sees


def rich_catalog() -> Catalog:
    """The toy catalog with a price and a vector for every item but two, an age for users, and two kinds of context."""
    rng = np.random.default_rng(5)
    prices, ages = rng.exponential(20, toy.ITEMS + 1), rng.normal(40, 9, toy.USERS + 1)
    vectors_VW = rng.normal(3, 7, (toy.ITEMS + 1, 5)).astype(np.float32)
    prices[[0, 7]], ages[0], vectors_VW[[0, 9]] = np.nan, np.nan, np.nan
    return replace(
        toy.toy_catalog(),
        context_attributes=(DEVICE, PRICE),
        item_numbers={"cost": prices},
        user_numbers={"age": ages},
        context_ranks=level_ranks((DEVICE, PRICE), ["price"]),
        item_vectors=vectors_VW,
    )


def built(name: str, catalog: Catalog | None = None, **changes: object) -> Recommender:
    """The model with every parameter drawn large, so that whatever it reads shows."""
    model = build_model(toy.small_config(name, **changes), catalog or rich_catalog(), 0)
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
    return model.eval()


def told(batch: Batch | None = None) -> Batch:
    """The toy batch with the context of its events and of its requests."""
    batch = batch or toy.toy_batch()
    generator = torch.Generator().manual_seed(4)
    context_BLF = torch.randint(1, 4, (*batch.items_BL.shape, 2), generator=generator) * batch.mask_BL[..., None]
    context_BF = torch.randint(1, 4, (len(batch), 2), generator=generator)
    return replace(batch, context_BLF=context_BLF, context_BF=context_BF)


def changed(batch: Batch, column: int) -> Batch:
    """Other context of the events in that column."""
    assert batch.context_BLF is not None
    context_BLF = batch.context_BLF.clone()
    context_BLF[:, column] = context_BLF[:, column] % 3 + 1
    return replace(batch, context_BLF=context_BLF)


def scores(model: Recommender, batch: Batch) -> Tensor:
    with torch.inference_mode():
        return model.score(batch, torch.tensor([[3, 17, 29]]).expand(len(batch), -1))


@pytest.mark.parametrize("name", CAUSAL)
@pytest.mark.parametrize("context", ["history", "request"])
def test_no_state_of_a_causal_encoder_sees_context_of_later_requests(name: str, context: str) -> None:
    model, batch = built(name, context=context), told()
    with torch.inference_mode():
        before, after = (model.encode(each)[:, :4] for each in (batch, changed(batch, 3)))  # type: ignore[operator]
    differs_L = (before - after).abs().amax((0, 2)) > 1e-5 * before.abs().max()  # more than a transform's rounding
    first = 2 if context == "request" else 3  # the state that asks for event 3 may know in what context that happens
    assert not differs_L[:first].any()
    assert differs_L[first]


@pytest.mark.parametrize("name", [name for name in CAUSAL if name not in BY_END])
def test_what_is_trained_at_a_position_is_what_a_request_there_is_answered_by(name: str) -> None:
    by_end = toy.numbers(name).get("positions") == "reversed"  # such positions are others in a row cut short
    model, batch = built(name, context="request", **{"positions": "absolute"} if by_end else {}), told()
    n = 3
    assert batch.context_BLF is not None
    cut = replace(
        batch,
        items_BL=batch.items_BL[:, :n],
        lengths_B=torch.full_like(batch.lengths_B, n),
        times_BL=None if batch.times_BL is None else batch.times_BL[:, :n],
        context_BLF=batch.context_BLF[:, :n],
        context_BF=batch.context_BLF[:, n],
        request_times_B=None if batch.times_BL is None else batch.times_BL[:, n],
    )
    long = batch.lengths_B > n
    with torch.inference_mode():
        trained, asked = model.encode(batch)[:, n - 1], model.last(cut)  # type: ignore[operator]
    torch.testing.assert_close(trained[long], asked[long])


@pytest.mark.parametrize("context", ["history", "request"])
def test_a_part_of_a_row_has_the_context_of_its_own_events(context: str) -> None:
    """As an ensemble's member that reads fewer events than the rows hold."""
    encoder, batch = built("gru4rec", context=context), told()
    assert isinstance(encoder, SequenceEncoder)
    assert batch.context_BLF is not None
    assert batch.context_BF is not None
    states_BLD = Windowed(encoder.eval(), 3).encode(batch)
    for row, length in enumerate(batch.lengths_B.tolist()):
        for position in range(length):
            first = max(0, length - 3 * (1 + (length - 1 - position) // 3))
            asked = batch.context_BF if position == length - 1 else batch.context_BLF[:, position + 1]
            alone = Batch(
                batch.users_B[row : row + 1],
                batch.items_BL[row : row + 1, first : position + 1],
                torch.tensor([position + 1 - first]),
                context_BLF=batch.context_BLF[row : row + 1, first : position + 1],
                context_BF=asked[row : row + 1],
            )
            torch.testing.assert_close(states_BLD[row, position], encoder.last(alone)[0], rtol=1e-4, atol=1e-5)


def test_bert4rec_does_not_see_the_context_of_what_it_guesses() -> None:
    model, batch = built("bert4rec", context="history"), told()
    items_BL = batch.items_BL.clone()
    items_BL[:, 1] = MASKED
    masked = replace(batch, items_BL=items_BL)
    masked = replace(masked, positions_N=torch.arange(len(masked)) * items_BL.shape[1] + 1, masked_BM=None)
    targets_BL = torch.zeros_like(items_BL)
    targets_BL[:, 1] = 5
    masked = replace(masked, targets_BL=targets_BL)
    with torch.inference_mode():
        plain, at_mask, beside = (
            model.encode_targets(each)  # type: ignore[operator]
            for each in (masked, changed(masked, 1), changed(masked, 0))
        )
    assert torch.equal(plain, at_mask)
    assert not torch.equal(plain, beside)


def test_bert4rec_reads_the_context_of_the_events_it_keeps() -> None:
    model, batch = built("bert4rec", context="history", max_length=5), told()
    full = replace(batch.rows(6, 8, 5), lengths_B=torch.tensor([5, 5]))
    assert torch.equal(scores(model, full), scores(model, changed(full, 0)))  # given up for the mask
    assert not torch.equal(scores(model, full), scores(model, changed(full, 4)))
    with pytest.raises(ValidationError, match="use history"):
        toy.small_config("bert4rec", context="request")


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_read_user_attributes_and_numbers(name: str) -> None:
    model, batch = built(name, user_attributes="add", attributes="add"), told()
    others = replace(batch, users_B=batch.users_B.roll(1))  # of another segment and age
    assert not torch.equal(scores(model, batch), scores(model, others))
    catalog = rich_catalog()
    for without in (
        replace(catalog, item_vectors=None),
        replace(catalog, item_numbers={"cost": catalog.item_numbers["cost"][::-1]}),
    ):
        other = built(name, without, user_attributes="add", attributes="add")
        assert not torch.equal(scores(model, batch), scores(other, batch))


@pytest.mark.parametrize("name", RANKERS)
def test_rankers_read_numbers_of_items_users_and_requests(name: str) -> None:
    model, batch = built(name), told()
    assert batch.context_BF is not None
    before = scores(model, batch)
    assert not torch.equal(before, scores(model, replace(batch, context_BF=batch.context_BF % 3 + 1)))
    catalog = rich_catalog()
    assert catalog.item_vectors is not None
    for other in (
        replace(catalog, item_numbers={"cost": -catalog.item_numbers["cost"]}),
        replace(catalog, user_numbers={"age": -catalog.user_numbers["age"]}),
        replace(catalog, item_vectors=-catalog.item_vectors),
    ):
        assert not torch.equal(before, scores(built(name, other), batch))


@pytest.mark.parametrize("name", RANKERS)
def test_a_feature_of_a_ranker_may_have_its_own_width(name: str) -> None:
    widths = {"user_id": 3, "segment": 2, "age": 5, "device": 4, "price": 7}
    if name != "bst":
        widths |= {"item_id": 6, "genre": 2, "cost": 2, ITEM_VECTORS: 6}
    model = built(name, user_id=True, widths=widths)
    assert isinstance(model.users, FeatureEmbedding)
    assert isinstance(model.context, ContextEmbedding)
    assert model.users.width == 3 + 2 + 5
    assert model.context.width == 4 + 7
    assert model.items.width == (5 * 16 if name == "bst" else 6 + 2 + 16 + 2 + 6)  # type: ignore[union-attr]
    assert scores(model, told()).isfinite().all()
    fresh = build_model(toy.small_config(name, user_id=True, widths=widths), rich_catalog(), 0)
    assert all(np.isfinite(list(toy.losses(fresh, 2, 0.01))))


def test_widths_of_what_is_not_there_or_is_added_up_are_refused() -> None:
    with pytest.raises(SeqrecError, match="no feature 'gendre'; did you mean 'genre'"):
        built("din", widths={"gendre": 3})
    with pytest.raises(SeqrecError, match="adds up its vectors of items"):
        built("bst", widths={"genre": 3})
    with pytest.raises(SeqrecError, match="attributes=concat joins them"):
        built("sasrec", attributes="add", widths={"genre": 3})
    with pytest.raises(SeqrecError, match="user_id=true"):
        built("din", widths={"user_id": 3})
    model = built("sasrec", attributes="concat", widths={"genre": 3, ITEM_VECTORS: 4})
    assert model.join.in_features == 16 + 3 + 16 + 16 + 4  # type: ignore[union-attr]


@pytest.mark.parametrize("sparse", [False, True])
def test_a_tied_item_that_training_never_saw_scores_by_its_attributes_alone(sparse: bool) -> None:
    model = built("sasrec", attributes="tied")
    counts_V = torch.ones(toy.ITEMS + 1, dtype=torch.int64)
    counts_V[COLD] = 0
    model.prepare(counts_V, torch.ones(toy.USERS + 1, dtype=torch.int64))
    if sparse:
        use_sparse_rows(model)
    batch, items = toy.toy_batch(), torch.tensor([[COLD, 3]]).expand(toy.USERS, -1)
    with torch.inference_mode():
        before, corpus = model.score(batch, items), model.score_corpus(batch)
        torch.testing.assert_close(before, corpus[:, [COLD, 3]])
        model.items.weight[COLD] += 1  # type: ignore[index,operator,union-attr]
        assert torch.equal(before, model.score(batch, items))
        model.attributes.numbers[ITEM_VECTORS].table.weight += 1  # type: ignore[index,operator,union-attr]
        assert not torch.equal(before[:, 0], model.score(batch, items)[:, 0])
    with pytest.raises(ValidationError, match="tied=true"):
        toy.small_config("sasrec", attributes="tied", tied=False)


def test_padding_and_missing_numbers_add_nothing() -> None:
    model = built("sasrec", attributes="add")
    numbers = model.attributes.numbers  # type: ignore[union-attr]
    for name, row in (("cost", 7), (ITEM_VECTORS, 9)):
        vectors = numbers[name](torch.tensor([0, row, 12]))  # type: ignore[index,operator]
        assert not vectors[:2].any()
        assert vectors[2].any()
        torch.testing.assert_close(numbers[name].all_rows()[12], vectors[2])  # type: ignore[index,operator]


def test_vectors_of_the_data_are_not_learned_and_travel_with_the_weights() -> None:
    state = built("din").state_dict()
    blank = build_model(toy.small_config("din"), Catalog.blank(rich_catalog().facts()), 0)
    blank.load_state_dict(state)
    batch = told()
    assert torch.equal(scores(blank.eval(), batch), scores(built("din"), batch))
    assert "items.numbers.item_vectors.numbers_RK" not in dict(blank.named_parameters())


def test_attributes_may_be_called_as_torch_calls_its_own() -> None:
    catalog = toy.toy_catalog()
    genre = catalog.item_values["genre"]
    types = replace(catalog, item_attributes=(Attribute("type", 6, 3),), item_values={"type": genre})
    for changes in ({}, {"search_attribute": "type"}):
        assert scores(built("din", types, **changes), toy.toy_batch()).isfinite().all()


@pytest.mark.parametrize(
    ("name", "changes", "named"),
    [
        ("sasrec", {}, ["genre, decade, cost, item_vectors", "model.attributes=add", "age", "price"]),
        ("sasrec", {"attributes": "add", "user_attributes": "add", "context": "history"}, []),
        ("din", {}, []),
        ("auto", {}, []),
        ("graph", {"attribute_weight": 1.0}, ["segment, age", "device, price"]),
        ("ease", {}, ["genre", "segment, age", "device, price"]),
        ("ensemble", {}, ["genre"]),
    ],
)
def test_what_a_model_does_not_read_is_named(name: str, changes: dict[str, str], named: list[str]) -> None:
    lines = " / ".join(unread(toy.small_config(name, **changes), rich_catalog()))
    assert bool(lines) is bool(named)
    assert all(word in lines for word in named)


@pytest.mark.parametrize(
    ("changes", "what"), [({"user_attributes": "add"}, "user attributes"), ({"context": "history"}, "context columns")]
)
def test_what_the_data_do_not_have_cannot_be_read(changes: dict[str, str], what: str) -> None:
    catalog = replace(toy.toy_catalog(), user_attributes=(), user_values={})
    with pytest.raises(SeqrecError, match=f"the dataset has no {what}"):
        build_model(toy.small_config("sasrec", **changes), catalog, 0)


def test_a_later_log_brings_its_own_numbers_and_takes_what_was_learned() -> None:
    cfg = toy.small_config("sasrec", attributes="tied", context="history")
    earlier, catalog = build_model(cfg, rich_catalog(), 0), rich_catalog()
    catalog = replace(catalog, item_numbers={"cost": catalog.item_numbers["cost"][::-1].copy()})
    later = build_model(cfg, catalog, 1)
    numbers = {name: buffer.clone() for name, buffer in later.named_buffers() if name.endswith("numbers_RK")}
    items, users = np.arange(toy.ITEMS + 1), np.arange(toy.USERS + 1)
    facts = (*catalog.item_attributes, *catalog.user_attributes, *catalog.context_attributes)
    kinds = ("item_attributes", "user_attributes", "context_attributes")
    values = {(kind, a.name): np.arange(a.size) for kind in kinds for a in facts}
    start_from(later, earlier, cfg, catalog=catalog, matched=Matched(rich_catalog(), items, users, values))
    assert len(numbers) == 3
    assert all(torch.equal(dict(later.named_buffers())[name], buffer) for name, buffer in numbers.items())
    for name, parameter in later.named_parameters():
        assert torch.equal(parameter, dict(earlier.named_parameters())[name]), name

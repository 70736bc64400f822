"""A user's vector in an encoder: joined with the items', in the output, swapped at random, and whose is zero."""

from dataclasses import replace

import pytest
import torch
import toy
from pydantic import ValidationError

from seqrec_cli.config.registry import config_class
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.encoder import ItemEncoder
from seqrec_cli.models.layers.user_vector import UserOutput, swapped
from seqrec_cli.objectives.contract import build_objective
from tests.shipped import shipped


def encoder(name: str = "sasrec", **changes: object) -> ItemEncoder:
    model = toy.toy_model(name, **({"user_dim": 4, "init_std": 0.5, "user_dropout": 0.0} | changes))
    assert isinstance(model, ItemEncoder)
    return model.eval()


def unknown(batch: Batch) -> Batch:
    return replace(batch, users_B=torch.zeros_like(batch.users_B))


def test_swapped_indices_are_of_all_others_and_zero_stays() -> None:
    torch.manual_seed(0)
    rows = torch.full((60_000,), 3)
    found = swapped(rows, 0.6, 6)
    shares = torch.bincount(found, minlength=6) / len(rows)
    torch.testing.assert_close(shares[[1, 2, 4, 5]], torch.full((4,), 0.12), atol=0.01, rtol=0)
    assert shares[0] == 0
    assert not swapped(torch.zeros(100, dtype=torch.int64), 0.99, 6).any()
    allowed = torch.tensor([False, True, False, True, False, True])
    assert set(swapped(rows, 0.9, 6, drawn_R=allowed).tolist()) == {1, 3, 5}
    assert torch.equal(swapped(rows, 0.0, 6), rows)


@pytest.mark.parametrize("norm", ["pre", "published"])
def test_the_input_of_a_joined_user_is_item_and_user_side_by_side(norm: str) -> None:
    model, batch = encoder(user_input="concat", norm=norm), toy.toy_batch()
    assert model.users is not None
    x_BLD, scaled = model.embed_whole(batch), norm == "published"
    items_BLD = model.items(batch.items_BL) * (16**0.5 if scaled else 1)
    users_Bd = model.users(batch.users_B) * (4**0.5 if scaled else 1)  # each by the root of its own width
    joined = torch.cat([items_BLD, users_Bd[:, None].expand(-1, items_BLD.shape[1], -1)], -1)
    torch.testing.assert_close(x_BLD, model.positions(joined, batch.lengths_B))
    assert x_BLD.shape[-1] == 20
    assert model.encode(batch).shape[-1] == 16  # what meets the items


def test_the_user_s_part_of_the_product_changes_no_order() -> None:
    """SSE-PT scores [state; state'] against [item; user]: the second half is one number for all items."""
    model, batch = encoder(user_input="concat", temperature=None), toy.toy_batch()
    assert model.users is not None
    wide_BD = model.norm(model.forward_layers_last(model.embed(batch), batch))
    users_BVd = model.users(batch.users_B)[:, None].expand(-1, toy.ITEMS, -1)
    pairs_BVD = torch.cat([model.item_table()[1:].expand(len(batch), -1, -1), users_BVd], -1)
    theirs_BV = torch.einsum("bd,bvd->bv", wide_BD, pairs_BVD)
    difference_BV = theirs_BV - model.score_corpus(batch)[:, 1:]
    torch.testing.assert_close(difference_BV, difference_BV[:, :1].expand_as(difference_BV), atol=1e-4, rtol=0)
    assert difference_BV.abs().max() > 0.1


def test_a_film_and_a_gate_by_hand() -> None:
    states_BLD, users_Bd = torch.randn(3, 2, 5), torch.randn(3, 4)
    film, gate = UserOutput("film", 4, 5), UserOutput("gate", 4, 5)
    gamma_BD, beta_BD = users_Bd @ film.weights.weight[:5].T, users_Bd @ film.weights.weight[5:].T
    expected = states_BLD * (1 + gamma_BD[:, None]) + beta_BD[:, None]
    torch.testing.assert_close(film(states_BLD, users_Bd), expected)
    opened_BD = 2 / (1 + torch.exp(-users_Bd @ gate.weights.weight.T))
    torch.testing.assert_close(gate(states_BLD, users_Bd), states_BLD * opened_BD[:, None])
    torch.testing.assert_close(gate(states_BLD[:, 0], users_Bd), states_BLD[:, 0] * opened_BD)
    for part in (film, gate):
        torch.testing.assert_close(part(states_BLD, torch.zeros(3, 4)), states_BLD)


@pytest.mark.parametrize("output", ["film", "gate"])
@pytest.mark.parametrize("name", ["sasrec", "bert4rec", "gru4rec"])
def test_the_output_of_an_unknown_user_is_that_of_a_model_without(name: str, output: str) -> None:
    model, batch = encoder(name, user_input="none", user_output=output), toy.toy_batch()
    plain = encoder(name, user_dim=0)
    plain.load_state_dict({key: value for key, value in model.state_dict().items() if "user" not in key})
    torch.testing.assert_close(model.score_corpus(unknown(batch)), plain.score_corpus(batch))
    assert not torch.allclose(model.score_corpus(batch), plain.score_corpus(batch), atol=1e-2)


@pytest.mark.parametrize("name", ["sasrec", "bert4rec"])
@pytest.mark.parametrize("how", [{"user_dropout": 0.5}, {"user_swap": 0.5}])
def test_training_reads_one_user_in_input_and_output_alike(name: str, how: dict[str, float]) -> None:
    """Every row is one of a known user as a whole: were the two drawn apart, some rows would be of none."""
    model = encoder(name, user_output="film", **how)
    one = toy.rows(toy.toy_batch(), slice(7, 8))

    def of(users_B: torch.Tensor) -> Batch:
        return Batch(users_B, one.items_BL.expand(len(users_B), -1), one.lengths_B.expand(len(users_B)))

    own = int(one.users_B[0])
    able_UD = model.last(of(torch.arange(toy.USERS + 1)))
    torch.manual_seed(0)
    read_BD = model.train().last(of(torch.full((40,), own)))
    near_B = (read_BD[:, None] - able_UD[None]).abs().amax(-1)
    assert near_B.amin(1).max() < 1e-4
    told = set(near_B.argmin(1).tolist())
    assert told == {0, own} if "user_dropout" in how else own in told and len(told) > 3


def test_users_that_training_cannot_know_are_unknown_ones_and_stay_so() -> None:
    model, batch = encoder(user_swap=0.9), toy.toy_batch()
    counts_U = torch.full((toy.USERS + 1,), 5)
    counts_U[[0, 2, 3]] = torch.tensor([0, 0, 1])  # none, and one event, which is no row
    model.prepare(torch.ones(toy.ITEMS + 1, dtype=torch.int64), counts_U)
    assert model.users is not None
    assert (model.users.weight.abs().sum(1) == 0).tolist() == [True, False, True, True, *[False] * (toy.USERS - 3)]
    whom = torch.full_like(batch.users_B, 2)
    before = model.score_corpus(unknown(batch))
    torch.testing.assert_close(model.score_corpus(replace(batch, users_B=whom)), before)
    plain = shipped("objective", "next_item") | {"negatives": None}
    learned = build_objective(config_class("objective", "next_item").from_plain(plain))  # type: ignore[arg-type]
    torch.manual_seed(0)
    for _ in range(20):  # of which none is drawn as another user either
        learned.loss(model.train(), batch).backward()
    gradient = model.users.weight.grad
    assert gradient is not None
    # The batch's own rows are of users 2 and 3 too, which a run's would not be.
    assert (gradient[[1, *range(4, toy.USERS + 1)]].abs().sum(1) > 0).all()


def test_training_reads_some_events_as_other_items_and_keeps_the_targets() -> None:
    model = encoder(user_dim=0, item_swap=0.3)
    items_BL = torch.full((200, 12), 7)
    items_BL[:, 9:] = 0
    whole = model.embed_items(items_BL)
    torch.manual_seed(0)
    read = model.train().embed_items(items_BL)
    other_BL = (read != whole).any(-1)
    assert other_BL[:, :9].float().mean().item() == pytest.approx(0.3 * (1 - 1 / toy.ITEMS), abs=0.03)
    assert not other_BL[:, 9:].any()
    assert torch.equal(model.eval().embed_items(items_BL), whole)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"user_input": "none"}, "nothing reads the user's vector with model.user_input=none"),
        ({"user_input": "concat", "user_dim": 5}, "embed_dim=16 and model.user_dim=5 are together not divisible"),
    ],
)
def test_a_vector_that_nothing_reads_or_that_does_not_fit_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        encoder(**changes)

"""An ensemble of encoders: the mean of its members' scores, each taught by itself, and refusals."""

from dataclasses import replace

import pytest
import torch
import toy
from pydantic import ValidationError

from seqrec_cli.commands.training_setup import fresh_model
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.registry import config_class
from seqrec_cli.config.validate import dump, validate, validate_plain
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import SequenceEncoder
from seqrec_cli.models.ensemble import Model
from seqrec_cli.models.windows import Windowed
from seqrec_cli.objectives.contract import build_objective
from tests.shipped import shipped
from tests.toylog import packed


def ensemble(**changes: object) -> Model:
    settings = toy.small_config("ensemble").model_dump(mode="json")
    for member in settings["members"].values():
        member.update(changes)
    model = toy.build_model(config_class("model", "ensemble").from_plain(settings), toy.toy_catalog(), 0)
    assert isinstance(model, Model)
    return model.eval()


@pytest.mark.parametrize("bias", [False, True])
def test_scores_are_the_members_mean(bias: bool) -> None:
    model, batch = ensemble(item_bias=bias), toy.toy_batch()
    if bias:
        for parameter in (member.bias_V for member in model.members.values()):
            torch.nn.init.normal_(parameter)
    members = list(model.members.values())
    assert len(members) == 3
    mean_BV = sum(member.score_corpus(batch) for member in members) / len(members)
    torch.testing.assert_close(model.score_corpus(batch)[:, 1:], mean_BV[:, 1:])
    items_BC = torch.arange(1, 25).view(8, 3)
    mean_BC = sum(member.score(batch, items_BC) for member in members) / len(members)
    torch.testing.assert_close(model.score(batch, items_BC), mean_BC)


def test_each_member_learns_as_if_it_were_alone() -> None:
    model, batch = ensemble(), toy.toy_batch()
    settings = shipped("objective", "next_item") | {"negatives": None}
    objective = build_objective(config_class("objective", "next_item").from_plain(settings))  # type: ignore[arg-type]
    for trainable in model.trainable_models():
        objective.loss(trainable, batch).backward()
    joint = {name: p.grad.clone() for name, p in model.named_parameters()}
    for key, member in model.members.items():
        assert isinstance(member, SequenceEncoder)
        member.zero_grad()
        objective.loss(member, batch).backward()
        for name, p in member.named_parameters():
            assert torch.equal(joint[f"members.{key}.{name}"], p.grad)


WIDE = ("model=ensemble", "model.members.sasrec=null", "model.members.gru4rec=null", "model.trained=together")
EASE = "{name: ease, max_length: 10, embed_dim: 8, exact_items: 99, l2: 5.0, half_life: 9.0, scale: 2.0}"


def wide_and_deep() -> Model:
    """LRURec and EASE as one network, EASE fitted to random histories."""
    small = toy.small_config("lrurec", max_length=10).model_dump(mode="json")
    ease = validate("train", compose("train", [*WIDE, f"+model.members.ease={EASE}"])).model.members["ease"]  # type: ignore[attr-defined]
    settings = {"name": "ensemble", "max_length": 10, "trained": "together"}
    members = {"lrurec": small, "ease": ease.model_dump(mode="json")}
    cfg = config_class("model", "ensemble").from_plain({**settings, "members": members})
    model = toy.build_model(cfg, toy.toy_catalog(), 0)  # type: ignore[arg-type]
    assert isinstance(model, Model)
    assert list(model.members) == ["lrurec", "ease"]
    model.fit_closed_form(toy.toy_histories())
    assert model.members["ease"].item_table().abs().sum() > 0
    return model.eval()


def test_a_bias_has_its_own_tower_s_weight() -> None:
    """Though the tower before it has none."""
    settings = toy.small_config("ensemble").model_dump(mode="json") | {"trained": "together"}
    for key, member in settings["members"].items():
        member["item_bias"] = key == "gru4rec"
    model = toy.build_model(config_class("model", "ensemble").from_plain(settings), toy.toy_catalog(), 0)
    assert isinstance(model, Model)
    assert model.log_weights_M is not None
    assert list(model.members).index("gru4rec") > 0
    with torch.no_grad():
        torch.nn.init.normal_(model.members["gru4rec"].bias_V)
        model.log_weights_M.copy_(torch.tensor([0.5, -0.3, 0.2]))
    batch = toy.toy_batch()
    weights_M, scores = model.log_weights_M.exp(), [each.score_corpus(batch) for each in model.eval().members.values()]
    sum_BV = sum(weight * scores_BV for weight, scores_BV in zip(weights_M, scores, strict=True))
    torch.testing.assert_close(model.score_corpus(batch)[:, 1:], sum_BV[:, 1:])


def test_towers_of_one_network_add_their_scores_by_weights_that_learn_from_the_loss_of_the_sum() -> None:
    model, batch = wide_and_deep(), toy.toy_batch()
    assert model.trainable_models() == (model,)
    assert model.log_weights_M is not None
    with torch.no_grad():
        model.log_weights_M.copy_(torch.tensor([0.3, -0.4]))
        torch.nn.init.normal_(model.members["lrurec"].bias_V)
    deep, wide = (member.score_corpus(batch) for member in model.members.values())
    sum_BV = model.log_weights_M[0].exp() * deep + model.log_weights_M[1].exp() * wide
    torch.testing.assert_close(model.score_corpus(batch)[:, 1:], sum_BV[:, 1:])
    last_B, rows_B = batch.lengths_B - 1, torch.arange(len(batch))
    states_BD = model.encode(batch)[rows_B, last_B]
    torch.testing.assert_close(states_BD, model.last(batch))
    settings = shipped("objective", "next_item") | {"negatives": None}
    objective = build_objective(config_class("objective", "next_item").from_plain(settings))  # type: ignore[arg-type]
    before = model.members["ease"].item_table().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = objective.loss(model, batch)
    targets_N, states_ND = batch.targets_BL[batch.targets_BL > 0], model.encode_targets(batch)  # type: ignore[index]
    logits_NV = states_ND @ model.item_table()[1:].T + model.item_bias()[1:]  # type: ignore[index]
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits_NV, targets_N - 1), rtol=1e-4, atol=1e-5)
    loss.backward()
    assert (model.log_weights_M.grad != 0).all()
    optimizer.step()
    assert objective.loss(model, batch) < loss
    assert torch.equal(model.members["ease"].item_table(), before)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            ["+model@model.members.recdenoiser=recdenoiser"],
            "model.members.recdenoiser adds terms of its own to the loss",
        ),
        (["model.members.lrurec=null", f"+model.members.ease={EASE}"], "none learns"),
        (["model.members.lrurec=null"], "model.members: none is left; name one"),
        ([], "joins two members or more"),
    ],
)
def test_what_cannot_be_one_network_is_refused(more: list[str], words: str) -> None:
    with pytest.raises(SeqrecError, match=words):
        validate("train", compose("train", [*WIDE, *more]))


def test_compiling_reaches_the_members(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []
    monkeypatch.setattr(
        "seqrec_cli.commands.training_setup.compile_model", lambda model, device, **_: compiled.append(model)
    )
    cfg = validate("train", compose("train", ["model=ensemble", "hardware.compile=true"]))
    model = fresh_model(cfg, packed([[1, 2, 3, 4]], 4), torch.device("cpu"))  # type: ignore[arg-type]
    assert isinstance(model, Model)
    assert compiled == list(model.members.values())


def test_an_ensembles_settings_are_the_same_after_its_trip_through_a_checkpoint() -> None:
    cfg = validate("train", compose("train", ["model=ensemble", "model.members.sasrec.embed_dim=32"]))
    assert validate_plain("train", dump(cfg)) == cfg
    assert dump(cfg)["model"]["members"]["sasrec"]["embed_dim"] == 32


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.members.sasrec.name=bert4rec", "model.members.sasrec.name=bert4rec is no causal encoder"),
        ("model.members.sasrec.name=ensemble", "model.members.sasrec.name=ensemble is no causal encoder"),
        ("model.members.sasrec.name=sasrek", "sasrek"),
        (
            "model.members.lrurec.max_length=300",
            "model.members.lrurec.max_length=300 is more than model.max_length=50",
        ),
        ("model.members.sasrec.embed_dim=0", "model.members.sasrec.embed_dim"),
        ("model.members.sasrec.dropout=1.5", "model.members.sasrec.dropout"),
    ],
)
def test_members_that_do_not_fit_are_refused_by_name(override: str, words: str) -> None:
    with pytest.raises((SeqrecError, ValidationError)) as caught:
        validate("train", compose("train", ["model=ensemble", override]))
    assert isinstance(caught.value, SeqrecError)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_members_that_only_count_are_refused() -> None:
    ease = "{name: ease, max_length: 50, embed_dim: 8, exact_items: 9, l2: 5.0, half_life: 9.0, scale: 2.0}"
    fewer = [f"~model.members.{name}" for name in ("sasrec", "lrurec", "gru4rec")]
    with pytest.raises(SeqrecError, match="none learns"):
        validate("train", compose("train", ["model=ensemble", *fewer, f"+model.members.ease={ease}"]))


def test_a_member_with_a_smaller_max_length_reads_the_latest_events_alone() -> None:
    settings = toy.small_config("ensemble").model_dump(mode="json")
    lengths = {"sasrec": 5, "lrurec": settings["max_length"], "gru4rec": 4}
    for key, length in lengths.items():
        settings["members"][key]["max_length"] = length
    model = toy.build_model(config_class("model", "ensemble").from_plain(settings), toy.toy_catalog(), 0)
    assert isinstance(model, Model)
    batch, total = toy.toy_batch(), torch.zeros(toy.USERS, toy.ITEMS + 1)
    assert batch.lengths_B.min() < 4 < 5 < batch.lengths_B.max()
    for row in range(toy.USERS):
        length = int(batch.lengths_B[row])
        for key, most in lengths.items():
            cut = toy.rows(batch, slice(row, row + 1))
            inputs = {
                name: value[:, max(0, length - most) : length]
                for name, value in vars(cut).items()
                if value is not None and name.endswith("_BL")
            }
            shorter = replace(cut, **inputs, lengths_B=torch.tensor([min(length, most)]))
            total[row] += model.eval().members[key].score_corpus(shorter)[0] / 3
    torch.testing.assert_close(model.score_corpus(batch)[:, 1:], total[:, 1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["sasrec", "gru4rec", "lrurec"])
def test_states_of_all_positions_follow_parts_counted_from_the_end(name: str) -> None:
    changes = {"positions": "absolute"} if name == "sasrec" else {}  # not from a part's end, which the alone have not
    encoder, batch = toy.toy_model(name, **changes).eval(), toy.toy_batch()
    assert isinstance(encoder, SequenceEncoder)
    states_BLD = Windowed(encoder, 3).encode(batch)
    assert states_BLD.shape[:2] == batch.items_BL.shape
    for row in range(toy.USERS):
        length = int(batch.lengths_B[row])
        for place in range(length):
            first = max(0, length - 3 * (1 + (length - 1 - place) // 3))
            part = torch.arange(first, place + 1)
            alone = Batch(batch.users_B[row : row + 1], batch.items_BL[row : row + 1, part], torch.tensor([len(part)]))
            torch.testing.assert_close(states_BLD[row, place], encoder.last(alone)[0], rtol=1e-4, atol=1e-5)


def test_members_are_told_the_counts_of_training() -> None:
    """Tied items that training never saw have no vector of their own, in a member as in an encoder alone."""
    model = ensemble(attributes="tied")
    counts_V = torch.arange(toy.ITEMS + 1) % 3
    model.prepare(counts_V, torch.ones(toy.USERS + 1, dtype=torch.int64))
    for member in model.members.values():
        assert torch.equal(member.trained_V1[:, 0] > 0, counts_V > 0)  # type: ignore[index,operator]

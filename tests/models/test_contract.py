"""Every model of conf/model keeps the contract; a new model is found by its YAML."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import toy
from torch import Tensor, nn
from torch.export import Dim

from seqrec_cli.config.registry import config_class
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.catalog import Attribute
from seqrec_cli.models.contract import Recommender, SequenceEncoder
from tests.covering import by_night, covering

NAMES = toy.model_names()
EMPTY = Batch(torch.tensor([0, 1]), torch.tensor([[0, 0], [5, 6]]), torch.tensor([0, 2]))


def families(*wanted: str) -> list[str]:
    return [n for n in NAMES if config_class("model", toy.code_of(n)).capabilities.family in wanted]  # type: ignore[attr-defined]


LEARNED = families("encoder", "ranker", "generator")
BY_NIGHT = pytest.mark.exhaustive
# Settings whose programs are other ones.
FORMS = [
    ("bst", {"batch_norm": True, "activation": "relu"}),
    ("dien", {"evolution": "augru_keep", "attention": "unit", "pooled": "sum", "auxiliary_mlp": [6, 4]}),
    ("din", {"score": "additive"}),
    ("din", {"score": "dot", "softmax": True}),
    ("sasrec", {"attention_form": "local", "attention_window": 3}),
    ("sasrec", {"attention_form": "linear", "agreement": "pooling"}),
    ("sasrec", {"agreement": "bias"}),
]


def test_every_model_file_has_numbers() -> None:
    assert {"popular", "markov", "sasrec", "bst"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_agreement_of_the_two_scores(name: str) -> None:
    model, batch = toy.toy_model(name).eval(), toy.toy_batch()
    items_BC = torch.randint(1, toy.ITEMS + 1, (toy.USERS, 7), generator=torch.Generator().manual_seed(2))
    corpus = model.score_corpus(batch)
    assert corpus.shape == (toy.USERS, toy.ITEMS + 1)
    assert torch.isfinite(corpus).all()
    torch.testing.assert_close(model.score(batch, items_BC), corpus.gather(1, items_BC), rtol=1e-5, atol=1e-5)
    with torch.no_grad():  # the path of evaluation, in pieces
        torch.testing.assert_close(model.score_corpus(batch), corpus, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_scores_tell_items_apart(name: str) -> None:
    scores_V = toy.toy_model(name).eval().score_corpus(toy.toy_batch())[0, 1:]
    assert len(scores_V.unique()) > 3


@pytest.mark.parametrize("name", LEARNED)
def test_a_gradient_reaches_every_parameter(name: str) -> None:
    model = toy.toy_model(name).train()
    toy.toy_loss(model, toy.toy_batch()).backward()
    untouched = [k for k, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert untouched == []


@pytest.mark.parametrize("name", NAMES)
def test_padding_and_neighbours_change_nothing(name: str) -> None:
    model, batch = toy.toy_model(name).eval(), toy.toy_batch()
    together = model.score_corpus(toy.padded(batch, 1))
    for row in (0, 3, 7):
        alone = toy.rows(batch, slice(row, row + 1))
        length = int(alone.lengths_B[0])
        shortest = Batch(
            **{k: v[:, :length] if v is not None and k.endswith("_BL") else v for k, v in vars(alone).items()}
        )
        torch.testing.assert_close(model.score_corpus(shortest)[0], together[row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", families("encoder"))
def test_a_state_sees_no_later_event(name: str) -> None:
    model, batch = toy.toy_model(name).eval(), toy.toy_batch()
    assert isinstance(model, SequenceEncoder)
    if not model.causal:
        pytest.skip("bidirectional by design")
    before, row = model.encode(batch)[-1], batch.items_BL[-1]
    for place in range(1, int(batch.lengths_B[-1])):
        changed = batch.items_BL.clone()
        changed[-1, place] = row[place] % toy.ITEMS + 1
        after = model.encode(Batch(**(vars(batch) | {"items_BL": changed})))[-1]
        torch.testing.assert_close(after[:place], before[:place], rtol=1e-5, atol=1e-6)
        assert not torch.allclose(after[place], before[place])


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_history_is_scored(name: str) -> None:
    batch = Batch(**(vars(EMPTY) | {"times_BL": torch.zeros(2, 2).long(), "request_times_B": torch.ones(2).long()}))
    model = toy.toy_model(name).eval()
    both = model.score_corpus(batch)
    assert torch.isfinite(both).all()
    torch.testing.assert_close(model.score_corpus(toy.rows(batch, slice(0, 1)))[0], both[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LEARNED)
def test_overfits_eight_users(name: str) -> None:
    torch.set_num_threads(1)
    model = toy.toy_model(name)
    course = toy.losses(model, steps=150, lr=0.01)
    assert next(course) > 0.4
    assert any(loss < 0.1 for loss in course)  # no step more than it needs


@pytest.mark.parametrize("name", families("closed_form"))
def test_counting_twice_counts_once(name: str) -> None:
    model, batch = toy.toy_model(name), toy.toy_batch()
    assert not model.trainable_models()
    before = model.score_corpus(batch).clone()
    model.fit_closed_form(iter(toy.toy_histories()))
    assert torch.equal(model.score_corpus(batch), before)


@pytest.mark.parametrize("name", NAMES)
def test_a_saved_state_restores_every_score(name: str) -> None:
    model, batch = toy.toy_model(name).eval(), toy.toy_batch()
    blank = toy.toy_catalog().blank(toy.toy_catalog().facts())
    fresh = type(model)(toy.small_config(name), blank).eval()  # type: ignore[call-arg, arg-type]
    assert not torch.equal(fresh.score_corpus(batch), model.score_corpus(batch))
    fresh.load_state_dict(copy.deepcopy(model.state_dict()))
    assert torch.equal(fresh.score_corpus(batch), model.score_corpus(batch))


@pytest.mark.parametrize("name", LEARNED)
def test_the_seed_decides_the_weights(name: str) -> None:
    first, again, other = (toy.toy_model(name, seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)


@pytest.mark.parametrize("name", LEARNED)
def test_padding_rows_are_zero_and_stay_so(name: str) -> None:
    model = toy.toy_model(name)
    tables = [m for m in model.modules() if isinstance(m, nn.Embedding) and m.padding_idx is not None]
    assert tables
    assert all(not t.weight[0].any() and t.weight[1:].any() for t in tables)
    list(toy.losses(model, steps=2, lr=0.1))
    assert all(not t.weight[0].any() for t in tables)
    assert all(t.weight.grad is not None and not t.weight.grad[0].any() for t in tables)


@pytest.mark.parametrize("name", NAMES)
def test_losses_match_the_recorded_ones(name: str) -> None:
    """Recorded by scripts/record_golden.py."""
    recorded = json.loads((toy.GOLDEN / f"{name}.json").read_text(encoding="utf-8"))["losses"]
    assert toy.golden_losses(name) == pytest.approx(recorded, rel=1e-4)


@pytest.mark.parametrize("name", LEARNED)
def test_bf16_scores_are_near_and_in_fp32(name: str) -> None:
    model, batch = toy.toy_model(name), toy.toy_batch()
    list(toy.losses(model, steps=30, lr=0.01))
    model.eval()
    exact = model.score_corpus(batch)
    with torch.autocast("cpu", torch.bfloat16):
        near = model.score_corpus(batch)
        loss = toy.toy_loss(model.train(), batch)
    loss.backward()
    assert near.dtype == torch.float32
    assert not torch.equal(near, exact)
    torch.testing.assert_close(near, exact, rtol=0.05, atol=0.05 * exact.std().item() + 0.02)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


class Scores(nn.Module):
    """A model's scores of candidates as a function of plain tensors."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model

    def forward(self, users_B, items_BL, lengths_B, times_BL, request_B, items_BC):  # type: ignore[no-untyped-def]
        batch = Batch(users_B, items_BL, lengths_B, times_BL=times_BL, request_times_B=request_B)
        return self.model.score(batch, items_BC)


def plain_inputs(batch: Batch) -> tuple[torch.Tensor | None, ...]:
    fields = (batch.users_B, batch.items_BL, batch.lengths_B, batch.times_BL, batch.request_times_B)
    return (*fields, batch.candidates_BC)


# As they are shipped, all models are exported at any length by tests/export/test_onnx_program.py.
@pytest.mark.parametrize(("name", "changes"), [by_night(form) if form[0] == "dien" else form for form in FORMS])
def test_can_be_exported_with_any_batch_and_length(name: str, changes: dict[str, object]) -> None:
    model, batch = toy.toy_model(name, **changes).eval(), toy.toy_batch()
    B, L, C = Dim("B", min=1), Dim("L", min=1, max=12), Dim("C", min=1)
    shapes = ({0: B}, {0: B, 1: L}, {0: B}, {0: B, 1: L}, {0: B}, {0: B, 1: C})
    program = torch.export.export(Scores(model), plain_inputs(batch), dynamic_shapes=shapes, strict=False)
    other = toy.padded(toy.rows(batch, slice(2, 7)), 1)
    other = Batch(**(vars(other) | {"candidates_BC": torch.arange(1, 16).view(5, 3)}))
    inputs = plain_inputs(other)
    torch.testing.assert_close(program.module()(*inputs), Scores(model)(*inputs), rtol=1e-5, atol=1e-5)


COMPILED = [*((name, {}) for name in LEARNED), *FORMS]


@pytest.mark.parametrize(
    ("name", "changes"), covering(COMPILED, lambda case: {*toy.made_of(case[0]), *map(str, case[1].items())})
)
def test_training_compiles_without_a_graph_break(name: str, changes: dict[str, object]) -> None:
    model, compiled = _compiled(name, changes, backend="eager")  # captured whole, and run as it was
    compiled(*plain_inputs(toy.toy_batch())).sum().backward()
    assert any(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        case if case[0] in ("bert4rec", "dien", "sasrec") and case[1] == {} else pytest.param(*case, marks=BY_NIGHT)
        for case in COMPILED
    ],
)
def test_a_compiled_model_with_its_gradient_traced_scores_alike(name: str, changes: dict[str, object]) -> None:
    model, compiled = _compiled(name, changes, backend="aot_eager")
    batch = toy.toy_batch()
    compiled(*plain_inputs(batch)).sum().backward()
    model.eval()
    torch.testing.assert_close(
        compiled(*plain_inputs(batch)), Scores(model)(*plain_inputs(batch)), rtol=1e-4, atol=1e-5
    )


def _compiled(name: str, changes: dict[str, object], *, backend: str) -> tuple[Recommender, Callable[..., Tensor]]:
    """A model in training with dropout, and its scores compiled as one graph."""
    torch._dynamo.reset()
    with_dropout = {key: 0.2 for key in toy.numbers(name) if key.endswith("dropout")}
    model = toy.toy_model(name, **with_dropout, **changes).train()
    return model, torch.compile(Scores(model), backend=backend, fullgraph=True)


def test_who_is_told_the_hour_of_a_request_says_that_it_sees_the_targets_time() -> None:
    catalog = replace(toy.toy_catalog(), context_attributes=(Attribute("hour", 25, 1),))
    models = {name: toy.build_model(toy.small_config(name), catalog, 0) for name in LEARNED}
    assert [name for name, model in models.items() if model.sees_target_time] == families("ranker")

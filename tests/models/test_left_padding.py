"""Rows padded on the left as SASRec was published, and the bugs that its padding had."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import toy
from pydantic import ValidationError
from test_contract import Scores, plain_inputs
from torch.export import Dim

from seqrec_cli.commands.dispatch import record_of
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.contract import SequenceEncoder

KINDS = ("masked", "cleared", "zero", "initial", "trained")
MODELS = [("sasrec", {}), ("sasrec", {"norm": "published", "ffn_dim": 16}), ("esasrec", {"positions": "rotary"})]


def model(name: str = "sasrec", **changes: Any) -> SequenceEncoder:
    """With biases that are not zero, as they are after training: a key of zeros is one."""
    found = toy.toy_model(name, **changes).eval()
    assert isinstance(found, SequenceEncoder)
    generator = torch.Generator().manual_seed(3)
    for part in found.modules():
        if isinstance(part, torch.nn.Linear) and part.bias is not None:
            part.bias.data = torch.randn(part.bias.shape, generator=generator) / 4
    return found


def states(encoder: SequenceEncoder, batch: Batch) -> torch.Tensor:
    return encoder.encode(batch)[batch.mask_BL]


@pytest.mark.parametrize(("name", "changes"), MODELS)
def test_masked_padding_is_none_at_all(name: str, changes: dict[str, Any]) -> None:
    batch = toy.toy_batch()
    padded, without = model(name, **changes, padding="masked"), model(name, **changes)
    torch.testing.assert_close(states(padded, batch), states(without, batch), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(padded.score_corpus(batch), without.score_corpus(batch), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "masked"])
@pytest.mark.parametrize(("name", "changes"), MODELS)
def test_padding_that_is_looked_at_changes_states_of_rows_that_have_it(
    name: str, changes: dict[str, Any], kind: str
) -> None:
    batch = toy.toy_batch()
    longest = int(batch.lengths_B.argmax())
    changes = changes | {"max_length": int(batch.lengths_B.max())}
    padded, without = (model(name, **changes, padding=each).encode(batch) for each in (kind, "none"))
    differs_BL = (padded - without).abs().amax(-1) > 1e-4
    assert differs_BL[batch.mask_BL & (torch.arange(len(batch)) != longest)[:, None]].float().mean() > 0.9
    assert not differs_BL[longest].any()  # no padding before its events


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_is_read_alike_in_training_and_alone_and_by_what_is_known_then(kind: str) -> None:
    """States do not depend on the batch's width, and see no later event; the last one is `last`."""
    batch, encoder = toy.toy_batch(), model(padding=kind)
    hidden_BLD = encoder.encode(batch)
    torch.testing.assert_close(encoder.encode(toy.padded(batch, 2))[:, :-2], hidden_BLD)
    last_BD = torch.stack([hidden_BLD[b, n - 1] for b, n in enumerate(batch.lengths_B.tolist())])
    torch.testing.assert_close(encoder.last(batch), last_BD, rtol=1e-4, atol=1e-5)
    changed = replace(batch, items_BL=batch.items_BL.clone())
    changed.items_BL[-1, 6:] = 1
    torch.testing.assert_close(encoder.encode(changed)[-1, :6], hidden_BLD[-1, :6], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["cleared", "zero", "initial", "trained"])
@pytest.mark.parametrize("placed", [False, True])
def test_the_published_network_with_its_padding_by_hand(kind: str, placed: bool) -> None:
    """Two blocks, a history of three events in a row of five, written out from the code that did so."""
    if placed and kind == "cleared":
        pytest.skip("its positions are cleared too")
    changes = {"norm": "published", "blocks": 2, "heads": 1, "ffn_dim": 16, "max_length": 5, "temperature": None}
    encoder = model(**changes, padding=kind, padding_positions=placed)
    whole = toy.rows(toy.toy_batch(), slice(0, 1))
    batch = replace(whole, items_BL=whole.items_BL[:, :3])
    weight = {**dict(encoder.named_parameters()), **dict(encoder.named_buffers())}
    row = weight["padding.table.weight" if kind == "trained" else "padding.row_1D"].expand(2, 16)
    assert bool(row.any()) == (kind in ("initial", "trained"))
    norm = torch.nn.LayerNorm(16, elementwise_affine=False)
    x = 4 * torch.cat([row, weight["items.weight"][batch.items_BL[0]]])
    positions = weight["positions.table.weight"].flip(0).clone()
    positions[:2] *= placed
    x, real = x + positions, torch.tensor([0, 0, 1, 1, 1.0])[:, None]
    for block in ("blocks.0", "blocks.1"):
        linear = lambda name, y, b=block: y @ weight[f"{b}.{name}.weight"].T + weight[f"{b}.{name}.bias"]  # noqa: E731
        x = x * real if kind == "cleared" else x
        queries = norm(x)
        k, v = linear("attention.key_value", x).chunk(2, dim=1)
        logits = linear("attention.query", queries) @ k.T / 4
        x = norm(queries + logits.masked_fill(torch.ones(5, 5).triu(1).bool(), float("-inf")).softmax(1) @ v)
        x = x + linear("feed_forward.down", linear("feed_forward.up", x).relu())
    torch.testing.assert_close(encoder.encode(batch)[0], norm(x)[2:], rtol=1e-4, atol=1e-5)


def test_only_a_trained_row_learns_and_positions_of_padding_only_where_they_are_added() -> None:
    batch = toy.toy_batch()
    unused = slice(int(batch.lengths_B.max()), None)  # counted from the end: rows of positions no event reaches
    for kind in KINDS:
        for placed in (False, True):
            encoder = model(padding=kind, padding_positions=placed)
            toy.toy_loss(encoder, batch).backward()
            found = {name for name, p in encoder.named_parameters() if p.grad is not None and p.grad.any()}
            assert ("padding.table.weight" in found) == (kind == "trained")
            gradient = encoder.positions.table.weight.grad  # type: ignore[union-attr]
            assert bool(gradient[unused].any()) == (placed and kind in ("zero", "initial", "trained"))
            assert not encoder.items.weight.grad[0].any()  # type: ignore[index]


@pytest.mark.parametrize("kind", ["initial", "trained"])
def test_a_row_is_stored_whether_it_learns_or_not(kind: str) -> None:
    encoder, other = model(padding=kind), toy.toy_model("sasrec", 1, padding=kind).eval()
    other.load_state_dict(encoder.state_dict())
    assert torch.equal(other.score_corpus(toy.toy_batch()), encoder.score_corpus(toy.toy_batch()))


def test_an_empty_history_and_one_of_one_event_are_read() -> None:
    batch = Batch(torch.tensor([0, 1]), torch.tensor([[0], [5]]), torch.tensor([0, 1]))
    for kind in KINDS:
        scores_BV = model(padding=kind).score_corpus(batch)
        assert torch.isfinite(scores_BV).all()
        assert not torch.allclose(scores_BV[0], scores_BV[1], atol=1e-3)


def test_an_exported_program_scores_as_the_model_does() -> None:
    encoder, batch = model(padding="initial", padding_positions=True), toy.toy_batch()
    B, L, C = Dim("B", min=1), Dim("L", min=1, max=12), Dim("C", min=1)
    shapes = ({0: B}, {0: B, 1: L}, {0: B}, {0: B, 1: L}, {0: B}, {0: B, 1: C})
    program = torch.export.export(Scores(encoder), plain_inputs(batch), dynamic_shapes=shapes, strict=False)
    few = plain_inputs(toy.padded(toy.rows(batch, slice(2, 7)), 1))
    torch.testing.assert_close(program.module()(*few), Scores(encoder)(*few), rtol=1e-5, atol=1e-5)


def test_what_has_no_use_is_refused_in_a_line() -> None:
    with pytest.raises(ValidationError, match="positions=absolute counts from a row's first event"):
        toy.small_config("sasrec", padding="masked", positions="absolute")
    for words, why in (
        (["model.padding_positions=true"], "model.padding=none"),
        (["model.padding_positions=true", "model.padding=masked"], "model.padding=masked"),
        (["model.padding_positions=true", "model.padding=zero", "model.positions=none"], "model.positions=none"),
    ):
        with pytest.raises(SeqrecError, match=f"model.padding_positions=true has no effect with {why}"):
            record_of("train", compose("train", words), words)
    with pytest.raises(SeqrecError, match="padding"):
        compose("train", ["model=hstu", "model.padding=zero"])

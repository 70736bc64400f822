"""Agreement of known events' outputs with their items: where training starts, and the equations by loops."""

import pytest
import torch
import torch.nn.functional as F
import toy

from seqrec_cli.models.layers.agreement import agreement
from seqrec_cli.models.layers.transformer import TransformerBlock
from seqrec_cli.models.sasrec import Model

KINDS = ["bias", "pooling"]


def model(kind: str, **changes: object) -> Model:
    made = toy.toy_model("sasrec", agreement=kind, temperature=None, **changes)
    assert isinstance(made, Model)
    return made.eval()


def learned(kind: str, **changes: object) -> Model:
    made = model(kind, **changes)
    generator = torch.Generator().manual_seed(1)
    assert made.agreement is not None
    for parameter in made.agreement.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    for parameter in made.blocks.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    made.items.weight.data[1:] = torch.randn(toy.ITEMS, 16, generator=generator)
    return made


@pytest.mark.parametrize("norm", ["pre", "published"])
@pytest.mark.parametrize("kind", KINDS)
def test_training_starts_as_without_it_and_learns_it(kind: str, norm: str) -> None:
    batch, without = toy.toy_batch(), model("none", norm=norm)
    made = model(kind, norm=norm)
    made.load_state_dict(without.state_dict(), strict=False)
    torch.testing.assert_close(made.score_corpus(batch), without.score_corpus(batch), rtol=1e-5, atol=1e-6)
    toy.toy_loss(made.train(), batch).backward()
    assert made.agreement is not None
    gain = made.agreement.gain_D if kind == "pooling" else made.agreement.gain_N
    assert gain.grad is not None
    assert gain.grad.ne(0).all()


@pytest.mark.parametrize("norm", ["pre", "published"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_last_state_is_that_of_all_and_later_events_change_nothing(kind: str, norm: str) -> None:
    made, batch = learned(kind, norm=norm), toy.toy_batch()
    states_BLD, rows_B = made.encode(batch), torch.arange(len(batch))
    torch.testing.assert_close(made.last(batch), states_BLD[rows_B, batch.lengths_B - 1], rtol=1e-4, atol=1e-5)
    items_BL = batch.items_BL.clone()
    items_BL[:, 3] = items_BL[:, 3] % toy.ITEMS + 1
    changed = made.encode(toy.Batch(**(vars(batch) | {"items_BL": items_BL})))
    torch.testing.assert_close(changed[:, :3], states_BLD[:, :3], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(changed[:, 3], states_BLD[:, 3])


def test_pooling_by_a_loop() -> None:
    made, batch = learned("pooling"), toy.toy_batch()
    assert made.agreement is not None
    x_BLD, items_BLD = made.embed(batch), made.items(batch.items_BL)
    for block in made.blocks:
        x_BLD = block(x_BLD, causal=True)
    row = 5
    for i in range(int(batch.lengths_B[row])):
        x_LD, e_LD = x_BLD[row, : i + 1], items_BLD[row, : i + 1]
        weights_L = (
            made.agreement.sharpness * (F.normalize(x_LD, dim=-1) * F.normalize(e_LD, dim=-1)).sum(-1)
        ).softmax(0)
        expected_D = made.norm(x_LD[-1] + made.agreement.gain_D * (weights_L[:, None] * e_LD).sum(0))
        torch.testing.assert_close(made.encode(batch)[row, i], expected_D, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("positions", ["reversed", "relative"])
def test_the_bias_is_added_to_the_logits_of_every_block_but_the_first(positions: str) -> None:
    made, batch = learned("bias", positions=positions, blocks=3), toy.toy_batch()
    assert made.agreement is not None
    first, *others = made.blocks
    x_BLD = first(made.embed(batch), causal=True)
    for block, gain_H in zip(others, made.agreement.gain_N.split(2), strict=True):
        assert isinstance(block, TransformerBlock)
        cosines_BL = agreement(x_BLD, made.items(batch.items_BL))
        attention, inner = block.attention, block.norm_attention(x_BLD)
        q, k, v = attention.queries_keys_values(inner, inner, None)
        logits = q @ k.mT * q.shape[-1] ** -0.5 + gain_H[:, None, None] * cosines_BL[:, None, None]
        if attention.positions is not None:
            logits = logits + attention.positions(k.shape[2])
        L = x_BLD.shape[1]
        weights = logits.masked_fill(torch.ones(L, L, dtype=torch.bool).triu(1), -torch.inf).softmax(-1)
        x_BLD = block._after_attention(x_BLD, (weights @ v).transpose(1, 2).flatten(2))
    real_BL = batch.mask_BL
    torch.testing.assert_close(made.encode(batch)[real_BL], made.norm(x_BLD)[real_BL], rtol=1e-4, atol=1e-5)


def test_agreement_is_a_cosine_and_nothing_without_a_vector() -> None:
    x_1LD = torch.tensor([[[3.0, 4.0], [1.0, 0.0], [2.0, 2.0]]])
    items_1LD = torch.tensor([[[6.0, 8.0], [0.0, 2.0], [0.0, 0.0]]])
    torch.testing.assert_close(agreement(x_1LD, items_1LD), torch.tensor([[1.0, 0.0, 0.0]]))

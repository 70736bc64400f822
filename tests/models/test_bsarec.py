"""BSARec: its filter against Fourier transforms of rows padded on the left, and its blocks against the paper's.

Legend: B rows, L history events, M max_length, D width.
"""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from toy import ITEMS, padded, toy_batch, toy_model

from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.validate import dump, validate, validate_plain
from seqrec_cli.data.batch import Batch
from seqrec_cli.models.bsarec import Block, LowPass, Model, low_pass

M, ALPHA, CUTOFF = 12, 0.6, 3


def model(**changes: object) -> Model:
    torch.manual_seed(0)
    made = toy_model("bsarec", alpha=ALPHA, cutoff=CUTOFF, **changes)
    assert isinstance(made, Model)
    for parameter in made.parameters():  # nothing is at its start, norms and biases neither
        torch.nn.init.normal_(parameter, std=0.5)
    return made.eval()


@pytest.mark.parametrize("length", [1, 2, 7, 12])
def test_weights_of_the_low_pass_are_the_sum_of_cosines(length: int) -> None:
    for frequencies in (1, 2, 3):
        for distance, weight in enumerate(low_pass(length, frequencies).tolist()):
            total = 0.0
            for k in range(1, min(frequencies, length // 2 + 1)):
                total += (1 if 2 * k == length else 2) * math.cos(2 * math.pi * k * distance / length)
            assert weight == pytest.approx((1 + total) / length, abs=1e-6)


def filtered_on_the_left(x_LD: Tensor, frequencies: int) -> Tensor:
    """As published: of M positions, the row's events the last."""
    row_MD = F.pad(x_LD, (0, 0, M - len(x_LD), 0))
    bins = torch.fft.rfft(row_MD, dim=0, norm="ortho")
    bins[frequencies:] = 0
    return torch.fft.irfft(bins, n=M, dim=0, norm="ortho")[M - len(x_LD) :]


@pytest.mark.parametrize("length", [1, 5, M])
def test_right_padded_rows_are_filtered_as_left_padded_ones(length: int) -> None:
    torch.manual_seed(2)
    x_LD = torch.randn(length, 4)
    for width in range(length, M + 1):
        x_BLD = F.pad(x_LD, (0, 0, 0, width - length))[None]
        layer = LowPass(M, 2, causal=False)
        expected = filtered_on_the_left(x_LD, 2)
        torch.testing.assert_close(layer(x_BLD)[0, :length], expected)
        torch.testing.assert_close(layer.last(x_BLD, torch.tensor([length - 1]))[0], expected[-1])


def test_a_causal_filter_is_the_row_s_at_the_last_event_of_each_prefix() -> None:
    torch.manual_seed(2)
    x_LD = torch.randn(9, 4)
    low_LD = LowPass(M, 2, causal=True)(x_LD[None])[0]
    for length in range(1, 10):
        torch.testing.assert_close(low_LD[length - 1], filtered_on_the_left(x_LD[:length], 2)[-1])


def published(block: Block, x_LD: Tensor) -> Tensor:
    """A block of a row without padding, equation by equation."""
    low_LD = filtered_on_the_left(x_LD, CUTOFF // 2 + 1)
    filtered_LD = block.norm_filter(x_LD + low_LD + block.beta_D**2 * (x_LD - low_LD))
    attention, D = block.attention, x_LD.shape[1]
    k_LD, v_LD = attention.key_value(x_LD).chunk(2, dim=-1)
    q_HLd, k_HLd, v_HLd = (
        y.unflatten(-1, (attention.heads, -1)).transpose(0, 1) for y in (attention.query(x_LD), k_LD, v_LD)
    )
    logits_HLL = q_HLd @ k_HLd.mT / math.sqrt(D // attention.heads)
    later_LL = torch.ones(len(x_LD), len(x_LD), dtype=torch.bool).triu(1)
    joined_LD = (logits_HLL.masked_fill(later_LL, -torch.inf).softmax(-1) @ v_HLd).transpose(0, 1).flatten(1)
    assert attention.out is not None
    mixed_LD = ALPHA * filtered_LD + (1 - ALPHA) * block.norm_attention(x_LD + attention.out(joined_LD))
    fed_LD = block.feed_forward.down(F.gelu(block.feed_forward.up(mixed_LD)))
    done_LD: Tensor = block.norm_feed_forward(mixed_LD + fed_LD)
    return done_LD


def test_states_are_those_of_the_paper_row_by_row() -> None:
    made, batch = model(filter="row", temperature=None), toy_batch()
    assert not made.causal
    with torch.no_grad():
        states_BLD, last_BD = made.encode(batch), made.last(batch)
        for row, length in enumerate(batch.lengths_B.tolist()):
            assert made.positions.table is not None
            ages_L = torch.arange(length - 1, -1, -1)
            x_LD = made.items.weight[batch.items_BL[row, :length]] + made.positions.table.weight[ages_L]
            x_LD = made.norm_embedding(x_LD)
            for block in made.blocks:
                assert isinstance(block, Block)
                x_LD = published(block, x_LD)
            torch.testing.assert_close(states_BLD[row, :length], x_LD, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(last_BD[row], x_LD[-1], rtol=1e-4, atol=1e-5)


def test_normed_embeddings_are_dropped_and_attention_has_a_rate_of_its_own() -> None:
    made, batch = model(filter="row", dropout=0.5, attention_dropout=0.25).train(), toy_batch()
    real_BL = torch.arange(batch.items_BL.shape[1]) < batch.lengths_B[:, None]
    assert 0.3 < (made.embed(batch)[real_BL] == 0).float().mean() < 0.7  # the norm would leave no zeros
    for block in made.blocks:
        assert isinstance(block, Block)
        assert (block.attention.drop, block.drop.probability) == (0.25, 0.5)


@pytest.mark.parametrize("kind", ["row", "causal"])
def test_padding_changes_nothing(kind: str) -> None:
    made, batch = model(filter=kind), toy_batch()
    with torch.no_grad():
        torch.testing.assert_close(made.score_corpus(padded(batch, 1)), made.score_corpus(batch))


def with_other_ends(batch: Batch, kept: int) -> Batch:
    items_BL = batch.items_BL.clone()
    items_BL[:, kept:] = (items_BL[:, kept:] % ITEMS + 1) * (items_BL[:, kept:] > 0)
    return replace(batch, items_BL=items_BL)


def test_later_events_reach_the_published_filter_alone() -> None:
    """Earlier states of the causal one stay, bit for bit; those of the other do not."""
    batch = toy_batch()
    longest = int(batch.lengths_B.argmax())
    for kept in (1, 5):
        with torch.no_grad():
            made = model(filter="causal", positions="absolute")
            before_BLD, after_BLD = (made.encode(each)[:, :kept] for each in (batch, with_other_ends(batch, kept)))
            assert torch.equal(before_BLD, after_BLD)
            made = model(filter="row", positions="absolute")
            before_BLD, after_BLD = (made.encode(each)[:, :kept] for each in (batch, with_other_ends(batch, kept)))
            assert not torch.allclose(before_BLD[longest], after_BLD[longest], atol=1e-3)


class Scored(torch.nn.Module):
    def __init__(self, made: Model) -> None:
        super().__init__()
        self.made = made

    def forward(self, items_BL: Tensor, lengths_B: Tensor) -> Tensor:
        return self.made.score_corpus(Batch(torch.zeros_like(lengths_B), items_BL, lengths_B))


def test_the_published_filter_is_exported_at_any_length() -> None:
    scored, batch = Scored(model(filter="row")), toy_batch()
    shapes = {"items_BL": {1: torch.export.Dim("L", min=2, max=M)}, "lengths_B": None}
    program = torch.export.export(scored, (batch.items_BL, batch.lengths_B), dynamic_shapes=shapes).module()
    shorter = replace(batch, items_BL=batch.items_BL[:, :4], lengths_B=batch.lengths_B.clamp(max=4))
    with torch.no_grad():
        for each in (batch, padded(batch, 1), shorter):
            given = each.items_BL, each.lengths_B
            torch.testing.assert_close(program(*given), scored(*given), rtol=1e-4, atol=1e-5)


REMEDIES = r"use objective\.window=prefixes or model\.filter=causal$"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["objective=next_item"], REMEDIES),
        (["objective=bce", "objective.window=last"], REMEDIES),
        (["objective=all_action"], r"to predict; use model\.filter=causal$"),
        (["model.context=request"], "model.context=request"),
        (["objective=cloze"], "objective=cloze cannot train model=bsarec"),
    ],
)
def test_a_filter_that_sees_targets_is_refused_with_both_remedies(words: list[str], said: str) -> None:
    with pytest.raises(SeqrecError, match=said) as refusal:
        validate("train", compose("train", ["model=bsarec", *words]))
    assert "\n" not in str(refusal.value)


def test_it_is_trained_by_prefixes_or_by_clicks_or_as_a_member() -> None:
    row = ["model=bsarec"]
    taught = validate("train", compose("train", row))
    assert (taught.objective.window, taught.model.filter) == ("prefixes", "row")  # type: ignore[attr-defined]
    validate("train", compose("train", [*row, "objective=click"]))
    validate("train", compose("train", [*row, "model.filter=causal", "objective=next_item"]))
    validate("train", compose("train", [*row, "model.alpha=0", "objective=next_item"]))  # it has no filter
    plain = dump(validate("train", compose("train", ["model=ensemble", "objective.window=prefixes"])))
    plain["model"]["members"]["bsarec"] = dump(validate("train", compose("train", [*row, "objective=click"])))["model"]
    validate_plain("train", plain)
    plain["objective"]["window"] = "sliding"
    with pytest.raises(SeqrecError, match=r"objective\.window=prefixes or model\.members\.bsarec\.filter=causal"):
        validate_plain("train", plain)

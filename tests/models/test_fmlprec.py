"""FMLP-Rec: its filter against Fourier transforms of rows padded on the left, and its blocks against the paper's.

Legend: B rows, L events, M max_length, D width.
"""

import pytest
import torch
import torch.nn.functional as F
from test_contract import Scores, plain_inputs
from torch import Tensor
from torch.export import Dim
from toy import padded, toy_batch, toy_model

from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.validate import validate
from seqrec_cli.models.fmlprec import LearnableFilter, Model
from seqrec_cli.models.layers.dropout import Dropout


def filtered_on_the_left(layer: LearnableFilter, x_LD: Tensor) -> Tensor:
    """As published: of M positions, the row's events the last."""
    row_MD = F.pad(x_LD, (0, 0, layer.length - len(x_LD), 0))
    bins = torch.fft.rfft(row_MD, dim=0, norm="ortho") * torch.view_as_complex(layer.weight_KD2.detach())
    return torch.fft.irfft(bins, n=layer.length, dim=0, norm="ortho")[layer.length - len(x_LD) :]


@pytest.mark.parametrize("M", [1, 6, 7, 12])
def test_right_padded_rows_are_filtered_as_left_padded_ones(M: int) -> None:
    torch.manual_seed(M)
    layer = LearnableFilter(M, 4, 1.0, causal=False)
    for length in {1, M // 2 + 1, M}:
        x_LD = torch.randn(length, 4)
        expected = filtered_on_the_left(layer, x_LD)
        for width in range(length, M + 1):
            x_BLD = F.pad(x_LD, (0, 0, 0, width - length))[None]
            torch.testing.assert_close(layer(x_BLD)[0, :length], expected, rtol=1e-4, atol=1e-5)
            last_BD = layer.last(x_BLD, torch.tensor([length - 1]))
            torch.testing.assert_close(last_BD[0], expected[-1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("M", [1, 7, 12])
def test_a_causal_filter_is_the_published_one_at_the_end_of_each_prefix(M: int) -> None:
    torch.manual_seed(M)
    layer, x_LD = LearnableFilter(M, 4, 1.0, causal=True), torch.randn(M, 4)
    filtered_LD = layer(x_LD[None])[0]
    for length in range(1, M + 1):
        expected = filtered_on_the_left(layer, x_LD[:length])[-1]
        torch.testing.assert_close(filtered_LD[length - 1], expected, rtol=1e-4, atol=1e-5)


def model(kind: str, **changes: object) -> Model:
    torch.manual_seed(0)
    made = toy_model("fmlprec", filter=kind, temperature=None, **changes)
    assert isinstance(made, Model)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return made.eval()


def test_states_are_those_of_the_paper_row_by_row() -> None:
    made, batch = model("row"), toy_batch()
    assert not made.causal
    assert made.positions.table is not None
    with torch.no_grad():
        states_BLD, last_BD = made.encode(batch), made.last(batch)
        for row, length in enumerate(batch.lengths_B.tolist()):
            ages_L = torch.arange(length - 1, -1, -1)
            x_LD = made.items.weight[batch.items_BL[row, :length]] + made.positions.table.weight[ages_L]
            x_LD = made.norm_embedding(x_LD)
            for block in made.blocks:
                x_LD = block.norm_filter(x_LD + filtered_on_the_left(block.filter, x_LD))  # type: ignore[operator,arg-type]
                up, down = block.feed_forward.up, block.feed_forward.down  # type: ignore[union-attr]
                x_LD = block.norm_feed_forward(x_LD + down(F.gelu(up(x_LD))))  # type: ignore[operator]
            torch.testing.assert_close(states_BLD[row, :length], x_LD, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(last_BD[row], x_LD[-1], rtol=1e-4, atol=1e-5)


def test_dropout_is_of_the_filter_s_output_and_not_of_what_it_is_added_to(monkeypatch: pytest.MonkeyPatch) -> None:
    made, x_BLD = model("causal"), torch.randn(2, 5, 16)
    block, seen_BL = made.blocks[0], torch.ones(2, 5, dtype=torch.bool)
    whole = block(x_BLD, seen_BL)
    monkeypatch.setattr(Dropout, "forward", lambda self, x: torch.zeros_like(x))
    kept = block.norm_filter(x_BLD)  # type: ignore[operator]
    expected = block.norm_feed_forward(kept + block.feed_forward(kept))  # type: ignore[operator]
    torch.testing.assert_close(block(x_BLD, seen_BL), expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(whole, expected, atol=1e-2)


def test_later_events_reach_the_published_filter_alone() -> None:
    batch = toy_batch()
    items_BL = batch.items_BL.clone()
    items_BL[-1, 6] = items_BL[-1, 6] % 40 + 1
    changed = type(batch)(**(vars(batch) | {"items_BL": items_BL}))
    for kind, same in (("causal", True), ("row", False)):
        made = model(kind, positions="absolute")
        with torch.no_grad():
            before, after = made.encode(batch)[-1, :6], made.encode(changed)[-1, :6]
        assert torch.allclose(before, after, rtol=1e-4, atol=1e-5) == same


@pytest.mark.parametrize("kind", ["row", "causal"])
def test_a_program_at_any_length_has_the_models_scores(kind: str) -> None:
    made, batch = model(kind), toy_batch()
    B, L, C = Dim("B", min=1), Dim("L", min=1, max=12), Dim("C", min=1)
    shapes = ({0: B}, {0: B, 1: L}, {0: B}, {0: B, 1: L}, {0: B}, {0: B, 1: C})
    program = torch.export.export(Scores(made), plain_inputs(batch), dynamic_shapes=shapes, strict=False)
    inputs = plain_inputs(padded(batch, 1))
    with torch.no_grad():
        torch.testing.assert_close(program.module()(*inputs), Scores(made)(*inputs), rtol=1e-4, atol=1e-4)
    assert not any("fft" in str(node.target) for node in program.graph.nodes)  # ONNX has none


def test_a_filter_that_sees_targets_is_refused_with_both_remedies() -> None:
    cfg = validate("train", compose("train", ["model=fmlprec"]))
    assert (cfg.objective.window, cfg.model.filter) == ("prefixes", "row")  # type: ignore[attr-defined]
    validate("train", compose("train", ["model=fmlprec", "model.filter=causal", "objective=next_item"]))
    for words in (["objective=next_item"], ["objective=bce", "objective.window=last"]):
        with pytest.raises(SeqrecError, match=r"use objective\.window=prefixes or model\.filter=causal$") as refused:
            validate("train", compose("train", ["model=fmlprec", *words]))
        assert "\n" not in str(refused.value)

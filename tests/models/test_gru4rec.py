"""GRU4Rec against torch's GRU."""

import pytest
import torch
import toy
from torch import nn

from seqrec_cli.models.encoder import ItemEncoder


@pytest.mark.parametrize("layers", [1, 2])
def test_states_and_gradients_are_those_of_torchs_gru(layers: int) -> None:
    model = toy.toy_model("gru4rec", layers=layers, hidden=10).eval()
    assert isinstance(model, ItemEncoder)
    reference = nn.GRU(16, 10, layers, batch_first=True)
    with torch.no_grad():
        for n in range(layers):
            ours = {k: dict(model.named_parameters())[f"blocks.{n}.{k}"] for k in ("project.weight", "project.bias")}
            (new, reset, update), (new_, reset_, update_) = (
                ours["project.weight"].chunk(3),
                ours["project.bias"].chunk(3),
            )
            recurrent = dict(model.named_parameters())[f"blocks.{n}.recurrent.weight"].chunk(3)  # reset, update, new
            # torch's update gate keeps the old state, ours takes the new one: 1 - sigmoid(x) = sigmoid(-x).
            getattr(reference, f"weight_ih_l{n}").copy_(torch.cat([reset, -update, new]))
            getattr(reference, f"weight_hh_l{n}").copy_(torch.cat([recurrent[0], -recurrent[1], recurrent[2]]))
            getattr(reference, f"bias_ih_l{n}").copy_(torch.cat([reset_, -update_, new_]))
            getattr(reference, f"bias_hh_l{n}").zero_()
    batch = toy.toy_batch()
    x = torch.randn(8, 10, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
    got, expected = model.forward_layers(x, batch), model.out(reference(x)[0])  # type: ignore[operator]
    real_BL = batch.mask_BL
    torch.testing.assert_close(got[real_BL], expected[real_BL], rtol=1e-4, atol=1e-5)
    last = torch.stack([expected[b, n - 1] for b, n in enumerate(batch.lengths_B.tolist())])
    torch.testing.assert_close(model.forward_layers_last(x, batch), last, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(model.forward_layers_last(x, batch), last, rtol=1e-4, atol=1e-5)
    ours_, theirs = (torch.autograd.grad(y[real_BL].square().sum(), x)[0] for y in (got, expected))
    torch.testing.assert_close(ours_, theirs, rtol=1e-3, atol=1e-5)

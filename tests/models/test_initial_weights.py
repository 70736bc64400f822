"""How weights start: `model.layer_std`, in every layer of every encoder."""

import pytest
import torch
import toy
from torch import nn

from seqrec_cli.config.registry import config_class

ENCODERS = [n for n in toy.model_names() if config_class("model", n).capabilities.family == "encoder"]  # type: ignore[attr-defined]


def wide(name: str, **changes: object) -> nn.Module:
    return toy.toy_model(name, embed_dim=64, **({"ffn_dim": 64} if name == "bert4rec" else {}), **changes)


def test_bert_starts_every_layer_and_table_from_a_truncated_normal_of_one_deviation() -> None:
    model = wide("bert4rec", layer_std=0.02, init_std=0.02)
    parts = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Embedding)]
    assert len(parts) > 10
    cut = 0.02 * 0.8796  # a normal cut at two deviations: sqrt(1 - 4 phi(2) / (2 Phi(2) - 1)) of it is left
    for part in parts:
        rows = part.weight[1:] if isinstance(part, nn.Embedding) and part.padding_idx == 0 else part.weight
        assert rows.std().item() == pytest.approx(cut, rel=0.12)
        assert rows.abs().max().item() <= 0.04
        if isinstance(part, nn.Linear) and part.bias is not None:
            assert not part.bias.any()


@pytest.mark.parametrize("name", [name for name in ENCODERS if name != "ensemble"])
def test_without_it_layers_keep_the_variance_of_what_they_read(name: str) -> None:
    before, after = toy.toy_model(name), toy.toy_model(name, layer_std=1e-3)
    changed = 0
    for (kind, plain), (_, small) in zip(before.named_modules(), after.named_modules(), strict=True):
        if isinstance(plain, nn.Linear) and isinstance(small, nn.Linear):
            changed += 1
            assert plain.weight.std().item() > 20 * small.weight.std().item(), kind
        elif isinstance(plain, nn.Embedding) and isinstance(small, nn.Embedding):
            assert torch.isclose(plain.weight.std(), small.weight.std(), rtol=0.3), kind
    assert changed

"""Places in sorted numbers: eagerly, and by the steps that exported programs take."""

import pytest
import torch

from seqrec_cli.models import search
from seqrec_cli.models.search import first_at_least


@pytest.fixture(params=[False, True], ids=["eager", "exporting"])
def exporting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: request.param)


@pytest.mark.usefixtures("exporting")
@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 100])
def test_it_counts_the_smaller_numbers(count: int) -> None:
    torch.manual_seed(count)
    sorted_BN = torch.randint(0, 30, (3, count)).sort(1).values
    wanted_BC = torch.randint(-3, 35, (3, 20))
    expected = (sorted_BN[:, None] < wanted_BC[..., None]).sum(-1)
    assert torch.equal(first_at_least(sorted_BN, wanted_BC), expected)
    assert torch.equal(first_at_least(sorted_BN[1], wanted_BC[1]), expected[1])


def test_an_exported_program_takes_rows_of_any_length() -> None:
    class Search(torch.nn.Module):
        def forward(self, sorted_BN: torch.Tensor, wanted_BC: torch.Tensor) -> torch.Tensor:
            return search.first_at_least(sorted_BN, wanted_BC)

    sorted_BN, wanted_BC = torch.arange(24).view(2, 12), torch.randint(0, 25, (2, 5))
    sizes = {"sorted_BN": {1: torch.export.Dim("N", min=1)}, "wanted_BC": None}
    program = torch.export.export(Search(), (sorted_BN, wanted_BC), dynamic_shapes=sizes)
    assert "searchsorted" not in str(program.graph)
    for length in (1, 3, 12, 40):
        longer_BN = torch.randint(0, 25, (2, length)).sort(1).values
        found = program.module()(longer_BN, wanted_BC)
        assert torch.equal(found, torch.searchsorted(longer_BN, wanted_BC))

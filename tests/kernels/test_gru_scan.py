"""The gated recurrence: against a loop by hand, its loop in torch's operators, threads, views and number formats."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from seqrec_cli import kernels
from seqrec_cli.kernels.build import compiler
from seqrec_cli.kernels.gru_scan.op import _gru_last as gru_last
from seqrec_cli.kernels.gru_scan.op import _gru_states as gru_states
from seqrec_cli.kernels.gru_scan.op import _loop
from seqrec_cli.kernels.gru_scan.reference import FROZEN, KEPT, REPLACED, SCALED, step_by_step
from seqrec_cli.models.layers.gru import Recurrence
from tests.gru_by_hand import gru_by_hand

GATES = [SCALED, REPLACED, KEPT]
in_c = pytest.mark.skipif(compiler() is None, reason="no C compiler here")


def scan_inputs(L: int = 5, B: int = 3, C: int = 2, H: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    make = lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=generator)  # noqa: E731
    return [make(L, B, 3 * H), make(L, B, C).sigmoid(), make(3 * H, H) / 2]


@pytest.mark.parametrize("gate", GATES)
def test_the_scan_is_the_recurrence_and_its_gradients_are_exact(gate: int) -> None:
    inputs, scales, recurrent = scan_inputs()
    last, states, _, _ = gru_states(inputs, scales, recurrent, gate, True, None)
    for b in range(3):
        for c in range(2):
            expected = gru_by_hand(inputs[:, b].numpy(), scales[:, b, c].numpy(), recurrent.numpy(), gate)
            np.testing.assert_allclose(states[:, b, c].numpy(), expected, rtol=1e-10)
    torch.testing.assert_close(last, states[-1])
    torch.testing.assert_close(gru_last(inputs, scales, recurrent, gate, None), last)
    torch.testing.assert_close(step_by_step(inputs, scales, recurrent, gate), states)
    leaves = [x.requires_grad_() for x in scan_inputs(L=3)]
    assert torch.autograd.gradcheck(lambda *x: gru_states(*x, gate, True, None)[:2], leaves)


@pytest.mark.usefixtures("without_c")
def test_products_in_bf16_are_near() -> None:
    leaves = [[x.float().requires_grad_() for x in scan_inputs()] for _ in range(2)]
    results = []
    for mine, low in zip(leaves, (None, torch.bfloat16), strict=True):
        last = gru_states(*mine, SCALED, True, low)[0]
        last.square().sum().backward()
        results.append([last.detach(), *(x.grad for x in mine)])
    assert not torch.equal(results[0][0], results[1][0])
    for exact, near in zip(*results, strict=True):
        torch.testing.assert_close(near, exact, rtol=0.05, atol=0.02 * exact.abs().max().item())


def test_a_plain_recurrence_is_torchs_gru() -> None:
    torch.manual_seed(0)
    ours, theirs, x = Recurrence(5, 4, 9), torch.nn.GRU(5, 4, batch_first=True), torch.randn(3, 9, 5)
    torch.nn.init.normal_(ours.project.bias)
    n, r, u = range(0, 4), range(4, 8), range(8, 12)
    with torch.no_grad():  # torch's z is 1 - u: its weights for z are those for u with the other sign
        sign = torch.tensor([1.0] * 4 + [-1.0] * 4 + [1.0] * 4)
        order = [*r, *u, *n]
        theirs.weight_ih_l0.copy_(ours.project.weight[order] * sign[:, None])
        theirs.bias_ih_l0.copy_(ours.project.bias[order] * sign)
        theirs.weight_hh_l0.copy_(ours.recurrent.weight * sign[:, None])
        theirs.bias_hh_l0.zero_()
    got = ours.states(ours.project(x), torch.ones(3, 9, 1))[:, :, 0]
    torch.testing.assert_close(got, theirs(x)[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("gate", GATES)
def test_a_padded_step_freezes_the_state(gate: int) -> None:
    inputs, scales, recurrent = scan_inputs()
    scales[3:] = FROZEN[gate]
    states = gru_states(inputs, scales, recurrent, gate, True, None)[1]
    assert torch.equal(states[2], states[3])
    assert torch.equal(states[2], states[4])


@pytest.fixture
def without_c() -> Iterator[None]:
    kernels.use(False)
    yield
    kernels.use(True)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def results(inputs: list[Tensor], gate: int, exact: bool) -> list[Tensor]:
    """Last and all states, and the gradients of the three inputs by both."""
    leaves = [x.detach().to(torch.float64 if exact else torch.float32).requires_grad_() for x in inputs]
    if exact:
        states = step_by_step(*leaves, gate)
        last = states[-1]
    else:
        last, states, *_ = gru_states(*leaves, gate, True, None)
    weights = torch.linspace(-1, 1, states.numel(), dtype=states.dtype).view(*states.shape[1:], -1).movedim(-1, 0)
    ((states * weights).sum() + last.square().sum()).backward()
    return [last.detach(), states.detach(), *(x.grad for x in leaves if x.grad is not None)]


@in_c
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("shape", [(5, 3, 2, 4), (7, 13, 1, 32), (6, 9, 3, 50), (3, 1, 7, 17), (4, 2, 5, 128)])
def test_the_loop_in_c_is_the_recurrence_and_its_gradients(shape: tuple[int, ...], gate: int) -> None:
    inputs = [x.float() for x in scan_inputs(*shape)]
    inputs[2] /= shape[3] ** 0.5
    inputs[1][-1, 0] = FROZEN[gate]
    expected = results(inputs, gate, exact=True)
    for count in (1, 3):
        torch.set_num_threads(count)
        got = results(inputs, gate, exact=False)
        assert len(got) == len(expected) == 5
        for mine, exact in zip(got, expected, strict=True):
            torch.testing.assert_close(mine.double(), exact, rtol=1e-5, atol=1e-6 * exact.abs().max().item())
        last = gru_last(*inputs, gate, None)
        assert torch.equal(last, got[0])
        unkept = gru_states(*inputs, gate, False, None)
        assert torch.equal(unkept[1], got[1])
        assert unkept[2].numel() == unkept[3].numel() == 0


@in_c
def test_the_loop_in_c_reads_views() -> None:
    """Rows first in memory, as a model has them, and a scale that all candidates share."""
    inputs, scales, recurrent = (x.float() for x in scan_inputs())
    rows_first = inputs.transpose(0, 1).contiguous().transpose(0, 1)
    shared = scales[..., :1].expand_as(scales)
    expected = step_by_step(inputs, shared.contiguous(), recurrent, SCALED)
    torch.testing.assert_close(gru_states(rows_first, shared, recurrent, SCALED, False, None)[1], expected)
    assert torch.equal(
        gru_last(inputs.repeat_interleave(2, 2)[..., ::2], shared, recurrent, SCALED, None),
        gru_last(inputs, shared, recurrent, SCALED, None),
    )


@pytest.mark.parametrize("on", [pytest.param(True, marks=in_c), False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.usefixtures("without_c")
def test_inputs_may_have_16_bits(dtype: torch.dtype, on: bool) -> None:
    kernels.use(on)
    inputs, scales, recurrent = (x.float() for x in scan_inputs())
    low = inputs.to(dtype)
    got = gru_last(low, scales, recurrent, SCALED, None), *gru_states(low, scales, recurrent, SCALED, False, None)[:2]
    states = step_by_step(low.float(), scales, recurrent, SCALED)
    for mine, expected in zip(got, (states[-1], states[-1], states), strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-6)


@in_c
def test_the_loop_in_c_keeps_what_is_no_number_and_bears_large_ones() -> None:
    inputs, scales, recurrent = (x.float() for x in scan_inputs())
    inputs[2, 1, 0] = float("nan")
    inputs[:, 2] *= 1e6
    last = gru_last(inputs, scales, recurrent, SCALED, None)
    assert last[1].isnan().any()
    assert last[0].isfinite().all()
    exact = step_by_step(inputs.double(), scales.double(), recurrent.double(), SCALED)[-1]
    torch.testing.assert_close(last[2].double(), exact[2])
    tiny = torch.tensor(1e-40)
    assert (tiny * torch.ones(())).item() > 0  # the library leaves the processor's rounding as it was


@in_c
def test_where_16_bit_products_win_torch_makes_them() -> None:
    wide, narrow = torch.empty(3 * 256, 256), torch.empty(3 * 64, 64)
    assert _loop(wide, None)
    assert _loop(narrow, torch.bfloat16)
    assert _loop(wide, torch.bfloat16) is None
    assert _loop(narrow.double(), None) is None

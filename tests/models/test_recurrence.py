"""The gated recurrence: against a loop by hand, its gradients, and the same in C."""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from gru_by_hand import gru_by_hand
from torch import Tensor

from seqrec_cli.models.parts import native, recurrence_native
from seqrec_cli.models.parts.recurrence import Recurrence, gru_last, gru_states, step_by_step

in_c = pytest.mark.skipif(native.compiler() is None, reason="no C compiler here")


def scan_inputs(L: int = 5, B: int = 3, C: int = 2, H: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    make = lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=generator)  # noqa: E731
    return [make(L, B, 3 * H), make(L, B, C).sigmoid(), make(3 * H, H) / 2]


@pytest.mark.parametrize("replace", [False, True])
def test_the_scan_is_the_recurrence_and_its_gradients_are_exact(replace: bool) -> None:
    inputs, scales, recurrent = scan_inputs()
    last, states, _, _ = gru_states(inputs, scales, recurrent, replace, True, None)
    for b in range(3):
        for c in range(2):
            expected = gru_by_hand(inputs[:, b].numpy(), scales[:, b, c].numpy(), recurrent.numpy(), replace)
            np.testing.assert_allclose(states[:, b, c].numpy(), expected, rtol=1e-10)
    torch.testing.assert_close(last, states[-1])
    torch.testing.assert_close(gru_last(inputs, scales, recurrent, replace, None), last)
    torch.testing.assert_close(step_by_step(inputs, scales, recurrent, replace), states)
    leaves = [x.requires_grad_() for x in scan_inputs(L=3)]
    assert torch.autograd.gradcheck(lambda *x: gru_states(*x, replace, True, None)[:2], leaves)


def test_the_operators_keep_the_rules_of_torch() -> None:
    leaves = [x.requires_grad_() for x in scan_inputs(L=2)]
    torch.library.opcheck(gru_states, (*leaves, False, True, None))
    torch.library.opcheck(gru_last, (*(x.detach() for x in leaves), False, None))


def test_products_in_bf16_are_near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrence_native, "compiled", lambda *given: None)
    leaves = [[x.float().requires_grad_() for x in scan_inputs()] for _ in range(2)]
    results = []
    for mine, low in zip(leaves, (None, torch.bfloat16), strict=True):
        last = gru_states(*mine, False, True, low)[0]
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


def test_a_padded_step_freezes_the_state() -> None:
    inputs, scales, recurrent = scan_inputs()
    scales[3:] = 0
    states = gru_states(inputs, scales, recurrent, False, True, None)[1]
    assert torch.equal(states[2], states[3])
    assert torch.equal(states[2], states[4])


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def results(inputs: list[Tensor], replace: bool, exact: bool) -> list[Tensor]:
    """Last and all states, and the gradients of the three inputs by both."""
    leaves = [x.detach().to(torch.float64 if exact else torch.float32).requires_grad_() for x in inputs]
    if exact:
        states = step_by_step(*leaves, replace)
        last = states[-1]
    else:
        last, states, *_ = gru_states(*leaves, replace, True, None)
    weights = torch.linspace(-1, 1, states.numel(), dtype=states.dtype).view(*states.shape[1:], -1).movedim(-1, 0)
    ((states * weights).sum() + last.square().sum()).backward()
    return [last.detach(), states.detach(), *(x.grad for x in leaves if x.grad is not None)]


@in_c
def test_where_a_compiler_is_the_loop_is_compiled() -> None:
    assert recurrence_native.compiled(torch.empty(12, 4), None) is not None


@in_c
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("shape", [(5, 3, 2, 4), (7, 13, 1, 32), (6, 9, 3, 50), (3, 1, 7, 17), (4, 2, 5, 128)])
def test_the_loop_in_c_is_the_recurrence_and_its_gradients(shape: tuple[int, ...], replace: bool) -> None:
    inputs = [x.float() for x in scan_inputs(*shape)]
    inputs[2] /= shape[3] ** 0.5
    expected = results(inputs, replace, exact=True)
    for count in (1, 3):
        torch.set_num_threads(count)
        got = results(inputs, replace, exact=False)
        assert len(got) == len(expected) == 5
        for mine, exact in zip(got, expected, strict=True):
            torch.testing.assert_close(mine.double(), exact, rtol=1e-5, atol=1e-6 * exact.abs().max().item())
        last = gru_last(*inputs, replace, None)
        assert torch.equal(last, got[0])
        unkept = gru_states(*inputs, replace, False, None)
        assert torch.equal(unkept[1], got[1])
        assert unkept[2].numel() == unkept[3].numel() == 0


@in_c
def test_the_loop_in_c_reads_views() -> None:
    """Rows first in memory, as a model has them, and a scale that all candidates share."""
    inputs, scales, recurrent = (x.float() for x in scan_inputs())
    rows_first = inputs.transpose(0, 1).contiguous().transpose(0, 1)
    shared = scales[..., :1].expand_as(scales)
    expected = step_by_step(inputs, shared.contiguous(), recurrent, False)
    torch.testing.assert_close(gru_states(rows_first, shared, recurrent, False, False, None)[1], expected)
    assert torch.equal(
        gru_last(inputs.repeat_interleave(2, 2)[..., ::2], shared, recurrent, False, None),
        gru_last(inputs, shared, recurrent, False, None),
    )


@pytest.mark.parametrize("path", [pytest.param("c", marks=in_c), "torch"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_inputs_may_have_16_bits(dtype: torch.dtype, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if path == "torch":
        monkeypatch.setattr(recurrence_native, "compiled", lambda *given: None)
    inputs, scales, recurrent = (x.float() for x in scan_inputs())
    low = inputs.to(dtype)
    got = gru_last(low, scales, recurrent, False, None), *gru_states(low, scales, recurrent, False, False, None)[:2]
    states = step_by_step(low.float(), scales, recurrent, False)
    for mine, expected in zip(got, (states[-1], states[-1], states), strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-6)


@in_c
def test_the_loop_in_c_keeps_what_is_no_number_and_bears_large_ones() -> None:
    inputs, scales, recurrent = (x.float() for x in scan_inputs())
    inputs[2, 1, 0] = float("nan")
    inputs[:, 2] *= 1e6
    last = gru_last(inputs, scales, recurrent, False, None)
    assert last[1].isnan().any()
    assert last[0].isfinite().all()
    exact = step_by_step(inputs.double(), scales.double(), recurrent.double(), False)[-1]
    torch.testing.assert_close(last[2].double(), exact[2])
    tiny = torch.tensor(1e-40)
    assert (tiny * torch.ones(())).item() > 0  # the library leaves the processor's rounding as it was


@in_c
def test_where_16_bit_products_win_torch_makes_them() -> None:
    wide, narrow = torch.empty(3 * 256, 256), torch.empty(3 * 64, 64)
    assert recurrence_native.compiled(wide, None)
    assert recurrence_native.compiled(narrow, torch.bfloat16)
    assert recurrence_native.compiled(wide, torch.bfloat16) is None
    assert recurrence_native.compiled(narrow.double(), None) is None


def forget() -> None:
    native.library.cache_clear()
    recurrence_native._loop.cache_clear()


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small C source, an empty cache folder, and nothing remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    forget()
    path = tmp_path / "twice.c"
    path.write_text("int twice(int x) { return FACTOR * x; }\n", encoding="utf-8")
    yield path
    forget()


@in_c
def test_a_source_is_compiled_once(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, other = native.library(source, "FACTOR", 2), native.library(source, "FACTOR", 3)
    assert isinstance(first, ctypes.CDLL)
    assert isinstance(other, ctypes.CDLL)
    assert (first.twice(21), other.twice(5)) == (42, 15)
    assert len(list((Path(os.environ["XDG_CACHE_HOME"]) / "seqrec" / "native").iterdir())) == 2
    native.library.cache_clear()
    monkeypatch.setattr(subprocess, "run", lambda *given, **named: pytest.fail("compiled again"))
    again = native.library(source, "FACTOR", 2)
    assert again is not None
    assert again.twice(4) == 8


@in_c
def test_an_unusable_cache_folder_is_no_obstacle(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    library = native.library(source, "FACTOR", 2)
    assert library is not None
    assert library.twice(1) == 2


def test_without_a_compiler_torch_does_it(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = [x.float() for x in scan_inputs()]
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "")
    assert native.library(source, "FACTOR", 2) is None
    for mine, exact in zip(results(inputs, False, exact=False), results(inputs, False, exact=True), strict=True):
        torch.testing.assert_close(mine.double(), exact, rtol=1e-4, atol=1e-5)


@in_c
def test_a_compiler_that_fails_is_as_none(source: Path) -> None:
    source.write_text("no C\n", encoding="utf-8")
    assert native.library(source, "FACTOR", 2) is None
    assert not list((Path(os.environ["XDG_CACHE_HOME"]) / "seqrec" / "native").iterdir())

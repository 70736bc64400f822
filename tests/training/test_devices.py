"""Apple's and Intel's GPUs, of which none is here: what is chosen, asked of torch and kept off them."""

import ast
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training_toys import train as train_toy

from seqrec_cli.api.process_state import unchanged_torch
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import HardwareConfig
from seqrec_cli.data import batch, devices
from seqrec_cli.evaluation import ranks
from seqrec_cli.reporting import environment
from seqrec_cli.training import loop, memory, step_cost, validation_loss
from seqrec_cli.training.limits import most_memory
from seqrec_cli.training.precision import Precision, resolve_precision

PACKAGE = Path(devices.__file__).parents[1]
MPS, CPU = torch.device("mps"), torch.device("cpu")
# Work on tensors of the processor: counts of items and pairs, constants, statistics of results.
ON_THE_PROCESSOR = {
    *("data/devices.py", "models/neighbours.py", "models/bsarec.py", "models/ease.py", "models/latest.py"),
    *("models/itemknn.py", "evaluation/online.py", "training/validation_loss.py"),
    *("evaluation/logged/position_bias.py", "models/quantiser.py"),
}


def hardware(device: str, precision: Any = "auto") -> HardwareConfig:
    told = {
        "device": device,
        "precision": precision,
        "threads": 1,
        "embedding": "dense",
        "compile": False,
        "kernels": True,
    }
    return HardwareConfig(**dict.fromkeys(HardwareConfig.model_fields) | told)


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bool], None]:
    """Let torch say that there is a device of that kind, on which tensors can be made, or not."""

    def say(kind: str, usable: bool = True) -> None:
        if kind == "mps":
            monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
        else:
            monkeypatch.setattr(torch.get_device_module(kind), "is_available", lambda: True)
            monkeypatch.setattr(torch.get_device_module(kind), "device_count", lambda: 1)
        ones = torch.ones

        def made(*size: Any, device: Any = "cpu", **named: Any) -> torch.Tensor:
            if str(device) == kind and not usable:
                raise RuntimeError("MPS backend out of memory")
            return ones(*size, device="cpu", **named)

        monkeypatch.setattr(torch, "ones", made)

    return say


def test_auto_takes_an_apple_gpu_and_fp32_there(there: Callable[..., None]) -> None:
    there("mps")
    assert resolve_precision(hardware("auto")) == Precision(MPS, "fp32")
    for name in ("bf16", "fp16"):
        assert resolve_precision(hardware("mps", name)) == Precision(MPS, name)


def test_auto_leaves_a_gpu_that_gives_no_memory(there: Callable[..., None]) -> None:
    there("mps", usable=False)
    assert resolve_precision(hardware("auto", "fp32")).device == CPU
    assert resolve_precision(hardware("mps", "fp32")).device == MPS  # whoever asks for it by name gets torch's words


def test_cuda_comes_first_and_intel_last(there: Callable[..., None]) -> None:
    there("xpu")
    assert resolve_precision(hardware("auto", "fp32")).device == torch.device("xpu")
    there("mps")
    assert resolve_precision(hardware("auto", "fp32")).device == MPS
    there("cuda")
    assert resolve_precision(hardware("auto", "fp32")).device == torch.device("cuda")


def test_devices_that_are_not_there_are_refused(there: Callable[..., None]) -> None:
    with pytest.raises(SeqrecError, match=r"hardware\.device=mps: no Apple GPU \(Metal\) is available here"):
        resolve_precision(hardware("mps"))
    with pytest.raises(SeqrecError, match=r"hardware\.device=xpu: no Intel GPU is available here"):
        resolve_precision(hardware("xpu"))
    there("xpu")
    with pytest.raises(SeqrecError, match=r"hardware\.device=xpu:1: there are 1 Intel GPUs, the last is xpu:0"):
        resolve_precision(hardware("xpu:1"))


def test_autocast_and_loss_scaling_know_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with Precision(MPS, "fp16").autocast():
        assert torch.is_autocast_enabled("mps")
        assert torch.get_autocast_dtype("mps") == torch.float16
        assert not torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("mps")
    assert not Precision(MPS, "bf16").scaler().is_enabled()


def test_nothing_is_computed_in_fp64_on_a_device() -> None:
    """Apple's GPUs have none: each use of it is on the processor, by `widest_float`, or after `.cpu()`."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            doubled = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "double"
            if doubled and not ast.unparse(node.func.value).endswith(".cpu()"):  # type: ignore[union-attr, attr-defined]
                found.setdefault(name, []).append(node.lineno)  # type: ignore[attr-defined]
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("torch.float64", "torch.double"):
                found.setdefault(name, []).append(node.lineno)
    assert set(found) <= ON_THE_PROCESSOR, found


def test_sums_and_ranks_are_as_wide_as_the_device_allows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert devices.widest_float(MPS) == torch.float32
    assert devices.widest_float(CPU) == devices.widest_float(torch.device("cuda")) == torch.float64
    scores_BV, targets_BM, nothing_E = torch.randn(3, 9), torch.tensor([[4, 2], [1, 0], [8, 8]]), torch.zeros(0).long()
    exact = ranks.count_ranks(scores_BV.clone(), targets_BM, nothing_E)[0]
    for name in ("wide", "narrow"):
        (tmp_path / name).mkdir()
    _, model, told = train_toy(tmp_path / "wide")
    for module in (ranks, loop):
        monkeypatch.setattr(module, "widest_float", lambda device: torch.float32)
    narrow = ranks.count_ranks(scores_BV.clone(), targets_BM, nothing_E)[0]
    assert (exact.dtype, narrow.dtype) == (torch.float64, torch.float32)
    assert torch.equal(exact, narrow.double())
    _, narrow_model, narrow_told = train_toy(tmp_path / "narrow")
    assert all(map(torch.equal, model.state_dict().values(), narrow_model.state_dict().values()))
    losses = [[line["train_loss"] for line in each.rows] for each in (told, narrow_told)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[0] != losses[1]  # the sums were narrower


class Metal:
    """What torch.mps does, and what was asked of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.state = torch.arange(3, dtype=torch.uint8)
        for name, value in (
            ("recommended_max_memory", 8_000),
            ("current_allocated_memory", 3_000),
            ("driver_allocated_memory", 5 * 2**20),
            ("synchronize", None),
        ):
            monkeypatch.setattr(torch.mps, name, lambda name=name, value=value: self.asked.append(name) or value)
        monkeypatch.setattr(torch.mps, "get_rng_state", lambda device="mps": self.state)
        monkeypatch.setattr(torch.mps, "set_rng_state", self.put_back)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)

    def put_back(self, state: torch.Tensor, device: Any = "mps") -> None:
        self.asked.append("set_rng_state")
        self.state = state


def test_memory_and_waiting_are_metals(monkeypatch: pytest.MonkeyPatch) -> None:
    metal = Metal(monkeypatch)
    monkeypatch.setattr(memory, "system_left", lambda: 6_000)
    monkeypatch.setattr(memory, "group_left", lambda: None)
    assert memory.available_memory(MPS) == 5_000
    assert most_memory(MPS) == 5_000
    monkeypatch.setattr(memory, "system_left", lambda: 4_000)
    assert memory.available_memory(MPS) == 4_000  # the memory is the system's
    assert environment.peak_memory(MPS)["peak_gpu_memory_mb"] == 5.0
    assert "peak_gpu_memory_mb" not in environment.peak_memory(CPU)
    assert str(environment.hardware(MPS)["gpu"]).endswith(", mps")
    metal.asked.clear()
    devices.wait_for(MPS)
    devices.wait_for(CPU)
    assert metal.asked == ["synchronize"]


def test_random_numbers_go_on_as_if_none_had_been_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    metal = Metal(monkeypatch)
    before = torch.get_rng_state()
    with devices.forked_random(MPS):
        torch.rand(3)
        metal.state = torch.zeros(3, dtype=torch.uint8)
    assert torch.equal(metal.state, torch.arange(3, dtype=torch.uint8))
    assert torch.equal(torch.get_rng_state(), before)
    with unchanged_torch():
        metal.state = torch.zeros(3, dtype=torch.uint8)
    assert torch.equal(metal.state, torch.arange(3, dtype=torch.uint8))
    assert step_cost.forked_random is validation_loss.forked_random is devices.forked_random


def test_nothing_is_pinned_or_sent_ahead_but_for_cuda() -> None:
    class Sent:
        device = CPU

        def to(self, device: torch.device, *, non_blocking: bool) -> bool:
            return non_blocking

        def pin_memory(self) -> "Sent":
            pinned.append(self)
            return self

    pinned: list[Sent] = []
    assert [batch.to_device(Sent(), torch.device(kind)) for kind in ("mps", "xpu", "cpu", "cuda")] == [  # type: ignore[arg-type]
        *(False, False, False, True),
    ]
    assert len(pinned) == 1


@pytest.mark.parametrize(("system", "value"), [("darwin", "1"), ("linux", "None")])
def test_operators_that_metal_lacks_run_on_the_processor(system: str, value: str) -> None:
    code = f"import sys, os; sys.platform = {system!r}; import seqrec_cli; print(os.environ.get({FALLBACK!r}))"
    env = {key: text for key, text in os.environ.items() if key != FALLBACK}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == value


FALLBACK = "PYTORCH_ENABLE_MPS_FALLBACK"

"""What `auto` becomes, and refusals."""

import platform
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from seqrec_cli import kernels
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import HardwareConfig
from seqrec_cli.training import precision as module
from seqrec_cli.training.precision import Precision, cpu_flags, keep_freed_memory, resolve_precision


@pytest.fixture(autouse=True)
def _same_threads() -> Any:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def hardware(device: str | None = "cpu", precision: Any = "auto", threads: int | None = 1) -> HardwareConfig:
    told = {"device": device, "precision": precision, "threads": threads, "embedding": "dense", "compile": False}
    told |= {"kernels": True, "log": "auto", "table": "replicated", "processes": 1, "restarts": 0, "timeout_minutes": 1}
    return HardwareConfig(**told)


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ("flags\t\t: fpu avx2 amx_tile amx_bf16", "bf16"),
        ("flags : avx512f avx512_bf16", "bf16"),
        ("Features : fp asimd bf16", "bf16"),
        ("flags : fpu avx2 avx512f", "fp32"),
        ("model name : avx512_bf16", "fp32"),
    ],
)
def test_auto_takes_bf16_where_the_cpu_has_it(
    flags: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{flags}\n")
    found = cpu_flags(tmp_path / "cpuinfo")
    monkeypatch.setattr(module, "cpu_flags", lambda: found)
    assert resolve_precision(hardware()) == Precision(torch.device("cpu"), name)


def test_no_cpuinfo_means_no_flags(tmp_path: Path) -> None:
    assert cpu_flags(tmp_path / "absent") == frozenset()


@pytest.mark.parametrize(("setting", "enabled"), [(True, True), (None, True), (False, False)])
def test_the_setting_turns_kernels_on_and_off(setting: bool | None, enabled: bool) -> None:
    kernels.use(not enabled)
    resolve_precision(hardware().model_copy(update={"kernels": setting}))
    assert kernels.enabled() is enabled
    kernels.use(True)


@pytest.mark.parametrize("has_bf16", [True, False])
def test_auto_on_a_gpu(has_bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(module, "_cuda_has_bf16", lambda device: has_bf16)
    assert resolve_precision(hardware("auto")) == Precision(torch.device("cuda"), "bf16" if has_bf16 else "fp32")
    assert resolve_precision(hardware("cuda:1", "fp16")) == Precision(torch.device("cuda:1"), "fp16")
    with pytest.raises(SeqrecError, match=r"hardware\.device=cuda:2: there are 2"):
        resolve_precision(hardware("cuda:2"))


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_precision(hardware("auto", "fp32")).device.type == "cpu"
    for name in ("cuda", "cuda:0"):
        with pytest.raises(SeqrecError, match=f"hardware.device={name}: no CUDA device.*hardware.device=cpu"):
            resolve_precision(hardware(name))


@pytest.mark.parametrize("null", [{"device": None}, {"precision": None}])
def test_null_is_refused(null: dict[str, None]) -> None:
    with pytest.raises(SeqrecError, match="null"):
        resolve_precision(hardware(**null))


def test_threads_are_set_and_null_gives_all_of_them_back() -> None:
    resolve_precision(hardware(threads=1))
    assert torch.get_num_threads() == 1
    resolve_precision(hardware(threads=None))
    assert torch.get_num_threads() == module._ALL_THREADS


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_autocast_and_scaler(name: Any, dtype: torch.dtype) -> None:
    precision = resolve_precision(hardware(precision=name))
    layer = nn.Linear(4, 4)
    with precision.autocast():
        out = layer(torch.randn(2, 4))
    assert out.dtype == dtype
    out.float().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32
    assert precision.scaler().is_enabled() == (name == "fp16")


def test_keeping_freed_memory_is_glibc_only() -> None:
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")

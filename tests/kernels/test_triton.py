"""The Triton kernels: interpreted beside their references (interpreted.py), compiled for a GPU that is not here, and
chosen for tensors that are on one."""

import collections
import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from seqrec_cli import kernels
from seqrec_cli.kernels import registry
from seqrec_cli.kernels.activation_unit import op as activation_unit
from seqrec_cli.kernels.activation_unit.reference import DICE, PRELU
from seqrec_cli.kernels.corpus_softmax import op as corpus_softmax
from seqrec_cli.kernels.gru_scan import op as gru_scan
from seqrec_cli.kernels.gru_scan import torch_loop
from seqrec_cli.kernels.masked_softmax_dropout.op import attention
from seqrec_cli.models.hstu import pointwise_attend
from seqrec_cli.models.layers.activation_unit import ActivationUnit
from seqrec_cli.objectives.contract import build_objective
from seqrec_cli.objectives.losses import corpus_cross_entropy

HERE = Path(__file__).parent
needs_triton = pytest.mark.skipif(not registry.has_triton(), reason="triton is not here (Linux, development extra)")
CHECKS = [
    *(f"{name}-{way}" for name in ("corpus_softmax", "biased_attention") for way in ("float32", "bfloat16", "rules")),
    *(f"{name}-{way}" for name in ("activation_unit", "gru_states") for way in ("float32", "bfloat16", "rules")),
    *(f"gru_last-{way}" for way in ("float32", "bfloat16", "rules")),
    "the_loss_of_an_encoder",
    "a_table_s_gradient_has_the_same_bits_and_no_loss_saturates",
    "attention_of_layers",
    "dropped_weights_are_the_same_in_backward",
    "activation_units",
    "dice_in_training_is_left_to_torch",
    "recurrences_of_layers",
]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str | None]:
    """What each check of interpreted.py said, in one process: Triton asks its switch when it is imported."""
    old = tuple(map(int, importlib.metadata.version("triton").split(".")[:2])) < (3, 8)
    if old and tuple(map(int, importlib.metadata.version("numpy").split(".")[:2])) >= (2, 4):
        pytest.skip("the interpreter of Triton before 3.8 makes numbers of arrays, which NumPy 2.4 refuses")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("SEQREC_KERNELS", None)
    environment.pop("SEQREC_TRITON", None)
    command = [sys.executable, str(HERE / "interpreted.py")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {line["check"]: line["error"] for line in lines}


@needs_triton
@pytest.mark.parametrize("check", CHECKS)
def test_interpreted(check: str, outcomes: dict[str, str | None]) -> None:
    assert outcomes[check] is None, outcomes[check]


@needs_triton
def test_every_check_has_a_test(outcomes: dict[str, str | None]) -> None:
    assert set(outcomes) == set(CHECKS)


def compiled(module: Any, name: str, tiles: dict[str, Any], **switches: Any) -> Any:
    """A kernel compiled for a GPU of capability 8.0, whatever is here, from bf16 tensors."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    kernel, constants = getattr(module, name), {**tiles, **switches}
    options = {option: constants.pop(option) for option in ("num_warps", "num_stages")}
    types: dict[str, str] = collections.defaultdict(lambda: "i32")
    types |= {argument: "*bf16" for argument in kernel.arg_names if argument.endswith("_ptr")}
    types |= {"targets_ptr": "*i64", "seed_ptr": "*i64", "mask_ptr": "*u8", "scale": "fp32", "drop": "fp32"}
    types |= {
        argument: "*fp32"
        for argument in kernel.arg_names
        if argument.startswith(("of_", "grad_", "sums", "most", "total", "shares")) and argument.endswith("_ptr")
    }
    if "shares_ptr" in kernel.arg_names:  # attention's gradients come in its own format
        types["grad_ptr"] = "*bf16"
    signature = {argument: "constexpr" if argument in constants else types[argument] for argument in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    return compile(source, target=GPUTarget("cuda", 80, 32), options=options)


@needs_triton
@pytest.mark.parametrize(
    ("folder", "sizes", "ways"),
    [
        ("corpus_softmax", (64, 2), {"_of_items": {}}),
        ("gru_scan", (64, 32), {"_forward": {"STATES": True, "KEEP": True}}),
        ("gru_scan", (64, 32, True), {"_backward": {"OF_LAST": True, "OF_STATES": True}}),
        ("biased_attention", (32, 2), {"_of_keys": {"DROPPED": True}}),
        ("activation_unit", (32, 80, 40, True), {"_backward": {}}),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_compiled_for_a_gpu(
    folder: str,
    sizes: tuple[Any, ...],
    ways: dict[str, dict[str, bool]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The interpreter takes what a compiler refuses, and has no shared memory to run out of."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    module = importlib.import_module(f"seqrec_cli.kernels.{folder}.triton_kernel")
    common: dict[str, dict[str, Any]] = {
        "corpus_softmax": {"HAS_BIAS": True},
        "gru_scan": {"GATE": 2},
        "biased_attention": {"POINTWISE": False, "CAUSAL": True, "MASKED": True},
        "activation_unit": {"KIND": 0, "TWO": sizes[-1] is True},
    }
    named = {"backward": True} if sizes[-1] is True else {}
    tiles = module.settings(*(size for size in sizes if size is not True), **named)
    for name, switches in ways.items():
        made = compiled(module, name, tiles, **common[folder], **switches)
        assert made.metadata.shared <= 99 * 1024  # what the smallest of today's GPUs give a program
        assert ".target sm_80" in made.asm["ptx"]


class Named(TorchDispatchMode):
    """Collects the names of this package's operators that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "seqrec":
            self.names.add(func._opname)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Tensors without memory on a processor that is taken for a GPU with Triton: operators tell shapes, and run
    nothing. (A build of torch for CPUs cannot index a stand-in for a tensor on CUDA.)"""
    monkeypatch.setattr(registry, "has_triton", lambda: True)
    monkeypatch.setattr(registry, "_TRITON", None)
    monkeypatch.setattr(registry, "INTERPRETED", True)
    monkeypatch.setattr(registry, "_PRODUCTS", "0")  # it has no C
    kernels.use(True)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield
    kernels.use(True)


def test_cuda_is_where_they_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "has_triton", lambda: True)
    monkeypatch.setattr(registry, "_TRITON", None)
    monkeypatch.setattr(registry, "INTERPRETED", False)
    on = {device: registry.on_triton("gru_scan", torch.device(device)) for device in ("cuda", "cuda:1", "cpu", "meta")}
    assert on == {"cuda": True, "cuda:1": True, "cpu": False, "meta": False}
    monkeypatch.setattr(registry, "_TRITON", "")
    assert not registry.on_triton("gru_scan", torch.device("cuda"))
    formats = (torch.bfloat16, torch.float16, torch.float32)
    assert [registry.on_tensor_cores(dtype) for dtype in formats] == [True, True, False]
    torch.backends.cuda.matmul.allow_tf32 = True
    assert registry.on_tensor_cores(torch.float32)
    torch.backends.cuda.matmul.allow_tf32 = False


def loss_of_an_encoder() -> torch.Tensor:
    table_VD = torch.randn(9, 4, requires_grad=True)
    return corpus_cross_entropy(torch.randn(5, 4), table_VD, torch.ones(5, dtype=torch.long), chunk_mb=1)


def with_bias() -> torch.Tensor:
    q, bias = torch.randn(2, 2, 6, 4), torch.randn(1, 2, 6, 6, requires_grad=True)
    return attention(q, q, q, causal=True, mask_BT=None, drop=0.0, bias_AHLT=bias)


def of_hstu() -> torch.Tensor:
    q, bias = torch.randn(2, 2, 6, 4), torch.randn(1, 6, 6, requires_grad=True)
    return pointwise_attend(q, q, q, bias_ALT=bias, rows_alike=True, mask_BT=None)


def of_din(activation: str = "prelu") -> torch.Tensor:
    unit = ActivationUnit(4, (6,), activation, softmax=False)  # type: ignore[arg-type]
    return unit(torch.randn(2, 5, 4), torch.randn(2, 3, 4), torch.ones(2, 5, 1, dtype=torch.bool))


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (loss_of_an_encoder, "corpus_softmax"),
        (with_bias, "biased_attention"),
        (of_hstu, "biased_attention"),
        (of_din, "activation_unit"),
    ],
)
def test_tensors_on_a_gpu_go_to_triton(
    function: Callable[[], torch.Tensor], name: str, a_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def called() -> set[str]:
        with Named() as seen:
            function().sum().backward()
        return seen.names

    assert called() == {name, f"{name}_backward"}
    for switched_off in ("gru_scan,pair_linear", ""):  # SEQREC_TRITON names others
        monkeypatch.setattr(registry, "_TRITON", switched_off)
        assert not corpus_softmax.fused(torch.device("cpu"), torch.bfloat16)
        assert not registry.on_triton(name, torch.device("cpu"))
    monkeypatch.setattr(registry, "_TRITON", name)
    assert called() == {name, f"{name}_backward"}
    kernels.use(False)
    assert name not in called()
    kernels.use(True)
    monkeypatch.setattr(registry, "has_triton", lambda: False)
    assert not registry.on_triton(name, torch.device("cpu"))


def test_what_the_kernels_have_not_is_left_to_torch(a_gpu: None) -> None:
    with Named() as seen:
        attention(
            *[torch.randn(2, 1, 6, 256)] * 3, causal=True, mask_BT=None, drop=0.0, bias_AHLT=torch.zeros(1, 1, 6, 6)
        )
        attention(*[torch.randn(2, 1, 6, 4)] * 3, causal=True, mask_BT=None, drop=0.0)
    assert seen.names == set()
    assert not corpus_softmax.usable(torch.randn(3, 257), torch.bfloat16)
    assert corpus_softmax.usable(torch.randn(3, 256), torch.bfloat16)
    assert not corpus_softmax.usable(torch.randn(3, 256), torch.float32)
    of_units = [
        activation_unit.usable(torch.randn(2, 5, 64), widths, PRELU) for widths in ((128, 64), (128, 65), (8, 8, 8))
    ]
    assert of_units == [True, False, False]
    assert not activation_unit.usable(torch.randn(2, 5, 4), (6,), DICE)
    with torch.no_grad():
        assert activation_unit.usable(torch.randn(2, 5, 4), (6,), DICE)


def test_a_scan_of_a_gpu_s_tensors_is_triton_s(a_gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gru_scan._by_triton(torch.randn(192, 64))
    assert not gru_scan._by_triton(torch.randn(384, 128))
    monkeypatch.setattr(registry, "_TRITON", "")
    assert not gru_scan._by_triton(torch.randn(192, 64))


def test_a_scan_outside_c_is_done_by_whoever_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    class Kernels:
        @staticmethod
        def states(*given: Any, all_states: bool = True) -> Any:
            calls.append("all" if all_states else "last")
            return torch_loop.states(*given)

        @staticmethod
        def backward(*given: Any) -> Any:
            calls.append("backward")
            return torch_loop.backward(*given)

    monkeypatch.setattr(gru_scan, "on_triton", lambda name, x: name == "gru_scan")
    monkeypatch.setattr(gru_scan, "triton_kernels", lambda name: Kernels)
    weights_GH = nn.Parameter(torch.randn(12, 4))
    given = torch.randn(3, 2, 12), torch.rand(3, 2, 1), weights_GH
    gru_scan.gru_scan(*given, gate=0, only_last=True, longest=3).sum().backward()
    with torch.no_grad():
        gru_scan.gru_scan(*given, gate=0, only_last=True, longest=3)
    assert calls == ["all", "backward", "last"]


def test_the_memory_of_scores_is_not_planned_where_there_are_none(a_gpu: None) -> None:
    from seqrec_cli.config.compose import compose
    from seqrec_cli.config.validate import validate

    objective = build_objective(validate("train", compose("train", ["objective=next_item"])).objective)  # type: ignore[arg-type,union-attr]
    given = {"dtype": torch.bfloat16, "device": torch.device("cpu")}
    fused = objective.scratch_bytes(100_000, 4_000, **given)
    kernels.use(False)
    assert 0 < fused < objective.scratch_bytes(100_000, 4_000, **given) / 100

"""What a kernel is made of: its operator, its C source, the reference it has to equal, and where it may be used."""

import ctypes
import functools
import importlib
import importlib.util
import os
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqrec_cli.kernels.build import library
from seqrec_cli.machine import processor_vendor

POINTER, LONG, INT = ctypes.c_void_p, ctypes.c_long, ctypes.c_int
FORMATS = (torch.float32, torch.bfloat16)  # number formats of a source that is compiled with -DBF16=0 or 1
VECTOR = 16  # numbers of the widest SIMD register, `PAD` of the sources
WIDEST = 1 << 14  # channels: some rows lie on a thread's stack

_ALLOWED = os.environ.get("SEQREC_KERNELS", "1") != "0"
# The Triton kernels that may run, by the names of their folders; all of them if it is not set, none if it is empty.
_TRITON = os.environ.get("SEQREC_TRITON")
# Triton's own switch: its kernels then run on a CPU, element by element in Python, which is how they are tested.
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
# Whether large matrix products in fp32 are made in C: 1 or 0; if it is not set, by the processor.
_PRODUCTS = os.environ.get("SEQREC_PRODUCTS")
_on = True
FLOPS: dict[Any, Callable[..., int]] = {}  # by operator; see `flop_formula`
_sources: dict[str, "Source"] = {}
_ran: set[str] = set()


def use(on: bool) -> None:
    """Whether C code and Triton kernels may run in this process from now on (SEQREC_KERNELS=0 forbids it); else the
    references run.

    A run begins so: `ran` then tells of what comes after it alone.
    """
    global _on
    _on = on
    _ran.clear()


def ran() -> list[str]:
    """The kernels whose C or Triton code has run since the last `use`: results then differ from the references' by
    rounding."""
    return sorted(_ran)


@dataclass(frozen=True)
class Kernel:
    """An entry of the registry, which tests compare with its reference."""

    operator: Any  # torch.ops.seqrec....
    reference: Callable[..., Any]  # its specification: takes the same arguments, gives the first of its results
    examples: Callable[[torch.dtype], Iterable[tuple[Any, ...]]]  # arguments, odd sizes among them
    formats: tuple[torch.dtype, ...] = FORMATS
    compiled: bool = True  # whether a C compiler is needed
    triton: bool = False  # whether it runs in Triton alone: on a GPU, or interpreted


def all_kernels() -> dict[str, Kernel]:
    """Every kernel by its operator's name, found in the folders beside this file."""
    folders = sorted(path.parent.name for path in Path(__file__).parent.glob("*/op.py"))
    modules = [importlib.import_module(f"seqrec_cli.kernels.{name}.op") for name in folders]
    return {kernel.operator._opname: kernel for module in modules for kernel in module.KERNELS}


class Source:
    """The kernel.c beside an op.py, and the types of its functions' arguments."""

    def __init__(self, op_file: str, **functions: tuple[Any, ...]) -> None:
        self.path, self.functions = Path(op_file).with_name("kernel.c"), functions
        self.name = self.path.parent.name
        self._typed: set[ctypes.CDLL] = set()
        _sources[self.name] = self

    def usable(self, dtype: torch.dtype) -> bool:
        """Whether there is C code for tensors of this format."""
        return _usable(self.name, dtype)

    def load(self, dtype: torch.dtype) -> ctypes.CDLL:
        """The functions for tensors of a format that is `usable`."""
        found = self.compiled("BF16", int(dtype == torch.bfloat16))
        assert found is not None
        return found

    def compiled(self, constant: str, value: int) -> ctypes.CDLL | None:
        """The functions, compiled with a constant; None where that cannot be done."""
        found = library(self.path, constant, value)
        if found is not None:
            _ran.add(self.name)
        if found is not None and found not in self._typed:
            for name, arguments in self.functions.items():
                getattr(found, name).argtypes = arguments
            self._typed.add(found)
        return found


def _usable(name: str, dtype: torch.dtype) -> bool:
    return (
        enabled()
        and dtype in FORMATS
        and library(_sources[name].path, "BF16", int(dtype == torch.bfloat16)) is not None
    )


# torch.compile takes the answer as a constant and does not trace into the function. This is all that
# `torch.compiler.assume_constant_result` does, but for its import of torch._dynamo: two seconds at every start.
_usable._dynamo_marked_constant = True  # type: ignore[attr-defined]


def enabled() -> bool:
    """Whether C code and Triton kernels may run."""
    return _ALLOWED and _on


def products_in_c() -> bool:
    """Whether large fp32 products, the softmax over the corpus among them, are made in C on this processor.

    On x86-64 that is not Intel's, where MKL is at half to three quarters of the peak: on one AVX2 core of an EPYC (its
    peak is 117 GFLOP/s) layers' products ran at 62 to 105 in C and 54 to 87 in MKL. Intel's have not been measured, and
    Apple's library multiplies on hardware that C cannot reach.
    """
    if _PRODUCTS is not None:
        return _PRODUCTS != "0"
    return platform.machine().lower() in ("x86_64", "amd64") and processor_vendor() not in (None, "GenuineIntel")


def on_triton(name: str, device: torch.device) -> bool:
    """Whether the Triton kernels of that folder run for tensors on that device. Exported programs hold torch's own
    operators alone; a stand-in for a GPU without memory of its own (FakeTensor) answers as the GPU does."""
    found = device.type == "cuda" or (INTERPRETED and device.type == "cpu")
    return found and not torch.compiler.is_exporting() and _triton_allowed(name)


def on_tensor_cores(dtype: torch.dtype) -> bool:
    """Whether products in this format run there. Triton's others are slower than cuBLAS's, and take minutes to compile;
    its interpreter does not mind."""
    return dtype != torch.float32 or torch.backends.cuda.matmul.allow_tf32 or INTERPRETED


def product_format(x: Tensor) -> torch.dtype:
    """That of a layer which reads x: autocast's inside autocast, else its own."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def _triton_allowed(name: str) -> bool:
    return enabled() and (_TRITON is None or name in _TRITON.split(",")) and has_triton()


on_tensor_cores._dynamo_marked_constant = True  # type: ignore[attr-defined]  # as above
_triton_allowed._dynamo_marked_constant = True  # type: ignore[attr-defined]


@functools.cache
def has_triton() -> bool:
    """Whether the package is there; CUDA builds of torch bring it."""
    return importlib.util.find_spec("triton") is not None


def triton_kernels(name: str) -> Any:
    """The triton_kernel.py of that folder, imported (it takes a second) at its first use."""
    _ran.add(name)
    return importlib.import_module(f"seqrec_cli.kernels.{name}.triton_kernel")


def operator(
    fake: Callable[..., Any],
    backward: Callable[..., Any] | None = None,
    save: Callable[..., None] | None = None,
    device: str = "cpu",
) -> Callable[[Callable[..., Any]], Any]:
    """Register a function as torch.ops.seqrec.<its name without the underscore>; its annotations are the schema.

    `fake` makes empty results of the right shapes, `save(ctx, inputs, output)` keeps what `backward(ctx, *grads)`
    needs. These are the lower-level calls of `torch.library`: an operator by `custom_op` costs more a call.
    """

    def register(function: Callable[..., Any]) -> Any:
        name = f"seqrec::{function.__name__.lstrip('_')}"
        schema = torch.library.infer_schema(function, mutates_args=())
        torch.library.define(name, schema, tags=torch.Tag.pt2_compliant_tag)
        torch.library.impl(name, device)(function)
        torch.library.register_fake(name)(fake)
        if backward is not None:
            torch.library.register_autograd(name, backward, setup_context=save)
        return getattr(torch.ops.seqrec, name[len("seqrec::") :]).default

    return register


def flop_formula(*operators: Any) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Register a function of shapes as the floating-point operations of these operators, for `FlopCounterMode(
    custom_mapping=FLOPS)`. Not in torch's own registry: its module imports Triton, half a second at every start."""

    def register(function: Callable[..., int]) -> Callable[..., int]:
        FLOPS.update(dict.fromkeys(operators, function))
        return function

    return register


def addresses(*tensors: Tensor | None) -> list[int | None]:
    """For a call: the caller keeps the tensors alive until it returns."""
    return [None if tensor is None else tensor.data_ptr() for tensor in tensors]


def sizes(x: Tensor) -> tuple[int, int]:
    """Rows and channels (the last dimension)."""
    return x.numel() // max(x.shape[-1], 1), x.shape[-1]


def check_memory(found: int) -> None:
    """Of a function in C that returns 0 where it found no memory for its sums."""
    if not found:
        raise MemoryError("no memory for the sums over a tensor's rows")

"""A device that stands in for a GPU: its tensors say `standin:0`, and their numbers lie in a tensor of the CPU.

It is torch's seam for devices of a third party (PrivateUse1), filled from Python. What a GPU refuses, it refuses:
operators over tensors of two devices (numbers of no dimension excepted, which a launch takes along), indices that lie
on the host, `.numpy()`, an operator written for the CPU alone. What makes the host wait for a GPU, it does, and notes:
`.item()`, `nonzero`, a copy to the host, a copy from it that does not say `non_blocking`. Autocast casts as on CUDA.

It differs from torch's FakeTensorMode in having the numbers: a run goes on past a wait, and its losses, ranks and
checkpoints can be compared with the CPU's. And it refuses indices on the host, which FakeTensorMode lets pass.

What it cannot show: CUDA's own kernels, their memory and their rounding, and the order of streams.
"""

import contextlib
import functools
import threading
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils import backend_registration
from torch.utils._pytree import tree_iter, tree_map_only

from seqrec_cli import kernels

NAME = "standin"
DEVICE, HOST = torch.device("privateuseone", 0), torch.device("cpu")  # `standin:0` once it is installed
POSSIBLE = hasattr(backend_registration, "_setup_privateuseone_for_python_backend")
PACKAGE = str(Path(__file__).parents[2] / "seqrec_cli")
aten = torch.ops.aten

# Operators whose result, or its size, the host has to know: it waits until the device has come so far.
READS = {
    aten._local_scalar_dense,
    aten.nonzero,
    aten.masked_select,
    aten.equal,
    aten.bincount,
    aten._unique2,
    aten.unique_dim,
    aten.unique_consecutive,
    aten._coalesce,
    aten.linalg_eigh,
    aten._linalg_eigh,
    aten.linalg_cholesky_ex,
}
COPIES = {aten.copy_, aten._to_copy, aten._copy_from, aten._copy_from_and_resize}
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index}


class DeviceMixError(RuntimeError):
    """Tensors of two devices in one operator."""


@dataclass
class Watch:
    """What made the host wait while it watched: operators, and the lines of the package that called them."""

    waits: Counter[str] = field(default_factory=Counter)
    thread: int = field(default_factory=threading.get_ident)
    in_other_threads: Counter[str] = field(default_factory=Counter)

    def note(self, what: str) -> None:
        mine = threading.get_ident() == self.thread
        (self.waits if mine else self.in_other_threads)[f"{what} at {_caller()}"] += 1


_watches: list[Watch] = []
operators_run = Counter[str]()


@contextlib.contextmanager
def watching() -> Iterator[Watch]:
    """Note what makes the host wait."""
    watch = Watch()
    _watches.append(watch)
    try:
        yield watch
    finally:
        _watches.remove(watch)


def _caller() -> str:
    for frame in reversed(traceback.extract_stack()):
        if frame.filename.startswith(PACKAGE):
            return f"{Path(frame.filename).relative_to(PACKAGE)}:{frame.lineno}"
    return "torch"


@contextlib.contextmanager
def standing_in() -> Iterator[None]:
    """The device is there, and torch's own operators run on both sides."""
    install()
    kernels.use(False)
    # Autograd counts its devices, and starts a thread for each, at a process's first backward pass: maybe before this.
    with torch.autograd.set_multithreading_enabled(False):
        yield
    kernels.use(True)


class StandIn(torch.Tensor):
    """A tensor of the device; `numbers` holds its values."""

    numbers: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, numbers: torch.Tensor) -> "StandIn":
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            numbers.size(),
            strides=numbers.stride(),
            storage_offset=numbers.storage_offset(),
            dtype=numbers.dtype,
            device=DEVICE,
        )
        made.numbers = numbers
        return made

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(function, args, kwargs or {})

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __reduce_ex__(self, protocol: Any) -> Any:  # a checkpoint holds the numbers
        return self.numbers.detach().__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict[int, Any]) -> "StandIn":
        if id(self) not in memo:
            copied = StandIn(self.numbers.detach().clone()).requires_grad_(self.requires_grad)
            for name in ("_is_param",):
                if hasattr(self, name):
                    setattr(copied, name, getattr(self, name))
            memo[id(self)] = copied
        return memo[id(self)]

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"StandIn({self.numbers!r})"


def run(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """One operator: its devices are checked, its waits noted, and its numbers made on the CPU."""
    packet = function.overloadpacket
    operators_run[str(packet)] += 1
    if function.namespace == "seqrec":  # the project's own: what it is made of is looked at, not its result alone
        return function.redispatch(torch._C.DispatchKeySet(torch._C.DispatchKey.PrivateUse1), *args, **kwargs)
    if _is_made_of_others(function):  # in inference mode they come here whole
        return function.decompose(*args, **kwargs)
    given = [leaf for leaf in tree_iter((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    mine = {id(t.numbers): t for t in given if isinstance(t, StandIn)}
    if packet in COPIES:
        _note_copy(packet, args, kwargs)
    else:
        _refuse_mix(function, packet, given)
        _note_read(packet, function, args, kwargs)
    device = kwargs.get("device")
    to_host = device is not None and torch.device(device).type == "cpu"
    if device is not None:
        kwargs = (
            {**kwargs, "device": HOST, "pin_memory": False} if "pin_memory" in kwargs else {**kwargs, "device": HOST}
        )
    # A view, made in inference mode, of a tensor from outside it is none of that mode's own.
    outside = torch.is_inference_mode_enabled() and not any(t.is_inference() for t in mine.values())
    inference = torch.inference_mode(not (outside and _is_view(function)) and torch.is_inference_mode_enabled())
    inner_args, inner_kwargs = tree_map_only(StandIn, lambda t: t.numbers, (args, kwargs))
    found = function(*inner_args, **inner_kwargs)
    if to_host or (packet is aten.copy_ and not isinstance(args[0], StandIn)):
        return args[0] if packet is aten.copy_ else found

    def wrapped(numbers: torch.Tensor) -> torch.Tensor:
        if (same := mine.get(id(numbers))) is None:
            return StandIn(numbers)
        if same.shape != numbers.shape:
            raise NotImplementedError(f"{function} changes the shape of a tensor in place, which no wrapper can follow")
        return same

    with inference:
        return wrapped(found) if isinstance(found, torch.Tensor) else tree_map_only(torch.Tensor, wrapped, found)


@functools.cache
def _is_made_of_others(function: Any) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(function.name(), "CompositeImplicitAutograd")


@functools.cache
def _is_view(function: Any) -> bool:
    return any(result.alias_info is not None and not result.alias_info.is_write for result in function._schema.returns)


def _refuse_mix(function: Any, packet: Any, given: list[torch.Tensor]) -> None:
    indexes = packet in INDEXING
    for tensor in given:
        if not isinstance(tensor, StandIn) and (tensor.dim() > 0 or (indexes and tensor.dtype == torch.int64)):
            kinds = ", ".join(f"{t.device.type}{list(t.shape)}" for t in given)
            raise DeviceMixError(f"{function} over tensors of two devices ({kinds}) at {_caller()}")


def _note_copy(packet: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if packet is aten._to_copy:
        device = kwargs.get("device")
        source, target = args[0].device.type, args[0].device.type if device is None else torch.device(device).type
        waits = not kwargs.get("non_blocking", False)
    else:
        source, target = args[1].device.type, args[0].device.type
        waits = not (args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
    if source == target:
        return
    if target == "cpu":
        _note("copy to the host")
    elif waits:
        _note("copy from the host that waits")


def _note_read(packet: Any, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if packet in READS or _repeats_by_numbers(function, kwargs):
        _note(str(packet).removeprefix("aten."))
    elif packet in INDEXING and any(
        index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
    ):
        if packet is aten.index or args[2].numel() > 1:  # one number is filled in where the mask says
            _note("an index of True and False")
    elif packet is aten.where and len(args) == 1:
        _note("where")


def _repeats_by_numbers(function: Any, kwargs: dict[str, Any]) -> bool:
    """Whether the size of the result is the sum of a tensor."""
    return function is aten.repeat_interleave.Tensor and kwargs.get("output_size") is None


def _note(what: str) -> None:
    for watch in _watches:
        watch.note(what)


class _Module:
    """What torch asks of a device by name."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def manual_seed_all(self, seed: int) -> None:  # its random numbers are the CPU's
        pass

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
        torch.set_rng_state(state)

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


def _empty(size: Any, *, dtype: Any = None, layout: Any = None, device: Any = None, **_: Any) -> StandIn:
    return StandIn(torch.empty(size, dtype=dtype, device="cpu"))


def _empty_strided(size: Any, stride: Any, *, dtype: Any = None, **_: Any) -> StandIn:
    return StandIn(torch.empty_strided(size, stride, dtype=dtype, device="cpu"))


def _arange(*bounds: Any, dtype: Any = None, **_: Any) -> StandIn:
    return StandIn(torch.arange(*bounds, dtype=dtype, device="cpu"))


def _copy_from(source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    """`torch.tensor(..., device=...)` ends here."""
    _note_copy(aten.copy_, (target, source, non_blocking), {})
    inner = [t.numbers if isinstance(t, StandIn) else t for t in (target, source)]
    inner[0].copy_(inner[1])
    return target


_libraries: list[torch.library.Library] = []  # they act as long as they live


def install() -> None:
    """Register the device, once in a process."""
    if _libraries:
        return
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    makers = torch.library.Library("aten", "IMPL")
    makers.impl("empty.memory_format", _empty, "PrivateUse1")
    makers.impl("empty_strided", _empty_strided, "PrivateUse1")
    makers.impl("_copy_from", _copy_from, "PrivateUse1")
    for overload in ("arange", "arange.start", "arange.start_step"):  # torch's own begin with nothing, and resize that
        makers.impl(overload, _arange, "PrivateUse1")
    others = torch.library.Library("_", "IMPL", "AutocastPrivateUse1")
    others.fallback(torch.library.fallthrough_kernel)
    _libraries.extend([makers, others])
    from tests.rehearsal.autocast import cast_as_cuda_does

    _libraries.append(cast_as_cuda_does(NAME))

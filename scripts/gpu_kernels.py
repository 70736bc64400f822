"""Whether the operators of this package give what they stand for, each beside its reference in fp64, values and
gradients; and whether whole steps with them give what torch's operators give, on the same device in the same format.

On a GPU they are Triton's, on a CPU those in C. In fp32 a GPU's training leaves the softmax over the corpus, biased
attention and DIN's unit to torch, unless TF32 is allowed (`registry.on_tensor_cores`): here they are called in fp32 all
the same, and the steps in fp32 have of Triton the recurrence alone. With TRITON_INTERPRET=1 a CPU runs Triton's too.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

from scripts.gpu_cases import Case, first_steps, loss_of, near, near_gradients
from seqrec_cli import kernels as switch
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.kernels.registry import Kernel, all_kernels, on_triton
from seqrec_cli.training.precision import Precision
from tests.kernels.beside_reference import TRITON, compare, triton_examples
from tests.rehearsal.parts import PACKED, loop_of, settings

FORMATS = (torch.bfloat16, torch.float32, torch.float16)
# Model, objective, its settings, and the folders of the Triton kernels that a step in 16 bits has to run.
STEPS: list[tuple[str, str, dict[str, Any], set[str]]] = [
    ("sasrec", "next_item", {}, {"corpus_softmax"}),
    ("hstu", "next_item", {"time_bias": "past"}, {"corpus_softmax", "biased_attention"}),
    ("dien", "click", {}, {"gru_scan"}),
    ("din", "click", {"activation": "prelu"}, {"activation_unit"}),
    ("sasrec", "next_item", {"positions": "relative"}, {"corpus_softmax", "biased_attention"}),
    ("hstu", PACKED, {}, {"corpus_softmax", "biased_attention"}),
    ("gru4rec", "next_item", {}, {"corpus_softmax", "gru_scan"}),
]
# How far from torch's operators in fp32 the kernels' loss and gradients may be, as a share: in 16 bits at least so far,
# or twice as far as torch's operators in the same format are.
LOSS_TOLERANCE = {"fp32": 1e-4, "bf16": 5e-3, "fp16": 1e-3}
GRADIENT_TOLERANCE = {"fp32": 1e-3, "bf16": 3e-2, "fp16": 5e-3}
STEPS_TOLERANCE = {"fp32": 1e-3, "bf16": 4e-2, "fp16": 2e-2}  # of the losses of real steps
LEAST = {"fp32": 1e-2, "bf16": 0.1, "fp16": 0.1}  # see `near_gradients`
SCALE = 128.0  # of the loss, whose gradients are small for fp16


def kernels(device: torch.device, tiny: bool) -> Iterator[Case]:
    """Name and check. First each kernel once in every format, its largest example, and the steps; then the others."""
    switch.use(True)
    all_of, runs = all_kernels(), on_triton(TRITON[0], device)
    works = _in_triton(all_of, device) if runs else _in_c(all_of)
    rounds = list(works)
    yield from rounds[0]
    if not runs:
        yield "triton", lambda: {"left_out": f"Triton's kernels run on CUDA with the package triton, not on {device}"}
    formats = ("bf16", "fp32", "fp16") if device.type == "cuda" else ("fp32", "bf16") if runs else ("fp32",)
    for model, objective, changes, named in STEPS[:4] if tiny else STEPS:
        for precision in formats:
            words = " ".join([model, objective, *(f"{name}={value}" for name, value in changes.items()), precision])
            wanted = (named if precision != "fp32" else named & {"gru_scan"}) if runs else set()
            yield (
                f"step {words}",
                lambda m=model, o=objective, c=changes, p=precision, w=wanted: step(m, o, c, Precision(device, p), w),
            )
    for others in [] if tiny else rounds[1:]:
        yield from others


def _in_triton(all_of: dict[str, Kernel], device: torch.device) -> Iterator[list[Case]]:
    """Rounds: every kernel's largest example in each format, then the next."""
    count = {name: len(triton_examples(all_of[name], torch.float32)) for name in TRITON}
    for nth in range(max(count.values())):
        yield [
            (f"{name} {dtype} {nth}", lambda k=all_of[name], d=dtype, i=nth: beside_reference(k, d, i, device))
            for dtype in FORMATS
            for name in TRITON
            if nth < count[name]
        ]


def _in_c(all_of: dict[str, Kernel]) -> Iterator[list[Case]]:
    """Every kernel that a CPU has, in its formats, one example; where there is no C compiler, torch's way of it."""
    yield [
        (f"{name} {dtype}", lambda k=kernel, d=dtype: _one(k, d, next(iter(k.examples(d))), torch.device("cpu")))
        for name, kernel in all_of.items()
        if not kernel.triton
        for dtype in kernel.formats
    ]


def beside_reference(kernel: Kernel, dtype: torch.dtype, nth: int, device: torch.device) -> dict[str, Any]:
    """A Triton kernel's values and gradients for its nth largest example."""
    torch.manual_seed(0)
    given = sorted(triton_examples(kernel, dtype), key=_size, reverse=True)[nth]
    # Products of fp16 have three digits more than bf16's; what they are stored in has not always.
    found = _one(kernel, torch.bfloat16 if dtype == torch.float16 else dtype, given, device)
    if not switch.ran():
        raise AssertionError(f"{kernel.operator.name()} ran without Triton")
    return found


def _one(kernel: Kernel, dtype: torch.dtype, given: tuple[Any, ...], device: torch.device) -> dict[str, Any]:
    switch.use(True)  # `ran` begins anew
    shapes = [list(x.shape) for x in given if isinstance(x, torch.Tensor)]
    return {"worst_difference": compare(kernel, given, dtype, device=str(device)), "shapes": shapes}


def _size(given: tuple[Any, ...]) -> int:
    return sum(x.numel() for x in given if isinstance(x, torch.Tensor))


def step(model: str, objective: str, changes: dict[str, Any], precision: Precision, wanted: set[str]) -> dict[str, Any]:
    """Loss and gradients of a batch, and three steps, with the kernels beside torch's operators; both beside torch's in
    fp32, for what is rounded is not wrong. `wanted` must run."""
    cfg, name = settings(model, objective, changes, clip_norm=1.0), precision.name
    exact = _taught(cfg, Precision(precision.device, "fp32"), False)
    torch_s = exact if name == "fp32" else _taught(cfg, precision, False)
    own = _taught(cfg, precision, True)
    if torch_s.ran or wanted - set(own.ran):
        raise AssertionError(f"{own.ran} ran with kernels ({', '.join(sorted(wanted))} should), {torch_s.ran} without")
    away = abs(torch_s.loss - exact.loss) / max(abs(exact.loss), 1e-2)
    near("the loss", own.loss, exact.loss, max(2 * away, LOSS_TOLERANCE[name]), "in torch's operators in fp32")
    off = near_gradients(torch_s.model, exact.model, math.inf, LEAST[name])
    worst = near_gradients(own.model, exact.model, max(2 * off, GRADIENT_TOLERANCE[name]), LEAST[name])
    for nth, (found, expected) in enumerate(zip(own.losses, torch_s.losses, strict=True)):
        near(f"the loss of step {nth + 1}", found, expected, STEPS_TOLERANCE[name], "in torch's operators")
    figures = {"loss": own.loss, "loss_of_torch": torch_s.loss, "loss_in_fp32": exact.loss, "losses": own.losses}
    return {**figures, "worst_gradient": worst, "worst_gradient_of_torch": off, "ran": own.ran}


class Taught(NamedTuple):
    """A batch's loss, the model with its gradients, the losses of the first steps, and the kernels that ran."""

    loss: float
    model: nn.Module
    losses: list[float]
    ran: list[str]


def _taught(cfg: TrainConfig, precision: Precision, on: bool) -> Taught:
    switch.use(on)
    try:
        loop, steps = loop_of(cfg, precision), loop_of(cfg, precision)
        torch.manual_seed(0)
        batch = loop.objective.drawn(next(iter(loop.rows.epoch(0))))
        loss = loss_of(loop, batch, SCALE)
        if steps.scaler.is_enabled():  # its first steps would overflow, and be left out
            steps.scaler.load_state_dict(steps.scaler.state_dict() | {"scale": SCALE})
        return Taught(loss, loop.model, first_steps(steps), switch.ran())
    finally:
        switch.use(True)

"""Whether a device computes what the CPU does: every model of conf/ by every objective that can train it, packed rows
among them, in torch's own operators; gpu_kernels.py is for those of this package.

They need no pytest. `python -m scripts.gpu_parts cases` runs them, and tests/training/test_cuda_cases.py.
"""

import copy
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from seqrec_cli import kernels
from seqrec_cli.commands.measure import measured
from seqrec_cli.commands.training_setup import fresh_model
from seqrec_cli.data.batch import Batch
from seqrec_cli.training.checkpoint import load_checkpoint
from seqrec_cli.training.closed_form import fit_closed_form
from seqrec_cli.training.loop import Loop
from seqrec_cli.training.precision import Precision
from tests.rehearsal.parts import CPU, LOG, PACKED, loop_of, pairs, settings

Case = tuple[str, Callable[[], dict[str, Any]]]
LOSS_TOLERANCE = 1e-3  # relative: fp32 on both, added up in other orders
GRADIENT_TOLERANCE = 1e-2  # of a gradient's norm
LOW_TOLERANCE = 0.1  # relative: a loss in 16 bits beside fp32's
STEPS = 3
TINY = (
    *(("sasrec", "next_item"), ("sasrec", PACKED), ("bert4rec", "cloze")),
    *(("gru4rec", "sampled_softmax"), ("din", "click")),
)


def cases(device: torch.device, tiny: bool) -> Iterator[Case]:
    """Name and check, most telling first: every model by one objective and its evaluation, checkpoints and packed rows,
    then the other objectives. `tiny`: some models, each by one objective."""
    found, later = dict[str, str](), list[tuple[str, str]]()
    for model, objective in pairs():
        if not tiny or (model, objective) in TINY:
            later += [(model, objective)] if model in found else []
            found.setdefault(model, objective)
    for model, objective in found.items():
        if objective != "closed_form":
            yield f"step {model} {objective}", _plain(step, model, objective, device)
        yield f"evaluation {model}", _plain(evaluation, model, objective, device)
    for precision in ("fp32", "fp16") if device.type == "cuda" else ("fp32",):
        yield f"checkpoint sasrec {precision}", _plain(checkpoint, device, precision)
    for model, objective in sorted(later, key=lambda pair: pair[1] != PACKED):
        yield f"step {model} {objective}", _plain(step, model, objective, device)


def _plain(check: Callable[..., dict[str, Any]], *given: Any) -> Callable[[], dict[str, Any]]:
    """The check with torch's operators alone, as the reference has them."""

    def checked() -> dict[str, Any]:
        kernels.use(False)
        try:
            return check(*given)
        finally:
            kernels.use(True)

    return checked


def step(model: str, objective: str, device: torch.device) -> dict[str, Any]:
    """The loss and the gradients of one batch, then real steps in every number format."""
    cfg = settings(model, objective, clip_norm=1.0)
    on_cpu, there = (loop_of(cfg, Precision(of, "fp32")) for of in (CPU, device))
    torch.manual_seed(0)
    batch = on_cpu.objective.drawn(next(iter(on_cpu.rows.epoch(0))))
    expected, found = (loss_of(loop, batch) for loop in (on_cpu, there))
    near("loss", found, expected, LOSS_TOLERANCE)
    worst = near_gradients(there.model, on_cpu.model, GRADIENT_TOLERANCE)
    figures: dict[str, Any] = {"loss": found, "loss_on_cpu": expected, "worst_gradient": worst}
    for name in ("fp32", "bf16", "fp16") if device.type == "cuda" else ("fp32",):
        loop = loop_of(cfg, Precision(device, name))  # type: ignore[arg-type]
        losses = first_steps(loop)
        figures[name] = losses
        near(f"the first loss in {name}", losses[0], figures["fp32"][0], LOW_TOLERANCE)
        if not all(math.isfinite(loss) for loss in losses):
            raise AssertionError(f"losses in {name}: {losses}")
    if not _draws_on_the_device(on_cpu):
        for nth, (here, other) in enumerate(
            zip(figures["fp32"], first_steps(loop_of(cfg, Precision(CPU, "fp32"))), strict=True)
        ):
            near(f"the loss of step {nth + 1}", here, other, 5 * LOSS_TOLERANCE)
    return figures


def _draws_on_the_device(loop: Loop) -> bool:
    """Whether a GPU's own random numbers choose what is learned from."""
    batch = next(iter(loop.rows.epoch(0)))
    return loop.objective.drawn(batch) is not batch


def loss_of(loop: Loop, batch: Batch, scale: float = 1.0) -> float:
    """Of a drawn batch, in the loop's number format; its gradients, times `scale`, are in the model."""
    total = torch.zeros((), device=loop.precision.device)
    for trainable in loop.model.trainable_models():
        with loop.precision.autocast():
            moved = batch.to(loop.precision.device)
            loss, penalty = loop.objective.part_loss(trainable, moved, of=moved), trainable.penalty(moved)
            loss = loss if penalty is None else loss + penalty
        (scale * loss).backward()
        total += loss.detach()
    return total.item()


def near_gradients(found: nn.Module, expected: nn.Module, tolerance: float, least: float = 1e-2) -> float:
    """The largest difference of a parameter's gradient, as a share of its norm, or of `least` of that of all together
    where it is less: what should be 0 is rounding. Raises AssertionError where it is above `tolerance`."""
    gradients, worst = {name: p.grad for name, p in found.named_parameters()}, 0.0
    total = math.sqrt(sum(_norm(p.grad) ** 2 for p in expected.parameters()))
    for name, parameter in expected.named_parameters():
        own = gradients[name]
        if (parameter.grad is None) != (own is None):
            raise AssertionError(f"{name} has a gradient on one side alone")
        if parameter.grad is not None and own is not None:
            difference = (own.cpu().to_dense() - parameter.grad.cpu().to_dense()).norm().item()
            share = difference / max(_norm(parameter.grad), least * total, 1e-12)
            if not share <= tolerance:
                raise AssertionError(f"the gradient of {name} is off by {share:.1%} of its norm")
            worst = max(worst, share)
    return worst


def _norm(gradient: Tensor | None) -> float:
    return 0.0 if gradient is None else gradient.to_dense().norm().item()


def first_steps(loop: Loop) -> list[float]:
    """The losses of the first steps of the loop of `seqrec train`."""
    losses, before = [], 0.0
    for epoch in range(STEPS):
        for batch in loop.rows.epoch(epoch):
            loop.run_step(batch)
            after = loop.loss_sum.item()
            losses.append(after - before)
            before = after
            if len(losses) == STEPS:
                return losses
    return losses


def near(what: str, found: float, expected: float, tolerance: float, beside: str = "on the CPU") -> None:
    """Raises AssertionError where they differ by more than that share."""
    if not abs(found - expected) <= tolerance * max(abs(expected), 1e-2):
        raise AssertionError(f"{what} is {found:.6g}, {beside} {expected:.6g}")


def evaluation(model: str, objective: str, device: torch.device) -> dict[str, Any]:
    """All metrics of a validation, of the same weights."""
    cfg = settings(model, objective)
    trained = fresh_model(cfg, LOG, CPU)
    fit_closed_form(trained, LOG)
    found = [measured((cfg, copy.deepcopy(trained), LOG, Precision(of, "fp32")), "val").metrics for of in (CPU, device)]
    for name, expected in found[0].items():
        near(name, found[1][name], expected, 1e-3)
    return {"metrics": found[1]}


def checkpoint(device: torch.device, precision: Any) -> dict[str, Any]:
    """A run that is saved after two steps and goes on has the weights of one that was not."""
    cfg = settings("sasrec", "next_item", clip_norm=1.0)
    with tempfile.TemporaryDirectory() as folder:
        whole, first = (loop_of(cfg, Precision(device, precision), Path(folder)) for _ in range(2))
        _advance(whole, 2)
        _advance(first, 2)
        first.save_last()
        payload = load_checkpoint(Path(folder) / "last.pt")
        again = loop_of(cfg, Precision(device, precision), Path(folder))
        again.restore(payload)
        if again.scaler.is_enabled() and again.scaler.state_dict() != first.scaler.state_dict():
            raise AssertionError("the scaler's state is not the one that was saved")
        _advance(whole, 3)
        _advance(again, 3)
    worst = max(
        (a - b).abs().max().item() for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True)
    )
    if worst > 1e-4:
        raise AssertionError(f"weights differ by {worst:.2g} after a resume")
    return {"largest_difference": worst}


def _advance(loop: Loop, to: int) -> None:
    """Up to step `to`, over as many epochs as that takes."""
    at = loop.progress
    while at.step < to:
        for batch in loop.rows.epoch(at.epoch, at.start):
            loop.run_step(batch)
            if at.step >= to:
                break
        if at.start >= loop.rows.steps:
            at.epoch, at.start = at.epoch + 1, 0

"""Whether a device computes what the CPU does: every model of conf/ by every objective that can train it.

They need no pytest. `python -m scripts.gpu_parts cases` runs them, and tests/training/test_cuda_cases.py.
"""

import copy
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqrec_cli import kernels
from seqrec_cli.commands.measure import measured
from seqrec_cli.commands.training_setup import fresh_model
from seqrec_cli.training.checkpoint import load_checkpoint
from seqrec_cli.training.closed_form import fit_closed_form
from seqrec_cli.training.loop import Loop
from seqrec_cli.training.precision import Precision
from tests.models.toy import model_names
from tests.rehearsal.parts import CPU, LOG, loop_of, pairs, settings

Case = tuple[str, Callable[[], dict[str, Any]]]
LOSS_TOLERANCE = 1e-3  # relative: fp32 on both, added up in other orders
GRADIENT_TOLERANCE = 1e-2  # of a gradient's norm
LOW_TOLERANCE = 0.1  # relative: a loss in 16 bits beside fp32's
STEPS = 3
TINY = (("sasrec", "next_item"), ("bert4rec", "cloze"), ("gru4rec", "sampled_softmax"), ("din", "click"))


def cases(device: torch.device, tiny: bool) -> Iterator[Case]:
    """Name and check, most telling first. `tiny`: some models, each by one objective."""
    kernels.use(False)  # the reference is torch's own operators
    taught = [pair for pair in pairs() if pair[1] != "closed_form"]
    if tiny:
        taught = [(model, objective) for model, objective in taught if (model, objective) in TINY]
    for model, objective in taught:
        yield f"step {model} {objective}", lambda m=model, o=objective: step(m, o, device)
    for model in [model for model, _ in TINY] if tiny else model_names():
        objective = next(objective for name, objective in pairs() if name == model)
        yield f"evaluation {model}", lambda m=model, o=objective: evaluation(m, o, device)
    yield "checkpoint sasrec", lambda: checkpoint(device, "fp32")
    if device.type == "cuda":
        yield "checkpoint sasrec fp16", lambda: checkpoint(device, "fp16")


def step(model: str, objective: str, device: torch.device) -> dict[str, Any]:
    """The loss and the gradients of one batch, then real steps in every number format."""
    cfg = settings(model, objective, clip_norm=1.0)
    on_cpu, there = (loop_of(cfg, Precision(of, "fp32")) for of in (CPU, device))
    torch.manual_seed(0)
    batch = on_cpu.objective.drawn(next(iter(on_cpu.rows.epoch(0))))
    expected, found = (_loss_of(loop, batch) for loop in (on_cpu, there))
    _near("loss", found, expected, LOSS_TOLERANCE)
    gradients = dict(there.model.named_parameters())
    total = math.sqrt(sum(_norm(p.grad) ** 2 for p in on_cpu.model.parameters()))
    worst = 0.0
    for name, parameter in on_cpu.model.named_parameters():
        if (parameter.grad is None) != (gradients[name].grad is None):
            raise AssertionError(f"{name} has a gradient on one device alone")
        if parameter.grad is not None:
            difference = (gradients[name].grad.cpu().to_dense() - parameter.grad.to_dense()).norm().item()
            worst = max(worst, difference / max(_norm(parameter.grad), 1e-2 * total, 1e-12))
            if worst > GRADIENT_TOLERANCE:
                raise AssertionError(f"the gradient of {name} is off by {worst:.1%} of its norm")
    figures: dict[str, Any] = {"loss": found, "loss_on_cpu": expected, "worst_gradient": worst}
    for name in ("fp32", "bf16", "fp16") if device.type == "cuda" else ("fp32",):
        loop = loop_of(cfg, Precision(device, name))  # type: ignore[arg-type]
        losses = _steps(loop)
        figures[name] = losses
        _near(f"the first loss in {name}", losses[0], figures["fp32"][0], LOW_TOLERANCE)
        if not all(math.isfinite(loss) for loss in losses):
            raise AssertionError(f"losses in {name}: {losses}")
    if not _draws_on_the_device(on_cpu):
        for nth, (here, other) in enumerate(
            zip(figures["fp32"], _steps(loop_of(cfg, Precision(CPU, "fp32"))), strict=True)
        ):
            _near(f"the loss of step {nth + 1}", here, other, 5 * LOSS_TOLERANCE)
    return figures


def _draws_on_the_device(loop: Loop) -> bool:
    """Whether a GPU's own random numbers choose what is learned from."""
    batch = next(iter(loop.rows.epoch(0)))
    return loop.objective.drawn(batch) is not batch


def _loss_of(loop: Loop, batch: Any) -> float:
    """Of a drawn batch, and its gradients in the model."""
    total = torch.zeros((), device=loop.precision.device)
    for trainable in loop.model.trainable_models():
        moved = batch.to(loop.precision.device)
        loss, penalty = loop.objective.part_loss(trainable, moved, of=moved), trainable.penalty(moved)
        loss = loss if penalty is None else loss + penalty
        loss.backward()
        total += loss.detach()
    return total.item()


def _norm(gradient: Tensor | None) -> float:
    return 0.0 if gradient is None else gradient.to_dense().norm().item()


def _steps(loop: Loop) -> list[float]:
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


def _near(what: str, found: float, expected: float, tolerance: float) -> None:
    if not abs(found - expected) <= tolerance * max(abs(expected), 1e-2):
        raise AssertionError(f"{what} is {found:.6g}, on the CPU {expected:.6g}")


def evaluation(model: str, objective: str, device: torch.device) -> dict[str, Any]:
    """All metrics of a validation, of the same weights."""
    cfg = settings(model, objective)
    trained = fresh_model(cfg, LOG, CPU)
    fit_closed_form(trained, LOG)
    found = [measured((cfg, copy.deepcopy(trained), LOG, Precision(of, "fp32")), "val").metrics for of in (CPU, device)]
    for name, expected in found[0].items():
        _near(name, found[1][name], expected, 1e-3)
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

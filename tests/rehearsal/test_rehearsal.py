"""Every model by every objective on a device that is not the host (standin.py): a step and a validation there have the
numbers of the CPU's, mix no devices, and make the host wait for nothing."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from seqrec_cli import kernels
from seqrec_cli.commands import train as train_command
from seqrec_cli.commands.measure import measured, validated
from seqrec_cli.commands.training_setup import fresh_model, objective_for
from seqrec_cli.config.compose import compose
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate
from seqrec_cli.kernels.gru_scan import torch_loop
from seqrec_cli.training.checkpoint import load_checkpoint
from seqrec_cli.training.closed_form import fit_closed_form
from seqrec_cli.training.loop import LOG_EVERY, Loop
from seqrec_cli.training.precision import Precision
from seqrec_cli.training.validation_loss import ValidationLoss
from tests.models.toy import model_names
from tests.rehearsal.parts import CPU, LOG, loop_of, pairs, settings
from tests.rehearsal.standin import DEVICE, POSSIBLE, DeviceMix, Watch, install, watching

pytestmark = pytest.mark.skipif(not POSSIBLE, reason="this torch cannot stand in for a device from Python")

PAIRS = pairs()
TAUGHT = [pair for pair in PAIRS if pair[1] != "closed_form"]
COUNTED = [model for model, objective in PAIRS if objective == "closed_form"]
# How often the host may wait for the device in one step of training (the twentieth, which reports its loss, aside).
WAITS_A_STEP = {model: 0 for model, _ in TAUGHT}
# And in an evaluation of one block of requests: whether the scores are numbers, ranks, counts, scores of candidates.
WAITS_A_BLOCK = 5
VARIANTS: list[tuple[str, str, dict[str, Any]]] = [
    ("sasrec", "next_item", {"positions": "rotary", "item_bias": True, "user_dim": 4, "event_dropout": 0.2}),
    ("sasrec", "bce", {"positions": "relative", "attributes": "add"}),
    ("sasrec", "next_item", {"temperature": None, "positions": "absolute", "dropout": 0.2}),
    ("bert4rec", "cloze", {"positions": "relative", "item_bias": True, "dropout": 0.2}),
    ("hstu", "sampled_softmax", {"time_bias": "past", "dropout": 0.2}),
    ("din", "click", {"activation": "dice", "l2": 3.0}),
    ("din", "click", {"activation": "prelu", "softmax": True, "user_id": True}),
    ("din", "click", {"search_attribute": "color", "search_events": 3}),
    ("dien", "click", {"evolution": "agru", "activation": "prelu"}),
    ("dien", "click", {"evolution": "augru_keep"}),
    ("bst", "click", {"positions": "time", "read_out": "all", "dropout": 0.2}),
]


@pytest.fixture(scope="module", autouse=True)
def device_that_stands_in() -> Iterator[None]:
    """torch's own operators on both sides."""
    install()
    kernels.use(False)
    yield
    kernels.use(True)


def both(cfg: TrainConfig) -> tuple[Loop, Loop]:
    return loop_of(cfg, Precision(CPU, "fp32")), loop_of(cfg, Precision(DEVICE, "fp32"))


def stepped(loop: Loop, steps: int = 1) -> Watch:
    """So many steps, and what the host waited for."""
    with watching() as watch:
        for _, batch in zip(range(steps), loop.rows.epoch(0), strict=False):
            loop.run_step(batch)
    return watch


def no_waits(watch: Watch, allowed: int = 0) -> None:
    assert sum(watch.waits.values()) <= allowed, watch.waits
    assert not watch.in_other_threads  # nor the thread that makes batches


@pytest.mark.parametrize(("model", "objective"), TAUGHT)
def test_a_step_is_the_cpu_s_and_waits_for_nothing(model: str, objective: str) -> None:
    on_cpu, loop = both(settings(model, objective, clip_norm=1.0, ema=0.9))
    stepped(on_cpu)
    no_waits(stepped(loop), WAITS_A_STEP[model])
    assert loop.loss_sum.device == DEVICE
    torch.testing.assert_close(loop.loss_sum.cpu(), on_cpu.loss_sum, rtol=2e-5, atol=2e-6)
    moved = dict(loop.model.named_parameters())
    for name, parameter in on_cpu.model.named_parameters():
        assert moved[name].device == DEVICE
        assert torch.isfinite(moved[name].cpu()).all(), name
        # AdamW's first step is as large as lr whatever the gradient: a rounding may change its sign.
        assert (moved[name].cpu() - parameter).abs().mean() < 0.2 * loop.cfg.lr, name
    losses = []
    for of in (on_cpu, loop):
        held_out = ValidationLoss(settings(model, objective), of.objective, LOG, device=of.precision.device)
        if of.cfg and held_out._of_rows:
            of.model.eval()
            with torch.inference_mode():
                losses.append(held_out(of.model, None, None))  # type: ignore[arg-type]
    assert not losses or losses[1] == pytest.approx(losses[0], rel=1e-4)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize(
    ("model", "objective"), [pair for nth, pair in enumerate(TAUGHT) if nth % 4 == 0 or pair[1] in ("click", "cloze")]
)
def test_micro_batches_in_16_bits_wait_for_nothing(model: str, objective: str, precision: Any) -> None:
    changes = {"dropout": 0.1} if model not in ("ensemble", "lrurec", "gru4rec", "nextitnet") else {}
    cfg = settings(model, objective, changes if "dropout" in settings(model, objective).model.model_dump() else {})
    tokens = None if cfg.model.batch_statistics else 40
    loop = loop_of(cfg.model_copy(update={"trainer": cfg.trainer.model_copy(update={"micro_batch_tokens": tokens})}),
                   Precision(DEVICE, precision))
    no_waits(stepped(loop, 2), 2 * WAITS_A_STEP[model])
    assert torch.isfinite(loop.loss_sum.cpu())
    assert loop.scaler.is_enabled() == (precision == "fp16")

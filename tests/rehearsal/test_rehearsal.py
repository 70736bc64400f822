"""Every model by every objective on a device that is not the host (standin.py): a step and a validation there have the
numbers of the CPU's, mix no devices, and make the host wait for nothing."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from seqrec_cli.commands import train as train_command
from seqrec_cli.commands.measure import measured
from seqrec_cli.commands.training_setup import fresh_model
from seqrec_cli.config.compose import compose
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate
from seqrec_cli.kernels.gru_scan import torch_loop
from seqrec_cli.training import loop as loop_module
from seqrec_cli.training.checkpoint import load_checkpoint
from seqrec_cli.training.closed_form import fit_closed_form
from seqrec_cli.training.loop import Loop
from seqrec_cli.training.precision import Precision
from seqrec_cli.training.validation_loss import ValidationLoss
from tests.covering import covering
from tests.models.toy import model_names
from tests.rehearsal.parts import CPU, LOG, PACKED, loop_of, pairs, settings
from tests.rehearsal.standin import DEVICE, POSSIBLE, DeviceMixError, Watch, standing_in, watching

pytestmark = pytest.mark.skipif(not POSSIBLE, reason="this torch cannot stand in for a device from Python")

PAIRS = pairs()
TAUGHT = [pair for pair in PAIRS if pair[1] != "closed_form"]
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
    ("hstu", PACKED, {"time_bias": "past", "dropout": 0.2}),
    ("esasrec", PACKED, {"dropout": 0.2}),
    ("din", "click", {"activation": "dice", "l2": 3.0}),
    ("din", "click", {"activation": "prelu", "softmax": True, "user_id": True}),
    ("din", "click", {"search_attribute": "color", "search_events": 3}),
    ("dien", "click", {"evolution": "agru", "activation": "prelu"}),
    ("dien", "click", {"evolution": "augru_keep"}),
    ("bst", "click", {"positions": "time", "read_out": "all", "dropout": 0.2}),
]


@pytest.fixture(scope="module", autouse=True)
def device_that_stands_in() -> Iterator[None]:
    with standing_in():
        yield


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


@pytest.mark.parametrize(("model", "objective"), covering(TAUGHT))
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
    if objective != "click":  # whose held-out loss is that of an evaluation's scores
        losses = []
        for of in (on_cpu, loop):
            of.model.eval()
            held_out = ValidationLoss(settings(model, objective), of.objective, LOG, device=of.precision.device)
            with torch.inference_mode():
                losses.append(held_out(of.model, None, None))  # type: ignore[arg-type]
        assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.parametrize(
    ("model", "objective"), list({model: (model, objective) for model, objective in TAUGHT}.values())
)
def test_micro_batches_in_fp16_wait_for_nothing(model: str, objective: str) -> None:
    cfg = settings(model, objective, clip_norm=1.0)
    if not cfg.model.batch_statistics:
        cfg = settings(model, objective, clip_norm=1.0, micro_batch_tokens=40)
    loop = loop_of(cfg, Precision(DEVICE, "fp16"))
    no_waits(stepped(loop, 2), 2 * WAITS_A_STEP[model])
    assert torch.isfinite(loop.loss_sum.cpu())
    assert loop.scaler.is_enabled()


@pytest.mark.parametrize(("model", "objective", "changes"), VARIANTS)
def test_settings_that_are_not_shipped_wait_for_nothing_in_bf16(
    model: str, objective: str, changes: dict[str, Any]
) -> None:
    loop = loop_of(settings(model, objective, changes), Precision(DEVICE, "bf16"))
    no_waits(stepped(loop))
    assert torch.isfinite(loop.loss_sum.cpu())


@pytest.mark.parametrize("model", model_names())
def test_an_evaluation_is_the_cpu_s(model: str) -> None:
    objective = next(objective for name, objective in PAIRS if name == model)
    cfg, found = settings(model, objective), []
    for device in (CPU, DEVICE):
        made = fresh_model(cfg, LOG, device)
        fit_closed_form(made, LOG)
        with watching() as watch:
            found.append(measured((cfg, made, LOG, Precision(device, "fp32")), "val").metrics)
    assert found[1] == pytest.approx(found[0], rel=1e-4, abs=1e-5)
    assert found[0]["mrr"] > 0
    if objective != "closed_form":
        assert 0 < sum(watch.waits.values()) <= WAITS_A_BLOCK, watch.waits


def test_scores_of_candidates_are_the_cpu_s() -> None:
    cfg, found = settings("din", "click"), []
    for device in (CPU, DEVICE):
        loop = loop_of(cfg, Precision(device, "fp32"))
        batch = next(iter(loop.rows.epoch(0))).to(device)
        loop.model.eval()
        with torch.inference_mode():
            found.append(loop.model.score(batch, batch.items_BL.clamp(min=1)).cpu())
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


def test_the_loss_is_read_where_it_is_reported_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "LOG_EVERY", 3)
    loop = loop_of(settings("avgpool", "click", max_epochs=30), Precision(DEVICE, "fp32"))
    waits = []
    for _, batch in zip(range(7), loop.rows.epoch(0), strict=False):
        with watching() as watch:
            loop.run_step(batch)
        waits.append(sum(watch.waits.values()))
    assert waits == [0, 0, 1, 0, 0, 1, 0]


def test_fp16_clips_unscaled_gradients_and_leaves_out_a_step_that_overflows() -> None:
    cfg = settings("sasrec", "next_item", clip_norm=0.01)
    loops = [loop_of(cfg, Precision(DEVICE, name)) for name in ("fp32", "fp16")]  # type: ignore[arg-type]
    taught = []
    for loop in loops:
        if loop.scaler.is_enabled():
            loop.scaler.load_state_dict(loop.scaler.state_dict() | {"scale": 256.0})
        stepped(loop)
        state = loop.optimizer.state_dict()["state"]
        taught.append(torch.cat([each["exp_avg"].cpu().flatten() for each in state.values()]))
    norms = [10 * each.norm().item() for each in taught]  # AdamW's beta is 0.9: a tenth of the clipped gradients
    assert norms[0] == pytest.approx(0.01, rel=0.01)
    assert norms[1] == pytest.approx(norms[0], rel=0.02)
    loop = loops[1]
    assert loop.scaler.get_scale() == 256
    loop.scaler.update(2.0**40)
    before = [p.detach().cpu().clone() for p in loop.model.parameters()]
    stepped(loop)
    assert all(torch.equal(a, b.cpu()) for a, b in zip(before, loop.model.parameters(), strict=True))
    assert loop.scaler.get_scale() == 2.0**39


def test_the_command_trains_validates_stops_and_goes_on_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["model=sasrec", "dataset.users=40", "model.dropout=0", "model.max_length=10", "evaluation.test=none"]
    words += [f"data_dir={tmp_path}/data", "evaluation.baselines=false", "trainer.ema=0.9", "hardware.kernels=false"]
    words += ["trainer.warmup_steps=0", "trainer.batch_size=16"]
    runs = {}
    for device, name in ((CPU, "fp32"), (DEVICE, "fp32"), (DEVICE, "fp16")):
        monkeypatch.setattr(train_command, "resolve_precision", lambda _, of=(device, name): Precision(*of))
        folder = f"{tmp_path}/{device.type}-{name}"
        cfg = validate("train", compose("train", [*words, f"run_dir={folder}", "trainer.max_epochs=1"]))
        runs[device.type, name] = train_command.main(cfg)  # type: ignore[arg-type]
    assert runs["standin", "fp32"]["val"] == pytest.approx(runs["cpu", "fp32"]["val"], rel=1e-3, abs=1e-3)
    kept = load_checkpoint(Path(folder) / "last.pt")
    assert kept["trainer"]["scaler"]["_growth_tracker"] == kept["step"] > 1  # of the scaler that the run goes on with
    assert all(tensor.device == CPU for tensor in kept["model"].values())
    cfg = validate("train", compose("train", [*words, f"resume={folder}", "trainer.max_epochs=2"]))
    train_command.main(cfg)  # type: ignore[arg-type]
    later = load_checkpoint(Path(folder) / "last.pt")
    assert later["trainer"]["scaler"]["_growth_tracker"] == later["step"] == 2 * kept["step"]


def planted(monkeypatch: pytest.MonkeyPatch, fault: Any) -> Loop:
    """A loop whose model does something more before it encodes."""
    loop = loop_of(settings("sasrec", "next_item"), Precision(DEVICE, "fp32"))
    encode = loop.model.encode_targets

    def faulty(batch: Any) -> Any:
        fault(batch)
        return encode(batch)

    monkeypatch.setattr(loop.model, "encode_targets", faulty)
    return loop


def test_tensors_of_two_devices_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    for fault in (
        lambda batch: batch.items_BL + torch.arange(batch.items_BL.shape[1]),
        lambda batch: batch.items_BL[torch.arange(2)],  # FakeTensorMode lets this one pass
        lambda batch: torch.where(torch.ones(1, dtype=torch.bool), batch.items_BL, 0),
        lambda batch: torch.cat([batch.lengths_B, torch.zeros(1, dtype=torch.int64)]),
    ):
        with pytest.raises(DeviceMixError, match="two devices"):
            stepped(planted(monkeypatch, fault))
    stepped(planted(monkeypatch, lambda batch: batch.items_BL * torch.tensor(2)))  # one number may come along


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        (lambda batch: batch.lengths_B.max().item(), "_local_scalar_dense"),
        (lambda batch: batch.lengths_B.tolist(), "copy to the host"),
        (lambda batch: bool((batch.lengths_B > 0).all()), "_local_scalar_dense"),
        (lambda batch: batch.items_BL.cpu(), "copy to the host"),
        (lambda batch: (batch.items_BL > 0).nonzero(), "nonzero"),
        (lambda batch: batch.items_BL[batch.items_BL > 0], "an index of True and False"),
        (lambda batch: torch.masked_select(batch.items_BL, batch.items_BL > 0), "masked_select"),
        (lambda batch: torch.unique(batch.items_BL), "_unique2"),
        (lambda batch: batch.users_B.repeat_interleave(batch.lengths_B), "repeat_interleave"),
        (lambda batch: torch.tensor([1, 2], device=batch.items_BL.device), "copy from the host that waits"),
        (lambda batch: torch.ones(3).to(batch.items_BL.device), "copy from the host that waits"),
    ],
)
def test_what_waits_is_noticed_with_its_line(fault: Any, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = stepped(planted(monkeypatch, fault))
    assert [noted.split(" at ")[0] for noted in watch.waits] == [what]
    assert sum(watch.waits.values()) == 1


def test_the_line_that_waits_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = loop_of(settings("sasrec", "next_item"), Precision(DEVICE, "fp32"))
    batch = dataclasses.replace(next(iter(loop.rows.epoch(0))), positions_N=None)
    with watching() as watch:
        batch.target_positions()  # it says of itself that it waits
    assert [noted.partition(":")[0] for noted in watch.waits] == ["nonzero at data/batch.py"]


def test_an_operator_of_the_package_is_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    products = torch_loop._Steps.products

    def faulty(steps: Any, state: Any, gates: Any, new: Any) -> None:
        products(steps, state + torch.zeros(state.shape[1]), gates, new)

    monkeypatch.setattr(torch_loop._Steps, "products", faulty)
    with pytest.raises(DeviceMixError):
        stepped(loop_of(settings("gru4rec", "next_item"), Precision(DEVICE, "fp32")))

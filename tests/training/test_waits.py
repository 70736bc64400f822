"""No step waits for a GPU: torch's meta device has no numbers to look at, so a step that reads one fails there."""

import contextlib
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from configured import LOG, config
from training_toys import Recorder

from seqrec_cli.commands.teaching import stand_in
from seqrec_cli.commands.training_setup import fresh_model, objective_for, training_rows
from seqrec_cli.objectives import samplers
from seqrec_cli.training import loop as training_loop
from seqrec_cli.training.precision import Precision
from tests.covering import covering

META = torch.device("meta")
WORDS = [
    *(["model=sasrec", f"objective={o}"] for o in ("next_item", "bce", "gbce", "bpr", "sampled_softmax", "all_action")),
    ["model=sasrec", "objective=sampled_all_action"],
    ["model=sasrec", "objective=sampled_softmax", "objective.sampling=cross_batch"],
    *(
        ["model=sasrec", "objective=bce", "objective.sampling=hard", f"objective.shared={s}"]
        for s in ("position", "sequence")
    ),
    ["model=sasrec", "objective=multi_step", "model.steps_ahead=3"],
    ["model=sasrec", "model.user_dim=8", "model.user_input=concat", "model.user_output=film", "model.user_swap=0.5"],
    *(["model=sasrec", "objective=dual", f"objective.consistency_form={form}"] for form in ("cosine", "contrast")),
    ["model=sasrec", "objective=distil", "objective.teacher=x", "objective.next_item=leave_out"],
    ["model=sasrec", "objective=next_item", "model.user_dim=8", "model.event_dropout=0.1", "model.temperature=0.1"],
    *(["model=sasrec", f"model.positions={p}"] for p in ("absolute", "rotary", "relative")),
    *([f"model={m}"] for m in ("bert4rec", "bsarec", "gru4rec", "esasrec", "hstu", "lrurec", "nextitnet", "semantic")),
    ["model=hstu", "model.time_bias=past"],
    ["model=sasrec", "objective.window=prefixes"],
    ["model=bsarec", "model.filter=row", "objective=bce", "objective.window=prefixes"],
    *([f"model={m}"] for m in ("avgpool", "widedeep", "din", "dien", "dsin", "bst")),
]


def of_500_events(sampler: samplers.PopularitySampler, counts_V: torch.Tensor) -> None:
    """A sampler whose one number, read before the first step, is given to it."""
    sampler.counts_V, sampler.ends_V, sampler.total = counts_V, counts_V[1:].cumsum(0), 500


@pytest.fixture(autouse=True)
def meta_as_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch cannot do there: autocast, one of its optimizers."""
    autocast, enabled = torch.autocast, torch.is_autocast_enabled

    def region(device: str, *args: Any, **kwargs: Any) -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext() if device == "meta" else autocast(device, *args, **kwargs)

    monkeypatch.setattr(torch, "autocast", region)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: device != "meta" and enabled(device))
    monkeypatch.setattr(samplers.PopularitySampler, "__init__", of_500_events)
    monkeypatch.setattr(training_loop, "build_optimizer", lambda model, cfg: None)


@pytest.mark.parametrize(
    ("words", "micro_batch_tokens"),
    covering([*itertools.product(map(tuple, WORDS), ["null", "60"])]),
    ids=lambda of: of if isinstance(of, str) else "-".join(of),
)
def test_a_step_asks_its_device_for_no_number(words: tuple[str, ...], micro_batch_tokens: str) -> None:
    given = config([*words])
    statistics = given.model.batch_statistics | given.objective.batch_statistics
    instead = [] if micro_batch_tokens == "null" else list(statistics.values())
    instead += ["objective.consistency_form=contrast"] if "objective.consistency=0" in instead else []
    cfg = config([*words, *instead, "trainer.batch_size=8", f"trainer.micro_batch_tokens={micro_batch_tokens}"])
    objective, model = objective_for(cfg, LOG, META), fresh_model(cfg, LOG, META)
    rows = training_rows(cfg, objective, LOG, device=META, soft=stand_in(cfg, LOG))
    loop = training_loop.Loop(
        model,
        objective,
        rows,
        cfg=cfg.trainer,
        precision=Precision(META, "fp32"),
        validate=dict,
        header={},
        folder=Path(),
        listener=Recorder(),
    )
    model.train()
    batch = next(iter(rows.epoch(0)))
    loss = loop.accumulate_gradients(batch)
    objective.after_step(model, batch)
    assert loss.device == META
    assert batch.items_BL.device == META
    taught = [name for name, p in model.named_parameters() if p.grad is not None]
    assert len(taught) > 0.9 * len(list(model.parameters()))


def test_a_step_that_does_ask_fails() -> None:
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.ones(3, device=META).sum().item()
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.ones(3, device=META).nonzero()

"""A batch in micro-batches has the gradients of the whole batch: for every model, by every objective that can train it,
and by the settings that could tell the difference; or the pair is refused by name."""

import copy
import functools
import typing
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import yaml
from configured import LOG, config
from training_toys import CPU, Recorder

from seqrec_cli.commands.teaching import stand_in
from seqrec_cli.commands.training_setup import fresh_model, objective_for, training_rows
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.model import ModelConfig
from seqrec_cli.config.objective import NegativesConfig, ObjectiveConfig
from seqrec_cli.config.registry import config_class, names
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import dump, validate_plain
from seqrec_cli.models.layers.channelwise import Statistics
from seqrec_cli.training.loop import Loop, seed_step
from tests.covering import covering
from tests.shipped import shipped

MODELS = {name: cast(type[ModelConfig], config_class("model", name)) for name in names("model")}
OBJECTIVES = {name: cast(type[ObjectiveConfig], config_class("objective", name)) for name in names("objective")}
OBJECTIVES = {name: kind for name, kind in OBJECTIVES.items() if not kind.needs_impressions}  # the log has none
SMALL = {"embed_dim": 8, "heads": 2, "ffn_dim": 12, "mlp": [12, 8], "hidden": 6, "blocks": 1, "session_gap": 6}
NO_DICE = ["model.activation=prelu"]
# Beside every model by every objective: what could differ between rows, positions, and the batch as a whole.
OPTIONS = [
    *(
        [f"model={model}", *plain, "model.l2=3", "model.user_id=true"]
        for model, plain in [
            *((name, NO_DICE) for name in ("avgpool", "din", "dien", "dsin")),
            ("widedeep", []),
            ("bst", []),
        ]
    ),
    ["model=din", *NO_DICE, "model.search_attribute=color", "model.search_events=3", "model.softmax=true"],
    ["model=din", *NO_DICE, "objective.positions=false", "objective.negatives=3", "objective.smoothing=0.1"],
    ["model=din", *NO_DICE, "objective.positive_weight=3", "model.unit_activation=sigmoid"],
    *(
        ["model=dien", *NO_DICE, f"model.evolution={kind}", "model.pooled=sum"]
        for kind in ("augru", "augru_keep", "agru", "aigru")
    ),
    ["model=dien", *NO_DICE, "model.auxiliary=3", "objective.positions=false", "hardware.embedding=sparse"],
    ["model=dien", *NO_DICE, "model.attention=unit", "objective.positive_weight=3"],
    ["model=dien", *NO_DICE, "model.auxiliary_mlp=[4]", "model.auxiliary=0.1", "objective.positive_weight=3"],
    ["model=dien", *NO_DICE, "model.auxiliary_negatives=popularity"],
    *(["model=din", *NO_DICE, f"model.score={kind}", "model.unit=[6]"] for kind in ("dot", "scaled_dot", "additive")),
    ["model=din", *NO_DICE, "model.l2=3", "model.l2_counts=occurrences", "model.l2_attributes=true"],
    ["model=avgpool", *NO_DICE, "model.l2=3", "model.l2_attributes=true", "model.user_id=true"],
    ["model=bst", "model.activation=prelu", "model.l2=3", "model.l2_counts=occurrences"],
    ["model=bst", "model.read_out=all", "model.positions=time", "model.l2=3", "hardware.embedding=sparse"],
    ["model=bert4rec", "objective.smoothing=0.1", "objective.last=0.5", "trainer.bucket_by_length=false"],
    ["model=bert4rec", "objective.window=sliding", "objective.stride=5", "model.item_bias=true", "model.user_dim=4"],
    ["model=sasrec", "objective.smoothing=0.1", "model.item_bias=true", "model.user_dim=4", "model.attributes=add"],
    ["model=sasrec", "objective=all_action", "objective.smoothing=0.1", "objective.horizon=3"],
    ["model=sasrec", "objective=all_action", "objective.discount=0.5", "model.user_dim=4", "model.user_output=gate"],
    [
        "model=sasrec",
        "objective=multi_step",
        "model.steps_ahead=3",
        "objective.discount=0.5",
        "objective.smoothing=0.1",
    ],
    ["model=sasrec", "objective.scheduled_sampling=linear", "objective.scheduled_least=0.3", "model.user_dim=4"],
    ["model=gru4rec", "objective=bce", "objective.scheduled_sampling=linear", "objective.negatives=3"],
    ["model=hstu", "model.time_bias=target", "objective.window=sliding", "objective.stride=5"],
    ["model=sasrec", "objective.window=prefixes", "objective.smoothing=0.1"],
    ["model=bsarec", "objective.window=prefixes", "model.filter=row"],
    ["model=bert4rec", "objective=next_item", "objective.window=prefixes"],
    *(
        ["model=sasrec", "objective=bce", "objective.window=prefixes", "objective.negatives=6", *drawn]
        for drawn in (
            ["objective.sampling=unseen", "objective.shared=position"],
            ["objective.sampling=uniform", "objective.shared=position"],
            ["objective.sampling=in_batch", "objective.shared=sequence"],
        )
    ),
]
SAMPLED = [
    ["model=sasrec", f"objective={name}", f"objective.sampling={sampling}", f"objective.shared={shared}"]
    + ["objective.negatives=6"]
    + (
        [f"objective.log_q={'none' if sampling in ('unseen', 'hard') else 'all'}"]
        if "log_q" in kind.model_fields
        else []
    )
    for name, kind in OBJECTIVES.items()
    if issubclass(kind, NegativesConfig)
    for sampling in (
        ("unseen", "uniform")
        if name == "gbce"
        else ("unseen", "uniform", "popularity", "in_batch", "mixed", "hard", "cross_batch")
    )
    for shared in ("position", "sequence", "batch")
    if (sampling, shared) not in (("unseen", "batch"), ("hard", "batch"), ("cross_batch", "position"))
]


def pairs() -> list[list[str]]:
    """Every trainable model by every objective of its family, with what its rows need."""
    found = []
    for model, kind in MODELS.items():
        able = kind.capabilities
        for objective, how in OBJECTIVES.items():
            can = how.capabilities
            if able.family == "closed_form" or able.family not in can.families:
                continue
            if able.family == "encoder" and can.causal not in (None, able.causal):
                continue
            plain = NO_DICE if "activation" in kind.model_fields else []
            plain = [*plain, "model.filter=causal"] if "filter" in kind.model_fields else plain
            few = ["objective.negatives=6"] if issubclass(how, NegativesConfig) and objective != "bce" else []
            if objective == "multi_step":
                if "steps_ahead" not in kind.model_fields:  # an ensemble's members have theirs
                    continue
                few = ["model.steps_ahead=2"]
            few += ["objective.consistency=0"] if objective == "dual" else []
            found.append([f"model={model}", f"objective={objective}", *plain, *few])
    return found


@functools.cache
def composed(model: str) -> dict[str, Any]:
    """A model's whole configuration, small and without dropout, whose random numbers micro-batches draw in another
    order."""
    plain = dump(config([f"model={model}"]))
    plain["trainer"].update(batch_size=24, micro_batch_tokens=100)
    for each in (plain["model"], *plain["model"].get("members", {}).values()):
        each.update({key: value for key, value in SMALL.items() if key in each})
        each.update({key: 0.0 for key in each if key.endswith("dropout")})
        each.update({"init_std": 0.5} if "init_std" in each else {})  # gradients that are not all rounding
    return plain


def small(words: list[str]) -> TrainConfig:
    """A small model's configuration with these overrides."""
    plain = copy.deepcopy(composed(words[0].partition("=")[2]))
    for word in words[1:]:
        key, _, value = word.partition("=")
        group, _, name = key.partition(".")
        if name:
            plain[group][name] = yaml.safe_load(value)
        else:
            plain[group] = shipped(group, value)
    if plain["objective"]["name"] == "click" and plain["objective"]["positions"]:
        plain["trainer"]["batch_size"] *= 6  # targets, several in a row
    return cast(TrainConfig, validate_plain("train", plain))


def learnt(cfg: TrainConfig, whole: bool) -> tuple[float, dict[str, torch.Tensor], int]:
    """The loss and gradients of a batch that has long and short rows, and how often a backward pass was made."""
    model, objective = fresh_model(cfg, LOG, CPU.device), objective_for(cfg, LOG, CPU.device)
    trainer = cfg.trainer.model_copy(update={"micro_batch_tokens": None}) if whole else cfg.trainer
    rows = training_rows(cfg, objective, LOG, device=CPU.device, soft=stand_in(cfg, LOG))
    loop = Loop(
        model,
        objective,
        rows,
        cfg=trainer,
        precision=CPU,
        validate=dict,
        header={},
        folder=Path(),
        listener=Recorder(),
    )
    model.train()
    passes, losses = 0, loop.losses

    def counted(*args: Any) -> Any:
        nonlocal passes
        for loss in losses(*args):
            passes += 1
            yield loss

    loop.losses = counted  # type: ignore[method-assign]
    seed_step(0, 1)
    loss = loop.accumulate_gradients(max(rows.epoch(0), key=lambda batch: len(set(batch.lengths())))).item()
    gradients = {name: p.grad.to_dense() for name, p in model.named_parameters() if p.grad is not None}
    return loss, gradients, passes


def difference(words: list[str]) -> float:
    """The largest change of a parameter's gradient by micro-batches, relative to that gradient's size."""
    cfg = small(words)
    loss, gradients, passes = learnt(cfg, whole=True)
    by_parts, parts_gradients, parts_passes = learnt(cfg, whole=False)
    assert parts_passes >= passes + 2
    assert by_parts == pytest.approx(loss, rel=1e-5)
    assert parts_gradients.keys() == gradients.keys()
    largest = max(gradient.norm() for gradient in gradients.values())
    # Sums that cancel (a bias of logits whose labels are balanced) are rounded as their terms: the others measure them.
    return max(
        ((parts_gradients[name] - gradient).norm() / gradient.norm().clamp(min=1e-2 * largest)).item()
        for name, gradient in gradients.items()
    )


@pytest.mark.parametrize(
    "words",
    [
        *covering(pairs(), lambda words: words[:2]),
        *OPTIONS,
        *covering(SAMPLED, lambda words: (words[1], tuple(words[2:4]))),  # how is drawn, and for whom: a way of its own
    ],
    ids=lambda words: "-".join(words),
)
def test_micro_batches_have_the_gradients_of_the_whole_batch(words: list[str]) -> None:
    # The gradients of Rec-Denoiser's masks are of the difference of two losses, nearly alike, and are rounded as these.
    assert difference(words) < (5e-4 if words[0] == "model=recdenoiser" else 1e-5)


def with_statistics() -> list[list[str]]:
    """Every model by every value of a setting that could ask for statistics of a batch."""
    found = []
    for model, kind in MODELS.items():
        for field, of in kind.model_fields.items():
            values = [str(value) for value in typing.get_args(of.annotation)]
            values = ["true", "false"] if field == "batch_norm" else values if "dice" in values else []
            found += [[f"model={model}", f"model.{field}={value}"] for value in values]
    return found


@pytest.mark.parametrize("words", with_statistics(), ids=lambda words: "-".join(words))
def test_statistics_of_the_batch_are_refused_by_name(words: list[str]) -> None:
    cfg = small([*words, "trainer.micro_batch_tokens=null"])
    model, found = fresh_model(cfg, LOG, CPU.device), cfg.model.batch_statistics
    assert any(isinstance(module, Statistics) for module in model.modules()) == bool(found)
    setting, _, value = words[1].partition("=")
    idle = setting.partition(".")[2] in cfg.model.idle
    assert (words[1] in found) == (value in ("dice", "true") and not idle)
    if found:
        with pytest.raises(SeqrecError, match=r"^trainer\.micro_batch_tokens=100: .*model=.* statistics of the whole"):
            small(words)
        assert small([*words, *found.values()])

"""What scheduled sampling and multi-step training ask of the other settings."""

from typing import TYPE_CHECKING

from seqrec_cli.config.objective import WindowConfig

if TYPE_CHECKING:
    from seqrec_cli.config.model import ModelConfig
    from seqrec_cli.config.schema import TrainConfig


def steps_are_trained(cfg: "TrainConfig") -> None:
    """Raises ValueError with one line where heads of further events and the objective do not go together."""
    objective, model = cfg.objective.name, cfg.model
    if objective == "multi_step" and getattr(model, "steps_ahead", 1) < 2:
        if "steps_ahead" not in type(model).model_fields:
            raise ValueError(
                f"objective=multi_step: model={model.name} has no heads for further events; use a single encoder "
                "(model=sasrec), or objective=all_action"
            )
        raise ValueError(
            "objective=multi_step learns several of the next events, and model.steps_ahead=1 has a head for the next "
            "alone; set model.steps_ahead=4, or objective=next_item"
        )
    members: dict[str, ModelConfig] = getattr(model, "members", {})
    for prefix, each in (("model", model), *((f"model.members.{key}", member) for key, member in members.items())):
        if objective != "multi_step" and getattr(each, "steps_ahead", 1) > 1:
            raise ValueError(
                f"{prefix}.steps_ahead={each.steps_ahead}: objective={objective} trains no head of a further event; "  # type: ignore[attr-defined]
                f"use objective=multi_step, or {prefix}.steps_ahead=1"
            )


def own_answers_can_be_read(cfg: "TrainConfig") -> None:
    """Raises ValueError with one line where `objective.scheduled_sampling` cannot be had."""
    if not isinstance(cfg.objective, WindowConfig) or cfg.objective.scheduled_sampling == "none":
        return
    given = f"objective.scheduled_sampling={cfg.objective.scheduled_sampling}"
    if cfg.model.looks_ahead:
        raise ValueError(
            f"{given}: the states of model={cfg.model.name} see the events that they would be asked for; set it to none"
        )
    if cfg.hardware.table == "sharded":
        raise ValueError(
            f"{given} draws from all items, and hardware.table=sharded gives each process a part of them; use "
            "hardware.table=replicated, or set it to none"
        )

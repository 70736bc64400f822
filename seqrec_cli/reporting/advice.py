"""What a run's numbers suggest to change: said in a line, with the setting to give."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.metrics.table import LOSS, lower_is_better
from seqrec_cli.reporting.run_folder import read_rows
from seqrec_cli.reporting.tables import BASELINES

COMPARED = ("ndcg@10", "hr@10", "mrr", "auc")  # the first that a run has, where it is chosen by its loss
FEW_EVENTS = 20_000
SLOW_SECONDS = 1800.0
STILL_RISING = 0.9  # the best epoch lies in the last tenth
EARLY = 0.5  # patience ended the run in its first half
MOST_COLD = 0.5  # of the targets: no model that knows items by their events can rank these
FULL_WIDTH = 2 * 1.96  # of a 95 % interval, in standard errors
REMEDIES = ("graph", "itemknn")  # models that need few events
NO_RIVAL = "oracle"  # no model can expect more


@dataclass(frozen=True)
class Course:
    """How a fit went."""

    best_epoch: int
    epochs: int
    steps: int
    stopped_by: str  # finished, patience, time
    events: int  # that train
    untried: int = 0  # candidates of a portfolio that had no time

    def still_rising(self) -> bool:
        """Whether the run ended by its limit with its best epoch among the last."""
        return self.stopped_by != "patience" and self.best_epoch >= STILL_RISING * self.epochs > 0


def below_baseline(
    cfg: TrainConfig,
    course: Course,
    *,
    metrics: Mapping[str, float],
    of_baselines: Mapping[str, Mapping[str, float]],
    intervals: Mapping[str, Sequence[float]],
    cold: float,
) -> str | None:
    """The line for a run that a baseline beats, with the likely reason; None where none does. `cold` is the share of
    targets that never trained."""
    name = cfg.trainer.monitor if cfg.trainer.monitor in metrics else None
    name = name if name not in (None, LOSS) else next((each for each in COMPARED if each in metrics), None)
    if name is None:
        return None
    others_of = {key: found for key, found in of_baselines.items() if key not in (NO_RIVAL, cfg.model.name)}
    rivals = {key: found[name] for key, found in others_of.items() if name in found}
    if not rivals:
        return None
    sign = -1 if lower_is_better(name) else 1
    best = max(rivals, key=lambda key: sign * rivals[key])
    if sign * metrics[name] >= sign * rivals[best]:
        return None
    better = {key for key in rivals if sign * rivals[key] > sign * metrics[name]}
    low, high = intervals.get(name, (metrics[name], metrics[name]))
    error = (high - low) / FULL_WIDTH
    if cold <= MOST_COLD and not course.untried and abs(rivals[best] - metrics[name]) <= error:
        return (
            f"{cfg.model.name} and {BASELINES.get(best, best)} are within one standard error in {name} "
            f"({metrics[name]:.4f} and {rivals[best]:.4f}, error {error:.4f}): they cannot be told apart here"
        )
    others = "" if cfg.model.name == "auto" else ": model=auto tries several"
    otherwise = f"the log may need no more than that{others}"
    if best == "random":
        otherwise = "few users are ranked, or what they are asked for hardly occurs in training"
    elif "popular" in better and abs(rivals[best] - rivals["popular"]) <= error:
        otherwise = "the log seems to hold little beyond popularity"
    if cold > MOST_COLD:
        why = f"{cold:.1%} of the targets never trained"
    else:
        why = "; ".join(reasons(cfg, course, better=better)) or otherwise
    named = [best, "popular"] if "popular" in better and best != "popular" else [best]
    below = " and ".join(
        f"{BASELINES.get(key, key)}{f' in {name}' if key == best else ''} ({metrics[name]:.4f} "
        f"{'>' if sign < 0 else '<'} {rivals[key]:.4f})"
        for key in named
    )
    return f"WARNING: {cfg.model.name} is {'worse than' if sign < 0 else 'below'} {below}: {why}"


def reasons(cfg: TrainConfig, course: Course, *, better: Collection[str]) -> list[str]:
    """Why a run may have learned too little, the likeliest first, each with the setting to change. `better` are the
    baselines above it: no other is a remedy."""
    trainer = cfg.trainer
    found: list[str] = []
    if course.untried:
        found.append(f"{course.untried} candidates had no time: raise trainer.minutes (now {trainer.minutes:g})")
    if not course.steps:
        return found
    if course.steps < 3 * trainer.warmup_steps:
        found.append(
            f"{course.steps} steps, {min(trainer.warmup_steps, course.steps)} of them warm-up: "
            "trainer.max_epochs higher, or trainer.warmup_steps and trainer.batch_size lower"
        )
    if course.still_rising():
        found.append(f"still rising at its end: {_longer(cfg)}")
    elif course.stopped_by == "patience" and course.epochs < EARLY * trainer.max_epochs:
        found.append(
            f"stopped by patience at epoch {course.epochs} of {trainer.max_epochs}: "
            f"trainer.patience={2 * (trainer.patience or 1)}"
        )
    if course.events < FEW_EVENTS:
        fewer = " or ".join(key for key in REMEDIES if key in better)
        simpler = f"model={fewer} did better here, " if fewer else ""
        found.append(f"only {course.events:,} training events: {simpler}model=auto tries several")
    return found


def _longer(cfg: TrainConfig) -> str:
    """What ended the run, higher; a limit that was given is better left out where it is far below the data's own."""
    if cfg.trainer.minutes is not None:
        return f"trainer.minutes={2 * cfg.trainer.minutes:g} (now {cfg.trainer.minutes:g}), or leave it out"
    if cfg.trainer.max_steps is not None:
        return f"trainer.max_steps={2 * cfg.trainer.max_steps} (now {cfg.trainer.max_steps}), or leave it out"
    epochs = cfg.trainer.max_epochs
    return f"trainer.max_epochs={2 * epochs} (now {epochs}), or trainer=thorough without it"


def advice(cfg: TrainConfig, course: Course, *, metrics: Mapping[str, Any], metrics_jsonl: Path) -> list[str]:
    """All lines for a run, from what `metrics.json` holds: of test where it was read, else of validation."""
    split, of_baselines = ("test", "baselines") if "test" in metrics else ("val", "baselines_val")
    counts = metrics.get("protocol", {}).get("counts", {})
    found = below_baseline(
        cfg,
        course,
        metrics=metrics[split],
        of_baselines=metrics.get(of_baselines, {}),
        intervals=metrics.get("intervals", {}).get(split, {}),
        cold=counts.get("cold_targets", 0) / max(counts.get("targets", 0), 1),
    )
    lines = [found] if found is not None else [unfinished(cfg, course, metrics_jsonl)]
    return [line for line in lines if line is not None]


def unfinished(cfg: TrainConfig, course: Course, metrics_jsonl: Path) -> str | None:
    """The line for a run that ended while validation still rose; None for one that did not."""
    rows = [row for row in read_rows(metrics_jsonl) if row["split"] == "val" and cfg.trainer.monitor in row]
    if not course.still_rising() or len(rows) < 2:
        return None
    last, before = rows[-1][cfg.trainer.monitor], rows[-2][cfg.trainer.monitor]
    return (
        f"validation {cfg.trainer.monitor} still improved at the run's end ({before:.4f}, then {last:.4f}): "
        f"{_longer(cfg)}"
    )


def what_to_cut(cfg: TrainConfig, seconds: float) -> str | None:
    """The line for a run that would be long: what to cut, in this order; None for one that is not."""
    if seconds < SLOW_SECONDS:
        return None
    cuts = [
        f"model.{name} (now {getattr(cfg.model, name)})"
        for name in ("max_length", "embed_dim", "heads", "blocks")
        if hasattr(cfg.model, name)
    ]
    return (
        f"slow: about {seconds / 3600:.1f} hours; cut in this order: {', '.join(cuts)}, trainer.max_epochs "
        f"(now {cfg.trainer.max_epochs}), or give trainer=fast"
    )

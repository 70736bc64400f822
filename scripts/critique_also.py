"""What else a table of docs/critique asks of its finished runs (`also` in arms.yaml), as names and numbers.

Legend: T targets.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from seqrec_cli.commands.restore import AS_TRAINED, Restored, restore
from seqrec_cli.commands.rollout import main as roll_out
from seqrec_cli.config.audit import AuditConfig
from seqrec_cli.config.compose import compose
from seqrec_cli.config.rollout import RolloutConfig
from seqrec_cli.config.validate import validate
from seqrec_cli.evaluation.audit.drift import drift as turned
from seqrec_cli.evaluation.audit.perturbed import Measuring
from seqrec_cli.evaluation.audit.same_endings import same_endings
from seqrec_cli.evaluation.evaluate import measuring
from seqrec_cli.evaluation.paired import Stored
from seqrec_cli.evaluation.ranks import rank_held_out
from seqrec_cli.evaluation.segments import segments
from seqrec_cli.evaluation.stored import StoredRanks
from seqrec_cli.models.encoder import ItemEncoder
from seqrec_cli.reporting.run_folder import RunFolder
from seqrec_cli.saying import silent

METRIC = "ndcg@10"
STEPS = 5
TURNS = 5
ENDINGS = (1, 2, 5)
WAYS = (("before", "score"), ("before", "cosine"), ("shown", "score"), ("shown", "cosine"))


def rollout(folder: Path) -> dict[str, float]:
    """Five events from the model's own answers (greedy), beside its plain five best, on test."""
    cfg = validate("rollout", compose("rollout", [f"ckpt={folder}", f"steps={STEPS}"]))
    assert isinstance(cfg, RolloutConfig)
    found = roll_out(cfg)
    told = {
        "overlap, rollout": found["overlap"]["rollout"],
        "overlap, top 5": found["overlap"]["plain"],
        "rollout less top 5": found["overlap_difference"],
    }
    by_step = found["by_step"]
    for step in (1, STEPS):
        told |= {f"found at step {step}, {name}": values[step - 1] for name, values in by_step["found@10"].items()}
    told["popularity of a rollout"] = by_step["popularity"]["rollout"][STEPS - 1]
    return told


def quarters(folder: Path) -> dict[str, float]:
    """Test NDCG@10 of quarters of the users, by events before the request."""
    run = Stored(StoredRanks.read(RunFolder(folder).ranks("test")), None)
    return {part.label: part.of(run).ranks.sums(METRIC).value for part in segments("history:4", run, None)}


def unknown_users(folder: Path) -> dict[str, float]:
    """Validation NDCG@10 where every request comes from an unknown user, who has a zero vector."""
    run = _restored(folder)
    if not isinstance(run.model, ItemEncoder) or run.model.users is None:
        return {}
    with torch.no_grad():
        run.model.users.weight.zero_()
    cfg, length = run.cfg.evaluation, run.cfg.model.max_length
    with measuring(run.model, run.precision):
        ranks, _ = rank_held_out(run.model, run.log, "val", cfg=cfg, max_length=length, device=run.precision.device)
    return {"validation, users unknown": StoredRanks.of(ranks).sums(METRIC).value}


def drift(folder: Path) -> dict[str, float]:
    """Shares of items that are back after one turn to their users, and what is left after five, as `audit drift=5`."""
    run, cfg = _restored(folder), _audit(folder, f"drift={TURNS}")
    given = (run.cfg.model.name, run.model)
    numbers = turned(given, run.log, turns=TURNS, most=cfg.requests, how=_how(run, cfg)).numbers
    of_ways = {(found["way"], found["fit"]): found for found in numbers["ways"]}
    shown = [(way, fit, of_ways[way, fit]) for way, fit in WAYS if (way, fit) in of_ways]
    return {
        "cosine of any two": numbers["cosine_of_any_two"],
        **{f"back, {way}, by {fit}": found["turns"][0]["back"] for way, fit, found in shown},
        **{
            f"{name} after {TURNS}, {way}": found["turns"][-1][key]
            for name, key in (("neighbours kept", "neighbours"), ("different items", "different"))
            for way, fit, found in shown
            if fit == "cosine"
        },
    }


def endings(folder: Path) -> dict[str, float]:
    """Shares of users whose ten best items differ though their last events are the same, as `audit endings=[1,2,5]`."""
    run, cfg = _restored(folder), _audit(folder, f"endings={list(ENDINGS)}")
    given = (run.cfg.model.name, run.model)
    found = same_endings(given, run.log, "val", endings=ENDINGS, how=_how(run, cfg)).numbers
    words = {"natural": "natural", "planted": "planted", "history": "by history alone", "user": "by user alone"}
    return {
        f"{told}, {row['events']}": row[key]["differ"]
        for key, told in words.items()
        for row in found["endings"]
        if row[key]["differ"] is not None
    }


def _restored(folder: Path) -> Restored:
    return restore(str(folder), None, None, hardware=AS_TRAINED, tell=silent)


def _audit(folder: Path, *words: str) -> AuditConfig:
    cfg = validate("audit", compose("audit", [f"ckpt={folder}", *words]))
    assert isinstance(cfg, AuditConfig)
    return cfg


def _how(run: Restored, cfg: AuditConfig) -> Measuring:
    """As `seqrec audit` asks a run: all its users, its own length of history."""
    length = run.cfg.model.max_length
    return Measuring(cfg.evaluation, run.precision, length, cfg.metrics, cfg.repetitions, cfg.seed)


ASKED: dict[str, Callable[[Path], dict[str, float]]] = {
    "rollout": rollout,
    "quarters": quarters,
    "unknown_users": unknown_users,
    "drift": drift,
    "endings": endings,
}


def measured(folder: Path, asked: Sequence[str]) -> dict[str, dict[str, float]]:
    """All that is asked of a run, each by its name in arms.yaml."""
    return {each: {name: round(value, 5) for name, value in ASKED[each](folder).items()} for each in asked}

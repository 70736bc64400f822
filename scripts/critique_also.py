"""What else a table of docs/critique asks of its finished runs (`also` in arms.yaml), as names and numbers.

Legend: T targets.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from seqrec_cli.commands.restore import AS_TRAINED, restore
from seqrec_cli.commands.rollout import main as roll_out
from seqrec_cli.config.compose import compose
from seqrec_cli.config.rollout import RolloutConfig
from seqrec_cli.config.validate import validate
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
    run = restore(str(folder), None, None, hardware=AS_TRAINED, tell=silent)
    if not isinstance(run.model, ItemEncoder) or run.model.users is None:
        return {}
    with torch.no_grad():
        run.model.users.weight.zero_()
    cfg, length = run.cfg.evaluation, run.cfg.model.max_length
    with measuring(run.model, run.precision):
        ranks, _ = rank_held_out(run.model, run.log, "val", cfg=cfg, max_length=length, device=run.precision.device)
    return {"validation, users unknown": StoredRanks.of(ranks).sums(METRIC).value}


ASKED: dict[str, Callable[[Path], dict[str, float]]] = {
    "rollout": rollout,
    "quarters": quarters,
    "unknown_users": unknown_users,
}


def measured(folder: Path, asked: Sequence[str]) -> dict[str, float]:
    """All that is asked of a run."""
    return {name: round(value, 5) for each in asked for name, value in ASKED[each](folder).items()}

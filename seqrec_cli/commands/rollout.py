"""`seqrec rollout`: what a run's model says of the events after the next one, from its own answers."""

from typing import Any

from seqrec_cli.commands.console import say
from seqrec_cli.commands.restore import folder_of, restore
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.rollout import RolloutConfig
from seqrec_cli.evaluation.evaluate import raw_ids
from seqrec_cli.evaluation.rollouts.continuations import continuations
from seqrec_cli.evaluation.rollouts.decoding import Decoding
from seqrec_cli.evaluation.rollouts.measure import Given, roll_out, summary
from seqrec_cli.models.encoder_features import EncoderFeatures
from seqrec_cli.reporting.openings import count_opening, new_opening, opened_words
from seqrec_cli.reporting.rollout_report import draw_rollout, rollout_table, save_rollouts
from seqrec_cli.reporting.run_folder import RunFolder, to_json
from seqrec_cli.reporting.tables import print_table


def main(cfg: RolloutConfig) -> dict[str, Any]:
    """Print a row a step: hits, overlap, popularity; with `run_dir`, also the sequences, JSON and a picture."""
    run = restore(cfg.ckpt, cfg.archive, cfg.data_dir, hardware=cfg.hardware)
    if any(isinstance(part, EncoderFeatures) and part.of_events is not None for part in run.model.modules()):
        raise SeqrecError("a rollout makes up items, not their context: it needs a model with model.context=none")
    asked = continuations(run.log, cfg.split, steps=cfg.steps, users=cfg.users)
    folder = None if cfg.run_dir is None else RunFolder.allocate(cfg.run_dir, "rollout")
    given = Given(
        log=run.log,
        asked=asked,
        how=Decoding(cfg.by, cfg.temperature, cfg.top_p, cfg.width),
        cutoff=cfg.cutoff,
        max_length=run.cfg.model.max_length,
        memory_mb=run.cfg.evaluation.memory_mb,
        seed=cfg.seed,
        truth=cfg.truth,
    )
    if cfg.split == "test":
        opened = count_opening(run.log, "rollout", opening=new_opening(), run=RunFolder(folder_of(cfg.ckpt)))
        say(opened_words(opened))
    found = roll_out(run.model, given, run.precision)
    facts = {
        "model": run.cfg.model.name,
        "dataset": run.cfg.dataset.name,
        "fingerprint": run.log.fingerprint,
        "protocol": run.cfg.protocol.name,
        "split": cfg.split,
        "steps": cfg.steps,
        "cutoff": cfg.cutoff,
        "by": cfg.by,
    }
    settings = {"sample": ("temperature", "top_p", "seed"), "beam": ("width",)}.get(cfg.by, ())
    result: dict[str, Any] = facts | {name: getattr(cfg, name) for name in settings}
    result |= summary(found, run.log, cfg.cutoff)
    print_table(rollout_table(result))
    if folder is not None:
        (folder.path / "rollout.json").write_text(to_json(result, "rollout.json", indent=2) + "\n", encoding="utf-8")
        users, items = raw_ids(run.log, "users", asked.rows_R + 1), raw_ids(run.log, "items", found.items_Rn.ravel())
        assert users is not None
        assert items is not None  # a run's log lies in a folder, with its vocabularies
        path = folder.path / "rollout.parquet"
        sequences = {"rows_R": asked.rows_R, "items_Rn": found.items_Rn, "targets_Rn": asked.targets_Rn}
        save_rollouts(path, **sequences, ids=(users, items))
        draw_rollout(folder.path / "rollout.png", result)
        folder.mark_done()
        say(str(folder.path))
    return result

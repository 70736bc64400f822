"""The folder of a run that takes no steps of its own: it is made of other runs (`ensemble`, `exposure keep=`)."""

from typing import Any

from seqrec_cli.commands.measure import Measured
from seqrec_cli.config.validate import dump
from seqrec_cli.reporting.environment import environment
from seqrec_cli.reporting.run_folder import RunFolder
from seqrec_cli.training.checkpoint import save_checkpoint


def write_made_run(folder: RunFolder, made: Measured, *, of: dict[str, Any], epoch: int) -> None:
    """Write its configuration, a manifest that says what it is made `of`, and its model as the best checkpoint."""
    cfg, model, log, precision = made
    config = dump(cfg)
    folder.write_config(config)
    folder.write_manifest(
        environment(precision.device)
        | {**of, "precision": precision.name}
        | {"data": {"name": cfg.dataset.name, "fingerprint": log.fingerprint, "folder": str(log.folder)}}
    )
    header = {"config": config, "facts": log.catalog.facts(), "fingerprint": log.fingerprint}
    moment = {"epoch": epoch, "step": 0, "metrics": {}, "trainer": None}
    save_checkpoint(folder.best, {**header, **moment, "model": model.state_dict()})

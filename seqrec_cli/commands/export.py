"""`seqrec export`: a run's model as a program that needs no seqrec, proved by loading it again."""

from pathlib import Path
from typing import Any

from seqrec_cli.commands.console import say
from seqrec_cli.commands.restore import ON_CPU, folder_of, restore
from seqrec_cli.config.records import ExportConfig
from seqrec_cli.export.formats import check_format, export


def main(cfg: ExportConfig) -> dict[str, Any]:
    """Write the program and its vocabularies; what was written and how closely scores agreed."""
    check_format(cfg.format)
    run = restore(cfg.ckpt, cfg.archive, cfg.data_dir, hardware=ON_CPU)
    folder = folder_of(cfg.ckpt) / "export" if cfg.out is None else Path(cfg.out).expanduser()
    written = export(run.model, run.log, run.cfg.model.max_length, format=cfg.format, folder=folder)
    say(f"scores of the reloaded program differ by at most {written['max_difference']:.2g}")
    say(str(folder))
    return written

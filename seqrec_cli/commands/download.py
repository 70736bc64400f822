"""`seqrec download`: the publisher's file, fetched once, whole and checked."""

from pathlib import Path
from typing import Any

from seqrec_cli.commands.console import say
from seqrec_cli.config.records import DownloadConfig
from seqrec_cli.data.download import fetch


def main(cfg: DownloadConfig) -> dict[str, Any]:
    """Fetch the dataset's raw file; its path (None for a generated dataset)."""
    path = fetch(cfg.dataset, Path(cfg.data_dir), say)
    say(f"{cfg.dataset.name}: is generated, there is nothing to download" if path is None else str(path))
    return {"path": None if path is None else str(path)}

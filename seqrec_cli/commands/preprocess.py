"""`seqrec preprocess`: raw events to a packed log (fetching them first, if need be)."""

from pathlib import Path
from typing import Any

from seqrec_cli.commands.console import say
from seqrec_cli.config.records import PreprocessConfig
from seqrec_cli.data.integrity import FILES
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.data.splits import view_of
from seqrec_cli.data.time_column import day
from seqrec_cli.data.view import SPLITS
from seqrec_cli.protocols.view.build import with_view
from seqrec_cli.protocols.view.meaning import meaning
from seqrec_cli.reporting.meaning import of_rows, split_line


def main(cfg: PreprocessConfig) -> dict[str, Any]:
    """Build the packed log unless it is there; its folder and counts."""
    log = prepare(cfg.dataset, Path(cfg.data_dir), say, verify=cfg.verify)
    log = with_view(log, cfg.protocol, say, verify=cfg.verify)
    if cfg.verify:
        sealed = FILES in log.manifest
        say("every byte is as it was written" if sealed else "every index is in range (built before checksums were)")
    lasts = " to ".join(day(t) for t in log.manifest.get("time_span") or ())
    sizes = f"{log.num_users:,} users, {log.num_items:,} items, {len(log.items_N):,} events"
    found = {split: meaning(log, split) for split in SPLITS}
    say("; ".join([sizes, *([lasts] if lasts else []), *of_rows(found["test"])]))
    for split in SPLITS:
        say(split_line(split, view_of(log).manifest["splits"][split], found[split]))
    say(str(log.folder))
    return {"folder": str(log.folder), "users": log.num_users, "items": log.num_items, "events": len(log.items_N)}

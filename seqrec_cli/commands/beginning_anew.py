"""Processes that are started anew, after one was lost or a machine went, go on with the run that they had begun.

The launcher gives all attempts of a run one name (torchrun's `--rdzv-id`), which stands in the run's manifest beside
the number of processes. A folder with that name is gone on with; any other unfinished run is left alone.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqrec_cli.commands.console import say
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.processes import ALONE, started
from seqrec_cli.reporting.run_folder import RunFolder

PROCESSES = "processes"  # of the manifest
RUN_ID = "TORCHELASTIC_RUN_ID"  # what torchrun sets in its processes
RESTARTS = "TORCHELASTIC_RESTART_COUNT"
UNNAMED = "none"  # what torchrun calls a run without a name


def who_trains(before: Mapping[str, Any]) -> dict[str, Any]:
    """For the manifest: how many processes, on how many machines, the name that their launcher gave the run, and how
    often they have begun anew. `before` is the manifest so far."""
    group = started() or ALONE
    found: dict[str, Any] = {"count": group.count}
    if _may_begin_anew():
        found |= {"machines": int(os.environ.get("GROUP_WORLD_SIZE", "1")), "of_this_machine": group.local_count}
        earlier = before.get(PROCESSES, {}).get("restarts", -1) if _is_ours(before) else -1
        # An attempt that ended before its first checkpoint left nothing; its launcher has counted it.
        found |= {"run": _name(), "restarts": max(earlier + 1, int(os.environ.get(RESTARTS, "0")))}
    return found


def going_on(cfg: TrainConfig) -> TrainConfig:
    """The same training, from the last checkpoint in `run_dir` where an earlier attempt of these processes has left
    one.

    Raises SeqrecError where attempts are to follow each other and nothing says where they meet, and for what several
    processes cannot train.
    """
    if not _may_begin_anew():
        return cfg
    if started() is not None:
        _refuse_what_is_not_shared(cfg)
    if cfg.resume is not None:
        return cfg
    if cfg.run_dir is None:
        if int(os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0")) > 0:
            raise SeqrecError(
                "torchrun --max-restarts: a restart goes on with what it finds in the run's folder; give it a name: "
                "run_dir=FOLDER"
            )
        return cfg
    folder = RunFolder(Path(cfg.run_dir).expanduser())
    if not folder.path.is_dir() or folder.is_done or not _is_ours(folder.read_manifest()):
        return cfg
    again = "the processes begin anew"
    if folder.last.is_file() or "seeds" in folder.read_manifest():
        say(f"{again}, from the last checkpoint of {folder.path}")
        return cfg.model_copy(update={"resume": str(folder.path), "run_dir": None})
    say(f"{again}; there was no checkpoint yet")
    shutil.rmtree(folder.path)
    return cfg


def _may_begin_anew() -> bool:
    """Whether a launcher has started this process: one of several or, of an elastic group (`torchrun --nnodes 1:4`),
    the only one for now."""
    return started() is not None or RUN_ID in os.environ


def _refuse_what_is_not_shared(cfg: TrainConfig) -> None:
    if cfg.model.capabilities.family == "closed_form":
        raise SeqrecError(f"model={cfg.model.name} is counted in one pass by one process; start it without torchrun")
    if cfg.hardware.compile and cfg.model.batch_statistics:
        raise SeqrecError(
            f"hardware.compile=true: {' and '.join(cfg.model.batch_statistics)} reads statistics of a batch, which are "
            "not compiled where several processes share it; set it to false"
        )


def _is_ours(manifest: Mapping[str, Any]) -> bool:
    run = manifest.get(PROCESSES, {}).get("run")
    unnamed_again = int(os.environ.get(RESTARTS, "0")) > 0
    return run is not None and run == _name() and (run != UNNAMED or unnamed_again)


def _name() -> str:
    return os.environ.get(RUN_ID, UNNAMED)

"""The same training from several seeds: a run a seed in a folder of its own, and their mean and spread.

Legend: S seeds.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from seqrec_cli.commands.beginning_anew import PROCESSES, who_trains
from seqrec_cli.commands.console import say
from seqrec_cli.commands.measure import open_run
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.migrations import migrated
from seqrec_cli.config.quoting import shell_command
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import dump, validate_plain
from seqrec_cli.files import write_atomically
from seqrec_cli.reporting.run_folder import RunFolder, to_json
from seqrec_cli.reporting.tables import print_table, seeds_table

SEEDS_JSON = "seeds.json"


def train_seeds(cfg: TrainConfig, train: Callable[[TrainConfig], dict[str, Any]]) -> dict[str, Any]:
    """Train from seed, seed + 1, ... and write `seeds.json`; `val` and `test` of the result are means.

    Reading the test set for all of them is one opening of it. While it is sealed there is no `test`, and `spread` is
    that of validation. With `resume` (the folder of all seeds) finished runs are kept, a stopped one goes on, missing
    ones are begun. Raises SeqrecError when the folder to resume holds other seeds, or a single run.
    """
    seeds = [cfg.trainer.seed + nth for nth in range(cfg.trainer.seeds)]
    label = f"{cfg.model.name}_{cfg.dataset.name}_seeds"
    parent = RunFolder.allocate(cfg.run_dir, label) if cfg.resume is None else _resumed(cfg.resume, seeds)
    with parent.training():
        return _train_each(cfg, seeds, parent, train=train)


def _train_each(
    cfg: TrainConfig, seeds: list[int], parent: RunFolder, *, train: Callable[[TrainConfig], dict[str, Any]]
) -> dict[str, Any]:
    parent.done.unlink(missing_ok=True)
    parent.write_config(dump(cfg))
    parent.write_manifest({"seeds": seeds, PROCESSES: who_trains(parent.read_manifest())})
    results = []
    for nth, seed in enumerate(seeds, 1):
        say(f"seed {seed} ({nth} of {len(seeds)})")
        result = _run(cfg, seed, RunFolder(parent.path / f"seed_{seed}"), train=train)
        if result.get("interrupted"):
            say(f"stopped at seed {seed}; all seeds go on with: {shell_command('train', 'resume', parent.path)}")
            return {"interrupted": True, "run_dir": str(parent.path)}
        results.append(result)
    return _summarised(parent, seeds, results)


def open_seeds(path: Path, by: str, *, archive: str | None = None, data_dir: str | None = None) -> dict[str, Any]:
    """Break the seal of all seeds of a folder, which is one opening, and complete what the folder holds."""
    parent = RunFolder.open(path)
    seeds = parent.read_manifest()["seeds"]
    folders = [parent.path / f"seed_{seed}" for seed in seeds]
    opened = [open_run(folder, by, archive=archive, data_dir=data_dir) for folder in folders]
    results = [{**metrics, "run_dir": str(folder)} for metrics, folder in zip(opened, folders, strict=True)]
    return _summarised(parent, seeds, results)


def _summarised(parent: RunFolder, seeds: list[int], results: list[dict[str, Any]]) -> dict[str, Any]:
    """Write, print and return what the seeds have in common; `test` where every one has read it."""
    splits = [split for split in ("val", "test") if all(split in result for result in results)]
    runs = [
        {"seed": seed, **{key: result[key] for key in ("run_dir", *splits)}}
        for seed, result in zip(seeds, results, strict=True)
    ]
    found = {split: _summary([run[split] for run in runs]) for split in splits}
    text = to_json({"seeds": seeds, **found, "runs": runs}, SEEDS_JSON, indent=2)
    write_atomically(parent.path / SEEDS_JSON, text + "\n")
    last = splits[-1]
    print_table(seeds_table(found[last], seeds, [run[last] for run in runs], split=last))
    parent.mark_done()
    say(str(parent.path))
    means = {split: {name: both["mean"] for name, both in of.items()} for split, of in found.items()}
    spread = {name: both["std"] for name, both in found[last].items()}
    shared: dict[str, Any] = {key: results[-1][key] for key in ("protocol", "test_opened") if key in results[-1]}
    return {**means, "spread": spread, **shared, "run_dir": str(parent.path)}


def holds_seeds(folder: str | None) -> bool:
    """True for the folder that `train_seeds` makes."""
    return folder is not None and "seeds" in RunFolder(Path(folder).expanduser()).read_manifest()


def _resumed(path: str, seeds: list[int]) -> RunFolder:
    folder = RunFolder.open(path)
    before = folder.read_manifest().get("seeds")
    if before is None:
        raise SeqrecError(f"resume={path} is one run, and trainer.seeds begins several; leave one of them out")
    if seeds[: len(before)] != before:
        raise SeqrecError(
            f"resume={path} holds seeds {before[0]} to {before[-1]}; "
            "keep trainer.seed, and trainer.seeds or a larger number"
        )
    return folder


def _run(
    cfg: TrainConfig, seed: int, folder: RunFolder, *, train: Callable[[TrainConfig], dict[str, Any]]
) -> dict[str, Any]:
    """One seed's run: new, gone on with, or read from its folder when nothing is left to do but to break its seal."""
    plain = dump(cfg)
    plain["trainer"] |= {"seed": seed, "seeds": 1}
    begun, wanted = folder.last.is_file(), json.loads(json.dumps(plain["trainer"]))
    if begun and folder.is_done and migrated(folder.read_config())["trainer"] == wanted:
        found = folder.read_metrics()
        if "test" not in found and cfg.evaluation.test in ("once", "all"):
            found = open_run(folder.path, "train")
        return {**found, "run_dir": str(folder.path)}
    if not begun and folder.path.is_dir():  # stopped before its first checkpoint: nothing in it to go on from
        shutil.rmtree(folder.path)
    plain |= {"resume": str(folder.path), "run_dir": None} if begun else {"resume": None, "run_dir": str(folder.path)}
    record = validate_plain("train", plain)
    assert isinstance(record, TrainConfig)
    return train(record)


def _summary(metrics_S: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Each metric's mean and sample standard deviation over the seeds."""
    values = {name: np.array([metrics[name] for metrics in metrics_S]) for name in metrics_S[0]}
    return {name: {"mean": float(v.mean()), "std": float(v.std(ddof=1))} for name, v in values.items()}

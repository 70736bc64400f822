"""Where runs lie under a folder, and which model and settings a folder of numbers belongs to."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.migrations import migrated
from seqrec_cli.reporting.run_folder import RunFolder


def run_folders(top: Path) -> Iterator[Path]:
    """Folders of runs, in order. Datasets and their protocols' views have manifests too, next to arrays."""
    for name, below, files in os.walk(top):
        is_data = "offsets.npy" in files
        below[:] = [] if is_data else sorted(each for each in below if not each.startswith("."))
        if {"manifest.json", "config.yaml"} & set(files) and not is_data and not _holds_seeds(Path(name), below):
            yield Path(name)


def _holds_seeds(path: Path, below: list[str]) -> bool:
    """Whether it is the folder around the runs of several seeds, of which each has a row of its own."""
    return any(each.startswith("seed_") for each in below) and "seeds" in manifest_of(path)


def manifest_of(path: Path) -> dict[str, Any]:
    """A folder's manifest; nothing where it cannot be read."""
    try:
        return RunFolder(path).read_manifest()
    except (OSError, SeqrecError):
        return {}


def settings_of(run: RunFolder) -> dict[str, Any]:
    """The settings a run was trained with; of a folder that `evaluate` wrote, those of the run that it names, or of two
    the ranker's.

    Nothing where that run is gone.
    """
    folder = run
    if not run.config_yaml.is_file():
        manifest = run.read_manifest()
        ckpt = Path(manifest.get("ckpt", manifest.get("ranker", ""))).expanduser()
        folder = RunFolder(ckpt if ckpt.is_dir() else ckpt.parent)
    return migrated(folder.read_config()) if folder.config_yaml.is_file() else {}

"""A view on disk: arrays of positions in a folder beside the log's own files, memory-mapped when read."""

import json
from pathlib import Path

import numpy as np

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data import integrity
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.log_shapes import check_view
from seqrec_cli.data.view import SPLITS, LabelledRows, Targets, View
from seqrec_cli.faults import in_words
from seqrec_cli.files import atomic_folder

FOLDER = "protocols"  # in the packed log's
MANIFEST = "manifest.json"


def write(view: View, folder: Path) -> None:
    """All of it or nothing; where another process was first, its files stay. Raises SeqrecError."""
    arrays = {"train": view.train_U}
    for split in SPLITS:
        targets = view.targets(split)
        arrays |= {f"{split}_rows": targets.rows_R, f"{split}_ends": targets.ends_R}
        arrays |= {f"{split}_positions": targets.positions_T, f"{split}_offsets": targets.offsets_R1}
    for name, rows in view.clicks.items():
        arrays |= rows.arrays(f"clicks_{name}")
    manifest = view.manifest | {"seen": view.seen, "candidates": view.candidates, "clicks": sorted(view.clicks)}
    folder.parent.mkdir(exist_ok=True)
    try:
        with atomic_folder(folder) as temporary:
            for name, array in arrays.items():
                np.save(temporary / f"{name}.npy", array)
            (temporary / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
            integrity.seal(temporary)
    except OSError as error:
        if not (folder / MANIFEST).exists():
            said = in_words(error, folder) or f"{folder}: {error}"
            raise SeqrecError(f"cannot write {said} (data_dir=FOLDER)") from None


def read(folder: Path, log: PackedLog, *, verify: bool = False) -> View | None:
    """The view of a log in a folder; None where there is none. Raises SeqrecError where it is damaged.

    `verify`: its bytes are read through though this machine has done so before.
    """
    if not (folder / MANIFEST).exists():
        return None

    def load(name: str) -> np.ndarray:
        array: np.ndarray = np.load(folder / f"{name}.npy", mmap_mode="c")  # torch wants writable memory
        return array

    def optional(name: str) -> np.ndarray | None:
        return load(name) if (folder / f"{name}.npy").exists() else None

    try:
        manifest = integrity.read_manifest(folder)
        integrity.check_sizes(folder, manifest)
        val, test = (
            Targets(*(load(f"{split}_{part}") for part in ("rows", "ends", "positions", "offsets"))) for split in SPLITS
        )
        rest = {name: value for name, value in manifest.items() if name not in (integrity.FILES, integrity.SEAL)}
        clicks = {name: LabelledRows.load(f"clicks_{name}", load, optional) for name in rest.pop("clicks")}
        seen, candidates = rest.pop("seen"), rest.pop("candidates")
        view = View(load("train"), val, test, clicks, seen, candidates, rest)
        integrity.check_contents(folder, manifest, lambda: check_view(view, log), anew=verify)
    except Exception as error:  # bytes from outside: numpy raises a dozen kinds
        raise integrity.damaged(folder, error, "it is made again") from None
    return view

"""`load`: a trained run from its folder, from a checkpoint file, or from the folder of several seeds."""

from pathlib import Path
from typing import Literal

from seqrec_cli.api.process_state import unchanged_torch
from seqrec_cli.api.trained import Trained
from seqrec_cli.commands.restore import folder_of, restore
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.quoting import shell_command
from seqrec_cli.config.schema import HardwareConfig
from seqrec_cli.metrics.table import lower_is_better
from seqrec_cli.reporting.run_folder import RunFolder
from seqrec_cli.saying import silent


def load(
    run: str | Path,
    *,
    seed: int | None = None,
    device: str | None = None,
    precision: Literal["auto", "fp32", "bf16", "fp16"] | None = None,
    threads: int | None = None,
    archive: str | Path | None = None,
    data_dir: str | Path | None = None,
) -> Trained:
    """A trained run: its model, its data and its numbers.

    `run` is the folder of a run or of an ensemble, a checkpoint file, or the folder of several seeds: of these the one
    that is best by the validation metric that chose its checkpoint (`trainer.monitor`), or that of `seed`. What is None
    is as the run was trained; `archive` is the raw file where it has moved.

    Raises SeqrecError where there is no such run, or its data are not those it was trained on.

    Examples:
        >>> run = seqrec_cli.load(folder)
        >>> run
        Trained(sasrec on synthetic, 60 users, 40 items, .../run)
    """
    path = _one_of(Path(run).expanduser(), seed)
    given = {"device": device, "precision": precision, "threads": threads}
    hardware = HardwareConfig.model_construct(**(dict.fromkeys(HardwareConfig.model_fields) | given))
    raw, data = (None if path is None else str(path) for path in (archive, data_dir))
    with unchanged_torch():
        return Trained(folder_of(path), restore(str(path), raw, data, hardware=hardware, tell=silent))


def _one_of(path: Path, seed: int | None) -> Path:
    """The run in a folder of several seeds; any other path as it is."""
    seeds = RunFolder(path).read_manifest().get("seeds") if path.is_dir() else None
    if seeds is None:
        if seed is not None:
            raise SeqrecError(f"seed={seed}: {path} is no folder of several seeds; leave seed out")
        return path
    if seed is not None:
        if seed not in seeds:
            raise SeqrecError(f"seed={seed}: {path} holds seeds {seeds[0]} to {seeds[-1]}")
        return path / f"seed_{seed}"
    folders = [RunFolder(path / f"seed_{each}") for each in seeds]
    finished = [folder for folder in folders if folder.is_done]
    if not finished:
        raise SeqrecError(
            f"{path}: none of its seeds is finished; go on with: {shell_command('train', 'resume', path)}"
        )

    def quality(folder: RunFolder) -> float:
        measured = folder.read_metrics()
        monitor = measured["protocol"]["chosen_by"]
        value = float(measured["val"][monitor])
        return -value if lower_is_better(monitor) else value

    return max(finished, key=quality).path

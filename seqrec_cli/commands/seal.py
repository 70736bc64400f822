"""Breaking the seal of a run, or of all seeds of one configuration, after it was chosen by validation."""

from pathlib import Path
from typing import Any

from seqrec_cli.commands.measure import open_run
from seqrec_cli.commands.seeds import holds_seeds, open_seeds


def open_test(run_dir: str, by: str, *, archive: str | None = None, data_dir: str | None = None) -> dict[str, Any]:
    """Read the test set once for a finished run that left it sealed: by its best checkpoint, wherever it was trained.

    The folder gets the numbers, ranks and plots that it would have had without the seal, and they are printed. `by` is
    the verb that chose it; `archive` and `data_dir` say where its data are now, where another machine trained it.
    Raises SeqrecError where the folder, its data or its device are not there.
    """
    opened = open_seeds if holds_seeds(run_dir) else open_run
    return opened(Path(run_dir), by, archive=archive, data_dir=data_dir)

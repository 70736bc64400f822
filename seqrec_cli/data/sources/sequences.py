"""Plain sequences: `user item` a line, each user's events in order, no times.

The format of SASRec (Kang & McAuley, ICDM 2018); a user's lines need not follow each other.
"""

from pathlib import Path

from seqrec_cli.config.dataset import DatasetConfig
from seqrec_cli.data.columns import Columns
from seqrec_cli.data.raw import RawLog

NAMES = ("user", "item")


class Config(DatasetConfig):
    """Nothing beyond what every dataset has."""


def read(cfg: Config, path: Path) -> RawLog:
    """Events in the order of the file."""
    columns = Columns.parse(path, path.name, delimiter=" ", columns=NAMES, names=NAMES)
    return RawLog(columns.ids("user"), columns.ids("item"), times_N=None, ratings_N=None)

"""MovieLens-1M, the publisher's archive: `ratings.dat`, `movies.dat`, `users.dat`, fields split by `::`, latin-1."""

from pathlib import Path

from seqrec_cli.config.dataset import DatasetConfig
from seqrec_cli.data.archive import read_members
from seqrec_cli.data.columns import Columns
from seqrec_cli.data.movielens import Movie, User, log, rows
from seqrec_cli.data.raw import RawLog

NAMES = ("user", "item", "rating", "time")


class Config(DatasetConfig):
    """Nothing beyond what every dataset has."""


def read(cfg: Config, path: Path) -> RawLog:
    """The archive's events; ages and occupations are its codes."""
    ratings, films, people = read_members(path, "ratings.dat", "movies.dat", "users.dat")
    return log(
        Columns.parse(ratings, "ratings.dat", delimiter="::", columns=NAMES, names=NAMES),
        [Movie(int(row[0]), row[1], tuple(row[2].split("|"))) for row in rows(films, "movies.dat", "::", fields=3)],
        [User(int(row[0]), *row[1:4]) for row in rows(people, "users.dat", "::", fields=5)],
    )

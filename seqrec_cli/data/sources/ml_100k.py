"""MovieLens-100K, the publisher's archive: `u.data` (tabs, in random order), `u.item` and `u.user` (`|`, latin-1)."""

from pathlib import Path

from seqrec_cli.config.dataset import DatasetConfig
from seqrec_cli.data.archive import read_members
from seqrec_cli.data.columns import Columns
from seqrec_cli.data.movielens import Movie, User, log, rows
from seqrec_cli.data.raw import RawLog

NAMES = ("user", "item", "rating", "time")
# The flags that end a line of u.item, in the order of u.genre.
GENRES = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *("Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
AGES = (1, 18, 25, 35, 45, 50, 56)  # MovieLens-1M's groups, by their youngest age; this archive has whole years


class Config(DatasetConfig):
    """Nothing beyond what every dataset has."""


def _flagged(flags: list[str]) -> tuple[str, ...]:
    return tuple(genre for genre, flag in zip(GENRES, flags, strict=True) if flag == "1")


def _group(age: str) -> str:
    years = int(age) if age.isdecimal() else 0
    return str(max((youngest for youngest in AGES if youngest <= years), default=""))


def read(cfg: Config, path: Path) -> RawLog:
    """The archive's events; ages in MovieLens-1M's groups."""
    ratings, films, people = read_members(path, "u.data", "u.item", "u.user")
    return log(
        Columns.parse(ratings, "u.data", delimiter="\t", columns=NAMES, names=NAMES),
        [Movie(int(row[0]), row[1], _flagged(row[5:])) for row in rows(films, "u.item", "|", fields=5 + len(GENRES))],
        [User(int(row[0]), row[2], _group(row[1]), row[3]) for row in rows(people, "u.user", "|", fields=5)],
    )

"""What both MovieLens archives share. It has no configuration of its own, so it is no source itself.

Harper & Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.columns import Columns
from seqrec_cli.data.raw import AttributeTable, RawLog

_YEAR = re.compile(r"\((\d{3})\d\)\s*$")


class Movie(NamedTuple):
    """A line of the archive's film list."""

    id: int
    title: str
    genres: tuple[str, ...]


class User(NamedTuple):
    """A line of the archive's user list."""

    id: int
    gender: str
    age: str
    occupation: str


def decade(title: str) -> tuple[str, ...]:
    """`Toy Story (1995)` came out in the 1990s; none where the title names no year."""
    found = _YEAR.search(title)
    return (f"{found[1]}0s",) if found else ()


def rows(data: bytes, label: str, delimiter: str, *, fields: int) -> list[list[str]]:
    """Lines of a small latin-1 file, split into fields; the first is an id."""
    split = [line.rstrip("\r").split(delimiter) for line in data.decode("latin-1").split("\n") if line.strip()]
    for number, row in enumerate(split, 1):
        if len(row) != fields or not row[0].isdecimal():
            raise SeqrecError(f"{label}: row {number} is not {fields} fields between '{delimiter}', an id first")
    return split


def log(ratings: Columns, movies: Sequence[Movie], users: Sequence[User]) -> RawLog:
    """Events with genres and decade of the film, gender, age and occupation of the user."""
    movie_ids = np.array([movie.id for movie in movies], np.int64)
    user_ids = np.array([user.id for user in users], np.int64)
    times_N, ticks = ratings.times("time", "s")
    return RawLog(
        users_N=ratings.ids("user"),
        items_N=ratings.ids("item"),
        times_N=times_N,
        ratings_N=ratings.numbers("rating").astype(np.float32),
        item_attributes={
            "genres": AttributeTable(movie_ids, [movie.genres for movie in movies]),
            "decade": AttributeTable(movie_ids, [decade(movie.title) for movie in movies]),
        },
        user_attributes={
            "gender": AttributeTable(user_ids, [(user.gender,) for user in users]),
            "age": AttributeTable(user_ids, [(user.age,) for user in users]),
            "occupation": AttributeTable(user_ids, [(user.occupation,) for user in users]),
        },
        ticks_per_second=ticks,
        titles=AttributeTable(movie_ids, [(movie.title,) for movie in movies]),
    )

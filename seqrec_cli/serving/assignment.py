"""Which arm of an online experiment a user is dealt to.

It follows from the user's id and the experiment's salt alone, so that it is the same in every process and after every
restart: the first 53 bits of BLAKE2b-64 (RFC 7693) of `SALT NUL ID`, as a fraction of 2^53, fall into the arms' shares,
laid end to end. Ids are texts, as in the data: 42 and "42" are one user.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from seqrec_cli.serving.requests import RawId

BITS = 53  # of a hash that a float holds exactly


def arm_names(runs: Sequence[str]) -> list[str]:
    """The runs' folders, with as many of those above them as tell the runs apart; a run that is given twice gets a
    number. The rest of a path is nothing that an answer should tell."""
    parts = [Path(run).expanduser().resolve().parts for run in runs]
    depth = 1
    while len({path[-depth:] for path in parts}) < len(set(parts)):
        depth += 1
    names = ["/".join(path[-depth:]) for path in parts]
    return [name if name not in names[:nth] else f"{name} ({nth + 1})" for nth, name in enumerate(names)]


class Assignment:
    """Deals users to arms."""

    def __init__(self, arms: Sequence[str], shares: Sequence[float], salt: str) -> None:
        self.arms, self.shares, self.salt = tuple(arms), tuple(shares), salt
        self._ends = [*list(accumulate(shares))[:-1], 1.0]  # a sum of shares may be a hair off

    @property
    def plan(self) -> str:
        """A name of these arms, shares and salt together."""
        told = repr((self.arms, self.shares, self.salt)).encode()
        return hashlib.blake2b(told, digest_size=4).hexdigest()

    def arm_of(self, user: RawId | None) -> int:
        """The number of a user's arm; of nobody in particular the first."""
        if user is None:
            return 0
        digest = hashlib.blake2b(f"{self.salt}\0{user}".encode(), digest_size=8).digest()
        return bisect_right(self._ends, (int.from_bytes(digest) >> (64 - BITS)) / 2**BITS)

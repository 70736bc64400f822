"""An online experiment: several models answer at once, each its share of the users, and what is shown is logged.

Who is dealt where follows from the user's id and the experiment's salt alone, so that it is the same in every process
and after every restart: the first 53 bits of BLAKE2b-64 (RFC 7693) of `SALT NUL ID`, as a fraction of 2^53, fall into
the arms' shares, laid end to end. Ids are texts, as in the data: 42 and "42" are one user.
"""

import hashlib
import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.exposure_log import EXPOSURE, FEEDBACK, PLAN
from seqrec_cli.serving.batching import Batcher
from seqrec_cli.serving.bodies import AskedToRecord, Most, NotUnderstoodError, read
from seqrec_cli.serving.exposure_writer import ExposureWriter
from seqrec_cli.serving.requests import RawId
from seqrec_cli.serving.service import Answering, Loaded, UnavailableError
from seqrec_cli.serving.telemetry import Meters

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


class Arms(Answering):
    """Answers with the first model itself, and has the others' answer those who are dealt to them.

    A request without a user is answered by the first model and logged without one: it is in no arm. What a model is not
    asked by a user (`similar`) is the first one's to answer.
    """

    def __init__(
        self,
        loaded: Sequence[Loaded],
        batcher: Batcher,
        *,
        top: int,
        most: Most,
        meters: Meters,
        assignment: Assignment,
        log: ExposureWriter | None,
        tell: Callable[[str], None],
    ) -> None:
        super().__init__(loaded[0], batcher, top=top, most=most, meters=meters)
        others = (Answering(each, batcher, top=top, most=most, meters=meters) for each in loaded[1:])
        self.arms: list[Answering] = [self, *others]
        self._assignment, self._log, self._tell, self._plan = assignment, log, tell, assignment.plan
        if log is not None:
            facts = {"arms": assignment.arms, "shares": assignment.shares, "salt": assignment.salt}
            try:
                log.write(PLAN, plan=self._plan, **facts)
            except OSError as error:
                raise SeqrecError(f"log={log.path}: {error.strerror or error}; give another file or folder") from error

    def health(self) -> dict[str, Any]:
        """What GET /health answers: the first model, and each arm's."""
        arms = [
            {"arm": name, "share": share, **arm.loaded.facts}
            for name, share, arm in zip(self._assignment.arms, self._assignment.shares, self.arms, strict=True)
        ]
        return {**super().health(), "salt": self._assignment.salt, "arms": arms}

    async def recommend(self, body: bytes) -> dict[str, Any]:
        """What POST /recommend answers."""
        user = _user_of(body)
        number = self._assignment.arm_of(user)
        answer = await (super().recommend(body) if number == 0 else self.arms[number].recommend(body))
        arm, exposure = self._assignment.arms[number], os.urandom(12).hex()
        told = {"arm": arm, "model_version": answer["model_version"], "answered_by": answer["answered_by"]}
        items = [each["item_id"] for each in answer["recommendations"]]
        known = None if user is None else str(user)
        try:
            self._record(EXPOSURE, arm, id=exposure, plan=self._plan, user=known, items=items, **told)
        except OSError:  # who asks is answered all the same; feedback to what was not logged would count for nothing
            return {**answer, "arm": arm, "exposure_id": None}
        return {**answer, "arm": arm, "exposure_id": exposure}

    async def score(self, body: bytes) -> dict[str, Any]:
        """What POST /score answers."""
        number = self._assignment.arm_of(_user_of(body))
        answer = await (super().score(body) if number == 0 else self.arms[number].score(body))
        return {**answer, "arm": self._assignment.arms[number]}

    async def explain(self, body: bytes) -> dict[str, Any]:
        """What POST /explain answers."""
        number = self._assignment.arm_of(_user_of(body))
        answer = await (super().explain(body) if number == 0 else self.arms[number].explain(body))
        return {**answer, "arm": self._assignment.arms[number]}

    async def feedback(self, body: bytes) -> dict[str, Any]:
        """What POST /feedback answers: what happened to an item that was shown, kept."""
        said = read(AskedToRecord, body, self.most)
        if said.exposure_id is None and said.user is None:
            raise NotUnderstoodError("exposure_id: give that of the answer, or the user")
        user = None if said.user is None else str(said.user)
        arm = "" if said.user is None else self._assignment.arms[self._assignment.arm_of(said.user)]
        facts = {"exposure": said.exposure_id, "user": user, "item": str(said.item), "event": said.event}
        try:
            self._record(FEEDBACK, arm, **facts, value=said.value)
        except OSError:
            raise UnavailableError("the log cannot be written; try again later") from None
        return {"recorded": True}

    def _record(self, kind: str, counted: str, **facts: Any) -> None:
        """Into the log, where there is one, and counted by arm. Raises OSError where it cannot be written."""
        if self._log is None:
            return
        try:
            self._log.write(kind, **facts)
        except OSError as error:
            self._meters.logged(kind, counted, "failed")
            self._tell(f"{self._log.path}: {error.strerror or error}")
            raise
        self._meters.logged(kind, counted, "done")


def _user_of(body: bytes) -> RawId | None:
    """Whom a request is about, before anything of it is checked: the arm's model refuses what is not understood."""
    try:
        plain = from_json(body)
    except ValueError:
        return None
    user = plain.get("user") if isinstance(plain, dict) else None
    return user if isinstance(user, str | int) and not isinstance(user, bool) else None

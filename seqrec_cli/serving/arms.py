"""An online experiment: several models answer at once, each its share of the users, and what is shown is logged.

Who is dealt where is `assignment`'s to say.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

from pydantic_core import from_json

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.exposure_log import EXPOSURE, FEEDBACK, PLAN
from seqrec_cli.serving.assignment import Assignment
from seqrec_cli.serving.batching import Batcher
from seqrec_cli.serving.bodies import AskedToRecord, Most, NotUnderstoodError, read
from seqrec_cli.serving.exposure_writer import ExposureWriter
from seqrec_cli.serving.requests import RawId
from seqrec_cli.serving.service import Answering, Loaded, UnavailableError
from seqrec_cli.serving.telemetry import Meters


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

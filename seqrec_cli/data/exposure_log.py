"""The log of an online experiment: what was shown to whom, and what became of it, a JSON object a line.

Three kinds of lines. A `plan` (arms, shares, salt) is written when a process begins, an `exposure` when a list is
answered, a `feedback` when somebody tells what happened to an item of it. The service writes them, a reader counts them
by user: the user is what an experiment deals to its arms.

A process that is killed may leave a line that is torn. It is counted, and a line that another process has written right
behind it is read all the same: a line begins with `MARK`, which cannot stand inside another one, since JSON writes a
quotation mark of a text as \\".
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic_core import from_json, to_json

from seqrec_cli.config.errors import SeqrecError

MARK = b'{"kind":"'
PLAN, EXPOSURE, FEEDBACK = "plan", "exposure", "feedback"
SUFFIX = ".jsonl"


def line(kind: str, time: float, **facts: Any) -> bytes:
    """A line of the log, with its end."""
    return to_json({"kind": kind, "time": time, **facts}) + b"\n"


@dataclass(frozen=True)
class Plan:
    """How the users were dealt."""

    arms: tuple[str, ...]
    shares: tuple[float, ...]
    salt: str


@dataclass
class LeftOut:
    """What the log holds and no rate counts."""

    torn: int = 0  # lines without an end
    foreign: int = 0  # lines of another form
    repeated: int = 0  # exposures with the id of an earlier one
    nobody: int = 0  # exposures without a user, who cannot be dealt
    nobody_feedback: int = 0  # feedback to these
    unshown: int = 0  # feedback without an exposure: of an unknown id, or of an item that was not shown to the user
    others: int = 0  # feedback by another user than its exposure's
    duplicates: int = 0  # feedback told again: the same exposure, item and event
    crossed: int = 0  # users seen in two arms
    crossed_exposures: int = 0
    crossed_feedback: int = 0


@dataclass
class _User:
    arm: str
    plan: str
    since: float
    exposures: int = 0
    crossed: bool = False


@dataclass(frozen=True)
class _Shown:
    """An exposure that feedback may be about."""

    id: str
    user: str | None
    time: float
    items: frozenset[str]


@dataclass(frozen=True)
class _Told:
    """Feedback: to an exposure, or to the latest one of a user that had the item."""

    exposure: str | None
    user: str | None
    item: str
    event: str
    value: float | None
    time: float


@dataclass(frozen=True)
class OnlineLog:
    """A log, counted by user. Legend: U users with an exposure, all of one arm; A arms."""

    arms: tuple[str, ...]
    plans: dict[str, Plan]  # by their ids; more than one: the experiment was changed on the way
    first_plans: Counter[tuple[str, str]]  # users by (plan, arm) of their first exposure, those of two arms too
    arm_U: np.ndarray
    exposures_U: np.ndarray
    counts_U: dict[str, np.ndarray]  # by event: feedback
    values_U: dict[str, np.ndarray]  # by event, where values were told: their sums
    left_out: LeftOut
    files: int
    began: float  # seconds since 1970
    ended: float

    @property
    def expected_A(self) -> np.ndarray:
        """Users that each arm should have by the plans, float64."""
        expected_A = np.zeros(len(self.arms))
        for (plan, _), users in self.first_plans.items():
            for arm, share in zip(self.plans[plan].arms, self.plans[plan].shares, strict=True):
                expected_A[self.arms.index(arm)] += users * share
        return expected_A

    @property
    def dealt_A(self) -> np.ndarray:
        """Users that each arm has by their first exposures, those of two arms too."""
        found = Counter[str]()
        for (_, arm), users in self.first_plans.items():
            found[arm] += users
        return np.array([found[arm] for arm in self.arms], np.int64)


def read_log(path: Path) -> OnlineLog:
    """Count a file, or all `.jsonl` files of a folder. Raises SeqrecError where there is no such log.

    Two passes, so that of exposures only those are kept that feedback is about.
    """
    files, left_out = _files(path), LeftOut()
    plans, told = dict[str, Plan](), list[_Told]()
    for each in _lines(files, exposures=False, left_out=left_out):
        try:
            if each["kind"] == PLAN:
                plans[str(each["plan"])] = Plan(tuple(each["arms"]), tuple(each["shares"]), str(each["salt"]))
            else:
                told.append(_told(each))
        except (KeyError, TypeError, ValueError, OverflowError):
            left_out.foreign += 1
    if not plans:
        raise SeqrecError(f"log={path}: no online experiment in it; give what serve was given as log=")
    shown = _Exposures(plans, told, left_out)
    for each in _lines(files, exposures=True, left_out=left_out):
        try:
            shown.add(each)
        except (KeyError, TypeError, ValueError, OverflowError):
            left_out.foreign += 1
    if not shown.users:
        raise SeqrecError(f"log={path}: nothing was shown to a user yet; ask /recommend for users")
    return _by_user(shown, shown.joined(told), files=len(files))


class _Exposures:
    """What the second pass finds: users with what they were shown, and the exposures that feedback is about."""

    def __init__(self, plans: dict[str, Plan], told: Iterable[_Told], left_out: LeftOut) -> None:
        self.plans, self.left_out = plans, left_out
        self.users = dict[str, _User]()
        self.used_plans = set[str]()  # those that users were dealt by
        self.times = list[float]()  # the first and the last
        self._wanted = {each.exposure for each in told}
        self._by_id = dict[str, _Shown]()
        self._shown_to: dict[str, list[_Shown]] = {
            each.user: [] for each in told if each.exposure is None and each.user is not None
        }
        self._seen = set[str]()

    def add(self, found: dict[str, Any]) -> None:
        """Count a line. Raises KeyError, TypeError or ValueError for one of another form."""
        user = None if found["user"] is None else str(found["user"])
        shown = _Shown(str(found["id"]), user, float(found["time"]), frozenset(map(str, found["items"])))
        arm, plan = str(found["arm"]), str(found["plan"])
        if arm not in self.plans[plan].arms:
            raise ValueError(arm)
        if shown.id in self._seen:
            self.left_out.repeated += 1
            return
        self._seen.add(shown.id)
        self.times = [min([shown.time, *self.times]), max([shown.time, *self.times])]
        if shown.id in self._wanted:
            self._by_id[shown.id] = shown
        if user is None:
            self.left_out.nobody += 1
            return
        if user in self._shown_to:
            self._shown_to[user].append(shown)
        self.used_plans.add(plan)
        known = self.users.setdefault(user, _User(arm, plan, shown.time))
        known.exposures += 1
        known.crossed |= known.arm != arm
        if shown.time < known.since:
            known.arm, known.plan, known.since = arm, plan, shown.time

    def joined(self, told: Iterable[_Told]) -> Iterator[tuple[str, _Told]]:
        """Feedback and the user of its exposure; each (exposure, item, event) once, the earliest."""
        counted = set[tuple[str, str, str]]()
        for each in sorted(told, key=lambda each: each.time):
            shown = self._of(each)
            if shown is None or each.item not in shown.items:
                self.left_out.unshown += 1
            elif shown.user is None:
                self.left_out.nobody_feedback += 1
            elif each.user not in (None, shown.user):
                self.left_out.others += 1
            elif (key := (shown.id, each.item, each.event)) in counted:
                self.left_out.duplicates += 1
            else:
                counted.add(key)
                yield shown.user, each

    def _of(self, told: _Told) -> _Shown | None:
        if told.exposure is not None:
            return self._by_id.get(told.exposure)
        of_user = self._shown_to.get(told.user or "", [])
        before = [each for each in of_user if each.time <= told.time and told.item in each.items]
        return max(before, key=lambda each: each.time, default=None)


def _by_user(shown: _Exposures, joined: Iterator[tuple[str, _Told]], *, files: int) -> OnlineLog:
    """Everything as arrays over users. Who was seen in two arms belongs to neither."""
    users, left_out = shown.users, shown.left_out
    rows = {user: nth for nth, user in enumerate(user for user, each in users.items() if not each.crossed)}
    counts_U, values_U = dict[str, np.ndarray](), dict[str, np.ndarray]()
    for user, told in joined:
        if user not in rows:
            left_out.crossed_feedback += 1
            continue
        counts_U.setdefault(told.event, np.zeros(len(rows)))[rows[user]] += 1
        if told.value is not None:
            values_U.setdefault(told.event, np.zeros(len(rows)))[rows[user]] += told.value
    left_out.crossed = len(users) - len(rows)
    left_out.crossed_exposures = sum(each.exposures for each in users.values() if each.crossed)
    # A service that began and dealt nobody has left a plan too.
    plans = {name: plan for name, plan in shown.plans.items() if name in shown.used_plans}
    arms = tuple(dict.fromkeys(arm for plan in plans.values() for arm in plan.arms))
    began, ended = shown.times
    return OnlineLog(
        arms=arms,
        plans=plans,
        first_plans=Counter((user.plan, user.arm) for user in users.values()),
        arm_U=np.array([arms.index(users[user].arm) for user in rows], np.int64),
        exposures_U=np.array([users[user].exposures for user in rows], np.float64),
        counts_U=dict(sorted(counts_U.items())),
        values_U=dict(sorted(values_U.items())),
        left_out=left_out,
        files=files,
        began=began,
        ended=ended,
    )


def _told(found: dict[str, Any]) -> _Told:
    exposure, user, value = found["exposure"], found["user"], found["value"]
    return _Told(
        None if exposure is None else str(exposure),
        None if user is None else str(user),
        str(found["item"]),
        str(found["event"]),
        None if value is None else float(value),
        float(found["time"]),
    )


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise SeqrecError(f"log={path}: no such file or folder")
    files = sorted(path.glob(f"*{SUFFIX}"))
    if not files:
        raise SeqrecError(f"log={path}: no {SUFFIX} file in this folder")
    return files


def _lines(files: Iterable[Path], *, exposures: bool, left_out: LeftOut) -> Iterator[dict[str, Any]]:
    """Exposures, or all lines but these; what is no line is counted, by one of the two passes."""
    for chunk in _chunks(files):
        marked = chunk.startswith(MARK)
        if marked and chunk.startswith(MARK + b'exposure"') != exposures:
            continue
        try:
            found = from_json(chunk, allow_inf_nan=False)
        except ValueError:
            left_out.torn += marked or not exposures
            continue
        kind = found.get("kind") if isinstance(found, dict) else None
        if kind in (PLAN, EXPOSURE, FEEDBACK):
            if (kind == EXPOSURE) == exposures:
                yield found
        elif not exposures:
            left_out.foreign += 1


def _chunks(files: Iterable[Path]) -> Iterator[bytes]:
    """Lines, those that stand behind a torn one apart."""
    for path in files:
        with path.open("rb") as file:
            for raw in file:
                if raw.startswith(MARK) and MARK not in raw[len(MARK) :]:
                    yield raw
                    continue
                torn, *others = raw.strip().split(MARK)
                yield from ([torn] if torn else [])
                yield from (MARK + each for each in others)

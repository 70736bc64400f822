"""`seqrec recommend input=FILE output=FILE`: answers to a file of requests, in parts that a killed command resumes.

The order: look at the settings and the files' heads, restore the model, read the whole input once for faults, then
answer chunk by chunk, and join the parts. Nothing is written before the input is known to be sound.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import torch

from seqrec_cli import __version__
from seqrec_cli.commands.console import say
from seqrec_cli.commands.recommend import recommending_of, rows_at_once, wanted_of
from seqrec_cli.commands.restore import Restored
from seqrec_cli.commands.stages import asked_run
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.records import RecommendConfig
from seqrec_cli.data.context import logged_context
from seqrec_cli.data.request_files import RequestFile, kind_of
from seqrec_cli.serving.answer_files import AnswerFile
from seqrec_cli.serving.answered_rows import AnsweredRows, Counts, Form
from seqrec_cli.serving.because import refuse_without_attention
from seqrec_cli.serving.item_filters import listed_items
from seqrec_cli.serving.parts import Parts
from seqrec_cli.serving.recommending import Recommending
from seqrec_cli.serving.request_rows import surveyed
from seqrec_cli.serving.requests import RawId
from seqrec_cli.training.checkpoint import checkpoint_file

EVERY_USER = "users"  # the input that is no file
TELL_S = 5.0  # between two lines of progress


class Requests(Protocol):
    """Where requests come from, a chunk at a time."""

    @property
    def label(self) -> str:
        """How messages call them."""
        ...

    def chunks(self, rows: int) -> Iterator[pa.Table]:
        """Tables of so many rows, in plain columns (`data.request_columns`)."""
        ...


@dataclass(frozen=True)
class EveryUser:
    """The users of the data, in their order."""

    users: Sequence[RawId]
    label = f"input={EVERY_USER}"

    def chunks(self, rows: int) -> Iterator[pa.Table]:
        for first in range(0, len(self.users), rows):
            yield pa.table({"user": pa.array([str(user) for user in self.users[first : first + rows]], pa.string())})


def recommend_file(cfg: RecommendConfig) -> dict[str, Any]:
    """Write the answers; where, how many, and what came of the requests."""
    assert cfg.input is not None
    if cfg.output is None:
        raise SeqrecError("output: name the file for the answers (.parquet, .csv or .jsonl)")
    output = AnswerFile(Path(cfg.output).expanduser())
    if cfg.input != EVERY_USER:
        kind_of(Path(cfg.input), "input")
    run = asked_run(cfg, cfg.hardware)
    recommending = recommending_of(run, cfg.newer, cfg.length, setting="length")
    wanted = wanted_of(recommending, cfg)
    if cfg.explain:
        refuse_without_attention(recommending)
    requests = _requests(cfg, recommending)
    parts = Parts(output.path, _facts(cfg, run, recommending))
    _check_place(output.path, cfg, parts)
    with parts.held():
        if parts.found is None:
            parts.begin(_checked(requests, recommending, cfg.chunk))
        else:
            say(f"going on with {parts.folder}")
        assert parts.found is not None
        form = Form(parts.found["users"], parts.found["whole_users"], cfg.explain)
        answering = AnsweredRows(recommending, wanted, form, rows_at_once=cfg.batch or rows_at_once(run))
        try:
            counts, seconds = _answered(requests, answering, output, parts=parts, chunk=cfg.chunk)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"interrupted; the same command goes on with {parts.folder}") from None
        output.join([parts.path(part) for part in range(-(-counts.rows // cfg.chunk))], answering.schema)
        parts.end()
    _report(counts, output.path, top=cfg.top)
    return {"output": str(output.path), "seconds": seconds, **vars(counts)}


def _requests(cfg: RecommendConfig, recommending: Recommending) -> Requests:
    if cfg.input == EVERY_USER:
        return EveryUser(recommending.users)
    contexts = logged_context(recommending.log)
    return RequestFile.open(Path(str(cfg.input)).expanduser(), contexts, cfg.sequence_separator)


def _check_place(path: Path, cfg: RecommendConfig, parts: Parts) -> None:
    if cfg.input != EVERY_USER and path.absolute() == Path(str(cfg.input)).expanduser().absolute():
        raise SeqrecError(f"output={path}: that is the input; name another file")
    if path.is_dir():
        raise SeqrecError(f"output={path}: a folder has this name; name another file")
    if path.exists() and not cfg.replace and not parts.begun:
        raise SeqrecError(f"output={path}: it is there already; name another file, or give replace=true")


def _facts(cfg: RecommendConfig, run: Restored, recommending: Recommending) -> dict[str, Any]:
    """All that the answers depend on; where one of these differs, parts of an earlier command are not gone on with."""
    plain = cfg.model_dump(mode="json")
    by_itself = ("top", "repeats", "where", "mmr", "explain", "sequence_separator", "chunk")
    return {
        "ckpt": [_digest(checkpoint_file(Path(each).expanduser())) for each in cfg.parts],
        "retrieved": None if cfg.ckpt is not None else cfg.retrieved,
        "newer, or the data": recommending.log.fingerprint,
        "input": cfg.input if cfg.input == EVERY_USER else _digest(Path(str(cfg.input)).expanduser()),
        **{name: plain[name] for name in by_itself},
        **{name: _ids_digest(listed_items(getattr(cfg, name), name)) for name in ("allow", "deny")},
        "mmr_pool": None if cfg.mmr is None else cfg.mmr_pool,
        "mmr_by": None if cfg.mmr is None else cfg.mmr_by,
        "length": recommending.max_length,
        "batch": cfg.batch or rows_at_once(run),
        "hardware": [str(run.precision.device), run.precision.name],
        "versions of seqrec, torch or pyarrow": [__version__, torch.__version__, pa.__version__],
    }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _ids_digest(ids: Sequence[RawId] | None) -> str | None:
    if ids is None:
        return None
    return hashlib.sha256("\n".join(map(str, ids)).encode()).hexdigest()


def _checked(requests: Requests, recommending: Recommending, chunk: int) -> dict[str, Any]:
    """Read all requests for faults; how many there are, and what their users' ids are like. Raises SeqrecError."""
    if isinstance(requests, EveryUser):
        whole = all(isinstance(user, int) for user in requests.users)
        return {"rows": len(requests.users), "users": True, "whole_users": whole}
    started = time.perf_counter()
    found = surveyed(requests.chunks(chunk), recommending, label=requests.label)
    say(f"{requests.label}: {found.rows:,} requests, sound ({time.perf_counter() - started:.1f} s)")
    return {"rows": found.rows, "users": found.users, "whole_users": found.whole_users}


def _answered(
    requests: Requests, answering: AnsweredRows, output: AnswerFile, *, parts: Parts, chunk: int
) -> tuple[Counts, float]:
    """Answer what is not answered yet; what came of all, and the seconds it took now."""
    assert parts.found is not None
    progress, counts = _Progress(parts.found["rows"], say), Counts()
    for part, table in enumerate(requests.chunks(chunk)):
        found, there = parts.done(part), True
        if found is None:
            answers, found = answering.of(table, first=counts.rows, label=requests.label)
            output.write_part(answers, parts.path(part))
            parts.note(part, found)
            there = False
        counts += found
        progress.at(counts.rows, now=0 if there else found.rows)
    return counts, progress.end()


class _Progress:
    """A line now and then: how far, how fast, how long still."""

    def __init__(self, total: int, tell: Callable[[str], None]) -> None:
        self._total, self._tell = total, tell
        self._started = self._told = time.perf_counter()
        self._now = 0  # answered by this process

    def at(self, done: int, *, now: int) -> None:
        if not self._now and now:  # what was there already is passed over without an answer
            self._told = time.perf_counter()
        self._now += now
        moment = time.perf_counter()
        if self._now and moment - self._told >= TELL_S and done < self._total:
            self._told, rate = moment, self._now / (moment - self._started)
            self._tell(
                f"{done:,} of {self._total:,} ({done / self._total:.0%}), {rate:,.0f} users/s, "
                f"{_in_words((self._total - done) / rate)} left"
            )

    def end(self) -> float:
        seconds = time.perf_counter() - self._started
        if self._now:
            self._tell(f"{self._now:,} answered in {_in_words(seconds)}, {self._now / seconds:,.0f} users/s")
        return seconds


def _in_words(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _report(counts: Counts, path: Path, *, top: int) -> None:
    if counts.popularity:
        say(f"{counts.popularity:,} of whom nothing is known: recommended by popularity")
    if counts.profile:
        say(f"{counts.profile:,} of whose history nothing is known: recommended by their attributes in the data")
    if counts.unknown_items:
        say(f"{counts.unknown_items:,} of {counts.events:,} events left out, for the data do not have their items")
    if counts.unknown_context:
        say(f"{counts.unknown_context:,} values of context are unknown to the data: read as absent")
    if counts.short:
        say(f"{counts.short:,} have fewer than {top} items, {counts.none:,} of them none: no more passed the filters")
    say(str(path))

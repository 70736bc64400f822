"""A language model that names a study's next settings, with its reasons; without an answer the study's sampler does.

Its answers are checked against the space. One that cannot be used is given back to it once, with the reason. After
that the trial is left to the sampler, in one line; after several such trials in a row, or a refused key, it is asked no
more.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from seqrec_cli.config.adviser import AdviserConfig
from seqrec_cli.saying import Say
from seqrec_cli.tuning.answers import UnusableError, choice_in, proposal_in
from seqrec_cli.tuning.briefing import Task, last_question, next_question, task_in_words
from seqrec_cli.tuning.chat import Chat, Message, NoAnswerError
from seqrec_cli.tuning.records import Horizon, Proposal, TrialRecord
from seqrec_cli.tuning.space import Space

T = TypeVar("T")
TRIES = 2  # questions for one trial
PAUSE = 2.0  # seconds before a server that failed is asked again
SHOWN = 2000  # characters of an unusable answer that are shown to its author again
FALLBACK = "TPE"


class FinalWord(NamedTuple):
    """The configuration that the adviser would use."""

    trial: TrialRecord
    reasons: str


@dataclass
class Adviser:
    """Asks for the next trial (a `Proposer`), and at the end for the final configuration."""

    cfg: AdviserConfig
    space: Space
    task: Task
    say: Say
    log: Path | None = None  # every question and answer, a row each
    horizon: Horizon | None = None  # epochs of a new trial, where they are not the task's
    name: str = "adviser"

    def __post_init__(self) -> None:
        """Raises SeqrecError where it cannot be asked at all."""
        self._chat = Chat(self.cfg)
        self._failed = 0  # trials in a row
        self._dismissed = False

    def propose(self, trials: list[TrialRecord]) -> Proposal | None:
        """The next trial; None, said in one line, where no usable answer comes."""
        if self._dismissed:
            return None
        question = next_question(trials, self.task.metric)

        def read(text: str) -> Proposal:
            return proposal_in(text, self.space, trials=trials, longest=self.task.longest)

        try:
            found = self._ask(trials, question, read)
        except _FailedError as error:
            self._failed += 1
            self._dismissed = error.lasting or self._failed >= self.cfg.give_up
            in_a_row = f", {self._failed} trials in a row" if self._failed > 1 else ""
            until = f"{FALLBACK} goes on alone" if self._dismissed else f"{FALLBACK} names this trial"
            self.say(f"adviser: {error}{in_a_row}; {until}")
            return None
        self._failed = 0
        return Proposal(found.settings, found.epochs, found.continues, rationale=self._chat.masked(found.rationale))

    def conclude(self, trials: list[TrialRecord]) -> FinalWord | None:
        """Which finished trial it would use, and why; None, said in one line, where no usable answer comes."""
        if self._dismissed or not any(each.state == "complete" for each in trials):
            return None
        try:
            trial, reasons = self._ask(
                trials, last_question(trials, self.task.metric), lambda text: choice_in(text, trials)
            )
        except _FailedError as error:
            self.say(f"adviser: {error}; no final word of it, the best by validation stands")
            return None
        return FinalWord(trial, self._chat.masked(reasons))

    def _ask(self, trials: list[TrialRecord], question: Message, read: Callable[[str], T]) -> T:
        """A question, and once more with what was wrong with the answer. Raises _FailedError."""
        epochs = self.horizon.epochs(trials) if self.horizon is not None else None
        task = self.task if epochs is None else replace(self.task, epochs=epochs)
        messages = [task_in_words(task, self.space), question]
        reason = ""
        for _ in range(TRIES):
            text = None
            try:
                text = self._chat.ask(messages)
                found = read(text)
            except NoAnswerError as error:
                reason = str(error)
                self._write(messages, text, refused=reason)
                if error.lasting:
                    raise _FailedError(reason, lasting=True) from None
                time.sleep(PAUSE)
            except UnusableError as error:
                reason = self._chat.line(str(error))
                self._write(messages, text, refused=reason)
                again = f"That cannot be used: {reason}. Answer again, with one JSON object and nothing else."
                messages = [
                    *messages,
                    {"role": "assistant", "content": (text or "")[:SHOWN]},
                    {"role": "user", "content": again},
                ]
                reason = f"its answer cannot be used ({reason})"
            else:
                self._write(messages, text, refused=None)
                return found
        raise _FailedError(reason, lasting=False)

    def _write(self, messages: list[Message], answer: str | None, *, refused: str | None) -> None:
        """A row of the log. The first message, which never changes, stands in its first row alone."""
        if self.log is None:
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        first = not self.log.exists()
        row: dict[str, Any] = {"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "model": self.cfg.model}
        row |= {"asked": messages if first else messages[1:], "answered": answer, "refused": refused}
        with self.log.open("a", encoding="utf-8") as file:
            file.write(self._chat.masked(json.dumps(row)) + "\n")


class _FailedError(Exception):
    """No usable answer for one question."""

    def __init__(self, reason: str, *, lasting: bool) -> None:
        super().__init__(reason)
        self.lasting = lasting

"""All findings of an audit, in the order of the table.

Leaks and distributions are of the whole log. What sorts or counts pairs of events is of a sample of users where a log
is long, so that memory stays flat.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.sample import of_users
from seqrec_cli.data.view import HeldOut
from seqrec_cli.evaluation.audit.distributions import distributions
from seqrec_cli.evaluation.audit.drift import drift
from seqrec_cli.evaluation.audit.finding import Finding
from seqrec_cli.evaluation.audit.language import language
from seqrec_cli.evaluation.audit.leaks import leaks
from seqrec_cli.evaluation.audit.order import Burst, bursts, equal_times, in_bursts, ties
from seqrec_cli.evaluation.audit.perturbed import Measuring, changes, order_matters
from seqrec_cli.evaluation.audit.same_endings import same_endings
from seqrec_cli.evaluation.audit.shortcuts import shortcuts
from seqrec_cli.evaluation.audit.subject import Subject
from seqrec_cli.models.contract import Recommender


@dataclass(frozen=True)
class Audit:
    """What was found of which data."""

    findings: list[Finding]
    users: int
    sampled_users: int  # whose events were reordered and whose pairs were counted

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "users": self.users,
            "sampled_users": self.sampled_users,
            "findings": {finding.name: finding.plain() for finding in self.findings},
        }


def audit(
    log: PackedLog,
    split: HeldOut,
    *,
    burst: Burst,
    events: int,
    requests: int,
    tokens: int | None,
    how: Measuring,
    given: tuple[str, Recommender] | None = None,
    endings: tuple[int, ...] = (),
    turns: int = 0,
) -> Audit:
    """Ask everything; `given` is a trained model and its name, `tokens` how many are compared with language, `endings`
    by how many last events users are alike, `turns` how often items are turned into their users and back."""
    subject = Subject(log, split)
    part = Subject(_sampled(log, events, how.seed), split)
    timed = part.times_N is not None
    tied_N = ties(part) if timed else None
    burst_N = bursts(part, burst) if timed and part.clock.seconds <= burst.seconds else None
    orders = {
        name: joined_N
        for name, joined_N in (("ties", tied_N), ("bursts", burst_N))
        if joined_N is not None and joined_N.any()
    }
    changed = changes(part, orders, given=given, how=how) if orders and len(part.view.val.rows_R) else []
    order = [equal_times(part, tied_N, how.seed)]
    order += [order_matters(changed, "ties", "  another order of ties")] if "ties" in orders and changed else []
    order += [in_bursts(part, burst_N, burst)]
    order += [order_matters(changed, "bursts", "  another order in bursts")] if "bursts" in orders and changed else []
    found = [
        *leaks(subject),
        *order,
        *distributions(subject),
        *shortcuts(part, requests=requests, seed=how.seed),
        *([] if tokens is None else [language(subject, tokens=tokens, seed=how.seed)]),
        *([] if given is None or not endings else [same_endings(given, log, "val", endings=endings, how=how)]),
        *([] if given is None or not turns else [drift(given, log, turns=turns, most=requests, how=how)]),
    ]
    return Audit(found, log.num_users, part.log.num_users)


def _sampled(log: PackedLog, events: int, seed: int) -> PackedLog:
    """The log, or users drawn at random until they have about so many events."""
    if len(log.items_N) <= events:
        return log
    drawn_U = np.random.default_rng([seed, 3]).permutation(log.num_users)
    lengths_U = np.diff(log.offsets_U1)
    kept = max(1, int(np.searchsorted(np.cumsum(lengths_U[drawn_U]), events)))
    return of_users(log, np.sort(drawn_U[:kept]))

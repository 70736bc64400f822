"""The gate: a program is kept only if, loaded again by its own runtime, it answers as the checkpoint does.

Compared are scores (of histories of several lengths, of none too), the top 10 of the corpus, and the metric on
validation, which is measured by a function that is given: the protocol is not this room's business.

Legend: B rows, L history events, C candidates, V items.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.export import Tolerance
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.export.scoring import Scoring, Sizes, pad_events
from seqrec_cli.models.contract import Recommender

Run = Callable[[dict[str, Tensor]], Tensor]
Measure = Callable[[Recommender], float]
TOP = 10
ROUNDING = 1e-5  # of scores, summed in another order
LISTS, PAIRS = 64, 2**24  # histories whose top 10 are compared; fewer, if these and all items would be more pairs
AT_ONCE = 2**19  # events of pairs that a program is given: it holds several vectors of each at once
CANDIDATES = 100  # of a timed request to a click ranker
MANY = 256  # requests timed together
TIMES, SECONDS = 20, 0.5  # a call is timed so often, or for so long


class Reloaded(Recommender):
    """A program as a recommender, so that what measures models measures it."""

    def __init__(self, run: Run, scoring: Scoring, fixed_length: int | None) -> None:
        nn.Module.__init__(self)
        self.num_items, self.num_users = scoring.num_items, scoring.model.num_users
        self.sees_target_time = scoring.model.sees_target_time
        self._run, self._scoring, self._fixed_length = run, scoring, fixed_length

    def score(self, batch: Batch, items_BC: Tensor) -> Tensor:
        if self._scoring.over_corpus:
            return self.score_corpus(batch).gather(1, items_BC)
        inputs, rows = self._inputs(batch), items_BC.shape[0]
        width = max(1, AT_ONCE // max(1, rows * inputs["items_BL"].shape[1]))
        parts = [self._run({**inputs, "candidates_BC": part.contiguous()}) for part in items_BC.split(width, dim=1)]
        return torch.cat(parts, dim=1)

    def score_corpus(self, batch: Batch) -> Tensor:
        return self._run(self._inputs(batch)) if self._scoring.over_corpus else super().score_corpus(batch)

    def _inputs(self, batch: Batch) -> dict[str, Tensor]:
        inputs = {name: getattr(batch, name) for name in self._scoring.inputs if name != "candidates_BC"}
        for name, values in inputs.items():
            if self._fixed_length is not None and "_BL" in name:
                inputs[name] = pad_events(values, self._fixed_length - values.shape[1])
        return inputs


def scores_agree(
    run: Run, scoring: Scoring, log: PackedLog, *, fixed: int | None, shortest: int, most: float | None
) -> dict[str, Any]:
    """The largest difference of scores. Raises SeqrecError where it exceeds `most` (None: any), or is NaN."""
    calls = [scoring.sample(log, Sizes(1, fixed or 1, 1)), scoring.sample(log, Sizes(2, fixed, 3))]
    calls += [scoring.sample(log, Sizes(16, fixed or scoring.max_length, 7)), without_events(scoring, log, fixed or 3)]
    calls += [] if fixed or shortest else [without_events(scoring, log, 0)]
    worst, rows = 0.0, 0
    for inputs in calls:
        with torch.inference_mode():
            expected, answered = scoring.live(inputs), _run_or_say(run, inputs)
        if scoring.over_corpus:  # column 0 is padding, and of no meaning
            expected, answered = expected[:, 1:], answered[:, 1:]
        if expected.shape != answered.shape or not answered.isfinite().equal(expected.isfinite()):
            difference = float("nan")
        else:
            finite = expected.isfinite()  # a closed form may leave items out by -inf
            scale = expected[finite].abs().max().clamp(min=1) if finite.any() else 1.0
            difference = float(((expected - answered)[finite].abs() / scale).max()) if finite.any() else 0.0
        if difference != difference or (most is not None and difference > most):
            raise SeqrecError(
                f"the exported program differs from the model by {difference:.2g} (at most {most or 0:g} is allowed, "
                "tolerance.scores); nothing was written"
            )
        worst, rows = max(worst, difference), rows + len(inputs["users_B"])
    return {"max_difference": worst, "rows": rows}


def _run_or_say(run: Run, inputs: dict[str, Tensor]) -> Tensor:
    """The program's answer. Raises SeqrecError, which names the call, where its runtime raises anything."""
    try:
        return run(inputs)
    except Exception as error:  # each runtime has its own kinds
        rows, length = inputs["items_BL"].shape
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SeqrecError(
            f"the exported program fails on {rows} histories of length {length} ({reason}); nothing was written"
        ) from error


def without_events(scoring: Scoring, log: PackedLog, length: int) -> dict[str, Tensor]:
    """Two histories of no events, of which one stands in a row of padding where `length` is more than 0."""
    inputs = scoring.sample(log, Sizes(2, length or 1, 3))
    inputs["lengths_B"] = torch.zeros_like(inputs["lengths_B"])
    for name in inputs:
        if "_BL" in name:
            inputs[name] = torch.zeros_like(inputs[name])[:, :length]
    return inputs


def top10_agreement(reloaded: Reloaded, scoring: Scoring, log: PackedLog) -> float:
    """The share of the program's top 10 that the checkpoint has in its own. Scores that differ from its tenth by
    rounding are as good: of items that tie, which ones come first is chance."""
    rows = max(1, min(LISTS, PAIRS // scoring.num_items))
    inputs = scoring.sample(log, Sizes(rows, reloaded._fixed_length, 1))
    batch = Batch(**{name: values for name, values in inputs.items() if name != "candidates_BC"})
    with torch.inference_mode():
        expected_BV = scoring.model.score_corpus(batch).float().clone()
        answered_BV = reloaded.score_corpus(batch).clone()
        expected_BV[:, 0] = answered_BV[:, 0] = -torch.inf
        count = min(TOP, scoring.num_items)
        tenth_B1 = expected_BV.topk(count, dim=1).values[:, -1:]
        own_BK = expected_BV.gather(1, answered_BV.topk(count, dim=1).indices)
    return float((own_BK >= tenth_B1 - ROUNDING * tenth_B1.abs().clamp(min=1)).float().mean())


def milliseconds(run: Run, scoring: Scoring, log: PackedLog, *, fixed: int | None) -> dict[str, float]:
    """The median of a call with one request, and with many."""
    found = {}
    for name, rows in (("one", 1), ("many", MANY)):
        inputs = scoring.sample(log, Sizes(rows, fixed, CANDIDATES))
        taken: list[float] = []
        with torch.inference_mode():
            run(inputs)
            while len(taken) < TIMES and sum(taken) < SECONDS:
                began = time.perf_counter()
                run(inputs)
                taken.append(time.perf_counter() - began)
        found[name] = 1000 * statistics.median(taken)
    return found


def pass_gate(
    run: Run,
    scoring: Scoring,
    log: PackedLog,
    *,
    fixed: int | None,
    shortest: int,
    tolerance: Tolerance,
    measure: Measure | None,
    quantized: bool,
) -> dict[str, Any]:
    """How the program compares with the checkpoint. Raises SeqrecError where it is beyond tolerance."""
    found = scores_agree(
        run, scoring, log, fixed=fixed, shortest=shortest, most=None if quantized else tolerance.scores
    )
    reloaded = Reloaded(run, scoring, fixed)
    found["top10"] = top10_agreement(reloaded, scoring, log)
    if not quantized and found["top10"] < tolerance.top10:
        raise SeqrecError(
            f"of the exported program's top 10, {found['top10']:.1%} are the model's (at least {tolerance.top10:.1%} "
            "must be, tolerance.top10); nothing was written"
        )
    if measure is not None:
        was, now = measure(scoring.model), measure(reloaded)
        found |= {"metric_was": was, "metric_now": now}
        if not abs(now - was) <= tolerance.metric:
            raise SeqrecError(
                f"the exported program's metric on validation is {now:.4f}, the checkpoint's {was:.4f}: more than "
                f"tolerance.metric={tolerance.metric:g} apart; nothing was written"
            )
    found["ms"] = milliseconds(run, scoring, log, fixed=fixed)
    found["ms_checkpoint"] = milliseconds(scoring.live, scoring, log, fixed=fixed)
    return found

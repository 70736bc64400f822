"""What beam search over semantic ids keeps of the exact ranking, and what it costs, by its width.

    python -m scripts.bench_beam RUN [--beams 10,20,50,100] [--requests 1000]

RUN is a run of `model=semantic` (docs/critique/semantic-ids.md). Validation requests, a batch at a time, without the
items seen; the ten best by each width and by the exact scores of the whole corpus. Seconds are those of the processor.

Legend: R requests, B of a batch, V items, K best ones.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from scripts.refusing import exit_code
from seqrec_cli.commands.restore import AS_TRAINED, Restored, restore
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.loader import target_batches
from seqrec_cli.data.splits import held_out, subsample
from seqrec_cli.evaluation.evaluate import measuring
from seqrec_cli.evaluation.ranks import seen_positions
from seqrec_cli.evaluation.top_lists import top_items
from seqrec_cli.models.semantic import Model as Semantic
from seqrec_cli.saying import silent

TOP, ROWS = 10, 64


class Found(NamedTuple):
    """Lists [R, K], the items they should have [R], and the seconds that they took."""

    items_RK: Tensor
    wanted_R: Tensor
    seconds: float

    def hit_rate(self) -> float:
        return (self.items_RK == self.wanted_R[:, None]).any(1).float().mean().item()

    def ndcg(self) -> float:
        gains_K = 1 / torch.log2(torch.arange(TOP) + 2.0)
        return ((self.items_RK == self.wanted_R[:, None]) * gains_K).sum(1).mean().item()

    def of(self, exact: "Found") -> float:
        """The share of the exact lists that is found."""
        return (self.items_RK[:, :, None] == exact.items_RK[:, None]).any(2).float().mean().item()


def lists(run: Restored, beam: int | None, requests: int) -> Found:
    """The ten best of validation requests by a beam of this width, or by all scores."""
    model, log = run.model, run.log
    assert isinstance(model, Semantic)
    targets = subsample(held_out(log, "val"), requests)
    items, wanted, seconds = [], [], 0.0
    model.cfg = model.cfg.model_copy(update={"beam": beam})
    batches = target_batches(log, targets, max_length=run.cfg.model.max_length, batch_size=ROWS)
    with measuring(model, run.precision):
        for picked_B, batch in batches:
            seen_M = torch.from_numpy(seen_positions(log, targets.rows_R[picked_B], targets.ends_R[picked_B]))
            began = time.process_time()
            items.append(_best(model, batch, seen_M))
            seconds += time.process_time() - began
            wanted.append(log.items_N[targets.ends_R[picked_B]])
    return Found(torch.cat(items), torch.from_numpy(np.concatenate(wanted).astype(np.int64)), seconds)


def _best(model: Semantic, batch: Batch, seen_M: Tensor) -> Tensor:
    scores_BV = model.score_corpus_without(batch, seen_M, TOP).float()
    scores_BV.view(-1).index_fill_(0, seen_M, -torch.inf)
    scores_BV[:, 0] = -torch.inf
    return top_items(scores_BV, TOP)


def measured(run: Restored, beams: Sequence[int], requests: int) -> list[str]:
    """The table, in Markdown."""
    exact = lists(run, None, requests)
    rows = [("all scores", exact), *((f"beam of {beam}", lists(run, beam, requests)) for beam in beams)]
    lines = ["| lists by | of the exact ten | HR@10 | NDCG@10 | CPU ms a request |", "|---|--:|--:|--:|--:|"]
    for name, found in rows:
        cells = [f"{100 * found.of(exact):.1f} %", f"{found.hit_rate():.4f}", f"{found.ndcg():.4f}"]
        lines.append(f"| {' | '.join([name, *cells, f'{1e3 * found.seconds / len(found.items_RK):.2f}'])} |")
    return lines


def _beams(text: str) -> list[int]:
    """Raises SeqrecError for what is no list of widths that a list of ten can come from."""
    widths = [int(word) if word.isdecimal() else 0 for word in text.split(",")]
    if min(widths) < TOP:
        raise SeqrecError(f"--beams {text}: give widths of {TOP} and more, with commas between them (10,20,50)")
    return widths


def main(arguments: Sequence[str] | None = None) -> int:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--beams", default="10,20,50,100")
    parser.add_argument("--requests", type=int, default=1000)
    asked = parser.parse_args(arguments)

    def table() -> None:
        if asked.requests < 1:
            raise SeqrecError(f"--requests {asked.requests}: ask at least one")
        run, beams = restore(str(asked.run), None, None, hardware=AS_TRAINED, tell=silent), _beams(asked.beams)
        if not isinstance(run.model, Semantic):
            raise SeqrecError(
                f"{asked.run}: model={run.cfg.model.name} has no codes to search; a run of model=semantic has"
            )
        print("\n".join(measured(run, beams, asked.requests)))

    return exit_code(table)


if __name__ == "__main__":
    sys.exit(main())

"""An arm of docs/critique's tables beside the first one, user by user, over the seeds that both have.

Legend: S seeds, U users.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scripts.critique_arms import CHOOSES, Arm, Run
from scripts.critique_training import folder_of
from seqrec_cli.evaluation.intervals import TWO_SIDED
from seqrec_cli.evaluation.paired import Stored, same_targets
from seqrec_cli.evaluation.stored import StoredRanks
from seqrec_cli.evaluation.user_sums import standard_error
from seqrec_cli.reporting.run_folder import RunFolder


def has_ranks(run: Run, work: Path) -> bool:
    return RunFolder(folder_of(run, work)).ranks("test").is_file()


def compared(first: Arm, arm: Arm, seeds: Sequence[int], work: Path) -> dict[str, Any]:
    """The difference of test NDCG@10, a mean over seeds, and half of its 95 % interval.

    Users are what the interval draws: each user's difference is a mean over the seeds, whose two runs are of the same
    seed. What a seed does to all users alike is not in it: `each` has the seeds' differences. Raises SeqrecError where
    the two were asked for other items.
    """
    each_S, influences_S = [], []
    for seed in seeds:
        runs = [ranks_of(Run(one, seed), work) for one in (first, arm)]
        same_targets(runs, [first.name, arm.name])
        before, after = (run.sums(CHOOSES) for run in runs)
        each_S.append(after.value - before.value)
        influences_S.append(after.influences_U - before.influences_U)
    error = standard_error(np.mean(influences_S, axis=0))
    return {
        "first": [*first[:3], list(first.settings)],
        "arm": [*arm[:3], list(arm.settings)],
        "seeds": list(seeds),
        "difference": round(float(np.mean(each_S)), 5),
        "half": round(TWO_SIDED * error, 5),
        "each": [round(value, 5) for value in each_S],
    }


def ranks_of(run: Run, work: Path) -> Stored:
    return Stored(StoredRanks.read(RunFolder(folder_of(run, work)).ranks("test")), None)

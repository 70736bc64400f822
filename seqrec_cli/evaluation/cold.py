"""What of a number is owed to users and items that trained: the metrics of ranks of cold and of warm parts."""

from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.evaluation.evaluate import Evaluation
from seqrec_cli.evaluation.paired import Stored
from seqrec_cli.evaluation.segments import segments
from seqrec_cli.evaluation.stored import StoredRanks
from seqrec_cli.metrics.kinds import RankMetric
from seqrec_cli.metrics.table import LOSS, parse_metric, request_metric

SPLITS_OF_TARGETS = ("cold_users", "cold")


def cold_parts(evaluation: Evaluation, log: PackedLog) -> dict[str, dict[str, float]]:
    """By part (`cold users`, `warm users`, `cold targets`, `warm targets`): how many targets it has, and its metrics of
    ranks, means over requests. Users, or targets, that are all of one kind make no parts.
    """
    stored = Stored(StoredRanks.of(evaluation.ranks), None)
    metrics = [name for name in evaluation.metrics if name != LOSS]
    names = [name for name in metrics if isinstance(parse_metric(name)[0], RankMetric)]
    found: dict[str, dict[str, float]] = {}
    for spec in SPLITS_OF_TARGETS:
        parts = segments(spec, stored, log)
        if len(parts) < 2:
            continue
        for part in parts:
            ranks = part.of(stored).ranks
            values = {name: float(request_metric(name, ranks.as_read).mean()) for name in names}
            found[part.label] = {"targets": len(ranks.ranks_T)} | values
    return found

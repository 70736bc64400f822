"""`seqrec metrics`: what can be measured, and what each metric means."""

from typing import Any

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.records import MetricsConfig
from seqrec_cli.metrics.kinds import MetricError
from seqrec_cli.metrics.table import METRICS, kind_named
from seqrec_cli.reporting.metric_listing import listing_table, metric_in_full, print_metric
from seqrec_cli.reporting.tables import print_table


def main(cfg: MetricsConfig) -> dict[str, Any]:
    """Print every metric in a line, or one in full; the same as plain values."""
    if cfg.name is None:
        print_table(listing_table())
        return {kind: metric_in_full(kind) for kind in METRICS}
    try:
        kind = kind_named(cfg.name)
    except MetricError as error:
        raise SeqrecError(str(error)) from error
    print_metric(kind)
    return {kind: metric_in_full(kind)}

"""An export as the tests ask for it, with the tolerances that `conf/export.yaml` ships."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from seqrec_cli.config.export import Tolerance
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import training_counts
from seqrec_cli.export import formats
from seqrec_cli.export.options import Options
from seqrec_cli.models.build import build_model
from seqrec_cli.models.contract import Recommender
from tests.models.toy import SMALL, small_config

TOLERANCE = Tolerance(scores=1e-4, top10=0.99, metric=0.005)


def export(
    model: Recommender,
    log: PackedLog,
    max_length: int,
    *,
    format: str,
    folder: Path,
    tolerance: Tolerance = TOLERANCE,
    options: Options | None = None,
    measure: Any = None,
) -> dict[str, Any]:
    return formats.export(
        model, log, max_length, format=format, folder=folder, tolerance=tolerance, options=options, measure=measure
    )


def learnt(name: str, log: PackedLog) -> Recommender:
    """A model with weights at random, or with the log's counts; of one block, for more of the same are only longer to
    trace."""
    torch.manual_seed(0)
    cfg = small_config(name, sizes=SMALL | {"blocks": 1})
    model = build_model(cfg, log.catalog, 0).eval()
    model.prepare(torch.from_numpy(training_counts(log)), torch.ones(log.num_users + 1, dtype=torch.int64))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    if cfg.capabilities.family == "closed_form":
        bounds = zip(log.offsets_U1[:-1], log.offsets_U1[1:], strict=True)
        model.fit_closed_form([torch.from_numpy(log.items_N[first:end].astype(np.int64)) for first, end in bounds])
    return model

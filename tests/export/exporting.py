"""An export as the tests ask for it, with the tolerances that `conf/export.yaml` ships."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from seqrec_cli.config.export import Tolerance
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.data.splits import training_counts
from seqrec_cli.export import formats, onnx_program, tracing
from seqrec_cli.export import module_graph as drawing
from seqrec_cli.export.module_graph import ModuleGraph
from seqrec_cli.export.options import Options
from seqrec_cli.export.scoring import Scoring
from seqrec_cli.models.build import build_model
from seqrec_cli.models.contract import Recommender
from tests.models.toy import SMALL, small_config

MOST = 60  # boxes of a picture that can be read
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


@contextmanager
def traced_once() -> Iterator[None]:
    """One model's picture and its ONNX graph are made of one trace, which is half the time of either."""
    kept: dict[bool, torch.export.ExportedProgram] = {}

    def traced(scoring: Scoring, log: PackedLog, dynamic_length: bool) -> torch.export.ExportedProgram:
        if dynamic_length not in kept:
            kept[dynamic_length] = tracing.trace(scoring, log, dynamic_length)
        return kept[dynamic_length]

    with mock.patch.object(drawing, "trace", traced), mock.patch.object(onnx_program, "trace", traced):
        yield


def assert_drawn(name: str, graph: ModuleGraph) -> None:
    """A model's picture leads from its inputs to its scores, and can be read."""
    from seqrec_cli.export.picture import as_digraph

    steps = graph.steps
    assert 1 <= len(steps) <= MOST
    assert graph.output in ("logits_BV", "logits_BC")
    assert set(graph.inputs) <= {source for source, _ in graph.edges}
    if name != "popular":  # which reads nothing
        assert "items_BL" in graph.inputs
        assert graph.inputs["items_BL"].startswith("B × ")
    assert all(target == "output" or source < target for source, target in graph.edges if isinstance(source, int))
    reached = {"output"}
    for _ in steps:
        reached |= {source for source, target in graph.edges if target in reached}
    assert reached >= set(range(len(steps)))  # nothing stands there for nothing
    assert all(step.operators for step in steps)
    source = as_digraph(graph).source
    assert all(f"\t{number} [label=" in source for number in range(len(steps)))

"""format=onnx: an ONNX graph, run by ONNX Runtime or whatever else reads it, in any language."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.export.scoring import Scoring
from seqrec_cli.export.tracing import at_any_length, trace

GRAPH = "model.onnx"


class OnnxProgram:
    """Writes and loads `model.onnx`; weights of more than a protobuf's 2 GB stand in `model.onnx.data`."""

    packages: tuple[str, ...] = ("onnx", "onnxscript", "onnxruntime")

    def write(self, scoring: Scoring, log: PackedLog, folder: Path) -> dict[str, int | None]:
        graph, axes = at_any_length(scoring, "torch.onnx", lambda dynamic: _graph(scoring, log, dynamic))
        graph.save(folder / GRAPH)
        return axes

    def load(self, folder: Path) -> Callable[[dict[str, Tensor]], Tensor]:
        import onnxruntime

        session = onnxruntime.InferenceSession(folder / GRAPH, providers=["CPUExecutionProvider"])

        def run(inputs: dict[str, Tensor]) -> Tensor:
            (answered,) = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
            return torch.from_numpy(answered)

        return run


def _graph(scoring: Scoring, log: PackedLog, dynamic_length: bool) -> Any:
    program = trace(scoring, log, dynamic_length)
    return torch.onnx.export(
        program, input_names=list(scoring.inputs), output_names=[scoring.output], dynamo=True, verbose=False
    )

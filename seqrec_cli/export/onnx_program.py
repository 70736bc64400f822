"""format=onnx: an ONNX graph, run by ONNX Runtime or whatever else reads it, in any language."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.export.options import Options
from seqrec_cli.export.scoring import Scoring
from seqrec_cli.export.tracing import at_any_length, stored_as, trace

GRAPH = "model.onnx"
ERRORS = 3  # of ONNX Runtime's log levels; its warnings are of weights that its own optimiser leaves out


class OnnxProgram:
    """Writes and loads `model.onnx`; weights of more than a protobuf's 2 GB stand in `model.onnx.data`."""

    packages: tuple[str, ...] = ("onnx", "onnxscript", "onnxruntime")
    quantizes: tuple[str, ...] = ("fp16", "bf16", "int8")
    shortest = 0
    loading = (
        f'session = onnxruntime.InferenceSession("{GRAPH}")',
        "(scores,) = session.run(None, inputs)  # int64 arrays by the names of signature.json",
    )

    def lacking(self) -> str | None:
        return None

    def write(self, scoring: Scoring, log: PackedLog, folder: Path, *, options: Options) -> dict[str, int | None]:
        graph, axes = at_any_length(
            scoring, "torch.onnx", lambda dynamic: _graph(scoring, log, dynamic, options=options)
        )
        graph.save(folder / GRAPH)
        if options.quantize == "int8":
            from seqrec_cli.export.onnx_int8 import to_int8

            to_int8(folder / GRAPH)
        return axes

    def load(self, folder: Path) -> Callable[[dict[str, Tensor]], Tensor]:
        import onnxruntime

        choices = onnxruntime.SessionOptions()
        choices.log_severity_level = ERRORS
        choices.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(folder / GRAPH, choices, providers=["CPUExecutionProvider"])

        def run(inputs: dict[str, Tensor]) -> Tensor:
            (answered,) = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
            return torch.from_numpy(answered)

        return run


def _graph(scoring: Scoring, log: PackedLog, dynamic_length: bool, *, options: Options) -> Any:
    program = stored_as(trace(scoring, log, dynamic_length), options)
    return torch.onnx.export(
        program, input_names=list(scoring.inputs), output_names=[scoring.output], dynamo=True, verbose=False
    )

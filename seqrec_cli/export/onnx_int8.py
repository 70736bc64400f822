"""quantize=int8 of an ONNX graph: linear layers by ONNX Runtime's dynamic quantisation, tables a row at a time.

Weights of linear layers are int8 by output, their inputs are quantised as they come. A table's row, an item's vector,
has a scale of its own (`DequantizeLinear` over axis 0): one for the whole table would be that of its longest vector.
ONNX Runtime makes tables fp32 when it loads the graph, so they are small on disk alone and cost no time.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np

SMALLEST = 4096  # numbers of a table; below, scales and headers would take what is saved
LARGEST = 127  # of int8, symmetric


def to_int8(path: Path) -> None:
    """Quantise the graph in its file."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(path)
    _tables_by_row(model.graph)
    choices = {"op_types_to_quantize": ["MatMul", "Gemm"], "extra_options": {"EnableSubgraph": True}}
    logging.disable(logging.WARNING)  # it advises a tool for pictures, to the root logger
    try:
        quantize_dynamic(model, path, per_channel=True, weight_type=QuantType.QInt8, **choices)
    finally:
        logging.disable(logging.NOTSET)


def _tables_by_row(graph: Any) -> None:
    """Replace each table that rows are gathered from by whole numbers, and a scale and an operator that restore it."""
    from onnx import TensorProto, helper, numpy_helper
    from onnxruntime.quantization.quant_utils import quantize_onnx_initializer

    gathered = {node.input[0] for node in graph.node if node.op_type == "Gather"}
    for stored in [each for each in graph.initializer if each.name in gathered]:
        if stored.data_type != TensorProto.FLOAT or len(stored.dims) != 2 or np.prod(stored.dims) < SMALLEST:
            continue
        table_VD, name = numpy_helper.to_array(stored), stored.name
        scale_V = np.maximum(np.abs(table_VD).max(axis=1), np.finfo(np.float32).tiny * LARGEST) / LARGEST
        zero_V = np.zeros(len(scale_V), np.int8)
        whole = quantize_onnx_initializer(
            stored, TensorProto.INT8, zero_V, scale_V, axis=0, quant_weight_name=f"{name}_int8"
        )
        graph.initializer.remove(stored)
        graph.initializer.extend([whole, numpy_helper.from_array(scale_V, f"{name}_scale")])
        restore = helper.make_node("DequantizeLinear", [whole.name, f"{name}_scale"], [name], f"{name}_rows", axis=0)
        graph.node.insert(0, restore)

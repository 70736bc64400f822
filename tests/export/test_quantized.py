"""quantize=fp16|bf16|int8: smaller files that score nearly alike; what a format cannot store is refused by name."""

from pathlib import Path

import numpy as np
import pytest
import torch

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.data.batch import Batch
from seqrec_cli.data.interactions import PackedLog
from seqrec_cli.export.formats import FORMATS
from seqrec_cli.export.options import Options
from seqrec_cli.models.contract import SequenceEncoder
from tests.export.exporting import export

LENGTH, WIDTH = 8, 400


class Wide(SequenceEncoder):
    """The mean so far through a layer; wide, so that weights are what a file consists of."""

    def __init__(self, log: PackedLog) -> None:
        super().__init__(log.catalog)
        torch.manual_seed(0)
        self.items, self.layer = torch.nn.Embedding(log.num_items + 1, WIDTH), torch.nn.Linear(WIDTH, WIDTH)
        # One long vector: a scale for the whole table would leave the others a few steps.
        self.items.weight.data[1] *= 200

    def encode(self, batch: Batch) -> torch.Tensor:
        steps_L1 = torch.arange(1, batch.items_BL.shape[1] + 1)[:, None]
        return self.layer(self.items(batch.items_BL).cumsum(1) / steps_L1)

    def item_table(self) -> torch.Tensor:
        return self.items.weight


def scales_of_tables(graph: Path) -> np.ndarray:
    import onnx

    stored = {each.name: onnx.numpy_helper.to_array(each) for each in onnx.load(graph).graph.initializer}
    (scales,) = (values for name, values in stored.items() if name.endswith("_scale") and values.shape == (26,))
    return scales


@pytest.mark.parametrize(
    ("format", "quantize", "smaller", "near"),
    [("torch", "bf16", 0.6, 2e-2), ("onnx", "fp16", 0.6, 2e-3), ("onnx", "int8", 0.4, 5e-2)],
)
def test_files_are_smaller_and_scores_near(saved_log, tmp_path, format, quantize, smaller, near) -> None:
    pytest.importorskip("onnxruntime" if format == "onnx" else "torch")
    model = Wide(saved_log).eval()
    found = export(model, saved_log, LENGTH, format=format, folder=tmp_path / "out", options=Options(quantize))
    assert found["bytes"] < smaller * found["fp32"]["bytes"]
    assert found["fp32"]["ms"]["many"] > 0
    items_BL = torch.tensor([[3, 4, 9], [7, 3, 0]])
    given = {"users_B": torch.zeros(2, dtype=torch.int64), "items_BL": items_BL, "lengths_B": torch.tensor([3, 2])}
    answered = FORMATS[format].load(tmp_path / "out")(
        {name: given[name] for name in ("users_B", "items_BL", "lengths_B")}
    )
    with torch.no_grad():
        expected = model.score_corpus(Batch(**given))
    difference = (answered - expected)[:, 2:].abs().max() / expected[:, 2:].abs().max()
    assert 0 < difference < near
    if quantize == "int8":
        scales = scales_of_tables(tmp_path / "out" / "model.onnx")
        np.testing.assert_allclose(scales, model.items.weight.detach().abs().amax(1) / 127, rtol=1e-6)
        assert scales[1] > 20 * scales[2]  # each row has its own


def test_what_a_format_cannot_store_is_refused_before_anything_is_read(saved_log, tmp_path) -> None:
    with pytest.raises(SeqrecError, match=r"format=torch cannot be quantised to int8 .*; format=onnx can"):
        export(Wide(saved_log), saved_log, LENGTH, format="torch", folder=tmp_path / "out", options=Options("int8"))
    assert not (tmp_path / "out").exists()

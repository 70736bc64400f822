"""format=aoti: machine code that answers as the model does, at any batch and length, and passes the gate."""

import pytest
import torch

from seqrec_cli.data.batch import Batch
from seqrec_cli.export.aoti_program import PACKAGE, AotiProgram
from tests.export.exporting import export
from tests.export.test_formats import MAX_LENGTH, Encoder

LACKING = AotiProgram().lacking()


@pytest.mark.skipif(LACKING is not None, reason=str(LACKING))
def test_machine_code_scores_the_corpus_at_any_batch_and_length(saved_log, tmp_path):
    model = Encoder(saved_log).eval()
    written = export(model, saved_log, MAX_LENGTH, format="aoti", folder=tmp_path / "out", measure=lambda model: 0.5)
    assert PACKAGE in written["files"]
    assert written["max_difference"] <= 1e-4
    assert written["top10"] == 1
    program = torch._inductor.aoti_load_package(str(tmp_path / "out" / PACKAGE))
    for rows, length in ((1, 1), (4, 5), (9, MAX_LENGTH)):
        users_B, lengths_B = torch.arange(rows), torch.randint(1, length + 1, (rows,))
        items_BL = torch.randint(1, 26, (rows, length)) * (torch.arange(length) < lengths_B[:, None])
        answered = program(users_B=users_B, items_BL=items_BL, lengths_B=lengths_B)
        with torch.no_grad():
            expected = model.score_corpus(Batch(users_B=users_B, items_BL=items_BL, lengths_B=lengths_B))
        assert torch.allclose(answered[:, 1:], expected[:, 1:].float(), atol=1e-4)

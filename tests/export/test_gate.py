"""The gate: top 10 and metric must agree too, quantised weights are held to the metric, no events are no fault."""

import json
from pathlib import Path

import pytest
import torch

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.export import Tolerance
from seqrec_cli.export import formats, gate
from seqrec_cli.export.aoti_program import AotiProgram
from seqrec_cli.export.gate import Reloaded, top10_agreement
from seqrec_cli.export.options import Options
from seqrec_cli.export.scoring import Scoring
from tests.export.exporting import export, learnt

LENGTH = 12
LAX = Tolerance(scores=1e9, top10=0.99, metric=0.005)


class Changed:
    """A program that answers as the model does, then changed."""

    packages: tuple[str, ...] = ()
    quantizes: tuple[str, ...] = ("fp16",)
    shortest = 0
    loading = ("program = torch.nothing()", "program(**inputs)")

    def __init__(self, change) -> None:
        self.change = change

    def lacking(self):
        return None

    def write(self, scoring, log, folder, *, options):
        (folder / "program").write_text("x" * (1 if options.quantize else 2))
        self.scoring = scoring
        return {"batch": None, "length": None}

    def load(self, folder):
        return lambda inputs: self.change(self.scoring(**inputs))


@pytest.fixture
def exporting(saved_log, tmp_path, monkeypatch):
    def of(change, **others):
        monkeypatch.setitem(formats.FORMATS, "changed", Changed(change))
        return export(
            learnt("popular", saved_log), saved_log, LENGTH, format="changed", folder=tmp_path / "out", **others
        )

    return of


def test_a_program_with_another_order_fails_by_its_top_10(exporting, tmp_path) -> None:
    with pytest.raises(SeqrecError, match=r"top 10, .* are the model's \(at least 99.0% must be"):
        exporting(torch.neg, tolerance=LAX)
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_bears_no_empty_history_is_refused_by_name(exporting, tmp_path) -> None:
    calls = []

    def change(scores: torch.Tensor) -> torch.Tensor:
        calls.append(len(scores))
        if len(calls) == 5:
            raise RuntimeError("index out of bounds\nframe 0")
        return scores

    with pytest.raises(SeqrecError, match=r"fails on 2 histories of length 0 \(index out of bounds\); nothing"):
        exporting(change)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("now", "fails"), [(0.5, False), (0.504, False), (0.494, True), (float("nan"), True)])
def test_the_metric_of_the_program_is_measured_and_held(exporting, tmp_path, now: float, fails: bool) -> None:
    def measure(model) -> float:
        return now if isinstance(model, Reloaded) else 0.5

    if fails:
        with pytest.raises(SeqrecError, match=r"metric on validation is .*, the checkpoint's 0.5000"):
            exporting(torch.clone, measure=measure)
        assert list(tmp_path.iterdir()) == []
        return
    found = exporting(torch.clone, measure=measure)
    assert (found["metric_was"], found["metric_now"]) == (0.5, now)
    proof = json.loads((tmp_path / "out" / "signature.json").read_text())["proof"]
    assert proof["metric_now"] == now
    assert proof["ms"]["one"] > 0


def test_quantised_weights_are_held_to_the_metric_alone(exporting) -> None:
    found = exporting(
        lambda scores: scores + torch.rand_like(scores), options=Options("fp16"), measure=lambda model: 0.5
    )
    assert found["max_difference"] > 1e-3
    assert (found["bytes"], found["fp32"]["bytes"]) == (1, 2)


def test_items_that_tie_may_stand_in_any_order(saved_log) -> None:
    scoring = Scoring(learnt("popular", saved_log), saved_log, LENGTH)
    nudged = Reloaded(lambda inputs: scoring(**inputs) + torch.arange(26) * 1e-7, scoring, None)
    assert top10_agreement(nudged, scoring, saved_log) == 1.0
    other = Reloaded(lambda inputs: -scoring(**inputs), scoring, None)
    assert top10_agreement(other, scoring, saved_log) < 0.9


def test_a_click_models_program_is_given_few_pairs_at_once(saved_log, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds vectors of every event of every pair: of 64 histories and a corpus, ten gigabytes."""
    scoring = Scoring(learnt("din", saved_log), saved_log, LENGTH)
    given: list[tuple[int, int, int]] = []

    def run(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        given.append((*inputs["items_BL"].shape, inputs["candidates_BC"].shape[1]))
        return scoring(**inputs)

    monkeypatch.setattr(gate, "AT_ONCE", 2000)
    assert top10_agreement(Reloaded(run, scoring, None), scoring, saved_log) == 1.0
    assert sum(width for _, _, width in given) >= 25
    assert len(given) > 1
    assert max(rows * length * width for rows, length, width in given) <= 2000


@pytest.mark.parametrize("format", ["torch", "onnx"])
def test_no_events_are_answered_in_a_row_of_padding_and_without_any(saved_log, tmp_path: Path, format: str) -> None:
    pytest.importorskip("onnxruntime" if format == "onnx" else "torch")
    model = learnt("markov", saved_log)  # eagerly, an empty axis is an error to it
    export(model, saved_log, LENGTH, format=format, folder=tmp_path / "out")
    run = formats.FORMATS[format].load(tmp_path / "out")

    def inputs(length: int) -> dict[str, torch.Tensor]:
        nobody = torch.zeros(2, dtype=torch.int64)
        return {"users_B": nobody, "items_BL": torch.zeros(2, length, dtype=torch.int64), "lengths_B": nobody}

    read = [each["name"] for each in json.loads((tmp_path / "out" / "signature.json").read_text())["inputs"]]
    padded, bare = ({name: given[name] for name in read} for given in (inputs(4), inputs(0)))
    assert run(bare).shape == (2, 26)
    torch.testing.assert_close(run(bare), run(padded))


def test_compiling_needs_a_compiler(monkeypatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    line = AotiProgram().lacking()
    assert line is not None
    assert "format=aoti needs a C++ compiler" in line
    assert "\n" not in line
    with pytest.raises(SeqrecError, match="needs a C"):
        formats.check_format("aoti", Options())

"""What the parts of the GPU check compare, and that each comparison can fail: on the CPU, with figures made up."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_gpu_check import acted

from scripts import gpu_cases, gpu_check, gpu_formats, gpu_kernels, gpu_loop, gpu_plan
from scripts.gpu_log import made_log
from seqrec_cli import kernels
from seqrec_cli.training.precision import Precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("acting", "status", "code"),
    [
        ("sys.exit(0)", "done", 0),
        ("sys.exit(gpu_left_out)", "left out", 0),
        ("sys.exit('it broke')", "failed", 1),
        ("time.sleep(600)", "hung", 1),
        ("""open(file, "a").write('{"name": "one", "ok": false}\\n')""", "done", 1),
    ],
)
def test_each_way_that_a_part_ends_decides_the_exit_code(
    acting: str, status: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acting = acting.replace("gpu_left_out", str(gpu_check.LEFT_OUT))
    found = acted(acting, {"clicks": 2 if status == "hung" else 60}, tmp_path, monkeypatch)
    assert (found[0], found[1]["parts"]["clicks"]["status"], found[1]["ok"]) == (code, status, code == 0)


def test_a_part_is_hung_that_was_at_one_thing_for_all_of_its_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each may take is cut in proportion, and so is what is taken for a hang."""
    monkeypatch.setattr(gpu_check, "IN_ALL", 3)
    acting = "time.sleep(600) if part == 'clicks' else None"
    code, found = acted(acting, {"plan": 20, "clicks": 20}, tmp_path, monkeypatch)
    assert (code, found["parts"]["clicks"]["status"]) == (1, "hung")
    assert found["parts"]["plan"]["status"] == "done"


def test_a_part_is_told_how_long_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    acting = "result(sys.argv[sys.argv.index('--seconds') + 1])"
    _, found = acted(acting, {"clicks": 9, "plan": 7}, tmp_path, monkeypatch)
    told = [float(part["results"][0]["name"]) for part in found["parts"].values()]
    assert 8 < told[0] <= 9
    assert told[1] >= 7  # and what was left over


def test_without_its_device_nothing_else_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = acted("sys.exit('no CUDA here')", {"environment": 60, "clicks": 60}, tmp_path, monkeypatch)
    assert code == 2
    assert list(found["parts"]) == ["environment"]
    assert capsys.readouterr().out.splitlines()[-1] == "gpu_check: no CUDA here"


def test_work_on_a_gpu_begins_with_a_peak_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    for name in ("empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda *given, name=name: asked.append(name))
    gpu_loop.forget(CPU)
    assert asked == []
    gpu_loop.forget(CUDA)
    assert asked == ["empty_cache", "reset_peak_memory_stats"]


def test_a_gpu_is_measured_in_bf16_unless_words_say_otherwise() -> None:
    formats = [gpu_loop.config(words, CUDA, True).hardware.precision for words in ([], ["hardware.precision=fp16"])]
    assert formats == ["bf16", "fp16"]
    assert gpu_loop.config([], CPU, True).hardware.precision == "fp32"


def test_a_plan_with_the_log_on_the_device_is_what_is_beside_the_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    held = 10**6
    monkeypatch.setattr(gpu_plan, "bytes_on_device", lambda *given: held)
    monkeypatch.setattr(gpu_plan, "peak_bytes", lambda device: 2 * held)
    log = made_log(20, 30, 8, 12)
    found = gpu_plan._planned(gpu_loop.config(["model=sasrec", "model.embed_dim=8"], CPU, True), log, CPU)
    assert found["planned_bytes"] == found["planned"]["total"] > found["planned"]["log"] == held
    assert found["planned_by_measured"] == found["planned_bytes"] / (2 * held)


def linear(slope: float) -> torch.nn.Linear:
    layer = torch.nn.Linear(1, 1, bias=False)
    layer.weight.grad = torch.full((1, 1), slope)
    return layer


@pytest.mark.parametrize(
    ("own", "error"),
    [
        ({}, None),
        ({"loss": 1.1}, "the loss is 1.1, in torch's operators in fp32 1"),
        ({"model": linear(1.5)}, "the gradient of weight is off by 50.0%"),
        ({"losses": [1.0, 1.2]}, "the loss of step 2 is 1.2, in torch's operators 1"),
        ({"ran": []}, "corpus_softmax should"),
    ],
)
def test_a_step_with_kernels_that_are_wrong_or_did_not_run_is_noticed(
    own: dict[str, Any], error: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, bool]] = []

    def taught(cfg: Any, precision: Precision, on: bool) -> gpu_kernels.Taught:
        asked.append((precision.name, on))
        right = gpu_kernels.Taught(1.0, linear(1.0), [1.0, 1.0], ["corpus_softmax"] if on else [])
        return right._replace(**own) if on else right

    monkeypatch.setattr(gpu_kernels, "_taught", taught)
    given = ("sasrec", "next_item", {}, Precision(CPU, "bf16"), {"corpus_softmax"})
    if error is None:
        assert gpu_kernels.step(*given)["ran"] == ["corpus_softmax"]
    else:
        with pytest.raises(AssertionError, match=error):
            gpu_kernels.step(*given)
    assert asked == [("fp32", False), ("bf16", False), ("bf16", True)]


def test_a_triton_kernel_that_did_not_run_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = gpu_kernels.all_kernels()["gru_last"]
    monkeypatch.setattr(gpu_kernels, "compare", lambda *given, **named: 0.0)
    with pytest.raises(AssertionError, match="ran without Triton"):
        gpu_kernels.beside_reference(kernel, torch.float32, 0, CPU)
    monkeypatch.setattr(kernels, "ran", lambda: ["gru_scan"])
    assert gpu_kernels.beside_reference(kernel, torch.float32, 0, CPU)["worst_difference"] == 0


def other_than_the_first(function: Callable[..., Any], change: Callable[[Any], Any]) -> Callable[..., Any]:
    """The function, whose first result is right, and its later ones are not: the CPU's comes first."""
    calls = itertools.count()

    def changed(*given: Any, **named: Any) -> Any:
        found = function(*given, **named)
        return change(found) if next(calls) else found

    return changed


def test_cases_are_wrong_where_the_device_gives_other_losses_or_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_cases, "loss_of", other_than_the_first(gpu_cases.loss_of, lambda loss: 1.01 * loss))
    with pytest.raises(AssertionError, match=r"^loss is "):
        gpu_cases.step("sasrec", "next_item", CPU)
    less = other_than_the_first(gpu_cases.measured, lambda of: SimpleNamespace(metrics=dict.fromkeys(of.metrics, 9.0)))
    monkeypatch.setattr(gpu_cases, "measured", less)
    with pytest.raises(AssertionError, match="is 9, on the CPU"):
        gpu_cases.evaluation("popular", "closed_form", CPU)


def test_cases_are_in_torch_s_operators_and_leave_the_kernels_on() -> None:
    assert gpu_cases._plain(lambda: {"on": kernels.enabled()})() == {"on": False}
    assert kernels.enabled()


def test_formats_train_as_long_as_fp32_has_time_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a second for the 20 steps that are timed."""
    log = made_log(400, 30, 8, 12)
    setup = gpu_formats.Setup(
        gpu_loop.config(["model=sasrec", "model.embed_dim=8", "trainer.max_epochs=3"], CPU, True),
        log, Precision(CPU, "fp32"), None, None,  # type: ignore[arg-type]
    )  # fmt: skip
    steps = gpu_loop.loop_of(setup.cfg, log, CPU).rows.steps
    assert steps > gpu_formats.PACED
    found = []
    for seconds in (0.5, 1.5 * steps / 20, 1e6):
        monkeypatch.setattr(gpu_formats, "time", SimpleNamespace(perf_counter=itertools.count(1).__next__))
        found.append(gpu_formats._length(setup, seconds))
    assert found == [
        {"max_epochs": 1, "max_steps": 10},
        {"max_epochs": 1, "max_steps": steps},
        {"max_epochs": 3, "max_steps": 3 * steps},
    ]


def test_results_are_read_up_to_a_line_that_was_cut(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    file.write_text(json.dumps({"name": "one", "ok": True}) + '\n{"name": "tw')
    assert gpu_check.read_results(file) == [{"name": "one", "ok": True}]

"""scripts/gpu_check.sh from end to end at toy sizes on the CPU: the same parts as on a GPU."""

import itertools
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from scripts import gpu_cases, gpu_check, gpu_loop, gpu_parts, gpu_plan, gpu_rates
from scripts.gpu_log import made_log
from seqrec_cli.data.batch import count_targets
from seqrec_cli.training.step_cost import count_flops

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def found(python: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("gpu")
    file, log = folder / "gpu.json", folder / "a 'lög'.txt"
    log.write_text("".join(f"{user} {1 + (user + k) % 9}\n" for user in range(1, 13) for k in range(6)))
    words = ["--device", "cpu", "--tiny", "--json", str(file), "--seconds", "3000", "--data", str(log)]
    parts = [name for name in gpu_check.LIMITS if name != "pytest"]  # which would be this very suite's
    assert gpu_check.main([*words, "--parts", ",".join(parts)], python) == 0, file.read_text()
    read: dict[str, Any] = json.loads(file.read_text())
    return read


def test_every_part_is_done_and_has_figures(found: dict[str, Any]) -> None:
    assert found["tiny"]
    assert found["ok"]
    assert found["unfinished"] == []
    parts = found["parts"]
    for name, part in parts.items():
        assert part["status"] == "done", part
        assert part["results"], name
        assert all(result.get("ok", True) for result in part["results"])
    named = {name: [result["name"] for result in part["results"]] for name, part in parts.items()}
    assert {"step din click", "step sasrec packed", "evaluation din"} < set(named["cases"])
    for name in ("sasrec", "clicks"):
        for result in parts[name]["results"]:
            assert result["targets_a_second"] > 0
            assert result["flops_a_second"] > 0
    epoch = parts["bert4rec"]["results"][0]
    assert epoch["epoch_seconds"] == epoch["epochs"][-1]  # the first of two is not counted
    assert (epoch["to_reach_seconds"], epoch["aim_seconds"], epoch["reached"]) == (0.3, 0.15, None)
    planned = parts["plan"]["results"][0]
    assert planned["planned_bytes"] == planned["planned"]["total"] > 1000
    assert planned["planned"]["log"] == 0
    assert parts["scoring"]["results"][0]["requests"] == 64
    plain, *others = parts["compiled"]["results"][:3]
    assert plain["ms_a_step"] > 0
    assert plain["warm_up_seconds"] >= plain["first_step_seconds"] > 0
    assert all("measured on CUDA alone" in other["left_out"] for other in others)


def test_kernels_are_compared_one_by_one_and_in_steps(found: dict[str, Any]) -> None:
    results = {result["name"]: result for result in found["parts"]["kernels"]["results"]}
    assert 0 <= results["gru_states torch.float32"]["worst_difference"] < 1e-4
    assert results["gru_states torch.float32"]["shapes"]
    assert "run on CUDA" in results["triton"]["left_out"]
    for words in ("sasrec next_item", "hstu next_item time_bias=past", "dien click", "din click activation=prelu"):
        step = results[f"step {words} fp32"]
        assert step["loss"] == pytest.approx(step["loss_of_torch"], rel=1e-4)
        assert len(step["losses"]) == 3


def test_formats_are_compared_on_the_log_that_is_given(found: dict[str, Any]) -> None:
    *of_file, of_clicks, of_clicks_in_bf16 = found["parts"]["formats"]["results"]
    assert [result["name"] for result in of_file] == ["sasrec on a 'lög'.txt, fp32", "sasrec on a 'lög'.txt, bf16"]
    for result in of_file:
        assert (result["users"], result["items"], result["steps"]) == (12, 9, 2)
        assert result["metrics"]["ndcg@10"] > 0
    assert of_file[0]["mean_loss"] == pytest.approx(of_file[1]["mean_loss"], rel=0.05)
    assert of_file[0]["mean_loss"] != of_file[1]["mean_loss"]
    assert "no figure of MovieLens" in of_clicks["data"]
    assert of_clicks["mean_loss"] != of_clicks_in_bf16["mean_loss"]


def test_operations_a_second_are_those_of_the_timed_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows as long as each other in a batch and not from batch to batch, so that nothing is padded and each batch's
    own count, less the half of attention that a causal mask hides, is what it needs."""
    D, blocks, log = 8, 2, made_log(30, 40, 10, 24)
    words = [f"model.embed_dim={D}", "model.ffn_dim=16", f"model.blocks={blocks}", "trainer.bucket_by_length=equal"]
    cfg = gpu_loop.config(["model=sasrec", "objective=next_item", *words], torch.device("cpu"), tiny=True)
    monkeypatch.setattr(gpu_rates, "time", SimpleNamespace(perf_counter=itertools.count().__next__))  # a second a step
    found = gpu_rates.rates(cfg, log, torch.device("cpu"), 7.5)
    assert found["steps"] == 8
    loop = gpu_loop.loop_of(cfg, log, torch.device("cpu"))
    timed = itertools.islice(gpu_rates.epochs(loop), found["before"], found["before"] + found["steps"])
    counted, targets, widths = 0.0, 0, set()
    for batch in timed:
        B, L = batch.items_BL.shape
        assert batch.lengths_B.tolist() == [L] * B
        counted += count_flops(loop.model, loop.objective, batch, precision=loop.precision) - 6 * blocks * B * L * L * D
        targets += count_targets(batch)
        widths.add(L)
    assert len(widths) > 1
    seconds = found["ms_a_step"] * found["steps"] / 1e3
    assert found["flops_a_second"] * seconds == pytest.approx(counted, rel=1e-6)
    assert found["targets_a_second"] * seconds == pytest.approx(targets)


def test_a_plan_that_is_not_within_15_percent_of_the_peak_is_wrong() -> None:
    assert gpu_plan.beside_peak(100, None) == {"peak_bytes": None}
    for planned, ok in ((86, True), (114, True), (84, False), (116, False)):
        found = gpu_plan.beside_peak(planned, 100)
        assert (found["ok"], found["planned_by_measured"]) == (ok, planned / 100)
        assert gpu_parts.tried("plan", lambda found=found: found)["ok"] == ok


def test_an_epoch_that_takes_longer_than_it_is_to_is_told() -> None:
    assert [gpu_rates.beside_aim(seconds, False)["reached"] for seconds in (0.1, 0.3, 0.31)] == [True, True, False]


def test_a_case_that_fails_is_told_and_loses_no_other() -> None:
    result = gpu_parts.tried("step", lambda: gpu_cases.near("loss", 1.0, 1.1, 1e-3))  # type: ignore[func-returns-value, arg-type, return-value]
    assert not result["ok"]
    assert result["error"].startswith("AssertionError: loss is 1, on the CPU 1.1")
    assert gpu_parts.tried("step", lambda: {"loss": 1.0})["ok"]


def test_a_gradient_that_is_off_is_noticed() -> None:
    right, wrong = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    for layer in (right, wrong):
        for parameter in layer.parameters():
            parameter.grad = torch.ones_like(parameter)
    assert gpu_cases.near_gradients(wrong, right, 1e-6) == 0
    wrong.bias.grad[0] = 1.1
    with pytest.raises(AssertionError, match=r"the gradient of bias is off by 7\.1% of its norm"):
        gpu_cases.near_gradients(wrong, right, 0.05)
    wrong.bias.grad = None
    with pytest.raises(AssertionError, match="bias has a gradient on one side alone"):
        gpu_cases.near_gradients(wrong, right, 0.05)


def python_that(words: str) -> list[str]:
    return [sys.executable, "-c", words]


def acted(
    words: str, limits: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, dict[str, Any]]:
    """The check's exit code and its JSON, where each part does as Python's `words` say."""
    begin = """
import os, signal, sys, time
part, file = sys.argv[3], sys.argv[sys.argv.index("--results") + 1]
before = open(file).read()
def at(name): open(file + ".at", "w").write(name)
def result(name): open(file, "a").write('{"name": "%s", "ok": true}\\n' % name)
"""
    monkeypatch.setattr(gpu_check, "LIMITS", limits)
    file = tmp_path / "gpu.json"
    code = gpu_check.main(["--json", str(file), "--parts", ",".join(limits)], python_that(begin + words))
    return code, json.loads(file.read_text())


def test_a_part_that_hangs_or_breaks_loses_only_what_it_had_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_check, "STUCK", 1)
    acting = """
result("first")
open(file, "a").write('{"name": "cut o')
at("second")
if part == "sasrec": time.sleep(600)
if part == "clicks": sys.exit("it broke")
"""
    limits = {"bert4rec": 4, "sasrec": 1, "clicks": 4, "plan": 4}
    code, found = acted(acting, limits, tmp_path, monkeypatch)
    read = found["parts"]
    assert code == 1
    assert not found["ok"]
    assert [read[name]["status"] for name in read] == ["done", "hung", "failed", "done"]
    assert all(part["results"] == [{"name": "first", "ok": True}] for part in read.values())
    assert read["clicks"]["message"] == "it broke"
    assert "s of them at second" in capsys.readouterr().out


def test_a_part_without_time_for_all_of_it_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    acting = """
for nth in range(10**6):
    at(str(nth))
    result(str(nth))
    time.sleep(0.05)
"""
    code, found = acted(acting, {"clicks": 2}, tmp_path, monkeypatch)
    assert code == 0
    assert found["ok"]
    assert found["parts"]["clicks"]["status"] == "cut short"
    assert found["parts"]["clicks"]["results"]
    assert found["unfinished"] == ["clicks"]
    assert "not finished, for want of time: clicks" in capsys.readouterr().out


def test_what_a_process_crashed_at_is_told_and_the_rest_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    acting = """
if '"second"' not in before:
    result("first")
    at("second")
    os.kill(os.getpid(), signal.SIGSEGV)
result("third")
"""
    code, found = acted(acting, {"kernels": 60}, tmp_path, monkeypatch)
    assert code == 1
    assert found["parts"]["kernels"]["results"] == [
        {"name": "first", "ok": True},
        {"name": "second", "ok": False, "error": "the process ended at this: SIGSEGV"},
        {"name": "third", "ok": True},
    ]


def test_time_that_is_left_over_goes_to_what_follows() -> None:
    asked = gpu_check.arguments(["--parts", "cases,pytest", "--seconds", "17"])
    assert asked.limits == {"cases": 10, "pytest": 7}
    assert gpu_check.arguments(["--parts", "formats"]).seconds == 35
    assert gpu_check.arguments(["--parts", "formats", "--data", "x"]).seconds == 110


def test_a_part_whose_device_broke_is_begun_again_and_passes_over_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "results.jsonl"

    def works(part: str, asked: Any) -> Any:
        def breaks() -> Any:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

        return iter([("first", dict), ("second", breaks), ("third", dict)])

    monkeypatch.setattr(gpu_parts, "works", works)
    monkeypatch.setattr(sys, "argv", ["gpu_parts", "cases", "--device", "cpu", "--results", str(file)])
    assert gpu_parts.main() == gpu_check.BROKEN
    assert gpu_parts.main() == 0
    found = gpu_check.read_results(file)
    assert [(each["name"], each["ok"]) for each in found] == [("first", True), ("second", False), ("third", True)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--parts", ""], "--parts: names none"),
        (["--device", "tpu"], "--device tpu: give cuda, cuda:N or cpu"),
        (["--json", "."], "--json .: a folder"),
        (["--data", "."], "--data .: a folder, not a file"),
        (["--data", "none.txt"], "--data none.txt: no such file"),
        (["--data", "rubbish.txt"], "--data rubbish.txt: "),
    ],
)
def test_what_is_wrong_is_told_before_a_part_begins(
    words: list[str],
    said: str,
    python: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rubbish.txt").write_bytes(b"\0\0 no log")
    try:
        code = gpu_check.main(["--device", "cpu", *words], python)
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    output = capsys.readouterr()
    assert said in (output.out + output.err).splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rubbish.txt"]


def test_what_is_missing_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(gpu_check.NEEDED, "no_such_module", "no-such-package")
    assert gpu_check.main([]) == 2
    assert capsys.readouterr().out == (
        "gpu_check: missing here: no-such-package; install them (pip install no-such-package)\n"
    )


def test_the_header_names_every_package_that_is_needed() -> None:
    header = (ROOT / "scripts" / "gpu_check.sh").read_text()
    for package in gpu_check.NEEDED.values():
        assert package in header.replace("\n", " ")
    assert gpu_check.arguments([]).seconds + gpu_check.GRACE < 360  # whatever the parts take


def test_a_part_without_pytest_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_parts.importlib.util, "find_spec", lambda name: None)
    assert gpu_parts.run_pytest(tmp_path / "results.jsonl", ()) == gpu_parts.LEFT_OUT


def test_every_test_s_result_is_written_as_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed loses no other, an error of the device's own ends the process, and the next one goes on after it."""
    (tmp_path / "test_of_a_gpu.py").write_text(
        "import pytest\n"
        "def test_compiled(): pass\n"
        "def test_wrong(): assert 1 == 2, 'not so'\n"
        "def test_broken(): raise RuntimeError('CUDA error: an illegal memory access was encountered')\n"
        "@pytest.mark.skip\ndef test_left_out(): pass\n"
        "def test_right(): pass\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gpu_parts, "ROOT", tmp_path)
    file = tmp_path / "results.jsonl"
    codes = [gpu_parts.run_pytest(file, ("test_of_a_gpu.py",)) for _ in range(2)]
    found = {result["name"].split("::")[1]: result for result in gpu_check.read_results(file)}
    assert codes == [gpu_check.BROKEN, 1]
    assert list(found) == ["test_wrong", "test_broken", "test_left_out", "test_right", "test_compiled"]
    assert [result["ok"] for result in found.values()] == [False, False, True, True, True]
    assert "not so" in found["test_wrong"]["error"]
    assert found["test_left_out"]["left_out"] == "skipped"
    assert gpu_check.at_file(file).read_text().endswith("test_compiled")


def test_the_shell_script_says_what_is_wrong_with_its_words() -> None:
    words = ["sh", str(ROOT / "scripts" / "gpu_check.sh"), "--parts", "sasrek"]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env={"PYTHON": sys.executable, "PATH": "/bin:/usr/bin"}
    )
    assert done.returncode == 2
    assert "no such part: sasrek" in done.stderr


def test_a_made_log_can_be_learned_from() -> None:
    log = made_log(200, 50, 20, 60, click_negatives=2)
    same_user = [
        (a, b)
        for start, end in zip(log.offsets_U1[:-1], log.offsets_U1[1:], strict=True)
        for a, b in zip(log.items_N[start : end - 1], log.items_N[start + 1 : end], strict=True)
    ]
    follows = sum(b == a % 50 + 1 for a, b in same_user) / len(same_user)
    assert 0.55 < follows < 0.75
    assert log.items_N.min() >= 1
    assert log.items_N.max() <= 50
    assert log.clicks["test"].items_RC.shape == (200, 3)

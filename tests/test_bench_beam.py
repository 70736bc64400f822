"""scripts/bench_beam.py: a wide beam's lists are those of the exact scores, and a narrow one's are fewer of them."""

from pathlib import Path

import pytest

import seqrec_cli
from scripts import bench_beam
from seqrec_cli.commands.restore import AS_TRAINED, restore
from seqrec_cli.saying import silent

RUN = ["dataset.users=120", "dataset.items=80", "debug=tiny", "evaluation.baselines=false", "hardware=cpu"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("beam")
    words = ["model=semantic", f"data_dir={base}", f"run_dir={base / 'run'}", "hardware.precision=fp32"]
    seqrec_cli.run("train", [*RUN, *words])
    return base / "run"


def test_a_wide_beam_is_exact_and_a_narrow_one_is_not(folder: Path) -> None:
    run = restore(str(folder), None, None, hardware=AS_TRAINED, tell=silent)
    exact, wide, narrow = (bench_beam.lists(run, beam, 1000) for beam in (None, 10**9, 10))
    assert wide.of(exact) == 1.0
    assert wide.ndcg() == pytest.approx(exact.ndcg())
    assert 0 < narrow.of(exact) < 1
    told = seqrec_cli.run("evaluate", [f"ckpt={folder}", "split=val"])["val"]
    assert (exact.hit_rate(), exact.ndcg()) == (
        pytest.approx(told["hr@10"], abs=1e-6),
        pytest.approx(told["ndcg@10"], abs=1e-6),
    )


def test_the_table_has_a_line_a_width_and_other_models_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench_beam.main([str(folder), "--beams", "10,20", "--requests", "50"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["all scores", "beam of 10", "beam of 20"]
    run = restore(str(folder), None, None, hardware=AS_TRAINED, tell=silent)
    exact, narrow = (bench_beam.lists(run, beam, 50) for beam in (None, 10))
    assert narrow.items_RK.shape == (50, 10)
    for line, found in ((lines[2], exact), (lines[3], narrow)):
        shown = [f"{100 * found.of(exact):.1f} %", f"{found.hit_rate():.4f}", f"{found.ndcg():.4f}"]
        assert [cell.strip() for cell in line.split("|")[2:5]] == shown
    refused = (
        ("--beams", "5", "--beams 5: give widths of 10"),
        ("--beams", "10,x", "--beams 10,x: give"),
        ("--requests", "0", "--requests 0: ask"),
    )
    for option, value, said in refused:
        assert bench_beam.main([str(folder), option, value]) == 2
        told = capsys.readouterr().err
        assert said in told
        assert told.count("\n") == 1
    words = ["model=popular", f"data_dir={tmp_path}", f"run_dir={tmp_path / 'run'}"]
    seqrec_cli.run("train", [*(word for word in RUN if not word.startswith("debug")), *words])
    assert bench_beam.main([str(tmp_path / "run")]) == 2
    assert "model=popular has no codes" in capsys.readouterr().err

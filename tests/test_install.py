"""conf/ is a top-level folder of the checkout and part of the package in a wheel: both are found."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from seqrec_cli.config.compose import conf_folder

ROOT = Path(__file__).resolve().parents[1]
TINY = ["train", "debug=tiny", "dataset.users=60", "evaluation.baselines=false", "run_dir=run"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this checkout and unpacked where only it can be imported from."""
    pytest.importorskip("build", reason="the development extras build wheels")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run_from(site: Path, work: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, "-P", "-m", "seqrec_cli", *args], cwd=work, env=env, capture_output=True, text=True
    )


def test_wheel_carries_every_yaml_and_no_tests(installed: Path) -> None:
    there = {path.relative_to(installed / "seqrec_cli").as_posix() for path in installed.rglob("*.yaml")}
    assert there == {path.relative_to(ROOT).as_posix() for path in (ROOT / "conf").rglob("*.yaml")}
    assert not (installed / "tests").exists()
    assert "seqrec = seqrec_cli.cli:main" in next(installed.glob("*.dist-info/entry_points.txt")).read_text()


def test_wheel_carries_the_kernels_sources_and_their_readme(installed: Path) -> None:
    kernels = Path("seqrec_cli") / "kernels"
    found = {
        path.relative_to(installed) for path in (installed / kernels).rglob("*") if path.suffix in (".c", ".h", ".md")
    }
    assert found == {
        path.relative_to(ROOT) for path in (ROOT / kernels).rglob("*") if path.suffix in (".c", ".h", ".md")
    }
    assert kernels / "README.md" in found
    assert kernels / "include" / "vectors.h" in found


def test_wheel_carries_the_page(installed: Path) -> None:
    page = Path("seqrec_cli") / "serving" / "page"
    there = {path.name: path.read_bytes() for path in (installed / page).iterdir()}
    assert there == {path.name: path.read_bytes() for path in (ROOT / page).iterdir()}
    assert {"index.html", "page.js", "page.css"} <= there.keys()


@pytest.mark.parametrize("kind", ["wheel", "checkout"])
def test_main_job_runs_away_from_the_checkout(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    site = request.getfixturevalue("installed") if kind == "wheel" else ROOT
    done = run_from(site, tmp_path, *TINY)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "run"
    assert set(json.loads((tmp_path / "run" / "metrics.json").read_text())) >= {"val", "test"}
    where = run_from(site, tmp_path, "train", "--info", "searchpath").stdout
    assert str(site / "seqrec_cli" / "conf" if kind == "wheel" else ROOT / "conf") in where


def test_checkout_uses_its_own_conf() -> None:
    assert conf_folder() == ROOT / "conf"

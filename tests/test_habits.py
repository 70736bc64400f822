"""The files that hosting services and release tools read: well-formed, and of one version."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
YAMLS = [*sorted((ROOT / ".github").rglob("*.yml")), ROOT / ".pre-commit-config.yaml", ROOT / "CITATION.cff"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.name)
def test_is_yaml(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)


def test_one_version_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    versions = re.findall(r"^## \[([^]]+)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert versions[0] == "Unreleased"
    assert versions[1] == PROJECT["version"]


def test_every_supported_python_is_tested() -> None:
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))["jobs"]
    matrix = jobs["test"]["strategy"]["matrix"]
    lowest, limit = (int(minor) for minor in re.findall(r"3\.(\d+)", PROJECT["requires-python"]))
    assert matrix["python"] == [f"3.{minor}" for minor in range(lowest, limit)]
    assert {system.partition("-")[0] for system in matrix["os"]} == {"ubuntu", "macos", "windows"}


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_make_has_what_contributors_are_told_to_type() -> None:
    targets = set(re.findall(r"^(\w+):", MAKEFILE, re.M))
    assert targets == {"install", "test", "exhaustive", "lint", "format", "types", "docs", "bench", "golden"}
    told = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    told += (ROOT / ".github" / "pull_request_template.md").read_text(encoding="utf-8")
    for words in re.findall(r"`make ([\w ]+)`", told):
        assert set(words.split()) <= targets
    dry = subprocess.run(["make", "-n", *sorted(targets)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "python -m mypy" in dry.stdout

"""The picture of the page: its planted log, its size in the repository, and the script that takes it."""

import csv
from pathlib import Path

import pytest

from scripts import page_screenshot
from seqrec_cli.config.errors import SeqrecError
from tests.serving.browser import browser

ROOT = Path(__file__).resolve().parents[1]
PNG = b"\x89PNG\r\n\x1a\n"


def test_every_planted_item_has_a_title_of_its_own_and_a_genre(tmp_path: Path) -> None:
    settings = page_screenshot.planted(tmp_path, users=60)
    with (tmp_path / "films.csv").open(encoding="utf-8", newline="") as file:
        films = list(csv.DictReader(file))
    with (tmp_path / "log.csv").open(encoding="utf-8", newline="") as file:
        events = list(csv.DictReader(file))
    assert len({film["title"] for film in films}) == len(films) == 100
    assert {film["genre"] for film in films} == set(page_screenshot.GENRES)
    assert {event["item"] for event in events} <= {film["item"] for film in films}
    assert len({event["user"] for event in events}) == 60
    assert f"dataset.archive={tmp_path / 'log.csv'}" in settings


def test_the_picture_of_the_docs_is_small() -> None:
    picture = (ROOT / "docs" / "web-page.png").read_bytes()
    assert picture.startswith(PNG)
    assert len(picture) < 200_000


def test_the_script_takes_the_picture(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with browser():
        pass  # skips where there is none
    out = tmp_path / "page.png"
    assert page_screenshot.main([str(out), "--users", "80", "--epochs", "1"]) == 0
    assert out.read_bytes().startswith(PNG)
    assert f"{out}: " in capfd.readouterr().out


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("selenium", reason="the development extras bring selenium")
    monkeypatch.setattr(page_screenshot.shutil, "which", lambda name: None)
    with pytest.raises(SeqrecError, match="apt-get install chromium chromium-driver"), page_screenshot.chromium(9, 9):
        pass

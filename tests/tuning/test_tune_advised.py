"""`seqrec tune` with an adviser and with horizons, on a tiny log: the files that stay, and what is refused at once."""

import json
from pathlib import Path

import pytest
from stub_endpoint import KEY, VARIABLE, Endpoint, greedy

from seqrec_cli.commands.dispatch import run_verb
from seqrec_cli.config.errors import SeqrecError

TINY = [
    "dataset=synthetic", "dataset.users=60", "dataset.items=40", "model=sasrec", "model.embed_dim=16", "model.blocks=1",
    "model.heads=1", "model.temperature=0.1", "trainer.batch_size=32", "trainer.max_epochs=2", "pruner=none",
    "hardware.threads=1",
]  # fmt: skip


def test_a_study_by_an_adviser_with_short_runs_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    study = tmp_path / "study"
    with Endpoint(greedy) as endpoint:
        given = ["sampler=adviser", f"adviser.endpoint={endpoint.url}", "adviser.model=stub", "trials=3"]
        given += ["horizon.epochs=1", "horizon.factor=2", f"run_dir={study}", f"data_dir={tmp_path / 'data'}"]
        result = run_verb("tune", [*TINY, *given])
        asked = endpoint.asked
    assert result["trials"] == 3
    told = asked[0]["messages"][0]["content"]
    assert "- users: 60" in told
    assert "- model.dropout: a number from 0 to 0.6 in steps of 0.1" in told
    said = capsys.readouterr().out
    assert "(adviser: the middle of every range)" in said
    assert "(horizon: number 1 of 2 settings after 1 epoch)" in said
    assert "the adviser's final configuration: trial " in said
    text = (study / "advice.md").read_text(encoding="utf-8")
    assert "- the adviser named 2 of 2 trials" in text
    assert "| 2 | horizon |" in text
    config = (study / "trials" / "0002" / "config.yaml").read_text(encoding="utf-8")
    assert "max_epochs: 2" in config
    assert len((study / "adviser.jsonl").read_text(encoding="utf-8").splitlines()) == 3
    assert json.loads((study / "final_word.json").read_text(encoding="utf-8"))["reasons"]
    files = [path for path in study.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert KEY not in said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["sampler=adviser"], "sampler=adviser asks a language model: set adviser.endpoint"),
        (["sampler=adviser", "adviser.endpoint=http://localhost:1/v1"], "set adviser.model"),
        (
            ["sampler=adviser", "adviser.endpoint=http://host.example/v1", "adviser.model=x"],
            "adviser.endpoint=http://host.example/v1 is not encrypted",
        ),
        (["adviser.endpoint=localhost"], "tune.adviser.endpoint: no address"),
        ([f"adviser.key_variable={KEY}"], "tune.adviser.key_variable: this is the NAME of an environment variable"),
        (["horizon.epochs=2"], "horizon.epochs=2 is no shorter than trainer.max_epochs=2; lower it"),
        (["horizon.epochs=1", "trainer.swa_epochs=2"], "horizon.epochs=1 is shorter than trainer.swa_epochs=2"),
        (["horizon.factor=1"], "tune.horizon.factor=1: expected integer >= 2"),
        (["horizon.epoch=1"], "horizon.epoch"),
    ],
)
def test_what_cannot_be_is_refused_before_a_folder_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], said: str
) -> None:
    monkeypatch.setenv(VARIABLE, KEY)
    study = tmp_path / "study"
    with pytest.raises(SeqrecError) as caught:
        run_verb("tune", [*TINY, f"data_dir={tmp_path / 'data'}", f"run_dir={study}", *given])
    assert said in str(caught.value)
    assert KEY not in str(caught.value)
    assert not study.exists()

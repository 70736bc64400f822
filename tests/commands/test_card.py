"""`seqrec card`: what the run recorded, in Markdown and as a page of its own; the picture, or what it needs."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import seqrec_cli
from seqrec_cli.commands.card import subject_of
from seqrec_cli.commands.repeating import repeat_command
from seqrec_cli.commands.restore import ON_CPU, restore
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.validate import dump, validate
from seqrec_cli.reporting.energy import energy
from seqrec_cli.reporting.model_card import Section, fenced, plain, sections_of, write_card
from seqrec_cli.reporting.run_folder import RunFolder

USERS = 40
needs_dot = pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz's program dot is not here")
NAME = "a<b>*log*"  # which neither Markdown nor HTML may read as markup


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("card")
    rows = [f"u{u},i{(3 * u + 5 * k) % 23},{1_700_000_000 + 3600 * k}" for u in range(USERS) for k in range(7)]
    rows.append("u0,never trained,1700099999")  # the last event of a user: a cold target
    log = folder / "log.csv"
    log.write_text("user,item,time\n" + "\n".join(rows) + "\n")
    data = ["dataset=csv", f"dataset.archive={log}", f"data_dir={folder / 'data'}", "dataset.duplicates=keep"]
    tiny = ["model=sasrec", "model.embed_dim=8", "model.blocks=1", "trainer.max_epochs=2", "trainer.seed=3"]
    seqrec_cli.run("train", [*data, *tiny, f"run_dir={folder / 'run'}"])
    seqrec_cli.run("train", [*data, *tiny, "evaluation.test=none", f"run_dir={folder / 'sealed'}"])
    return folder


def card(run: Path, *overrides: str) -> dict[str, Any]:
    return seqrec_cli.run("card", [f"ckpt={run}", *overrides])


@pytest.fixture(scope="module")
def markdown(base: Path) -> str:
    card(base / "run", f"out={base / 'out'}", "picture=false")
    return (base / "out" / "README.md").read_text()


def test_what_the_run_recorded_is_in_the_card(base: Path, markdown: str) -> None:
    manifest = json.loads((base / "run" / "manifest.json").read_text())
    metrics = json.loads((base / "run" / "metrics.json").read_text())
    assert markdown.startswith("# sasrec on csv\n")
    assert f"{manifest['parameters']:,} trained parameters" in markdown
    assert f"{manifest['fit']['seconds']:,} s of training" in markdown
    assert manifest["targets_per_second"] > 0
    assert f"{manifest['targets_per_second']:,} targets learned from a second" in markdown
    assert f"281 events of {USERS} users and 24 items" in markdown
    assert "2023-11-14 to 2023-11-16 (UTC)" in markdown
    test, (low, high) = metrics["test"]["ndcg@10"], metrics["intervals"]["test"]["ndcg@10"]
    row = next(line for line in markdown.splitlines() if line.startswith("| **sasrec** |"))
    assert f"| {test:.4f} |" in row
    assert f"{low:.4f} to {high:.4f}" in markdown
    low, high = metrics["intervals"]["val"]["ndcg@10"]
    assert f"{low:.4f} to {high:.4f}" in markdown.partition("On validation:")[2]
    assert f"| most popular | {metrics['baselines']['popular']['hr@10']:.4f} |" in markdown
    assert f"| {metrics['val']['ndcg@10']:.4f} |" in markdown
    assert "cold targets | 1 |" in markdown
    assert "Items: 1 of 24 had no training event" in markdown
    assert "Seed 3." in markdown
    assert "test opened 1 time" in markdown
    assert "Energy" not in markdown


def test_a_sealed_test_set_is_said_to_be(base: Path) -> None:
    card(base / "sealed", "picture=false")
    told = (base / "sealed" / "card" / "README.md").read_text()
    assert "Test: sealed." in told
    assert "On test:" not in told
    assert "On validation:" in told
    assert "| most popular |" in told  # the baselines of validation


def test_the_command_trains_the_same_again(base: Path, markdown: str) -> None:
    (command,) = re.findall(r"```sh\n(.*)\n```", markdown)
    words = shlex.split(command)
    assert words[:2] == ["seqrec", "train"]
    again = dump(validate("train", compose("train", words[2:])))
    run = restore(str(base / "run"), None, None, hardware=ON_CPU, tell=lambda line: None)
    for name in ("run_dir", "data_dir"):
        again.pop(name), run.as_trained.pop(name)
    assert again == run.as_trained
    assert not any(word.startswith(("run_dir=", "data_dir=", "resume=")) for word in words)


def test_an_ensemble_is_repeated_from_its_runs() -> None:
    command = repeat_command({}, {"mixed": {"sasrec": "runs/a", "gru4rec": "runs/b c"}})
    assert shlex.split(command) == ["seqrec", "ensemble", "ckpts=[runs/a,'runs/b c']"]


class Page(HTMLParser):
    """The tags of a page, and where they point to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href", "action", "data")]


def test_the_page_is_whole_in_itself(base: Path, markdown: str) -> None:
    text = (base / "out" / "card.html").read_text()
    page = Page(text)
    assert {"h2", "table", "pre", "style"} <= set(page.tags)
    assert not {"script", "link", "iframe", "base"} & set(page.tags)
    assert page.addresses == []
    assert "://" not in text.replace(str(base), "")
    assert "@import" not in text
    assert "url(" not in text


def test_names_of_the_data_s_own_are_no_markup(tmp_path: Path) -> None:
    written = write_card(tmp_path, NAME, [Section("", [f"- {plain(NAME)} `x` {plain('_a_ [b](c:d) & ![e](f)')}"])])
    text = written[1].read_text()
    page = Page(text)
    assert not {"b", "em", "a", "img"} & set(page.tags)
    assert "a&lt;b&gt;*log*" in text
    assert "_a_ [b](c:d) &amp; ![e](f)" in text
    assert "# a\\<b\\>\\*log\\*" in written[0].read_text()
    assert fenced("a\n```\nb", "sh") == ["````sh", "a", "```", "b", "````"]


@needs_dot
def test_the_picture_stands_in_the_page_and_beside_the_markdown(base: Path, tmp_path: Path) -> None:
    found = card(base / "run", f"out={tmp_path / 'drawn'}", "picture=true", "depth=1")
    assert found["files"] == ["README.md", "card.html", "model.svg"]
    assert "](model.svg)" in (tmp_path / "drawn" / "README.md").read_text()
    page = Page((tmp_path / "drawn" / "card.html").read_text())
    assert len(page.addresses) == 1
    assert page.addresses[0].startswith("data:image/svg+xml;base64,")
    assert ">feed_forward<" not in (tmp_path / "drawn" / "model.svg").read_text()  # deeper than asked for
    card(base / "run", f"out={tmp_path / 'drawn'}", "picture=false")
    assert not (tmp_path / "drawn" / "model.svg").exists()
    assert "model.svg" not in (tmp_path / "drawn" / "README.md").read_text()


def test_without_dot_the_card_is_written_and_a_line_names_it(base: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    pytest.importorskip("graphviz")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = card(base / "run", f"out={tmp_path / 'bare'}")
    assert found["files"] == ["README.md", "card.html"]
    assert "no picture: the picture needs Graphviz's program dot" in capsys.readouterr().out
    with pytest.raises(SeqrecError, match=r"picture=true: the picture needs Graphviz's program dot.*apt-get install"):
        card(base / "run", f"out={tmp_path / 'asked'}", "picture=true")
    assert not (tmp_path / "asked").exists()


def test_a_picture_that_was_asked_for_and_cannot_be_drawn_is_exit_code_2(base: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "seqrec_cli", "card", f"ckpt={base / 'run'}", "picture=true"]
    done = subprocess.run(command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "seqrec card: picture=true: the picture needs" in done.stderr


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("metrics.json", {"val": [1, 2]}),
        ("metrics.json", {"val": {"ndcg@10": "high"}}),
        ("metrics.json", {"protocol": {}}),
        ("metrics.json", {"intervals": {"val": {"ndcg@10": 3}}}),
        ("metrics.json", {"parts": {"val": {"cold": {"targets": None}}}}),
        ("metrics.json", {"baselines_val": 5}),
        ("manifest.json", {"fit": {"seconds": "long"}}),
        ("manifest.json", {"hardware": "fast"}),
        ("manifest.json", {"mixed": 3}),
    ],
)
def test_what_was_changed_by_hand_is_refused_in_a_line(
    base: Path, tmp_path: Path, name: str, damage: dict[str, Any]
) -> None:
    shutil.copytree(base / "sealed", tmp_path / "run", ignore=shutil.ignore_patterns("card"))
    found = json.loads((tmp_path / "run" / name).read_text())
    (tmp_path / "run" / name).write_text(json.dumps(found | damage))
    with pytest.raises(
        SeqrecError, match=rf"{name} is damaged, or was changed by hand \(.*\); evaluate the run"
    ) as refused:
        card(tmp_path / "run", "picture=false")
    assert "\n" not in str(refused.value)


def test_a_file_is_no_folder_to_write_to(base: Path) -> None:
    with pytest.raises(SeqrecError, match=r"out=.*log\.csv is a file; name a folder"):
        card(base / "run", f"out={base / 'log.csv'}", "picture=false")


def test_energy_is_told_where_it_was_recorded(tmp_path: Path) -> None:
    assert energy(tmp_path) == []
    record = tmp_path / "emissions.csv"
    record.write_text("duration,emissions,energy_consumed,country_name\n60,0.002,0.01,France\n40,0.001,0.02,France\n")
    (line,) = energy(tmp_path)
    assert "30 Wh in 100 s, 3 g of CO2 equivalents, by the electricity of France" in line
    record.write_text("duration,emissions\n60,0.002\n")
    with pytest.raises(SeqrecError, match="is not what CodeCarbon writes"):
        energy(tmp_path)


def test_a_checkpoint_alone_does_not_say_whether_test_is_sealed(base: Path, tmp_path: Path) -> None:
    shutil.copy(base / "run" / "best.pt", tmp_path / "bare.pt")
    card(tmp_path / "bare.pt", f"out={tmp_path / 'card'}", "picture=false")
    text = (tmp_path / "card" / "README.md").read_text()
    assert "Test: not known here." in text
    assert "sealed" not in text


def test_what_model_auto_found_is_found_anew() -> None:
    trained = {**dump(validate("train", compose("train", ["model=auto"]))), "auto": {}}
    found = {"members": {"graph": {"name": "graph"}}, "weights": {"graph": 1.0}}
    command = repeat_command({**trained, "model": {**trained["model"], **found}}, {})
    assert "model=auto" in command
    assert "members" not in command
    assert "weights" not in command


def test_a_model_that_reads_the_time_of_its_target_says_so(base: Path) -> None:
    run = restore(str(base / "run"), None, None, hardware=ON_CPU, tell=lambda line: None)
    subject = subject_of(run, RunFolder(base / "run"))
    told = {sees: str(sections_of(replace(subject, sees_target_time=sees))) for sees in (True, False)}
    line = "It reads the time of the event that it predicts"
    assert (line in told[True], line in told[False]) == (True, False)


@pytest.mark.parametrize("verb", ["card", "explain", "export"])
def test_where_the_data_lie_is_handed_on(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    given: list[Any] = []

    def restored(*args: Any, **more: Any) -> Any:
        given.append(args)
        raise SeqrecError("enough")

    monkeypatch.setattr(importlib.import_module(f"seqrec_cli.commands.{verb}"), "restore", restored)
    more = ["user=1"] if verb == "explain" else []
    with pytest.raises(SeqrecError, match="enough"):
        seqrec_cli.run(verb, ["ckpt=a", "archive=b.csv", "data_dir=c", *more])
    assert given == [("a", "b.csv", "c")]


def test_a_log_of_one_s_own_is_repeated_under_its_name() -> None:
    words = ["dataset=csv", "dataset.archive=a.csv", "dataset.name=mine", "model=sasrec"]
    trained = {**dump(validate("train", compose("train", words))), "auto": {}}  # as a run has it, all in numbers
    command = repeat_command(trained, {})
    assert "dataset=csv" in command
    again = shlex.split(command)[2:]
    for group in ("dataset", "model", "trainer"):
        assert dump(validate("train", compose("train", again)))[group] == trained[group]

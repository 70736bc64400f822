"""The README and the pages of docs/ stay true: the commands of each are run, in order, in an empty folder of its own.

```bash and ```python blocks run: by default the README's and those of pages that have every verb between them, by night
all. Those of the other pages, and of blocks marked `network`, which need a download, are composed and validated. ```sh
and ```text blocks are for reading. The README's first two blocks install, run and test: `.ci/run` takes those from the
README itself. The site is built strictly, so that a broken link fails.
"""

import importlib.util
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from seqrec_cli.config.compose import compose
from seqrec_cli.config.migrations import RENAMED, VERBS
from seqrec_cli.config.validate import validate
from seqrec_cli.config.verbs import VERBS as CONFIGURED
from tests import warm
from tests.covering import covering

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
Block = tuple[str, str]  # what is written behind ```, and the text


def blocks(page: Path) -> list[Block]:
    return re.findall(r"^```([^\n]*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)


def local(page: Path) -> list[Block]:
    """What runs here; without the README's first two blocks, which `.ci/run` starts."""
    found = [(kind, text) for kind, text in blocks(page) if kind in ("bash", "python")]
    return found[2:] if page == README else found


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def commands(text: str) -> list[list[str]]:
    """The words of each `seqrec` of a block, a sweep's as its first job's; without those that a shell fills in."""
    words = shlex.shlex(text.replace("\\\n", " ").replace("\n", "\n\n"), posix=True, punctuation_chars="();<>|&\n")
    words.whitespace, words.whitespace_split = " \t", True
    found: list[list[str]] = [[]]
    for word in words:  # a comment takes the end of its line with it: each is doubled
        if set(word) <= set("();<>|&\n"):
            found.append([])
        else:
            found[-1].append(word)
    found = [given[1:] for given in found if given[:1] == ["seqrec"] and "$" not in "".join(given)]
    return [
        [word if "[" in word else word.partition(",")[0] for word in given if word != "-m"] if "-m" in given else given
        for given in found
    ]


def used(page: Path) -> set[tuple[str, bool]]:
    """The verbs that a page runs, alone or in a sweep, and whether it has Python."""
    text = "\n".join(text for _, text in local(page)).replace("\\\n", " ")
    verbs = {(verb, " -m " in rest) for verb, rest in re.findall(r"\b(?:seqrec|python -m) ([\w.]+)(.*)", text)}
    return verbs | {(kind, False) for kind, _ in local(page)}


def on_free_ports(found: list[Block]) -> list[Block]:
    """A page's services listen where nothing else does: another process, or the same test beside this one."""
    ports: dict[str, int] = {}
    for _, text in found:
        for port in re.findall(r"\bport=(\d+)", text):
            with socket.create_server(("127.0.0.1", 0)) as door:
                ports.setdefault(port, door.getsockname()[1])
    for port, free in ports.items():
        found = [(kind, re.sub(rf"\b(port=|localhost:){port}\b", rf"\g<1>{free}", text)) for kind, text in found]
    return found


def finished(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """A command's exit status and the end of what it said; what it left running in the background is ended with it."""
    log = folder / "said.txt"
    with log.open("w", encoding="utf-8") as file:
        running = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status = running.wait(timeout=600)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGTERM)
    return status, log.read_text(encoding="utf-8", errors="replace")[-6000:]


def test_a_page_s_services_get_ports_of_their_own() -> None:
    page = [
        ("bash", "seqrec serve port=8767 &\ncurl localhost:8767/health"),
        ("bash", "curl localhost:8767/x; echo 8767"),
    ]
    (_, first), (_, second) = on_free_ports(page)
    (port,) = re.findall(r"port=(\d+)", first)
    assert port != "8767"
    assert f"localhost:{port}/health" in first
    assert second == f"curl localhost:{port}/x; echo 8767"
    assert on_free_ports([("bash", "seqrec train")]) == [("bash", "seqrec train")]


RUN = covering(
    [page for page in PAGES if local(page)], lambda page: {*used(page), *([README] if page == README else [])}
)


def unrun(page: Path) -> list[list[str]]:
    """A page's commands that are not run by default, and have settings."""
    kinds = ("bash network",) if page in RUN else ("bash", "bash network")
    found = [words for kind, text in blocks(page) if kind in kinds for words in commands(text)]
    return [
        words
        for words in found
        if words[:1] and words[0] in CONFIGURED and not any(word.startswith("--") for word in words)
    ]


@pytest.mark.parametrize("page", RUN, ids=named)
def test_the_commands_of_a_page_run(page: Path, python: list[str], tmp_path: Path) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    warm.wrapper(commands / "seqrec", [*python, "-m", "seqrec_cli"])
    warm.wrapper(commands / "python", python)
    environment = {**os.environ, "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    environment[warm.OF_JOBS] = str(commands / "python")
    for kind, text in on_free_ports(local(page)):
        command = ["bash", "-euo", "pipefail", "-c", text] if kind == "bash" else [*python, "-c", text]
        status, said = finished(command, tmp_path, environment)
        assert status == 0, f"{text}\n{said}"


def test_words_are_told_apart() -> None:
    text = 'ls > x  # seqrec no\nseqrec a b="c d" \\\n  e=[f,g] | tail\n! seqrec h & seqrec -m i=1,2 # j\nseqrec "$k"'
    assert commands(f"{text} && seqrec l") == [["a", "b=c d", "e=[f,g]"], ["i=1"], ["l"]]


@pytest.mark.parametrize("page", [page for page in PAGES if unrun(page)], ids=named)
def test_commands_that_are_not_run_are_well_formed(page: Path) -> None:
    for verb, *overrides in unrun(page):
        assert validate(verb, compose(verb, overrides)) is not None


def test_every_block_is_of_a_known_kind() -> None:
    for page in PAGES:
        for kind, _ in blocks(page):
            assert kind in ("bash", "bash network", "python", "sh", "text", "mermaid", "yaml"), (
                f"{named(page)}: ```{kind}"
            )


def test_ci_runs_the_readmes_first_two_blocks() -> None:
    install_and_run, install_and_test = (text for kind, text in blocks(README)[:2] if kind == "bash")
    assert install_and_run.strip().endswith("seqrec train")
    assert install_and_test.strip().split("&& ")[-1].startswith("pytest")
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "README.md" in script
    awk = subprocess.run(
        ["awk", "/^```bash$/ {n++; inside = (n == 1); next} /^```$/ {inside = 0} inside", str(README)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert awk.stdout == install_and_run


def test_the_glossary_has_every_former_name_of_a_setting() -> None:
    glossary = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    for old, new in {**RENAMED, **{f"seqrec {old}": f"seqrec {new}" for old, new in VERBS.items()}}.items():
        rows = [line.partition(" | ") for line in glossary.splitlines() if f"`{old}`" in line]
        assert any(f"`{new}`" in after for _, _, after in rows), old


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150


def test_links_between_files_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if not re.match(r"https?:", target):
                there = (page.parent / target).resolve()
                generated = target.endswith(("reference/config.md", "reference/metrics.md"))
                assert there.exists() or generated, f"{named(page)}: {target}"


def test_the_site_builds_strictly(tmp_path: Path) -> None:
    if importlib.util.find_spec("mkdocs") is None or importlib.util.find_spec("mkdocstrings") is None:
        pytest.skip("the docs extra is not installed")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "NO_MKDOCS_2_WARNING": "1",
        "DISABLE_MKDOCS_2_WARNING": "true",
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    settings = (tmp_path / "site" / "reference" / "config" / "index.html").read_text(encoding="utf-8")
    assert "trainer.micro_batch_tokens" in settings
    assert "model.unit_activation" in settings  # of one option alone

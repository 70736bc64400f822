"""The recipes of docs/clusters.md: YAML that parses, scripts that bash reads, commands that are configurations."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from seqrec_cli.config.compose import compose
from seqrec_cli.config.validate import validate
from seqrec_cli.config.verbs import VERBS

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "clusters.md").read_text(encoding="utf-8")
VARIABLES = {"lr": "3e-4", "run": "/shared/run"}
PODS = {"Job": ("spec", "template"), "PyTorchJob": ("spec", "pytorchReplicaSpecs", "Worker", "template")}


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.M | re.S)


def manifests() -> list[dict[str, Any]]:
    return [found for block in blocks("yaml") for found in yaml.safe_load_all(block)]


def pod(manifest: dict[str, Any]) -> dict[str, Any]:
    for key in PODS[manifest["kind"]]:
        manifest = manifest[key]
    return manifest["spec"]


def container_words(manifest: dict[str, Any]) -> Iterator[list[str]]:
    for container in pod(manifest)["containers"]:
        yield [str(word) for word in [*container["command"], *container.get("args", ())]]


def logical_lines(script: str) -> list[str]:
    return script.replace("\\\n", " ").splitlines()


def seqrec_words(words: list[str]) -> list[str] | None:
    """What follows `seqrec`, `-m seqrec_cli` or its `__main__.py` in a command's words: the verb and its overrides."""
    for nth, word in enumerate(words):
        if word == "seqrec" or (word == "seqrec_cli" and words[nth - 1] == "-m") or "__main__.py" in word:
            return words[nth + 1 :]
    return None


def shell_commands(script: str) -> list[list[str]]:
    """The seqrec commands of a script, its variables filled in."""
    found = []
    for line in logical_lines(script):
        if line.lstrip().startswith(("#", "pip", "python3")):
            continue
        for name, value in VARIABLES.items():
            line = re.sub(rf"\${name}\b", value, line)
        words = seqrec_words(shlex.split(line))
        if words and words[0] in VERBS:
            found.append(words)
    return found


def commands() -> list[list[str]]:
    found = [words for block in blocks("sh") for words in shell_commands(block)]
    for manifest in manifests():
        for words in container_words(manifest) if manifest["kind"] in PODS else ():
            if words[0] == "bash":
                found += shell_commands(words[-1])
            else:
                inner = seqrec_words(words)
                assert inner is not None, words
                found.append(inner)
    return found


def test_the_page_has_the_recipes() -> None:
    kinds = [manifest["kind"] for manifest in manifests()]
    assert kinds == ["Job", "Service", "Job", "PyTorchJob"]
    assert sum("#SBATCH" in block for block in blocks("sh")) == 1
    assert len(commands()) == 12


@pytest.mark.parametrize("words", commands(), ids=lambda words: " ".join(words)[:60])
def test_every_command_is_a_configuration(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    verb, *overrides = [word for word in words if word != "-m"]
    if any(word.startswith("resume=") for word in overrides):  # a run's own settings; there is none here
        assert set(overrides) == {"resume=/shared/runs/sasrec"} or overrides == ["resume=/shared/run"]
        return
    overrides = [word for word in overrides if not word.startswith("hydra")]
    first = [word if "[" in word else word.partition(",")[0] for word in overrides]
    assert validate(verb, compose(verb, first)) is not None


def test_scripts_are_bash() -> None:
    scripts = [block for block in blocks("sh") if block.startswith("#!/bin/bash")]
    for manifest in manifests():
        if manifest["kind"] in PODS:
            scripts += [words[-1] for words in container_words(manifest) if words[0] == "bash"]
    assert len(scripts) == 2
    for script in scripts:
        done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr


def test_jobs_mount_what_they_name_and_name_what_others_seek() -> None:
    found = {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in manifests()}
    for (kind, _), manifest in found.items():
        if kind in PODS:
            volumes = {volume["name"] for volume in pod(manifest)["volumes"]}
            for container in pod(manifest)["containers"]:
                assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
                paths = [mount["mountPath"] for mount in container["volumeMounts"]]
                assert "/shared" in paths  # where the commands' run_dir and data_dir are
    job, service = found["Job", "sasrec"], found["Service", "sasrec"]
    words = next(container_words(job))
    (endpoint,) = [word.partition("=")[2] for word in words if word.startswith("--rdzv-endpoint=")]
    port = service["spec"]["ports"][0]["port"]
    assert endpoint == f"{job['metadata']['name']}-0.{pod(job)['subdomain']}:{port}"
    assert pod(job)["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert f"--nnodes={job['spec']['completions']}" in words
    gpus = pod(job)["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]
    assert f"--nproc-per-node={gpus}" in words


def test_attempts_of_one_run_share_a_name_and_a_folder() -> None:
    """Without them a restart begins a run of its own."""
    (script,) = [block for block in blocks("sh") if "#SBATCH" in block]
    shared = [line for line in logical_lines(script) if "torchrun" in line]
    shared += [" ".join(words) for m in manifests() if m["kind"] == "Job" for words in container_words(m)]
    elastic = [line for line in shared if "--max-restarts" in line]
    assert len(elastic) == 2
    for line in elastic:
        assert "--rdzv-id=" in line
        assert "run_dir=" in line
    (operated,) = [m for m in manifests() if m["kind"] == "PyTorchJob"]
    assert operated["spec"]["elasticPolicy"]["rdzvId"]

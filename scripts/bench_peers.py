"""Other people's tools on the same data, model shape and machine, each in a virtual environment of its own.

An environment is made on demand under the cache folder and used as it is from then on. Torch goes in first, in the
version named here, so that nothing else chooses a build of it. The scripts of `peers/` run there and know nothing of
seqrec: they get a JSON request and print one JSON line.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqrec_cli.config.errors import SeqrecError, nearest
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.data.interactions import PackedLog

TORCH = "torch==2.13.0"
SCRIPTS = Path(__file__).resolve().parent / "peers"


@dataclass(frozen=True)
class Peer:
    """A tool: its environment's folder, what pip installs there, the module that proves it, its script, and which
    family of models it is compared with."""

    environment: str
    requirements: tuple[str, ...]
    module: str
    script: str
    family: str = "encoder"
    models: tuple[str, ...] | None = None  # of that family; None for all
    objectives: tuple[str, ...] = ("next_item",)  # of seqrec's that an encoder's peer may stand beside


REPLAY = ("replay-rec==0.22.0", "lightning==2.6.6")
RECTOOLS = ("rectools[torch]==0.19.0", "pytorch-lightning==2.5.2")
RECBOLE = ("recbole==1.2.1", "setuptools<81", "numpy==1.26.4", "pandas==2.2.3", "scipy==1.14.1")
PEERS = {
    "replay": Peer("replay", REPLAY, "replay.nn.sequential", "run_replay.py"),
    "replay-buckets": Peer("replay", REPLAY, "replay.nn.sequential", "run_replay.py"),
    "replay-bert4rec": Peer(
        "replay",
        REPLAY,
        "replay.models.nn.sequential.bert4rec",
        "run_replay_bert4rec.py",
        models=("bert4rec",),
        objectives=("cloze",),
    ),
    "rectools": Peer(
        "rectools",
        RECTOOLS,
        "rectools.models",
        "run_rectools.py",
        models=("sasrec", "bert4rec"),
        objectives=("next_item", "cloze"),
    ),
    "rectools-flat": Peer(
        "rectools", RECTOOLS, "rectools.fast_transformers", "run_rectools_flat.py", models=("sasrec",)
    ),
    "recbole": Peer("recbole", RECBOLE, "recbole.trainer", "run_recbole.py"),
    "torch-rechub": Peer(
        "torch-rechub", ("torch-rechub==0.9.0",), "torch_rechub.trainers", "run_torch_rechub.py", "ranker"
    ),
    # Plain re-creations of a system's step, not packages: nothing to install.
    "pmixer-sasrec": Peer(
        "", (), "torch", "run_pmixer_sasrec.py", models=("sasrec",), objectives=("next_item", "bce", "gbce", "bpr")
    ),
    "seed-bert4rec": Peer("", (), "torch", "run_seed_bert4rec.py", models=("bert4rec",), objectives=("cloze",)),
}
SHAPE = {  # the settings of a model that its peers are built from
    "encoder": ("embed_dim", "blocks", "heads", "ffn_dim", "dropout"),
    "ranker": ("embed_dim", "dropout", "mlp"),
}
RANKERS: dict[str, tuple[str, ...]] = {"bst": ("blocks", "heads", "ffn_dim"), "din": ()}
FIGURES = {  # the first that both sides have; scores are users times the items each is ranked among
    "train": ("targets_s", "sequences_s"),
    "evaluate": ("users_s", "scores_s"),
}


def known(names: list[str]) -> list[str]:
    """The names, checked."""
    for name in names:
        if name not in PEERS:
            raise SeqrecError(f"--vs {name}: no such peer{nearest(name, PEERS)} (have: {', '.join(PEERS)})")
    return names


def environment(cache: Path, peer: Peer) -> Path:
    """The Python of the peer's environment under `cache`, made if it is not there.

    A peer without one runs under this Python. Raises SeqrecError when pip fails, or when a folder that is there cannot
    import the peer.
    """
    if not peer.environment:
        return Path(sys.executable)
    folder = cache.expanduser().absolute() / peer.environment
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        _install(folder, python, peer)
    # Left at once: a peer may ask the network for its newest version in a thread that is waited for.
    done = _call([str(python), "-c", f"import os, {peer.module}; os._exit(0)"])
    if done.returncode:
        raise SeqrecError(f"{folder} cannot import {peer.module} ({_last(done.stderr)}); delete it and run again")
    return python


def _install(folder: Path, python: Path, peer: Peer) -> None:
    if folder.exists():
        raise SeqrecError(f"{folder} is there but holds no Python environment; delete it or name another --cache")
    print(f"installing {peer.environment} into {folder}", file=sys.stderr)
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    try:
        for command in (
            [sys.executable, "-m", "venv", str(folder)],
            [*pip, TORCH],
            [*pip, TORCH, *peer.requirements],
        ):
            done = _call(command)
            if done.returncode:
                raise SeqrecError(
                    f"cannot install {' '.join(command[len(pip) :]) or folder}: {_last(done.stderr)}; "
                    "it needs a package index, and is known to install on Python 3.11"
                )
    except BaseException:  # no half environment is left to be taken for a whole one
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _call(command: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, **more)
    except OSError as error:
        raise SeqrecError(f"cannot run {command[0]}: {error.strerror}") from error


def _last(text: str) -> str:
    """The line that says what went wrong: the last error of pip, else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["no message"])[-1]


def shape_of(cfg: TrainConfig, name: str) -> dict[str, Any]:
    """The model's settings that a peer is built from. Raises SeqrecError where the two cannot be compared."""
    model, family = cfg.model, PEERS[name].family
    if model.capabilities.family != family:
        raise SeqrecError(f"--vs {name} is compared with models of the family {family}, not model={model.name}")
    models = PEERS[name].models
    if models is not None and model.name not in models:
        raise SeqrecError(f"--vs {name} has no counterpart of model={model.name}; use {' or '.join(models)}")
    objectives = PEERS[name].objectives
    if family == "encoder" and cfg.objective.name not in objectives:
        raise SeqrecError(f"--vs {name} has no counterpart of this objective: use objective={' or '.join(objectives)}")
    keys = SHAPE[family]
    if family == "ranker":
        if model.name not in RANKERS:
            raise SeqrecError(f"--vs {name} has no counterpart of model={model.name}; use {' or '.join(RANKERS)}")
        keys += RANKERS[model.name]
    missing = [key for key in keys if key not in type(model).model_fields]
    if missing:
        raise SeqrecError(f"--vs {name}: model={model.name} has no {', '.join(missing)} to build the peer from")
    return {key: getattr(model, key) for key in keys} | {"model": model.name, "max_length": model.max_length}


def write_events(log: PackedLog, path: Path) -> None:
    """The log as `user item` lines, in order; a user's last two events are held out."""
    users_N = np.repeat(np.arange(1, log.num_users + 1), np.diff(log.offsets_U1))
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{u} {i}\n" for u, i in zip(users_N.tolist(), log.items_N.tolist(), strict=True))


def request_of(
    name: str,
    cfg: TrainConfig,
    log: PackedLog,
    events: Path,
    parts: list[str],
    steps: int,
    warm_up: int,
    max_seconds: float,
    threads: int,
    tuned: bool,
    precision: str,
) -> dict[str, Any]:
    """What a peer script is asked for, but for `scratch`, the folder it may write to."""
    shape = shape_of(cfg, name)
    # A click row of ours is a positive and its negatives; peers count samples.
    samples = 1 + cfg.objective.negatives if PEERS[name].family == "ranker" else 1  # type: ignore[attr-defined]
    return shape | {
        "peer": name,
        "events": str(events),
        "items": log.num_items,
        "batch_size": cfg.trainer.batch_size * samples,
        "eval_batch_size": cfg.evaluation.batch_size,
        "seed": cfg.trainer.seed,
        "parts": [part for part in parts if part in ("train", "evaluate")],
        "steps": steps,
        "warm_up": warm_up,
        "max_seconds": max_seconds,
        "threads": threads,
        "tuned": tuned,
        "precision": precision,
    }


def run_peer(python: Path, request: dict[str, Any]) -> dict[str, Any]:
    """The answer of one of PEERS."""
    return ask(python, PEERS[request["peer"]], request)


def ask(python: Path, peer: Peer, request: dict[str, Any]) -> dict[str, Any]:
    """The peer's answer, from a process and a folder of its own."""
    name = request["peer"]
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    env["OMP_NUM_THREADS"] = str(request["threads"])
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "request.json"
        path.write_text(json.dumps(request | {"scratch": scratch}), encoding="utf-8")
        done = _call([str(python), str(SCRIPTS / peer.script), str(path)], env=env)
    answers = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not answers:
        raise SeqrecError(f"--vs {name} failed: {_last(done.stderr)}")
    answer: dict[str, Any] = json.loads(answers[-1])
    return answer


def ratios(rounds: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Ours over the peer's, round by round: median, least and most, for each figure that both sides have."""
    found = {}
    for part, figures in FIGURES.items():
        both = [(ours[part], peer[part]) for ours, peer in rounds if part in ours and part in peer]
        if both:
            figure = next(name for name in figures if name in both[0][1])
            values = [own[figure] / other[figure] for own, other in both]
            spread = {"median": statistics.median(values), "min": min(values), "max": max(values)}
            found[part] = {"figure": figure, **spread}
    return found

"""The click peers: how each is installed, which models of `click_samples` it has, and what it is asked.

A model's name with `-aux` is one with DIEN's auxiliary loss, which not every peer can do without or has at all.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.bench_peers import Peer, ask, environment
from scripts.click_samples import BATCH, HISTORY, SHAPES
from seqrec_cli.config.errors import SeqrecError, nearest
from seqrec_cli.config.schema import TrainConfig


@dataclass(frozen=True)
class ClickPeer:
    """A tool and which of SHAPES it has."""

    tool: Peer
    models: tuple[str, ...]


PEERS = {
    "fuxictr": ClickPeer(
        Peer("fuxictr", ("fuxictr==2.3.10",), "model_zoo.LongCTR.DIN.DIN", "run_click_fuxictr.py", "ranker"),
        ("din", "dien", "bst"),
    ),
    "deepctr": ClickPeer(
        Peer("deepctr", ("deepctr-torch==0.2.9",), "deepctr_torch.models", "run_click_deepctr.py", "ranker"),
        ("din", "dien", "dien-aux"),
    ),
    "torch-rechub": ClickPeer(
        Peer("torch-rechub", ("torch-rechub==0.9.0",), "torch_rechub.trainers", "run_click_torch_rechub.py", "ranker"),
        ("din", "dien-aux", "bst"),
    ),
}


def known(kind: str, names: list[str], have: list[str]) -> list[str]:
    """The names given for an option, checked."""
    for name in names:
        if name not in have:
            raise SeqrecError(f"--{kind} {name}: there is none{nearest(name, have)} (have: {', '.join(have)})")
    return names


def known_pairs(models: list[str], peers: list[str]) -> None:
    """Raises SeqrecError for names that are not there, and for peers that have none of the models."""
    known("models", models, list(SHAPES))
    known("vs", peers, list(PEERS))
    for name in peers:
        if not set(models) & set(PEERS[name].models):
            raise SeqrecError(f"--vs {name} has none of --models {','.join(models)}; it has {PEERS[name].models}")


def pythons(cache: Path, names: list[str]) -> dict[str, Path]:
    """The Python of every peer, installed if need be."""
    return {name: environment(cache, PEERS[name].tool) for name in names}


def request_of(peer: str, model: str, width: int, cfg: TrainConfig, tuned: bool, **task: Any) -> dict[str, Any]:
    """What a peer is asked for; `task` names its files, and epochs (null: to be timed) or steps."""
    drop, heads, inner = (getattr(cfg.model, key, None) for key in ("dropout", "heads", "ffn_dim"))
    return {
        "peer": peer,
        "model": model,
        "width": width,
        "mlp": list(cfg.model.mlp),  # type: ignore[attr-defined]
        "unit": list(getattr(cfg.model, "unit", ())),
        "heads": heads,
        "ffn_dim": inner,
        "dropout": drop,
        "max_length": HISTORY,
        "batch_size": BATCH,
        "seed": cfg.trainer.seed,
        "threads": cfg.hardware.threads or 1,
        "tuned": tuned,
        "precision": "fp32",
    } | task


def answer(python: Path, request: dict[str, Any]) -> dict[str, Any]:
    """What the peer says, from a process of its own."""
    return ask(python, PEERS[request["peer"]].tool, request)

"""How fast seqrec trains, evaluates and preprocesses here, how near that is to the ceiling, and beside whom.

    python -m scripts.bench dataset=ml-1m hardware.threads=2
    python -m scripts.bench dataset=ml-1m --parts train,evaluate --vs replay,rectools --rounds 3 --json bench.json

Takes the overrides of `seqrec train`. Training is timed through the loop of `seqrec train` for a whole epoch (or
--steps) after one of warm-up (50 steps at most), evaluation over all test users, preprocessing from the raw file in a
process of its own.
With --vs, a peer is installed into an environment of its own under --cache and runs the same data and model shape;
seqrec and the peers take turns, each turn in a process of its own, and the median of the rounds' ratios is given with
its least and most.

Rates count real work: a token is a real event, a target a prediction learned from, padding is neither.
"""

import argparse
import json
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from scripts.bench_peers import PEERS, environment, known, ratios, request_of, run_peer, shape_of, write_events
from scripts.bench_preprocess import seqrec
from scripts.bench_report import show
from seqrec_cli.config.compose import compose
from seqrec_cli.config.dataset import DatasetConfig
from seqrec_cli.config.errors import SeqrecError, nearest
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import dump, validate

if TYPE_CHECKING:
    from scripts.bench_own import Setup

PARTS = ("train", "evaluate", "preprocess")
PEER_WARM_UP = 3  # steps of a peer before the clock


class Parser(argparse.ArgumentParser):
    """Says what is wrong on one line."""

    def error(self, message: str) -> NoReturn:
        raise SeqrecError(message)


def arguments(argv: list[str]) -> argparse.Namespace:
    assert __doc__
    parser = Parser(
        prog="bench.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="as for seqrec train: dataset=ml-1m ...")
    parser.add_argument("--config-dir", metavar="DIR", help="a folder of further YAML options, as for seqrec")
    parser.add_argument("--parts", default=",".join(PARTS), metavar="A,B", help="default: %(default)s")
    parser.add_argument("--vs", action="append", default=[], metavar="PEER", help=f"of: {', '.join(PEERS)}")
    parser.add_argument("--steps", type=_count, help="timed training steps (default: an epoch)")
    parser.add_argument("--rounds", type=_count, help="turns of seqrec and each peer (default: 3 with --vs, else 1)")
    parser.add_argument("--peer-steps", type=_count, default=20, help="a peer's timed steps (default: %(default)s)")
    parser.add_argument(
        "--peer-seconds", type=float, default=60.0, help="and its timed seconds, at most (default: %(default)s)"
    )
    parser.add_argument(
        "--peer-precision", choices=("fp32", "bf16"), default="fp32", help="mixed precision, where it has any"
    )
    parser.add_argument(
        "--as-shipped", action="store_true", help="leave the peers' allocator alone (else tuned as seqrec's own)"
    )
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/seqrec/peers"), help="the peers' environments")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--profile", action="store_true", help="also print torch.profiler's table of one step")
    asked = parser.parse_intermixed_args(argv)
    asked.parts = _listed(asked.parts)
    for part in asked.parts:
        if part not in PARTS:
            raise SeqrecError(f"--parts {part}: no such part{nearest(part, PARTS)} (have: {', '.join(PARTS)})")
    asked.vs = known([name for given in asked.vs for name in _listed(given)])
    if asked.vs and not {"train", "evaluate"} & set(asked.parts):
        raise SeqrecError("--vs compares training and evaluation: add train or evaluate to --parts")
    if asked.json is not None and not asked.json.absolute().parent.is_dir():
        raise SeqrecError(f"--json {asked.json}: no such folder")
    return asked


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text}")
    return int(text)


def _listed(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def bench(asked: argparse.Namespace) -> dict[str, Any]:
    """Everything that was asked for, as plain values."""
    cfg = validate("train", compose("train", asked.overrides, asked.config_dir))
    assert isinstance(cfg, TrainConfig)
    for name in asked.vs:
        shape_of(cfg, name)
    # Before torch is here: the kernel counts what a process held when it started another as that one's own peak.
    preprocess = time_preprocessing(cfg.dataset, Path(cfg.data_dir)) if "preprocess" in asked.parts else None

    import torch

    from scripts import bench_own
    from seqrec_cli.reporting.environment import environment as environment_of

    setup = bench_own.set_up(cfg)
    precision, log = setup.precision, setup.log
    result: dict[str, Any] = {
        "benchmark": "bench",
        "overrides": asked.overrides,
        "config": dump(setup.cfg),
        "data": {
            "users": log.num_users,
            "items": log.num_items,
            "events": len(log.items_N),
            "fingerprint": log.fingerprint,
        },
        "precision": precision.name,
        "threads": torch.get_num_threads(),
        **environment_of(precision.device),
        "rounds": _rounds(asked, setup),
    }
    own = [turn["seqrec"] for turn in result["rounds"]]
    result |= middle(own)
    result["ceiling"] = next(turn["ceiling"] for turn in own if turn.get("train") is result.get("train"))
    result["ratios"] = {name: ratios([(turn["seqrec"], turn[name]) for turn in result["rounds"]]) for name in asked.vs}
    if preprocess is not None:
        result["preprocess"] = preprocess
    if asked.profile:
        result["profile"] = bench_own.profile_step(setup)
    return result


def time_preprocessing(dataset: DatasetConfig, data_dir: Path) -> dict[str, float]:
    """`seqrec preprocess` of the raw file in a process and a folder of its own. A download is not timed."""
    from omegaconf import OmegaConf

    from seqrec_cli.data.download import fetch

    raw = fetch(dataset, data_dir, lambda line: print(line, file=sys.stderr))
    with tempfile.TemporaryDirectory() as folder:
        options = Path(folder) / "dataset"
        options.mkdir()
        plain = dump(dataset) | {"archive": None if raw is None else str(raw.resolve())}
        OmegaConf.save(OmegaConf.create(plain), options / "benchmark.yaml")
        try:
            return seqrec("preprocess", "--config-dir", folder, "dataset=benchmark", f"data_dir={folder}/data")
        except SystemExit as error:
            raise SeqrecError(str(error)) from None


def _rounds(asked: argparse.Namespace, setup: "Setup") -> list[dict[str, Any]]:
    """Turns of seqrec and of each peer, by name."""
    import torch

    pythons = {name: environment(asked.cache, PEERS[name]) for name in asked.vs}
    turns = []
    with tempfile.TemporaryDirectory() as folder:
        events = Path(folder) / "events.txt"
        if asked.vs:
            write_events(setup.log, events)
        for _ in range(asked.rounds or (3 if asked.vs else 1)):
            turn = {"seqrec": _own_turn(asked)}
            for name, python in pythons.items():
                request = request_of(
                    name=name,
                    cfg=setup.cfg,
                    log=setup.log,
                    events=events,
                    parts=asked.parts,
                    steps=asked.peer_steps,
                    warm_up=PEER_WARM_UP,
                    max_seconds=asked.peer_seconds,
                    threads=torch.get_num_threads(),
                    tuned=not asked.as_shipped,
                    precision=asked.peer_precision,
                )
                turn[name] = run_peer(python, request)
            turns.append(turn)
    return turns


def _own_turn(asked: argparse.Namespace) -> dict[str, Any]:
    """In a new process: in one that has trained before, a step is up to 3 % slower and finds its memory in pieces."""
    from scripts.bench_own import take_turn

    with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
        figures: dict[str, Any] = pool.submit(
            take_turn, asked.overrides, asked.config_dir, asked.parts, asked.steps
        ).result()
    return figures


def middle(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each part the round with the median time (the quicker of two)."""
    return {
        part: sorted((figures[part] for figures in rounds), key=lambda f: f["seconds"])[(len(rounds) - 1) // 2]
        for part in rounds[0]
        if part != "ceiling"
    }


def main(argv: list[str] | None = None) -> int:
    try:
        asked = arguments(sys.argv[1:] if argv is None else argv)
        result = bench(asked)
    except SeqrecError as error:
        print(f"bench.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    if asked.json is not None:
        asked.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""How fast click rankers learn and score here, beside the same models of other tools on the same samples.

    python -m scripts.bench_clicks dataset=ml-1m hardware.threads=2 --vs fuxictr,deepctr,torch-rechub --json clicks.json

Takes the overrides of `seqrec train`, for all models. Samples follow the positions protocol: every event of a user's
training history is one to be told from an item the user has not seen, by the 50 events before it; all sides read an
item's vector and that of its category (the first value of the dataset's first item attribute), 16 + 16 wide, in batches
of 1,024 samples, with an MLP of 256 and 128. seqrec and the peers take turns, and the median of the rounds' ratios is
given with its least and most. Peers are installed under --cache at the first call (`bench.py` has the rest of them).
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from scripts.bench import PEER_WARM_UP, Parser, _count, _listed
from scripts.bench_ceiling import synchronize
from scripts.bench_own import Setup, time_training
from scripts.bench_peers import ratios
from scripts.click_peers import PEERS, answer, known_pairs, pythons, request_of
from scripts.click_samples import BATCH, SHAPES, Samples, click_log, set_up, settings, training_samples
from scripts.clock import now
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.evaluation.evaluate import measuring
from seqrec_cli.reporting.environment import environment as environment_of

WIDTH = 16  # of an item's vector and of its category's
SCORING_SECONDS = 2.0


def arguments(argv: list[str]) -> argparse.Namespace:
    assert __doc__
    parser = Parser(
        prog="bench_clicks.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="as for seqrec train: dataset=ml-1m ...")
    parser.add_argument("--models", default=",".join(SHAPES), metavar="A,B", help="default: %(default)s")
    parser.add_argument("--vs", action="append", default=[], metavar="PEER", help=f"of: {', '.join(PEERS)}")
    parser.add_argument("--steps", type=_count, default=200, help="seqrec's timed steps (default: %(default)s)")
    parser.add_argument("--rounds", type=_count, default=3, help="turns of seqrec and each peer (default: %(default)s)")
    parser.add_argument("--peer-steps", type=_count, default=20, help="a peer's timed steps (default: %(default)s)")
    parser.add_argument("--peer-seconds", type=float, default=60.0, help="at most (default: %(default)s)")
    parser.add_argument("--scored", type=_count, default=40 * BATCH, help="samples scored (default: %(default)s)")
    parser.add_argument("--as-shipped", action="store_true", help="leave the peers' allocator alone")
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/seqrec/peers"), help="the peers' environments")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    asked = parser.parse_intermixed_args(argv)
    asked.models, asked.vs = _listed(asked.models), [name for given in asked.vs for name in _listed(given)]
    known_pairs(asked.models, asked.vs)
    if asked.json is not None and not asked.json.absolute().parent.is_dir():
        raise SeqrecError(f"--json {asked.json}: no such folder")
    return asked


def time_scoring(setup: Setup, samples: Samples) -> dict[str, Any]:
    """A fresh model's logits of labelled candidates, as evaluation makes them."""
    model, device, passes = setup.model(), setup.precision.device, 0
    batches = [batch.to(device) for batch in samples.batches(BATCH // samples.candidates_RC.shape[1])]
    with measuring(model, setup.precision):
        for batch in batches[:3]:
            model.score(batch, batch.candidates_BC)
        synchronize(device)
        began = now()
        while not passes or now() - began < SCORING_SECONDS:
            for batch in batches:
                model.score(batch, batch.candidates_BC).cpu()
            passes += 1
        seconds = (now() - began) / passes
    what = "score of labelled candidates in batches of like length"
    return {"what": what, "seconds": seconds, "scores_s": len(samples) / seconds}


def bench(asked: argparse.Namespace) -> dict[str, Any]:
    """Everything that was asked for, as plain values."""
    configs = {model: settings(model, WIDTH, asked.overrides) for model in asked.models}
    found: dict[str, Any] = {}
    environments = pythons(asked.cache, asked.vs)
    first = settings("din", WIDTH, asked.overrides)
    log = click_log(first)
    every = training_samples(first, log)
    with tempfile.TemporaryDirectory() as folder:
        train, score = Path(folder) / "train.npz", Path(folder) / "score.npz"
        every.subsample((asked.peer_steps + PEER_WARM_UP + 1) * BATCH, seed=0).save(train, log)
        scored = every.subsample(asked.scored, seed=1)
        scored.save(score, log)
        del every
        for model, cfg in configs.items():
            setup, rounds = set_up(cfg, log), []
            for _ in range(asked.rounds):
                own = {"train": time_training(setup, asked.steps), "evaluate": time_scoring(setup, scored)}
                turn = {"seqrec": own}
                for name, python in environments.items():
                    if model in PEERS[name].models:
                        request = request_of(
                            name,
                            model,
                            WIDTH,
                            cfg,
                            not asked.as_shipped,
                            epochs=None,
                            train=str(train),
                            score=str(score),
                            steps=asked.peer_steps,
                            warm_up=PEER_WARM_UP,
                            max_seconds=asked.peer_seconds,
                        )
                        request["threads"] = torch.get_num_threads()
                        turn[name] = answer(python, request)
                rounds.append(turn)
            beside = {
                name: ratios([(turn["seqrec"], turn[name]) for turn in rounds])
                for name in rounds[0]
                if name != "seqrec"
            }
            found[model] = {"rounds": rounds, "ratios": beside}
    return {
        "benchmark": "bench_clicks",
        "overrides": asked.overrides,
        "data": {"users": log.num_users, "items": log.num_items, "fingerprint": log.fingerprint},
        "precision": setup.precision.name,
        "threads": torch.get_num_threads(),
        **environment_of(setup.precision.device),
        "models": found,
    }


def middle(rounds: list[dict[str, Any]], side: str, part: str, figure: str) -> float:
    """The median round's figure."""
    return sorted(turn[side][part][figure] for turn in rounds)[len(rounds) // 2]


def show(result: dict[str, Any]) -> None:
    """The figures a person reads."""
    title = (
        f"samples/s, {result['precision']}, {result['threads']} threads; ratio: median of the rounds (least to most)"
    )
    table = Table(title=title, title_justify="left")
    for name in ("model", "side", "training", "ratio", "scoring", "ratio"):
        table.add_column(name)
    for model, found in result["models"].items():
        for side in found["rounds"][0]:
            cells = [model if side == "seqrec" else "", side]
            if side != "seqrec":
                peer = found["rounds"][0][side]
                cells[1] += f" {peer['version']} ({'tuned' if peer['tuned'] else 'as shipped'})"
            for part, figure in (("train", "targets_s"), ("evaluate", "scores_s")):
                ratio = found["ratios"].get(side, {}).get(part)
                cells.append(f"{middle(found['rounds'], side, part, figure):,.0f}")
                cells.append(
                    "" if ratio is None else f"{ratio['median']:.1f} ({ratio['min']:.1f} to {ratio['max']:.1f})"
                )
            table.add_row(*cells)
    Console().print(table)


def main(argv: list[str] | None = None) -> int:
    try:
        asked = arguments(sys.argv[1:] if argv is None else argv)
        result = bench(asked)
    except SeqrecError as error:
        print(f"bench_clicks.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    if asked.json is not None:
        asked.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())

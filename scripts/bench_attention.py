"""What forms of attention cost on long histories: memory, work and CPU seconds of one training step, beside truncation
and LRURec (docs/critique/attention.md).

    python -m scripts.bench_attention dataset=sequences dataset.archive=ml-1m.txt

Overrides of `seqrec train` go in front of each arm's own. A step is one forward and backward pass over eight of the
log's longest histories, full rows of max_length events. Its seconds are those of the processor, on one thread, the
least of three, so that other work on the machine matters little; its memory is the most that tensors take at once.
"""

import sys
import time
from pathlib import Path

import torch

from seqrec_cli.commands.training_setup import fresh_model, objective_for, training_rows
from seqrec_cli.config.compose import compose
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.validate import validate
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.protocols.view.build import with_view
from seqrec_cli.saying import silent
from seqrec_cli.training.precision import resolve_precision
from seqrec_cli.training.step_cost import count_flops, forward_backward, peak_bytes

LENGTHS = (50, 200, 500, 1000)
ARMS = {
    "softmax": ["model=sasrec"],
    "local": ["model=sasrec", "model.attention_form=local", "model.attention_window=32"],
    "softmax, dropout of weights": ["model=sasrec", "model.attention_dropout=0.2"],
    "local, dropout of weights": [
        *("model=sasrec", "model.attention_form=local", "model.attention_window=32", "model.attention_dropout=0.2"),
    ],
    "linear": ["model=sasrec", "model.attention_form=linear"],
    "lrurec": ["model=lrurec", "model.states=128"],
    "fmlprec": ["model=fmlprec", "model.filter=causal"],
}
SIZES = (
    *("model.embed_dim=64", "model.blocks=2", "model.ffn_dim=256", "model.dropout=0.2"),
    *("objective=next_item", "objective.negatives=256", "objective.window=last"),
    *("trainer=next_item", "trainer.batch_size=8", "trainer.bucket_by_length=true", "evaluation.ranked_users=null"),
    *("hardware.device=cpu", "hardware.precision=fp32", "hardware.threads=1"),
)
ROUNDS = 3


def cost(words: list[str]) -> tuple[float, float, float]:
    """Megabytes, GFLOP and CPU seconds of a step."""
    cfg = validate("train", compose("train", words))
    assert isinstance(cfg, TrainConfig)
    precision = resolve_precision(cfg.hardware)
    log = with_view(prepare(cfg.dataset, Path(cfg.data_dir), silent), cfg.protocol, silent)
    model, objective = fresh_model(cfg, log, precision.device), objective_for(cfg, log, precision.device)
    batch = training_rows(cfg, objective, log, device=precision.device).largest()
    assert batch.items_BL.shape == (8, cfg.model.max_length), batch.items_BL.shape
    seconds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        forward_backward(model, objective, batch, precision=precision)
        seconds.append(time.process_time() - began)
    peak = peak_bytes(model, objective, batch, precision=precision)
    return peak / 1e6, count_flops(model, objective, batch, precision=precision) / 1e9, min(seconds)


def main(given: list[str]) -> None:
    print("| L | arm | MB | GFLOP | CPU s |\n|---|---|---|---|---|")
    for length in LENGTHS:
        for name, arm in ARMS.items():
            megabytes, gflop, seconds = cost([*given, *arm, *SIZES, f"model.max_length={length}"])
            print(f"| {length} | {name} | {megabytes:.0f} | {gflop:.2f} | {seconds:.2f} |", flush=True)


if __name__ == "__main__":
    torch.manual_seed(0)
    main(sys.argv[1:])

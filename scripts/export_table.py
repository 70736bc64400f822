"""Every model in every export format, compared with its checkpoint: a row each, printed as it is measured.

    python -m scripts.export_table dataset=ml-100k trainer.max_epochs=1 --folder outputs/exports
    python -m scripts.export_table dataset=ml-1m --models sasrec,din --formats onnx,onnx:int8,onnx:fp16

Takes the overrides of `seqrec train`, for all models. A model with a finished run in the folder is not trained again.
A format is written as FORMAT or FORMAT:QUANTIZE. Columns: the largest difference of scores, the share of the top 10 in
common, the metric on validation (checkpoint, program), the program's size, and milliseconds of one request and of 256
(eager, program). What a format refuses, or what fails the gate, has its reason in the row.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import seqrec_cli
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.registry import names

FORMATS = ("torch", "onnx", "onnx:int8", "onnx:fp16", "aoti", "embeddings")
COLUMNS = (
    "model",
    "format",
    "scores",
    "top 10",
    "metric",
    "checkpoint",
    "program",
    "MB",
    "1 eager",
    "1",
    "256 eager",
    "256",
)


def arguments(argv: list[str]) -> argparse.Namespace:
    assert __doc__
    parser = argparse.ArgumentParser(
        prog="export_table.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="as for seqrec train: dataset=ml-100k ...")
    parser.add_argument("--models", metavar="A,B", help="default: all but ensemble and auto, which hold others")
    parser.add_argument("--formats", default=",".join(FORMATS), metavar="A,B:Q", help="default: %(default)s")
    parser.add_argument("--folder", default="outputs/exports", help="of runs and programs (default: %(default)s)")
    parser.add_argument("--users", default="1000", help="validation requests of the gate (default: %(default)s)")
    return parser.parse_args(argv)


def row_of(model: str, wanted: str, found: dict[str, Any]) -> tuple[str, ...]:
    """A row of COLUMNS from what `export` answers."""
    ms, own = found["ms"], found["ms_checkpoint"]
    times = (f"{value:.2f}" for value in (own["one"], ms["one"], own["many"], ms["many"]))
    metric = (str(found["metric"]), f"{found['metric_was']:.4f}", f"{found['metric_now']:.4f}")
    size = f"{found['bytes'] / 2**20:.2f}"
    return (model, wanted, f"{found['max_difference']:.1e}", f"{found['top10']:.4f}", *metric, size, *times)


def trained(model: str, overrides: list[str], folder: Path) -> Path:
    run = folder / model
    if not (run / "metrics.json").is_file():
        quiet = ["evaluation.baselines=false", "evaluation.test=none"]
        seqrec_cli.run("train", [f"model={model}", *quiet, *overrides, f"run_dir={run}"])
    return run


def main(argv: list[str]) -> None:
    told = arguments(argv)
    models = told.models.split(",") if told.models else [n for n in names("model") if n not in ("ensemble", "auto")]
    folder, rows = Path(told.folder), []
    for model in models:
        run = trained(model, told.overrides, folder)
        for wanted in told.formats.split(","):
            format, _, quantize = wanted.partition(":")
            asked = [f"ckpt={run}", f"format={format}", f"users={told.users}", f"out={run / wanted.replace(':', '-')}"]
            try:
                found = seqrec_cli.run("export", [*asked, *([f"quantize={quantize}"] if quantize else [])])
                rows.append(row_of(model, wanted, found))
            except SeqrecError as error:
                rows.append((model, wanted, str(error), *[""] * (len(COLUMNS) - 3)))
            print("ROW | " + " | ".join(rows[-1]) + " |", flush=True)
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main(sys.argv[1:])

"""Seconds from the start of `seqrec train` to the end of its first optimizer step, on preprocessed data.

    python -m scripts.bench_start dataset=synthetic model=sasrec [--runs 3] [--json FILE]

Each run is a fresh process that takes one step. One run before them, not counted, downloads and preprocesses what is
missing and warms the file cache. The data lies in a temporary folder unless `data_dir=` names one. `first_step_seconds`
is the run's own figure, from its manifest, counted from the start of the process; `process_seconds` is the whole run.
"""

import json
import tempfile
from pathlib import Path

from scripts.bench_preprocess import arguments, report, seqrec


def start(overrides: list[str], run_dir: Path) -> dict[str, float]:
    """One run of one step."""
    usage = seqrec(
        "train",
        *overrides,
        "trainer.max_epochs=1",
        "trainer.max_steps=1",
        "evaluation.baselines=false",
        f"run_dir={run_dir}",
    )
    manifest = json.loads((run_dir / "manifest.json").read_text(encoding="utf-8"))
    if "first_step_seconds" not in manifest:
        raise SystemExit(f"no first_step_seconds in {run_dir / 'manifest.json'}: the model takes no optimizer steps")
    return {"first_step_seconds": manifest["first_step_seconds"], "process_seconds": usage["seconds"]}


def main() -> None:
    asked = arguments("Seconds from the start of seqrec train to its first optimizer step.")
    with tempfile.TemporaryDirectory() as folder:
        overrides = list(asked.overrides)
        if not any(override.startswith("data_dir=") for override in overrides):
            overrides.append(f"data_dir={folder}/data")
        start(overrides, Path(folder) / "warm_up")
        runs = [start(overrides, Path(folder) / f"run_{number}") for number in range(asked.runs)]
    report("start", runs, asked.overrides, asked.json)


if __name__ == "__main__":
    main()

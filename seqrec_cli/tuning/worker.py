"""One worker: trial after trial until the study's budget is spent."""

import time
import traceback
from pathlib import Path

from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.hydra_errors import one_line
from seqrec_cli.faults import in_words
from seqrec_cli.saying import Say
from seqrec_cli.tuning.study import GIVE_UP, Claim, Outcome, RunTrial, Study
from seqrec_cli.tuning.telling import trial_line

POLL = 0.5  # seconds between looks at trials of other workers


def work(study: Study, run_trial: RunTrial, say: Say) -> bool:
    """Run trials until there is none left, and none under way that may have to be run again; False if interrupted.

    Raises SeqrecError where trial after trial fails.
    """
    while True:
        _give_up(study)
        claim = study.claim()
        if claim is None:
            if not study.is_running():
                return True
            time.sleep(POLL)
            continue
        outcome = _run(study, claim, run_trial)
        if outcome is not None and outcome.state == "interrupted":
            return False
        say(trial_line(study, claim.number))
        _tidy(study)


def _run(study: Study, claim: Claim, run_trial: RunTrial) -> Outcome | None:
    try:
        outcome = run_trial(claim)
    except KeyboardInterrupt:
        study.finish(claim, Outcome("interrupted"))
        raise
    except SeqrecError as error:
        study.fail(claim, one_line(error))
    except Exception as error:  # a study is to survive the night: what broke is told, and kept in full
        claim.folder.mkdir(parents=True, exist_ok=True)
        (claim.folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
        known = in_words(error) if isinstance(error, OSError | MemoryError | RuntimeError) else None
        study.fail(claim, known or f"{type(error).__name__}: {one_line(error)}; see {claim.folder / 'error.txt'}")
    else:
        study.finish(claim, outcome)
        return outcome
    return None


def _give_up(study: Study) -> None:
    records = [record for record in study.records() if record.state != "running"]
    failed = [record for record in records if record.state == "failed"]
    if len(failed) == len(records) >= GIVE_UP:
        raise SeqrecError(f"the first {len(failed)} trials all failed; the last: {failed[-1].error}")


def _tidy(study: Study) -> None:
    """Of trials that are over keep curves and metrics, and checkpoints of the best alone, unless all are asked for."""
    if study.tune.keep == "all":
        return
    best = study.best()
    for record in study.records():
        if record.state == "running" or record.run_dir is None:
            continue
        for path in Path(record.run_dir).rglob("*.pt"):
            if best is None or record.number != best.number or path.name != "best.pt":
                path.unlink(missing_ok=True)

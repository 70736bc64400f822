"""`seqrec tune`: many runs of `train`, whose settings are chosen by validation; the test set is read once, if asked.

Read `main` from top to bottom. The same command with the study's folder as `run_dir` goes on with it, or joins it from
another terminal or machine.
"""

import contextlib
import json
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from seqrec_cli.commands import train
from seqrec_cli.commands.console import say
from seqrec_cli.commands.dispatch import record_of
from seqrec_cli.commands.resume import resumed
from seqrec_cli.commands.seal import open_test
from seqrec_cli.commands.settle import settle
from seqrec_cli.config.compose import compose, groups
from seqrec_cli.config.errors import SeqrecError, nearest
from seqrec_cli.config.hydra_errors import one_line
from seqrec_cli.config.schema import TrainConfig
from seqrec_cli.config.settings import Settings
from seqrec_cli.config.tuning import TuneConfig
from seqrec_cli.data.preprocess import prepare
from seqrec_cli.evaluation.top_lists import monitor_is_measured
from seqrec_cli.files import write_atomically
from seqrec_cli.metrics.table import LOSS, lower_is_better
from seqrec_cli.protocols.view.build import with_view
from seqrec_cli.reporting.run_folder import RunFolder
from seqrec_cli.reporting.tables import print_table
from seqrec_cli.saying import silent
from seqrec_cli.training.precision import resolve_precision
from seqrec_cli.tuning.advice import REPORT, Advice, final_word, lines_of, unused
from seqrec_cli.tuning.configs import TrialConfigs, base_values, check_space, without_given
from seqrec_cli.tuning.engine import need_optuna
from seqrec_cli.tuning.folder import IDENTITY, StudyFolder, command_of
from seqrec_cli.tuning.horizons import Horizons
from seqrec_cli.tuning.proposers import check_proposers, proposers_of, write_task
from seqrec_cli.tuning.records import TrialRecord
from seqrec_cli.tuning.report import trial_row, write_best, write_report
from seqrec_cli.tuning.space import Space
from seqrec_cli.tuning.study import Claim, Outcome, RunTrial, Study
from seqrec_cli.tuning.telling import trials_table
from seqrec_cli.tuning.worker import work
from seqrec_cli.tuning.workers import (
    FINISHED,
    INTERRUPTED,
    REFUSED,
    environment_of,
    share_of_cores,
    work_together,
)


def main(cfg: TuneConfig) -> dict[str, Any]:
    """A study, or its next part. Returns the best trial's validation metrics and run folder."""
    if not isinstance(cfg, TuneConfig):
        raise SeqrecError("resume and start_from are of single runs; a study goes on with run_dir=ITS_FOLDER")
    need_optuna(cfg.tune.sampler)
    StudyFolder.refuse_damaged(cfg.run_dir)
    configs = TrialConfigs(command_of(cfg.given), cfg.config_dir)
    base = configs.record({})
    space = space_of(cfg, configs, tell=say)
    check_space(space, configs)
    if cfg.tune.sampler == "grid":
        combinations = space.grid()  # refused where a setting has endlessly many values
        next(combinations)
        trials = cfg.tune.trials
        if trials is not None and next(islice(combinations, trials - 1, None), None) is not None:
            say(f"WARNING: the grid has more combinations than trials={trials}; trials=null runs them all")

    resolve_precision(cfg.hardware)  # a device that is not there is refused before data are built
    log = with_view(prepare(cfg.dataset, Path(cfg.data_dir), say), cfg.protocol, say)  # once, for all trials
    settled = settle(base, log, tell=silent)
    metric = settled.trainer.monitor
    if metric != LOSS:
        monitor_is_measured(metric, log, settled.evaluation)

    check_proposers(cfg.tune, settled, space)
    folder = StudyFolder.begin(cfg, base=base, space=space, metric=metric, fingerprint=log.fingerprint)
    write_task(cfg.tune, settled, log, folder=folder.path)
    say(f"study in {folder.path}: {len(space.entries)} settings, by validation {metric}")
    study = study_of(cfg, folder, space, metric=metric)
    if cfg.tune.workers == 1:
        finished = work(study, trial_runner(configs, metric=metric, threads=cfg.hardware.threads), say)
    else:
        finished = work_together(study, cfg.tune.workers, lambda number: _start(cfg, folder, number), say=say)
    if not finished:
        say(f"stopped, nothing lost; go on with: {folder.command()}")
        return {"interrupted": True, "run_dir": str(folder.path)}
    with folder.alone():  # several terminals end it at the same instant, and the test set is read once
        return conclude(cfg, study, folder, configs=configs)


def space_of(cfg: TuneConfig, configs: TrialConfigs, *, tell: Any) -> Space:
    """The space without what the command line gives. Raises SeqrecError where there is none."""
    known = groups(cfg.config_dir)["space"]
    for name in (text.partition("=")[2] for text in cfg.given if text.startswith("space=")):
        if name not in known:  # Hydra takes it for optional, as that of the model's name is
            raise SeqrecError(f"space={name}: no such option{nearest(name, known)} (have: {', '.join(known)})")
        if not cfg.space:
            raise SeqrecError(f"space={name} has no entries; leave it out for the space of the model's name")
    if not cfg.space:
        raise SeqrecError(
            f"no space has the name of model={cfg.model.name}; name one: space={'|'.join(known)}, or a file of your "
            "own (--config-dir DIR with DIR/space/NAME.yaml)"
        )
    entries, fixed = without_given(cfg.space, configs.overrides)
    if fixed:
        tell(f"not searched, for the command line gives them: {', '.join(fixed)}")
    return Space(entries, base_values(configs.plain({})))


def study_of(cfg: TuneConfig, folder: StudyFolder, space: Space, *, metric: str) -> Study:
    """The study of a folder, with who proposes settings beside Optuna's sampler."""
    proposers, maximise = proposers_of(cfg.tune, space, folder=folder.path, say=say), not lower_is_better(metric)
    horizon = next((each for each in proposers if isinstance(each, Horizons)), None)
    return Study(folder.path, space, cfg.tune, metric=metric, maximise=maximise, proposers=proposers, horizon=horizon)


def _start(cfg: TuneConfig, folder: StudyFolder, number: int) -> "subprocess.Popen[bytes]":
    """A worker as a process of its own; in a session of its own, or a terminal's Ctrl-C would reach it twice."""
    threads = share_of_cores(cfg.tune.workers, cfg.hardware.threads)
    code = "import sys; from seqrec_cli.commands.tune import join; sys.exit(join(*sys.argv[1:]))"
    gpus = torch.cuda.device_count() if cfg.hardware.device in ("auto", "cuda") else 0  # cuda:1 was chosen already
    environment = environment_of(number, threads, gpus)
    command = [sys.executable, "-c", code, str(folder.path), str(threads)]
    command.append(json.dumps([folder.given, folder.config_dir]))
    return subprocess.Popen(command, env=environment, start_new_session=True)


def join(path: str, threads: str, command: str) -> int:
    """A worker of the study in a folder; its exit code, as `tuning/workers.py` reads it.

    `command` is its terminal's command line, for that in the folder may be another machine's.
    """
    given, config_dir = json.loads(command)
    folder = StudyFolder(Path(path), tuple(given), config_dir)
    try:
        cfg = record_of("tune", compose("tune", given, config_dir), given, config_dir=config_dir)
        assert isinstance(cfg, TuneConfig)
        configs = TrialConfigs(command_of(given), config_dir)
        metric = folder.read()[IDENTITY]["metric"]
        study = study_of(cfg, folder, space_of(cfg, configs, tell=silent), metric=metric)
        finished = work(study, trial_runner(configs, metric=metric, threads=int(threads)), say)
    except SeqrecError as error:
        print(f"seqrec tune: {one_line(error)}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        return INTERRUPTED
    return FINISHED if finished else INTERRUPTED


def trial_runner(configs: TrialConfigs, *, metric: str, threads: int | None) -> RunTrial:
    """What a worker does with a claimed trial: a `train` in a folder of its own, whose test set stays sealed.

    A trial that was interrupted, or whose worker died, goes on from its last checkpoint, with this machine's data.
    """
    here = configs.record({})

    def run(claim: Claim) -> Outcome:
        if claim.again is not None and (claim.again / "last.pt").is_file():
            claim.again.rename(claim.folder)
            record = _moved(resumed(str(claim.folder), []), here, threads=threads)
        else:
            record = configs.record(claim.settings | _of_a_trial(claim, metric, threads))
        said = claim.folder.with_suffix(".log")
        said.parent.mkdir(parents=True, exist_ok=True)
        with said.open("a", encoding="utf-8") as file, contextlib.redirect_stdout(file):
            result = train.main(record, watch=claim.watch)
        if result.get("interrupted"):
            return Outcome("interrupted")
        if result.get("pruned"):
            return Outcome("pruned", followed=_epochs_of(claim.folder))
        return Outcome("complete", result["val"][metric], followed=_epochs_of(claim.folder))

    return run


def _moved(record: Settings, here: TrainConfig, *, threads: int | None) -> TrainConfig:
    """A run's configuration with this machine's hardware and places of data; its parameters are kept as they were."""
    assert isinstance(record, TrainConfig)
    hardware = {"embedding": record.hardware.embedding, "threads": threads}
    places = {name: getattr(here.dataset, name) for name in here.dataset.places}
    return record.model_copy(
        update={
            "hardware": here.hardware.model_copy(update=hardware),
            "dataset": record.dataset.model_copy(update=places),
            "data_dir": here.data_dir,
        }
    )


def _epochs_of(path: Path) -> int:
    """What a run was allowed, settled from the data."""
    return int(RunFolder(path).read_config()["trainer"]["max_epochs"])


def _of_a_trial(claim: Claim, metric: str, threads: int | None) -> dict[str, Any]:
    """What a trial's run has beside its settings."""
    found: dict[str, Any] = {"run_dir": str(claim.folder), "trainer.monitor": metric, "hardware.threads": threads}
    found |= {"evaluation.test": "none", "evaluation.baselines": False}
    return found if claim.epochs is None else found | {"trainer.max_epochs": claim.epochs}


def tell_advice(study: Study, best: TrialRecord) -> list[str]:
    """Who named which trial and why, and what is said of the whole: printed, in the study's folder, for its page."""
    records = study.records()
    lines, final = lines_of(study.proposers, records), final_word(study.proposers, records, study.folder)
    if not lines:
        return []
    told = Advice(records, best, study.metric, lines=lines, final=final, unused=unused(study.folder))
    write_atomically(study.folder / REPORT, told.markdown())
    for line in told.all_lines():
        say(line)
    say(f"reasons, trial by trial: {study.folder / REPORT}")
    return told.html()


def conclude(cfg: TuneConfig, study: Study, folder: StudyFolder, *, configs: TrialConfigs) -> dict[str, Any]:
    """The table, the best settings and their test, once."""
    print_table(trials_table(study))
    best = study.best()
    if best is None:
        raise SeqrecError(f"no trial of {folder.path} was run to its end; give it more trials, or pruner=none")
    if best.run_dir is None:
        raise SeqrecError(
            f"trial {best.number} is the best of {folder.path}, but its run is not in {folder.path / 'trials'} any "
            "more; put it back from a copy, or name another run_dir"
        )
    run = RunFolder(Path(best.run_dir))
    metrics = run.read_metrics()
    if cfg.tune.test == "best" and "test" not in metrics:
        metrics = open_test(best.run_dir, "tune", archive=cfg.dataset.archive, data_dir=cfg.data_dir)
    write_best(study, best, folder, configs=configs)  # first of all that is left, for pictures take longer
    advice = tell_advice(study, best)
    say(f"best by validation {study.metric}: trial {best.number} ({best.value:.4f}), in {best.run_dir}")
    write_report(study, folder, more=advice)
    say(f"repeat it: {folder.train_command(best)}")
    say(f"or, as {folder.path / 'experiment' / 'best.yaml'} says: {folder.experiment_command('best')}")
    say(f"report: {folder.path / 'study.html'}")
    say(str(folder.path))
    failed = [record for record in study.records() if record.state == "failed"]
    told = {"study": str(folder.path), "trials": len(study.records()), "run_dir": best.run_dir}
    told["failed"] = None if not failed else f"{len(failed)} failed; trial {failed[-1].number}: {failed[-1].error}"
    rows = [trial_row(study, record) for record in study.records()]
    return {**metrics, **told, "settings": best.settings, "table": rows}

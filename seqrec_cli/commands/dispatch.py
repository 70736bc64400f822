"""From a verb to its command; the command's module, and torch with it, is imported after validation."""

import importlib
import os
from typing import Any

from omegaconf import DictConfig, OmegaConf

from seqrec_cli.commands.resume import resumed, started
from seqrec_cli.config.compose import compose
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.leftovers import refuse_leftovers
from seqrec_cli.config.settings import Settings
from seqrec_cli.config.tuning import TuneConfig
from seqrec_cli.config.unused import refuse_unused
from seqrec_cli.config.validate import validate
from seqrec_cli.faults import in_words

SPINS = "5000"  # turns a waiting OpenMP thread spins before it sleeps


def share_cores() -> None:
    """Let threads that wait go to sleep soon; to be called before torch is imported.

    By default they spin: with one other process on two cores a training step then takes five times as long
    (8.5k against 48k targets/s, SASRec on ML-1M). On free cores the two are equal.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def run_verb(verb: str, overrides: list[str]) -> dict[str, Any]:
    """Compose, validate and run: what `seqrec VERB OVERRIDES` does. Raises `SeqrecError` on bad input."""
    return run_record(verb, record_of(verb, compose(verb, overrides), overrides))


def record_of(verb: str, cfg: DictConfig, overrides: list[str], *, config_dir: str | None = None) -> Settings:
    """The record of a composed tree; where a run goes on or begins with another, that one's, `overrides` on top."""
    resume, start = OmegaConf.select(cfg, "resume"), OmegaConf.select(cfg, "start_from")
    if resume is not None:
        record = resumed(str(resume), overrides)
    elif start is not None:
        record = started(str(start), verb, overrides)
    else:
        refuse_leftovers(cfg, overrides)
        record = validate(verb, cfg)
    refuse_unused(record, overrides)
    if isinstance(record, TuneConfig):  # its trials are composed of the same overrides
        record = record.model_copy(update={"given": tuple(overrides), "config_dir": config_dir})
    return record


def run_record(verb: str, record: Settings) -> dict[str, Any]:
    """Run the verb's command on its record and return the command's result."""
    share_cores()
    command = importlib.import_module(f"seqrec_cli.commands.{verb}")
    try:
        result: dict[str, Any] = command.main(record)
    except BrokenPipeError:  # nobody reads what is printed: no fault
        raise
    except (OSError, MemoryError, RuntimeError) as error:
        fault = in_words(error)
        if fault is None:
            raise
        raise SeqrecError(fault) from error
    return result

"""The command that trains a run again: its settings, as far as they are not what `seqrec train` takes anyway."""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import OmegaConf

from seqrec_cli.config.compose import compose, groups
from seqrec_cli.config.errors import SeqrecError
from seqrec_cli.config.quoting import literal

CHOSEN = ("dataset", "model", "objective", "protocol")  # groups whose option a configuration names
PLACES = ("run_dir", "resume", "data_dir")  # of the run, not of what it trained
FOUND = ("model.members", "model.weights")  # of `model=auto`, which finds them anew


def repeat_command(as_trained: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """`seqrec train` with what differs from its defaults; of an ensemble of runs, `seqrec ensemble` with those."""
    if isinstance(manifest.get("mixed"), Mapping):
        runs = list(manifest["mixed"].values())
        return f"seqrec ensemble {shlex.quote('ckpts=' + literal('ckpts', runs))}"
    have = groups()
    options = [f"{group}={name}" for group in CHOSEN if (name := _option(as_trained[group], have.get(group, [])))]
    try:
        default = OmegaConf.to_container(compose("train", options), resolve=False)
    except SeqrecError:  # of an older version, or of options of its own
        default = {}
    given = [f"{key}={literal(key, value)}" for key, value in _differing(as_trained, default)]
    left_out = FOUND if as_trained["model"]["name"] == "auto" else ()
    kept = [text for text in given if not text.startswith(tuple(f"{key}=" for key in (*PLACES, *left_out)))]
    return " ".join(["seqrec", "train", *map(shlex.quote, [*options, *kept])])


def _option(section: Mapping[str, Any], known: list[str]) -> str | None:
    """The option of a group: a dataset may have a name of its own, and is then known by its source."""
    return next((name for name in (section["name"], section.get("source")) if name in known), None)


def _differing(ours: Any, theirs: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(key, value) of every setting that differs."""
    for key, value in ours.items():
        other = theirs.get(key) if isinstance(theirs, dict) else None
        if isinstance(value, dict) and isinstance(other, dict) and value and other:
            yield from _differing(value, other, f"{prefix}{key}.")
        elif value != other or (isinstance(theirs, dict) and key not in theirs):
            yield f"{prefix}{key}", value

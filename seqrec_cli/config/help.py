"""`seqrec VERB --help`: the verb's groups and keys in words, from the composed YAML and the records' fields."""

import shutil
import textwrap

from omegaconf import OmegaConf

from seqrec_cli.config.compose import choices, compose, compose_raw, groups, launchers
from seqrec_cli.config.describe import keys_of, value_in_words
from seqrec_cli.config.verbs import Verb

GROUPS = {
    "dataset": "what is learned from",
    "protocol": "what is asked: split, targets, candidates",
    "model": "what is learned",
    "objective": "what a training step minimises",
    "trainer": "how parameters are fitted",
    "hardware": "where, and in which number format",
    "experiment": "a published table, as a set of settings",
    "rung": "a step of the ladder of click rankers, from the mean of the history to BST",
    "debug": "settings for finding faults",
    "sweep": "values for -m",
    "space": "settings that tune searches, and their values",
    "hydra/launcher": "who starts the jobs of -m, one after another or side by side; its settings: hydra.launcher.KEY",
}
FLAGS = {
    "-m, --multirun": "a sweep: KEY=A,B,C or several such keys, a run for each combination",
    "--cfg job|hydra|all": "print the configuration instead of running (--resolve, -p PACKAGE narrow it)",
    "--config-dir DIR": "a folder of further options, laid out as conf/ is (DIR/model/mine.yaml)",
    "--info": "how Hydra composes the configuration",
    "--hydra-help": "Hydra's own flags",
}
LAUNCHER = "hydra/launcher"
LONGEST_DEFAULT = 40


def help_text(verb: Verb, overrides: list[str], config_dir: str | None) -> str:
    """The help of a verb for the options its overrides choose: `seqrec train model=bst --help` shows BST's keys."""
    plain = OmegaConf.to_container(compose(verb.name, overrides, config_dir))  # refuses what is wrong, in one line
    raw = compose_raw(verb.name, overrides, config_dir)
    chosen = choices(raw)
    width = min(shutil.get_terminal_size().columns, 120)
    usage = f"Usage: seqrec {verb.name} [FLAG ...] [GROUP=OPTION ...] [KEY=VALUE ...]"
    lines = [f"seqrec {verb.name}: {verb.summary}", "", usage]
    if chosen:
        lines += ["", "Groups (GROUP=OPTION; the one in use is marked *)"]
        available = groups(config_dir) | {LAUNCHER: launchers()}
        chosen |= {LAUNCHER: raw.hydra.runtime.choices[LAUNCHER]}
        for group, option in chosen.items():
            names = [f"*{name}" if name == option else name for name in available.get(group, [])]
            lines += _entry(group, f"{GROUPS.get(group, '')}: {', '.join(names) or '-'}", width, column=16)
    lines += ["", "Keys (KEY=VALUE; those of the options in use, with their present values)"]
    for key in keys_of(verb.settings(), plain):
        if key.name.startswith("space."):  # of one entry of a search space: docs/tuning.md has them
            continue
        lines += _entry(
            f"{key.name}={_present(plain, key.name)}", f"{key.description} ({key.type()})", width, column=36
        )
    lines += ["", "Flags"]
    for flag, words in FLAGS.items():
        lines += _entry(flag, words, width, column=24)
    lines += ["", "Examples", *(f"  {example}" for example in verb.examples)]
    return "\n".join(lines)


def _present(plain: object, key: str) -> str:
    value = plain
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return "???"
        value = value[part]
    text = value_in_words(value)
    return text if len(text) <= LONGEST_DEFAULT else f"{text[: LONGEST_DEFAULT - 3]}..."


def _entry(head: str, words: str, width: int, *, column: int) -> list[str]:
    """A name and its explanation, wrapped in a column of its own."""
    body = textwrap.wrap(words, max(width - column - 2, 30), break_on_hyphens=False)
    if len(head) >= column:
        return [f"  {head}", *(f"  {'':<{column}}{line}" for line in body)]
    return [f"  {head if i == 0 else '':<{column}}{line}" for i, line in enumerate(body)]

"""`seqrec VERB --help`: the verb's groups and keys in words, from the composed YAML and the records' fields."""

import shutil
import textwrap

from omegaconf import OmegaConf

from seqrec_cli.config.compose import choices, compose, compose_raw, groups
from seqrec_cli.config.seal import fields_of
from seqrec_cli.config.words import field_in_words, value_in_words

GROUPS = {
    "dataset": "what is learned from",
    "model": "what is learned",
    "objective": "what a training step minimises",
    "trainer": "how parameters are fitted",
    "hardware": "where, and in which number format",
    "experiment": "a published table, as a set of settings",
    "rung": "a step of the ladder of click rankers, from the mean of the history to BST",
    "debug": "settings for finding faults",
    "sweep": "values for -m",
}
FLAGS = {
    "-m, --multirun": "a sweep: KEY=A,B,C or several such keys, a run for each combination",
    "--cfg job|hydra|all": "print the configuration instead of running (--resolve, -p PACKAGE narrow it)",
    "--config-dir DIR": "a folder of further options, laid out as conf/ is (DIR/model/mine.yaml)",
    "--info": "how Hydra composes the configuration",
    "--hydra-help": "Hydra's own flags",
}
EXAMPLES = {
    "download": ["seqrec download dataset=ml-1m", "seqrec download dataset=ml-1m dataset.archive=ml-1m.zip"],
    "preprocess": ["seqrec preprocess dataset=ml-1m", "seqrec preprocess dataset=ml-1m dataset.user_core=5"],
    "plan": ["seqrec plan", "seqrec plan dataset=ml-1m model=sasrec model.embed_dim=256"],
    "train": [
        "seqrec train",
        "seqrec train dataset=ml-1m model=sasrec trainer.lr=5e-4 run_dir=runs/first",
        "seqrec train -m model=sasrec,bst trainer.seed=0,1,2",
        "seqrec train resume=runs/first",
    ],
    "evaluate": ["seqrec evaluate ckpt=runs/first", "seqrec evaluate ckpt=runs/first split=val"],
    "compare": ["seqrec compare 'runs=[runs/first,runs/second]'", "seqrec compare 'runs=[runs/a,runs/b]' segments=4"],
    "export": ["seqrec export ckpt=runs/first format=torch"],
    "ensemble": ["seqrec ensemble 'ckpts=[runs/first,runs/second]'"],
    "recommend": ["seqrec recommend ckpt=runs/first user=42", "seqrec recommend ckpt=runs/first 'history=[42,17,88]'"],
    "serve": ["seqrec serve ckpt=runs/first", "seqrec serve ckpt=runs/first host=0.0.0.0 port=80 top=20"],
    "explain": ["seqrec explain ckpt=runs/first user=42", "seqrec explain ckpt=runs/first user=42 item=7"],
}
LONGEST_DEFAULT = 40


def help_text(verb: str, overrides: list[str], config_dir: str | None, purpose: str) -> str:
    """The help of a verb for the options its overrides choose: `seqrec train model=bst --help` shows BST's keys."""
    plain = OmegaConf.to_container(compose(verb, overrides, config_dir))  # refuses what is wrong, in one line
    chosen = choices(compose_raw(verb, overrides, config_dir))
    width = min(shutil.get_terminal_size().columns, 120)
    lines = [f"seqrec {verb}: {purpose}", "", f"Usage: seqrec {verb} [FLAG ...] [GROUP=OPTION ...] [KEY=VALUE ...]"]
    if chosen:
        lines += ["", "Groups (GROUP=OPTION; the one in use is marked *)"]
        available = groups(config_dir)
        for group, option in chosen.items():
            names = [f"*{name}" if name == option else name for name in available.get(group, [])]
            lines += _entry(group, f"{GROUPS.get(group, '')}: {', '.join(names) or '-'}", width, 16)
    lines += ["", "Keys (KEY=VALUE; those of the options in use, with their present values)"]
    for key, field in fields_of(verb, plain):
        head = f"{key}={_present(plain, key)}"
        lines += _entry(head, f"{field.description} ({field_in_words(field)})", width, 36)
    lines += ["", "Flags"]
    for flag, words in FLAGS.items():
        lines += _entry(flag, words, width, 24)
    lines += ["", "Examples", *(f"  {example}" for example in EXAMPLES[verb])]
    return "\n".join(lines)


def _present(plain: object, key: str) -> str:
    value = plain
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return "???"
        value = value[part]
    text = value_in_words(value)
    return text if len(text) <= LONGEST_DEFAULT else f"{text[: LONGEST_DEFAULT - 3]}..."


def _entry(head: str, words: str, width: int, column: int) -> list[str]:
    """A name and its explanation, wrapped in a column of its own."""
    body = textwrap.wrap(words, max(width - column - 2, 30), break_on_hyphens=False)
    if len(head) >= column:
        return [f"  {head}", *(f"  {'':<{column}}{line}" for line in body)]
    return [f"  {head if i == 0 else '':<{column}}{line}" for i, line in enumerate(body)]
